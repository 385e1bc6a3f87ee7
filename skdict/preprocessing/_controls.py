"""Which rows are controls, for the estimators that learn from them."""

from __future__ import annotations

from datetime import date, timedelta
from numbers import Real
from typing import Any

import numpy as np

from skdict._utils.labels import as_mask, equals, labels_or_missing
from skdict._utils.types import Data
from skdict._utils.warn import warn

__all__ = ["CONTROL_LABEL", "FOLD_REMEDY", "control_rows", "without_controls"]

# Types that a label can have, see skdict._utils.labels.
CONTROL_LABEL: list = [
    *(str, bytes, Real, "boolean"),
    *(date, timedelta, np.datetime64, np.timedelta64),
    None,
]

FOLD_REMEDY = (
    "In cross-validation every training fold needs controls: split with "
    "StratifiedGroupKFold(...).split(X, control, groups), or with "
    "StratifiedKFold(...).split(X, control) where there are no groups"
)


def control_rows(
    estimator: Any, n_samples: int, y: Data | None, control: Data | None
) -> np.ndarray | None:
    """Find the indices of the control rows.

    If neither a mask nor a label of controls is given, warn and return None, which
    means all rows.
    """
    if control is not None:
        return np.flatnonzero(as_mask(control, "control", n_samples))
    control_label = estimator.control_label
    if control_label is None:
        step = type(estimator).__name__.lower()
        warn(
            "Neither a control mask nor control_label is given: all rows are used as "
            "controls. Pass control=mask to fit. Inside a pipeline, pass "
            f"{step}__control=mask to its fit, or control=mask after "
            "sklearn.set_config(enable_metadata_routing=True).",
        )
        return None
    if y is None:
        raise ValueError(
            f"control_label={control_label!r} picks the controls by their labels, but "
            "neither y nor a control mask is given."
        )
    y, missing = labels_or_missing(y, "y", n_samples)
    return np.flatnonzero(equals(y, control_label, "control_label") & ~missing)


def without_controls(
    estimator: Any, n_samples: int, y: Data | None, control: Data | None
) -> ValueError:
    """Make the error for a table without control rows."""
    message = f"None of the {n_samples} rows passed to fit is a control. "
    if control is None and y is not None:
        y, missing = labels_or_missing(y, "y", n_samples)
        labels = [repr(label) for label in np.unique(y[~missing]).tolist()]
        shown = ", ".join(labels[:_LABELS_SHOWN])
        more = ", ..." if len(labels) > _LABELS_SHOWN else ""
        message += (
            f"control_label={estimator.control_label!r} is not among the "
            f"{len(labels)} labels in y: {shown}{more}. "
        )
    return ValueError(f"{message}{FOLD_REMEDY}.")


_LABELS_SHOWN = 5
