"""Do dictionaries agree: over seeds by their atoms, over models by their codes?"""

from collections.abc import Mapping
from itertools import combinations
from numbers import Integral, Real

import numpy as np
from scipy import sparse
from scipy.optimize import linear_sum_assignment
from sklearn.utils import check_random_state, gen_batches
from sklearn.utils.extmath import safe_sparse_dot

from skdict._utils.arrays import unit_rows
from skdict._utils.constraints import Interval
from skdict._utils.sklearn_private import validate_params
from skdict._utils.table import as_table
from skdict.stats import check_codes

from ._dictionary import _check_atoms

_BLOCK_FEATURES = 1024

# Turns in which random atoms get their moments and unit length, and by how much the
# lengths may be off at the end.
_MAX_TURNS = 100
_LENGTH_TOLERANCE = 1e-3

# Directions in which atoms vary less than this part of the most are left out.
_MIN_SPREAD = 1e-7


@validate_params(
    {
        "codes_a": ["array-like", "sparse matrix"],
        "codes_b": ["array-like", "sparse matrix"],
    },
    prefer_skip_nested_validation=True,
)
def match_codes(codes_a, codes_b):
    r"""Pair the features of two dictionaries by the correlation of their codes.

    For dictionaries of different models, whose atoms lie in different spaces and
    cannot be compared: two features match where they respond to the same samples.

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
        Row `i` holds the indices of a feature of the first dictionary and its
        partner in the second; sorted by the first. No feature occurs twice, and
        those of the larger dictionary that find no partner are left out.

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
    The assignment makes the sum of correlations largest
    (:func:`scipy.optimize.linear_sum_assignment`). Correlations keep their sign.
    They come from

    .. math::

        \sum_i (a_i - \bar a)(b_i - \bar b) = \sum_i a_i b_i - n \bar a \bar b

    so that the product of the two code matrices stays sparse. Of the features, but
    not of the samples, a dense table is made: 8 bytes for each pair of features,
    and three times as much during the assignment.

    Each feature is paired with the one that suits it best among many, so that
    unrelated codes do not give 0. Shuffling the rows of one input gives the figure
    for codes that share nothing.

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
    dictionaries, *, min_similarity=0.7, n_random=3, random_state=None
):
    r"""Agreement of every two dictionaries, beside two nulls of random atoms.

    Parameters
    ----------
    dictionaries : list of array-like of shape (n_components, n_features), or dict
        At least two dictionaries of the same space, for instance the `components_`
        of fits with several seeds. Atoms are rows of any length; the numbers of
        atoms may differ. In a dict, the keys name them.

    min_similarity : float, default=0.7
        Two matched atoms count as the same where their cosine exceeds this.

    n_random : int, default=3
        Number of pairs of random dictionaries drawn for each null, over which the
        figures are averaged. With 0 the report has no null.

    random_state : int, RandomState instance or None, default=None
        Seed of the random dictionaries.

    Returns
    -------
    report : DataFrame
        One row for each pair of dictionaries. Columns:

        - `a`, `b`: the places of the two in the list, or their names.
        - `matched_cosine`: mean cosine of the pairs of `match_dictionaries`.
        - `matched_fraction`: share of these pairs with a cosine above `min_similarity`.
        - `max_cosine_a`: mean, over the atoms of `a`, of the largest cosine with
          any atom of `b`; several may choose the same.
        - `max_cosine_b`: the same for the atoms of `b`.
        - `isotropic_...`, `covariance_...`: the four figures for random
          dictionaries of the same two shapes. Only with ``n_random > 0``.

        - `min_similarity`, `n_random`: the same in all rows.

    Raises
    ------
    ValueError
        If there are fewer than two dictionaries, if one is empty or holds NaN or
        infinity, or if the numbers of features differ.

    See Also
    --------
    match_dictionaries : The pairs themselves.
    match_codes : Agreement of dictionaries of different spaces.

    Notes
    -----
    Among thousands of atoms each finds some partner, so that random dictionaries
    agree to a degree. There are two nulls:

    - *isotropic*: atoms drawn uniformly from the unit sphere. It is the usual one,
      and too easy: atoms concentrate in the directions in which the data vary, and
      for that alone those of two dictionaries are closer to each other.
    - *covariance*: random unit vectors whose mean and covariance are those of the
      unit atoms of `a` and of `b`, respectively. Gaussian vectors are brought to these
      moments and to unit length in turns, because scaled once they would no longer
      have them, and would agree too little where few directions hold most of the
      variance. Agreement above this null is not explained by which directions the
      data occupy.

    Neither null knows that dictionaries may have started alike: with
    ``init="samples"`` two seeds draw partly the same rows of the data as their first
    atoms. Set untrained dictionaries (``max_iter=0``) beside them, or start from
    ``init="random"``.

    An assignment of 8192 atoms takes 10 to 20 s on one core; with the nulls there
    are :math:`1 + n_\mathrm{random}` of them for each pair and
    :math:`n_\mathrm{random}` more. The figures are means over all atoms, so that
    they hardly vary between draws where there are many atoms, and a single draw
    serves.

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
            # The same for all pairs of these shapes.
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


