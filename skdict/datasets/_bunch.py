"""Bunches of samples with a class each, as scikit-learn's loaders give them."""

from sklearn.utils import Bunch

__all__ = ["make_bunch"]


def make_bunch(
    data, target, target_names, *, return_X_y, as_frame, caller, descr, **extra
):
    """A Bunch, or (data, target); as tables of pandas where that is asked for."""
    feature_names = [f"embedding{i}" for i in range(data.shape[1])]
    frame = None
    if as_frame:
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError(f"{caller} with as_frame=True needs pandas.") from error
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
