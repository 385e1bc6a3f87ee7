"""Features as users name them: an index, several indices, or a mask."""

from __future__ import annotations

import operator

import numpy as np

from skdict._utils.checks import as_numpy
from skdict._utils.types import Data


def as_features(
    features: Data, n_components: int, name: str = "features"
) -> np.ndarray:
    """Convert features to distinct indices from 0, in the order given.

    Parameters
    ----------
    features : int, array-like of int or mask of shape (n_components,)
        Negative indices count from the end.
    n_components : int
        Number of features of the codes.
    name : str, default="features"
        What messages call the parameter.

    Returns
    -------
    indices : ndarray of int

    Raises
    ------
    ValueError
        If the features are neither whole numbers nor a mask of the right length, if an
        index is out of range, or if a feature is named twice.
    """
    indices = np.atleast_1d(as_numpy(features))
    if indices.ndim != 1:
        raise ValueError(
            f"{name} must be one index, a list of indices or a mask, got an array of "
            f"shape {indices.shape}."
        )
    if {*map(type, indices.tolist())} == {bool}:
        indices = indices.astype(bool)  # booleans that came as objects
    if indices.dtype == bool:
        if len(indices) != n_components:
            raise ValueError(
                f"{name} is a mask of length {len(indices)}, but the codes have "
                f"{n_components} features."
            )
        return np.flatnonzero(indices)
    if not len(indices):
        return np.empty(0, dtype=np.intp)
    try:
        indices = np.array([operator.index(i) for i in indices.tolist()])
    except TypeError as error:
        raise ValueError(
            f"{name} must hold indices of features, which are whole numbers, or a "
            f"boolean mask, got {indices.dtype}."
        ) from error
    wrong = (indices < -n_components) | (indices >= n_components)
    if wrong.any():
        raise ValueError(
            f"{name} names feature {indices[wrong][0]}, but the codes have "
            f"{n_components} features."
        )
    indices = np.where(indices < 0, indices + n_components, indices).astype(np.intp)
    distinct, counts = np.unique(indices, return_counts=True)
    if (counts > 1).any():
        raise ValueError(f"{name} names feature {distinct[counts > 1][0]} twice.")
    return indices
