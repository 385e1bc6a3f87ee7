"""Which rows are controls, for the estimators that learn from them."""

import warnings

import numpy as np
from sklearn.utils import column_or_1d

from skdict._validation import as_numpy

__all__ = ["FOLD_REMEDY", "control_mask", "control_rows", "without_controls"]

FOLD_REMEDY = (
    "In cross-validation every training fold needs controls: split with "
    "StratifiedGroupKFold(...).split(X, control, groups), or with "
    "StratifiedKFold(...).split(X, control) where there are no groups"
)


def control_rows(estimator, n_samples: int, y, control) -> np.ndarray | None:
    """Indices of the control rows; None for all rows, with a warning.

    To be called two frames below the public method, which the warning then names.
    """
    if control is not None:
        return np.flatnonzero(control_mask(control, n_samples))
    control_label = estimator.control_label
    if control_label is None:
        step = type(estimator).__name__.lower()
        warnings.warn(
            "Neither a control mask nor control_label is given: all rows are used as "
            "controls. Pass control=mask to fit. Inside a pipeline, pass "
            f"{step}__control=mask to its fit, or control=mask after "
            "sklearn.set_config(enable_metadata_routing=True).",
            UserWarning,
            stacklevel=5,
        )
        return None
    if y is None:
        raise ValueError(
            f"control_label={control_label!r} picks the controls by their labels, but "
            "neither y nor a control mask is given."
        )
    y = column_or_1d(as_numpy(y))
    if len(y) != n_samples:
        raise ValueError(f"y holds {len(y)} labels for the {n_samples} rows of X.")
    return np.flatnonzero(y == control_label)


def without_controls(estimator, n_samples: int, y, control) -> ValueError:
    """What to raise where no row is a control."""
    message = f"None of the {n_samples} rows passed to fit is a control. "
    if control is None and y is not None:
        labels = [str(label) for label in np.unique(as_numpy(y).astype(str))]
        shown = ", ".join(labels[:_LABELS_SHOWN])
        more = ", ..." if len(labels) > _LABELS_SHOWN else ""
        message += (
            f"control_label={estimator.control_label!r} is not among the "
            f"{len(labels)} labels in y: {shown}{more}. "
        )
    return ValueError(f"{message}{FOLD_REMEDY}.")


_LABELS_SHOWN = 5


def control_mask(control, n_samples: int) -> np.ndarray:
    """The mask as an array of bool, after a check that it is one."""
    control = as_numpy(control)
    if control.shape != (n_samples,):
        raise ValueError(
            f"control must be a mask of shape ({n_samples},), one entry for each row "
            f"of X, but its shape is {control.shape}. Index arrays are not accepted: "
            "splitters could not cut them to folds."
        )
    if control.dtype == bool:
        return control
    try:  # nullable booleans come as objects
        zero_or_one = np.isin(control.astype(np.float64), (0.0, 1.0))
    except (TypeError, ValueError):
        raise ValueError(
            f"control must hold only booleans or 0 and 1, but its dtype is "
            f"{control.dtype} and it does not convert to numbers."
        ) from None
    if not zero_or_one.all():
        first = zero_or_one.argmin()
        raise ValueError(
            "control must hold only booleans or 0 and 1, but "
            f"{(~zero_or_one).sum()} of its {n_samples} entries are neither (the first "
            f"is {control[first]!s} in row {first}). Index arrays are not accepted."
        )
    return control.astype(bool)
