"""Codes with features taken out or changed."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
import scipy.sparse as sp

from skdict._utils.checks import as_floats, as_numpy, check_finite
from skdict._utils.constraints import Interval
from skdict._utils.sklearn_private import StrOptions, validate_params
from skdict._utils.types import Codes, Data
from skdict.stats import check_codes

from ._features import as_features

FEATURES: list[Any] = [
    "array-like",
    Interval(Integral, None, None, closed="neither"),
]


AMOUNTS: list[Any] = ["array-like", Interval(Real, None, None, closed="neither")]


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

    See Also
    --------
    steer : Changes features instead of taking them out.
    skdict.FeatureSuppressor : Finds the features that follow the batch, in a Pipeline.
    decode : Turns the codes into embeddings again.

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


@validate_params(
    {
        "features": FEATURES,
        "amount": AMOUNTS,
        "mode": [StrOptions({"add", "set", "scale"})],
    },
    prefer_skip_nested_validation=True,
)
def steer(codes: Codes, features: Data, amount: Data, *, mode: str = "add") -> Codes:
    """Change features of codes by the same amount in every sample.

    Parameters
    ----------
    codes : {array-like, sparse matrix or array} of shape (n_samples, n_components)
        Codes of the samples. They are not changed.

    features : int, array-like of int or mask of shape (n_components,)
        Indices of the features to change, or a boolean mask of them. Negative indices
        count from the end.

    amount : float or array-like of shape (n_features,)
        One amount for all features, or one for each in the order of `features`.

    mode : {"add", "set", "scale"}, default="add"
        "add" adds the amount to the feature, "set" puts it in its place, and "scale"
        multiplies the feature by it.

    Returns
    -------
    steered : ndarray, csr_matrix or csr_array of shape (n_samples, n_components)
        The changed codes, in float32 or float64. Sparse codes stay sparse: "add" and
        "set" store one entry more for each sample and feature.

    Raises
    ------
    ValueError
        If `codes` are no finite table, if an index does not exist, if the amounts are
        not finite or of another number, or if a result overflows.

    See Also
    --------
    ablate : Takes features out.
    steering_curve : Where samples move if features of a treatment are added.
    decode : Turns the codes into embeddings again.

    Examples
    --------
    >>> from skdict.concepts import steer
    >>> steer([[1.0, 2.0, 0.0], [4.0, 5.0, 6.0]], [0, 2], [10.0, 1.0])
    array([[11.,  2.,  1.],
           [14.,  5.,  7.]])
    >>> steer([[1.0, 2.0, 0.0], [4.0, 5.0, 6.0]], 1, -1.0, mode="scale")
    array([[ 1., -2.,  0.],
           [ 4., -5.,  6.]])
    """
    codes = as_floats(check_codes(codes))
    indices = as_features(features, codes.shape[1])
    changes = _amounts(amount, len(indices), codes.dtype)
    if mode == "scale":
        factors = np.ones(codes.shape[1], codes.dtype)
        factors[indices] = changes
        steered = _scaled(codes, factors)
    elif sp.issparse(codes):
        if mode == "set":
            codes = ablate(codes, indices)
        steered = codes + _same_in_all_rows(codes, indices, changes)
        steered = type(codes)(steered)
        steered.eliminate_zeros()
    else:
        steered = np.array(codes)
        with np.errstate(over="ignore"):
            kept = steered[:, indices] if mode == "add" else 0
            steered[:, indices] = kept + changes
    check_finite(steered, "The steered codes", f"overflow {codes.dtype}")
    return steered


def _amounts(amount: Data, n_features: int, dtype: Any) -> np.ndarray:
    amounts = as_numpy(amount)
    if amounts.dtype.kind not in "iuf" or not np.isfinite(amounts).all():
        raise ValueError("amount must hold finite numbers only.")
    if amounts.shape not in ((), (n_features,)):
        raise ValueError(
            f"amount must be a number or hold one for each of the {n_features} "
            f"features, got an array of shape {amounts.shape}."
        )
    with np.errstate(over="ignore"):
        return np.broadcast_to(amounts.astype(dtype), n_features)


def _scaled(codes: Codes, factors: np.ndarray) -> Codes:
    with np.errstate(over="ignore"):
        if not sp.issparse(codes):
            return codes * factors
        scaled = codes.copy()
        scaled.data *= factors[scaled.indices]
    scaled.eliminate_zeros()
    return scaled


def _same_in_all_rows(
    codes: Codes, features: np.ndarray, values: np.ndarray
) -> sp.csr_array:
    """Make CSR with one value for each feature, in every row."""
    order = np.argsort(features)
    n_samples = codes.shape[0]
    entries = (
        np.tile(values[order], n_samples),
        np.tile(features[order], n_samples),
        np.arange(n_samples + 1) * len(features),
    )
    return type(codes)(entries, shape=codes.shape)
