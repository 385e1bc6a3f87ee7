"""Codes with features taken out or changed."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
import scipy.sparse as sp

from skdict._utils.constraints import Interval
from skdict._utils.sklearn_private import validate_params
from skdict._utils.types import Codes, Data
from skdict.stats import check_codes

from ._features import as_features


FEATURES: list[Any] = [
    "array-like",
    Interval(Integral, None, None, closed="neither"),
]


@validate_params({"features": FEATURES}, prefer_skip_nested_validation=True)
def ablate(codes: Codes, features: Data) -> Codes:
    """Take features out of codes: their columns become zero.

    Parameters
    ----------
    codes : {array-like, sparse matrix or array} of shape (n_samples, n_components)
        Codes of the samples. They are not changed.

    features : int, array-like of int or mask of shape (n_components,)
        Indices of the features to take out, or a boolean mask of them. Negative indices
        count from the end.

    Returns
    -------
    ablated : ndarray, csr_matrix or csr_array of shape (n_samples, n_components)
        A copy of the codes without the features. Sparse codes stay sparse, and the
        entries of the features are removed, not stored as zeros.

    Raises
    ------
    ValueError
        If `codes` are no finite table, or if an index does not exist.

    Examples
    --------
    >>> from skdict.concepts import ablate
    >>> ablate([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], [0, 2])
    array([[0., 2., 0.],
           [0., 5., 0.]])
    """
    codes = check_codes(codes)
    features = as_features(features, codes.shape[1])
    if not sp.issparse(codes):
        ablated = np.array(codes)
        ablated[:, features] = 0
        return ablated
    is_kept = np.ones(codes.shape[1], dtype=bool)
    is_kept[features] = False
    kept = is_kept[codes.indices]
    kept_before = np.concatenate(([0], np.cumsum(kept)))
    entries = codes.data[kept], codes.indices[kept], kept_before[codes.indptr]
    return type(codes)(entries, shape=codes.shape)
