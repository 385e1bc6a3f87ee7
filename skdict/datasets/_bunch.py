"""Bunches of samples with a class each, as scikit-learn's loaders give them."""

import pandas as pd
from sklearn.utils import Bunch

__all__ = ["make_bunch"]


def make_bunch(data, target, target_names, *, return_X_y, as_frame, descr, **extra):
    """A Bunch, or (data, target); as tables of pandas where that is asked for."""
    feature_names = [f"embedding{i}" for i in range(data.shape[1])]
    frame = None
    if as_frame:
        frame = pd.DataFrame(data, columns=feature_names)
        frame["target"] = target
        data, target = frame[feature_names], frame["target"]
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        frame=frame,
        target_names=target_names,
        feature_names=feature_names,
        DESCR=descr,
        **extra,
    )
