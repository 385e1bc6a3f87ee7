"""Agreement of dictionaries, by their atoms or by their codes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.optimize import linear_sum_assignment
from sklearn.utils import check_random_state, gen_batches
from sklearn.utils.extmath import safe_sparse_dot

from skdict._utils.arrays import unit_rows
from skdict._utils.constraints import Interval
from skdict._utils.sklearn_private import validate_params
from skdict._utils.table import as_table
from skdict._utils.types import Codes, Data, Seed
from skdict.stats import check_codes

from ._dictionary import _check_atoms

_BLOCK_FEATURES = 1024

# Largest number of rounds in which random atoms get their moments and unit length, and
# the mean error of the lengths at which the rounds end.
_MAX_TURNS = 100
_LENGTH_TOLERANCE = 1e-3

# Directions in which atoms vary less than this fraction of the largest are left out.
_MIN_SPREAD = 1e-7


@validate_params(
    {
        "codes_a": ["array-like", "sparse matrix"],
        "codes_b": ["array-like", "sparse matrix"],
    },
    prefer_skip_nested_validation=True,
)
def match_codes(codes_a: Codes, codes_b: Codes) -> tuple[np.ndarray, np.ndarray]:
    r"""Pair the features of two dictionaries by the correlation of their codes.

    It serves dictionaries of different models, whose atoms lie in different spaces and
    cannot be compared. Two features match if they respond to the same samples.

    Parameters
    ----------
    codes_a : {array-like, sparse matrix or array} of shape (n_samples, n_components_a)
        Codes of the samples from the first dictionary. A sparse input is never
        densified.

    codes_b : {array-like, sparse matrix or array} of shape (n_samples, n_components_b)
        Codes of the same samples, in the same order, from the second dictionary.

    Returns
    -------
    pairs : ndarray of shape (min(n_components_a, n_components_b), 2)
        Row `i` holds the index of a feature of the first dictionary and that of its
        partner in the second, sorted by the first. No feature occurs twice; features
        of the larger dictionary without a partner are left out.

    correlations : ndarray of shape (min(n_components_a, n_components_b),)
        Pearson correlation of each pair over the samples. The correlation with a
        constant feature, for example one that never fires, is 0.

    Raises
    ------
    ValueError
        If either input has fewer than two samples or holds NaN or infinity, or if
        the numbers of samples differ.

    See Also
    --------
    match_dictionaries : Pairs of atoms of dictionaries of the same space.
    stability_report : The agreement of several dictionaries of the same space.

    Notes
    -----
    The pairs have the largest possible sum of correlations
    (:func:`scipy.optimize.linear_sum_assignment`). Correlations keep their sign.
    They come from

    .. math::

        \sum_i (a_i - \bar a)(b_i - \bar b) = \sum_i a_i b_i - n \bar a \bar b

    so the codes stay sparse. The correlations are a dense table, with 8 bytes for each
    pair of features, and three times as much during the assignment.

    Each feature is paired with a similar one among many, so unrelated codes do not
    give 0. Shuffle the rows of one input to see the value for unrelated codes.

    Examples
    --------
    >>> from scipy import sparse
    >>> from skdict.metrics import match_codes
    >>> codes_a = sparse.csr_array([[0.0, 1.0], [2.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    >>> codes_b = sparse.csr_array([[0.0, 3.0], [6.0, 0.0], [0.0, 0.0], [3.0, 0.0]])
    >>> pairs, correlations = match_codes(codes_a, codes_b[:, [1, 0]])
    >>> pairs
    array([[0, 1],
           [1, 0]])
    >>> correlations.round(6)
    array([1., 1.])
    """
    codes_a = check_codes(codes_a, min_samples=2, name="codes_a")
    codes_b = check_codes(codes_b, min_samples=2, name="codes_b")
    if codes_a.shape[0] != codes_b.shape[0]:
        raise ValueError(
            "codes_a and codes_b must hold the same samples, got "
            f"{codes_a.shape[0]} and {codes_b.shape[0]} rows."
        )
    correlations = _correlations(codes_a, codes_b)
    rows, columns = linear_sum_assignment(correlations, maximize=True)
    return np.column_stack((rows, columns)), correlations[rows, columns]


@validate_params(
    {
        "dictionaries": [list, tuple, Mapping],
        "min_similarity": [Interval(Real, -1, 1, closed="both")],
        "n_random": [Interval(Integral, 0, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def stability_report(
    dictionaries: Sequence[Data] | Mapping[Any, Data],
    *,
    min_similarity: float = 0.7,
    n_random: int = 3,
    random_state: Seed = None,
) -> pd.DataFrame:
    r"""Measure the agreement of every two dictionaries, with two nulls of random atoms.

    Parameters
    ----------
    dictionaries : list of array-like of shape (n_components, n_features), or dict
        At least two dictionaries of the same space, for instance the `components_`
        of fits with several seeds. Atoms are rows of any length; the numbers of
        atoms may differ. The keys of a dict are the names of the dictionaries.

    min_similarity : float, default=0.7
        Two matched atoms count as the same if their cosine exceeds this.

    n_random : int, default=3
        Number of pairs of random dictionaries that are drawn for each null and
        averaged. With 0 the report has no null.

    random_state : int, RandomState instance or None, default=None
        Seed of the random dictionaries.

    Returns
    -------
    report : DataFrame
        One row for each pair of dictionaries. Columns:

        - `a`, `b`: the positions of the two in the list, or their names.
        - `matched_cosine`: mean cosine of the pairs of `match_dictionaries`.
        - `matched_fraction`: fraction of these pairs with a cosine above
          `min_similarity`.
        - `max_cosine_a`: mean, over the atoms of `a`, of the largest cosine with
          any atom of `b`, which several atoms of `a` may share.
        - `max_cosine_b`: the same for the atoms of `b`.
        - `isotropic_...`, `covariance_...`: the last four columns for random
          dictionaries of the same two shapes. Only with ``n_random > 0``.
        - `min_similarity`, `n_random`: the same in all rows.

    Raises
    ------
    ValueError
        If there are fewer than two dictionaries, if one is empty or holds NaN or
        infinity, or if the numbers of features differ.

    See Also
    --------
    match_dictionaries : The pairs.
    match_codes : Agreement of dictionaries of different spaces.

    Notes
    -----
    Among thousands of atoms each finds some partner, so random dictionaries agree to a
    degree. There are two nulls:

    - *isotropic*: atoms drawn uniformly from the unit sphere. This is the usual null,
      and it is easy to exceed: atoms concentrate in the directions in which the data
      vary, which by itself makes the atoms of two dictionaries more similar.
    - *covariance*: random unit vectors with the mean and the covariance of the unit
      atoms of `a` and of `b`, respectively. Gaussian vectors are alternately given
      these moments and unit length. Scaled to unit length only once, they would lose
      the moments and agree too little if few directions hold most of the variance.
      Agreement above this null is not explained by the directions that the data
      occupy.

    Neither null accounts for similar starts: with ``init="samples"`` two seeds partly
    draw the same rows of the data as their first atoms. Compare with untrained
    dictionaries (``max_iter=0``), or start from ``init="random"``.

    An assignment of 8192 atoms takes 10 to 20 s on one core. With the nulls there are
    :math:`1 + n_\mathrm{random}` assignments for each pair, and
    :math:`n_\mathrm{random}` for each pair of shapes. The columns are means over all
    atoms: with many atoms they hardly vary between draws, and a single draw is enough.

    Examples
    --------
    >>> import numpy as np
    >>> from skdict.metrics import stability_report
    >>> rng = np.random.default_rng(0)
    >>> atoms = rng.normal(size=(50, 10))
    >>> first = atoms + 0.1 * rng.normal(size=(50, 10))
    >>> second = rng.permutation(atoms)
    >>> report = stability_report({"seed 0": first, "seed 1": second}, random_state=0)
    >>> float(report["matched_fraction"][0])
    1.0
    >>> bool(report["matched_cosine"][0] > 0.98)
    True
    >>> bool(report["covariance_matched_cosine"][0] < 0.7)
    True
    """
    names, atoms = _check_dictionaries(dictionaries)
    rng = check_random_state(random_state)
    isotropic: dict[tuple[int, int], dict[str, float]] = {}
    rows = []
    for i, j in combinations(range(len(atoms)), 2):
        A, B = atoms[i], atoms[j]
        row = {"a": names[i], "b": names[j], **_agreement(A, B, min_similarity)}
        if n_random > 0:
            shapes = len(A), len(B)
            # All pairs of these shapes share the isotropic null.
            if shapes not in isotropic:
                isotropic[shapes] = _mean_agreement(
                    _isotropic_like, A, B, min_similarity, n_random, rng
                )
            covariance = _mean_agreement(
                _covariance_like, A, B, min_similarity, n_random, rng
            )
            row |= {f"isotropic_{key}": v for key, v in isotropic[shapes].items()}
            row |= {f"covariance_{key}": v for key, v in covariance.items()}
        rows.append(row)
    columns = {key: _column([row[key] for row in rows]) for key in rows[0]}
    settings = {"min_similarity": float(min_similarity), "n_random": int(n_random)}
    return as_table(columns, settings)


def _correlations(codes_a: Codes, codes_b: Codes) -> np.ndarray:
    """Correlate all pairs of columns; 0 for a constant column."""
    n_samples = codes_a.shape[0]
    Z_a, means_a = _standardise(codes_a)
    Z_b, means_b = _standardise(codes_b)
    Z_at = Z_a.T.tocsr() if sparse.issparse(Z_a) else Z_a.T
    table = np.empty((len(means_a), len(means_b)))
    # Multiply in blocks: the product of the two sparse matrices is nearly dense, and as
    # a sparse matrix it would take one and a half times the memory of the table.
    for features in gen_batches(len(means_a), _BLOCK_FEATURES):
        products = safe_sparse_dot(Z_at[features], Z_b, dense_output=True)
        products -= n_samples * np.outer(means_a[features], means_b)
        table[features] = np.clip(products, -1.0, 1.0)
    return table


def _standardise(codes: Codes) -> tuple[Codes, np.ndarray]:
    """Scale columns to a centred norm of 1 (constant columns to 0); return the means.

    A dense array is also centred, so its means are 0. A sparse array keeps its zeros:
    only columns without zeros are centred. That is enough against cancellation,
    because with a single zero among `n` values the squared mean is at most `n` times
    the variance.
    """
    n_samples = codes.shape[0]
    # Divide by the largest entry first: squares of very large or very small entries
    # would leave the range of float64. A constant column then has a norm of exactly 0.
    largest = _largest_by_column(codes)
    if not sparse.issparse(codes):
        Z = codes / largest
        Z -= Z.mean(axis=0)
        norms = np.sqrt(np.einsum("ij,ij->j", Z, Z))
        Z *= _reciprocal(norms)
        return Z, np.zeros(codes.shape[1])

    columns = codes.indices
    n_columns = codes.shape[1]
    data = codes.data / largest[columns]
    n_stored = np.bincount(columns, minlength=n_columns)
    means = np.bincount(columns, weights=data, minlength=n_columns) / n_samples
    full = n_stored == n_samples
    data -= np.where(full, means, 0.0)[columns]
    means[full] = 0.0
    stored = np.square(data - means[columns])
    squares = np.bincount(columns, weights=stored, minlength=n_columns)
    squares = squares + (n_samples - n_stored) * np.square(means)
    scale = _reciprocal(np.sqrt(squares))
    Z = sparse.csr_array((data * scale[columns], columns, codes.indptr), codes.shape)
    return Z, means * scale


def _largest_by_column(codes: Codes) -> np.ndarray:
    """Largest absolute value of each column; 1 for a column of zeros."""
    extremes = codes.min(axis=0), codes.max(axis=0)
    if sparse.issparse(codes):
        extremes = tuple(extreme.toarray().ravel() for extreme in extremes)
    # Convert to float64 first: the smallest integer has no absolute value in its type.
    largest = np.abs(np.asarray(extremes, dtype=np.float64)).max(axis=0)
    return np.where(largest > 0, largest, 1.0)


def _reciprocal(norms: np.ndarray) -> np.ndarray:
    return np.where(norms > 0, 1.0 / np.where(norms > 0, norms, 1.0), 0.0)


def _column(values: list[Any]) -> np.ndarray:
    if all(isinstance(value, int | float) for value in values):
        return np.array(values)
    # Names may be of any type: np.array would split tuples and turn numbers into text.
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def _check_dictionaries(
    dictionaries: Sequence[Data] | Mapping[Any, Data],
) -> tuple[list[Any], list[np.ndarray]]:
    if isinstance(dictionaries, Mapping):
        names = list(dictionaries)
        arrays = list(dictionaries.values())
    else:
        names = list(range(len(dictionaries)))
        arrays = list(dictionaries)
    if len(arrays) < 2:
        raise ValueError(
            f"stability_report needs at least two dictionaries, got {len(arrays)}."
        )
    for name, array in zip(names, arrays, strict=True):
        if hasattr(array, "get_params"):
            raise ValueError(
                f"dictionaries[{name!r}] must be an array of atoms, but is the "
                f"estimator {type(array).__name__}: pass its components_ once fitted."
            )
    atoms = [
        _check_atoms(array, f"dictionaries[{name!r}]")
        for name, array in zip(names, arrays, strict=True)
    ]
    n_features = [A.shape[1] for A in atoms]
    if len(set(n_features)) > 1:
        raise ValueError(
            "The dictionaries must have the same number of features, got "
            f"{n_features}. match_codes compares dictionaries of different spaces."
        )
    return names, atoms


def _agreement(A: np.ndarray, B: np.ndarray, min_similarity: float) -> dict[str, float]:
    """Measure the agreement of two dictionaries of unit atoms."""
    cosines = np.clip(A @ B.T, -1.0, 1.0)
    matched = cosines[linear_sum_assignment(cosines, maximize=True)]
    return {
        "matched_cosine": float(matched.mean()),
        "matched_fraction": float(np.mean(matched > min_similarity)),
        "max_cosine_a": float(cosines.max(axis=1).mean()),
        "max_cosine_b": float(cosines.max(axis=0).mean()),
    }


def _mean_agreement(
    draw: Callable[[np.ndarray, np.random.RandomState], np.ndarray],
    A: np.ndarray,
    B: np.ndarray,
    min_similarity: float,
    n_random: int,
    rng: np.random.RandomState,
) -> dict[str, float]:
    figures = [
        _agreement(draw(A, rng), draw(B, rng), min_similarity) for _ in range(n_random)
    ]
    return {key: float(np.mean([f[key] for f in figures])) for key in figures[0]}


def _isotropic_like(atoms: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """Draw the same number of unit rows, uniform on the sphere."""
    return unit_rows(rng.standard_normal(atoms.shape))[0]


def _covariance_like(atoms: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """Draw the same number of random unit rows with the atoms' mean and covariance.

    Gaussian rows are alternately given the mean and the covariance, and unit length.
    If they were scaled only once they would keep neither moment: rows that are long by
    chance are long in the few directions that hold most of the variance, so scaling
    them down spreads the rows more evenly than the atoms. Zero atoms stay zero.
    """
    draws = np.zeros(atoms.shape)
    living = atoms.any(axis=1)
    if living.any():
        draws[living] = _draw_unit_rows(atoms[living], rng)
    return draws


def _draw_unit_rows(atoms: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    mean = atoms.mean(axis=0)
    _, s, Vt = np.linalg.svd(atoms - mean, full_matrices=False)
    # Fewer atoms than dimensions do not vary in all dimensions.
    held = s > _MIN_SPREAD * s[0]
    s, Vt = s[held], Vt[held]
    rows = rng.standard_normal((len(atoms), len(s))) * s
    for _ in range(_MAX_TURNS):
        rows -= rows.mean(axis=0)
        # The rows with this covariance that are nearest to the current rows.
        draws = mean + (_orthonormal(rows * s) * s) @ Vt
        lengths = np.sqrt(np.einsum("ij,ij->i", draws, draws))
        draws = unit_rows(draws)[0]
        if np.abs(lengths - 1).mean() <= _LENGTH_TOLERANCE:
            break
        rows = (draws - mean) @ Vt.T
    return draws


def _orthonormal(rows: np.ndarray) -> np.ndarray:
    """Find the orthonormal columns nearest to those of `rows`."""
    values, vectors = np.linalg.eigh(rows.T @ rows)
    # Smaller eigenvalues are lost to rounding.
    values = np.maximum(values, 1e-14 * max(values[-1:], default=0.0))
    return rows @ (vectors / np.sqrt(values)) @ vectors.T
