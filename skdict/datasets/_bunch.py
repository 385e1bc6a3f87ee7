"""Bunches of samples with a class each, as scikit-learn's loaders give them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

__all__ = ["make_bunch"]


def make_bunch(
    data: np.ndarray,
    target: np.ndarray,
    target_names: np.ndarray,
    *,
    return_X_y: bool,
    as_frame: bool,
    descr: str,
    **extra: Any,
) -> Any:
    """Make a Bunch, or (data, target), of arrays or of pandas tables."""
    feature_names = [f"embedding{i}" for i in range(data.shape[1])]
    frame = None
    rows: Any = data
    classes: Any = target
    if as_frame:
        frame = pd.DataFrame(data, columns=feature_names)
        frame["target"] = target
        rows, classes = frame[feature_names], frame["target"]
    if return_X_y:
        return rows, classes
    return Bunch(
        data=rows,
        target=classes,
        frame=frame,
        target_names=target_names,
        feature_names=feature_names,
        DESCR=descr,
        **extra,
    )
