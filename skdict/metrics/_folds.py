"""Check the folds of a splitter."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["list_folds"]


def list_folds(cv: Any, *args: Any) -> list[tuple[Any, Any]]:
    """List the folds of a splitter as pairs of indices, and check them."""
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
