"""Data drawn from a known dictionary."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
from scipy import sparse
from sklearn.utils import Bunch, check_random_state

from skdict._utils.constraints import Interval
from skdict._utils.sklearn_private import align_api_if_sparse, validate_params
from skdict._utils.types import Seed

__all__ = ["make_planted_dictionary"]


def _sample_supports(
    n_samples: int, n_components: int, n_active: int, rng: np.random.RandomState
) -> np.ndarray:
    """Draw a sorted set of ``n_active`` distinct atoms for every row.

    Floyd's algorithm, run on all rows at once: all subsets are equally likely, and no
    array has n_samples x n_components entries.
    """
    supports = np.empty((n_samples, n_active), dtype=np.int32)
    for drawn, largest in enumerate(range(n_components - n_active, n_components)):
        candidate = rng.randint(largest + 1, size=n_samples)
        taken = (supports[:, :drawn] == candidate[:, None]).any(axis=1)
        supports[:, drawn] = np.where(taken, largest, candidate)
    supports.sort(axis=1)
    return supports


@validate_params(
    {
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "n_features": [Interval(Integral, 1, None, closed="left")],
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "n_active": [Interval(Integral, 1, None, closed="left")],
        "noise": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_planted_dictionary(
    n_samples: int = 20_000,
    n_features: int = 64,
    *,
    n_components: int = 128,
    n_active: int = 5,
    noise: float = 0.1,
    random_state: Seed = None,
) -> Bunch:
    r"""Generate samples as sparse positive combinations of known atoms.

    The ground truth is returned with the samples, so that a learnt dictionary and its
    codes can be compared with those that made the data.

    Parameters
    ----------
    n_samples : int, default=20_000
        Number of rows.

    n_features : int, default=64
        Dimension of every row and every atom.

    n_components : int, default=128
        Number of atoms.

    n_active : int, default=5
        Number of distinct atoms in each row, at most `n_components`.

    noise : float, default=0.1
        Standard deviation of the additive noise, as a fraction of the standard
        deviation of the signal over all its entries.

    random_state : int, RandomState instance or None, default=None
        Seed of the draws. An int gives the same data in every call.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        data : ndarray of shape (n_samples, n_features), float32
            The samples.
        components : ndarray of shape (n_components, n_features), float32
            The atoms, rows of unit length whose directions are uniform on the
            sphere.
        codes : CSR matrix or array of shape (n_samples, n_components), float32
            The coefficients, `n_active` in each row, with sorted indices. The
            `sparse_interface` of scikit-learn decides between matrix and array.

    Raises
    ------
    ValueError
        If `n_active` is larger than `n_components`, or a parameter is out of
        its range.

    Notes
    -----
    With atoms :math:`d_m`, supports :math:`S_i` uniform among the subsets of
    size `n_active`, and coefficients uniform in :math:`[0.5, 1.5]`,

    .. math::

        x_i = \sum_{m \in S_i} z_{im} d_m + \varepsilon_i, \qquad
        \varepsilon_i \sim \mathcal{N}(0, (\text{noise} \cdot \sigma)^2 I),

    where :math:`\sigma` is the standard deviation of the entries of the signal.

    Examples
    --------
    >>> from skdict.datasets import make_planted_dictionary
    >>> data = make_planted_dictionary(100, 16, n_components=32, random_state=0)
    >>> data.data.shape, data.components.shape, data.codes.shape
    ((100, 16), (32, 16), (100, 32))
    >>> data.codes.nnz
    500
    """
    if n_active > n_components:
        raise ValueError(
            f"n_active={n_active} distinct atoms cannot be drawn from "
            f"n_components={n_components}."
        )
    rng = check_random_state(random_state)

    components = rng.standard_normal(size=(n_components, n_features))
    components /= np.linalg.norm(components, axis=1, keepdims=True)
    supports = _sample_supports(n_samples, n_components, n_active, rng)
    codes = sparse.csr_matrix(
        (
            rng.uniform(0.5, 1.5, size=n_samples * n_active),
            supports.ravel(),
            np.arange(0, n_samples * n_active + 1, n_active),
        ),
        shape=(n_samples, n_components),
    )

    X = codes @ components
    if noise:
        X += rng.normal(scale=noise * X.std(), size=X.shape)

    return Bunch(
        data=X.astype(np.float32),
        components=components.astype(np.float32),
        codes=align_api_if_sparse(codes.astype(np.float32)),
    )