def _correlations(codes_a, codes_b):
    """Pearson correlations of all pairs of columns; 0 with a constant one."""
    n_samples = codes_a.shape[0]
    Z_a, means_a = _standardise(codes_a)
    Z_b, means_b = _standardise(codes_b)
    Z_at = Z_a.T.tocsr() if sparse.issparse(Z_a) else Z_a.T
    table = np.empty((len(means_a), len(means_b)))
    # In blocks, because the product of two sparse matrices is sparse in form only:
    # beside the table it would take another one and a half times its memory.
    for features in gen_batches(len(means_a), _BLOCK_FEATURES):
        products = safe_sparse_dot(Z_at[features], Z_b, dense_output=True)
        products -= n_samples * np.outer(means_a[features], means_b)
        table[features] = np.clip(products, -1.0, 1.0)
    return table


def _standardise(codes):
    """Scale columns to a centred norm of 1 (constant ones to 0), and their means.

    A dense array is centred, too, so that its means are 0. A sparse one is centred
    in the columns without zeros only, and keeps its pattern. That is enough against
    cancellation: with a single zero among `n` values, the squared mean is at most
    `n` times the variance.
    """
    n_samples = codes.shape[0]
    # First by the largest entry: squares of very large or small ones would leave
    # the range of float64, and a constant column, now of ones, has exactly no norm.
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


def _largest_by_column(codes):
    """Largest absolute value of each column, 1 where all are zero."""
    extremes = codes.min(axis=0), codes.max(axis=0)
    if sparse.issparse(codes):
        extremes = tuple(extreme.toarray().ravel() for extreme in extremes)
    # float64 first: the smallest integer has no absolute value of its own type.
    largest = np.abs(np.asarray(extremes, dtype=np.float64)).max(axis=0)
    return np.where(largest > 0, largest, 1.0)


def _reciprocal(norms):
    return np.where(norms > 0, 1.0 / np.where(norms > 0, norms, 1.0), 0.0)


def _column(values):
    if all(isinstance(value, int | float) for value in values):
        return np.array(values)
    # Names of any kind: numpy would take tuples apart and turn numbers into text.
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def _check_dictionaries(dictionaries):
    if isinstance(dictionaries, Mapping):
        names = list(dictionaries)
        arrays = list(dictionaries.values())
    else:
        names = list(range(len(dictionaries)))
        arrays = list(dictionaries)
    if len(arrays) < 2:
        raise ValueError(
            f"Stability compares dictionaries, but only {len(arrays)} was given: "
            "at least two are needed."
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
            f"{n_features}. Those of different spaces are compared by match_codes."
        )
    return names, atoms


def _agreement(A, B, min_similarity):
    """The four figures of a row, for unit atoms."""
    cosines = np.clip(A @ B.T, -1.0, 1.0)
    matched = cosines[linear_sum_assignment(cosines, maximize=True)]
    return {
        "matched_cosine": float(matched.mean()),
        "matched_fraction": float(np.mean(matched > min_similarity)),
        "max_cosine_a": float(cosines.max(axis=1).mean()),
        "max_cosine_b": float(cosines.max(axis=0).mean()),
    }


def _mean_agreement(draw, A, B, min_similarity, n_random, rng):
    figures = [
        _agreement(draw(A, rng), draw(B, rng), min_similarity) for _ in range(n_random)
    ]
    return {key: float(np.mean([f[key] for f in figures])) for key in figures[0]}


def _isotropic_like(atoms, rng):
    """As many unit rows, uniform on the sphere."""
    return unit_rows(rng.standard_normal(atoms.shape))[0]


def _covariance_like(atoms, rng):
    """As many unit rows, random but for their mean and covariance, those of the atoms.

    Gaussian rows are brought to the mean and the covariance, then to unit length, in
    turns. Scaled once they would keep neither: where few directions hold most of the
    variance, rows that are long by chance are long along these, and scaling them down
    spreads the rows more evenly than the atoms are. Zero atoms stay zero.
    """
    draws = np.zeros(atoms.shape)
    living = atoms.any(axis=1)
    if living.any():
        draws[living] = _draw_unit_rows(atoms[living], rng)
    return draws


def _draw_unit_rows(atoms, rng):
    mean = atoms.mean(axis=0)
    _, s, Vt = np.linalg.svd(atoms - mean, full_matrices=False)
    # With fewer atoms than dimensions, the centred atoms have not all of these.
    held = s > _MIN_SPREAD * s[0]
    s, Vt = s[held], Vt[held]
    rows = rng.standard_normal((len(atoms), len(s))) * s
    for _ in range(_MAX_TURNS):
        rows -= rows.mean(axis=0)
        # Of all rows with this covariance, the nearest to those that there are.
        draws = mean + (_orthonormal(rows * s) * s) @ Vt
        lengths = np.sqrt(np.einsum("ij,ij->i", draws, draws))
        draws = unit_rows(draws)[0]
        if np.abs(lengths - 1).mean() <= _LENGTH_TOLERANCE:
            break
        rows = (draws - mean) @ Vt.T
    return draws


def _orthonormal(rows):
    """The orthonormal columns nearest to those of `rows`."""
    values, vectors = np.linalg.eigh(rows.T @ rows)
    # Rounding leaves nothing of values that are smaller.
    values = np.maximum(values, 1e-14 * max(values[-1:], default=0.0))
    return rows @ (vectors / np.sqrt(values)) @ vectors.T
