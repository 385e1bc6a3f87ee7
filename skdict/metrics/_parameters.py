"""scikit-learn's checks of parameters, with all that the metrics need of them."""

import numpy as np
from sklearn.utils._param_validation import Interval as _Interval

__all__ = ["Interval", "list_folds"]


class Interval(_Interval):
    """An interval of numbers. Booleans are none: True is no number of permutations."""

    def is_satisfied_by(self, val):
        return not isinstance(val, bool | np.bool_) and super().is_satisfied_by(val)


def list_folds(cv, *args):
    """The folds of a splitter as pairs of indices, checked."""
    try:
        folds = list(cv.split(*args))
    except (TypeError, ValueError) as error:
        if "unpack" not in str(error):
            raise
        folds = []
    sides = [np.asarray(side) for fold in folds for side in fold]
    if not sides or any(x.ndim != 1 or x.dtype.kind not in "iub" for x in sides):
        raise ValueError(
            "cv must be a number of folds, a splitter, or pairs (train, test) of "
            "indices of rows, at least one."
        )
    return folds
