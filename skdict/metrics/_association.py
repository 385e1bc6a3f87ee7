"""Associations of features with continuous targets and with factors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from numbers import Integral
from operator import add
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.utils import check_random_state
from sklearn.utils.sparsefuncs import min_max_axis

from skdict._utils.arrays import blocks
from skdict._utils.checks import check_finite, check_numbers
from skdict._utils.constraints import Interval
from skdict._utils.dask_blocks import budget_bytes, is_dask, reduce_blocks
from skdict._utils.labels import encode
from skdict._utils.sklearn_private import StrOptions, validate_params
from skdict._utils.table import as_table
from skdict._utils.types import Codes, Data, Seed
from skdict.stats import (
    ROUNDING,
    Exchange,
    at_least,
    centred_ranks,
    check_block,
    check_codes,
    encode_groups,
    named_columns,
    permutation_p_value,
    plan_exchange,
    scale_codes,
    squares_between,
)

# Number of columns of permuted targets that are correlated at a time.
_BLOCK_TARGETS = 64

# Equal values of eta squared may differ by this fraction of it because of rounding. A
# fraction, because the sums of squares behind a small value have small errors.
_ETA_ROUNDING = 1e-10

_CORRELATION_CONSTRAINT = [StrOptions({"pearson", "spearman"})]
_PERMUTATION_CONSTRAINTS = {
    "n_permutations": [Interval(Integral, 0, None, closed="left")],
    "batch": ["array-like", None],
    "groups": ["array-like", None],
    "grid_shape": ["array-like", None],
    "random_state": ["random_state"],
}


@validate_params(
    {
        "codes": ["array-like", "sparse matrix"],
        "targets": ["array-like"],
        "correlation": _CORRELATION_CONSTRAINT,
    },
    prefer_skip_nested_validation=True,
)
def association_scores(
    codes: Codes, targets: Data, *, correlation: str = "pearson"
) -> np.ndarray:
    """Correlation of every feature with every target.

    Parameters
    ----------
    codes : {array-like, sparse matrix or array} of shape (n_samples, n_components)
        Codes of the samples. A sparse input is never densified. The blocks of a Dask
        array are computed in each pass over them, a few at a time, for
        the Pearson correlation only.

    targets : array-like of shape (n_samples,) or (n_samples, n_targets)
        Continuous targets, for example the number of cells of each type in a tile.

    correlation : {"pearson", "spearman"}, default="pearson"
        The correlation, of the values or of their ranks.

    Returns
    -------
    scores : ndarray of shape (n_components, n_targets)
        Correlations in [-1, 1]; 0 if the feature or the target is constant.

    Raises
    ------
    ValueError
        If `codes` or `targets` is empty or holds NaN or infinity, if they have
        different lengths, or if there are fewer than two samples.

    See Also
    --------
    association_report : The best feature of each target, with a permutation null.
    selectivity_scores : Scores for classes.
    scipy.stats.pearsonr, scipy.stats.spearmanr : The same for one pair.

    Examples
    --------
    >>> from skdict.metrics import association_scores
    >>> codes = [[0.0, 1.0], [1.0, 0.0], [2.0, 0.0], [3.0, 0.0]]
    >>> association_scores(codes, [1.0, 3.0, 5.0, 7.0]).round(3)
    array([[ 1.   ],
           [-0.775]])
    """
    Z, T, _ = _standardised(codes, targets, correlation)
    return _correlate(Z, T)


@validate_params(
    {
        "codes": ["array-like", "sparse matrix"],
        "targets": ["array-like"],
        "correlation": _CORRELATION_CONSTRAINT,
        **_PERMUTATION_CONSTRAINTS,
    },
    prefer_skip_nested_validation=True,
)
def association_report(
    codes: Codes,
    targets: Data,
    *,
    correlation: str = "pearson",
    n_permutations: int = 0,
    batch: Data | None = None,
    groups: Data | None = None,
    grid_shape: Data | None = None,
    random_state: Seed = None,
) -> pd.DataFrame:
    """Find the feature that correlates best with each target, with a permutation null.

    Parameters
    ----------
    codes : {array-like, sparse matrix or array} of shape (n_samples, n_components)
        Codes of the samples. A sparse input is never densified. The blocks of a Dask
        array are computed in each pass over them, a few at a time, for
        the Pearson correlation only.

    targets : array-like of shape (n_samples,) or (n_samples, n_targets)
        Continuous targets. The columns of a DataFrame are their names; otherwise they
        are numbered.

    correlation : {"pearson", "spearman"}, default="pearson"
        The correlation, as in `association_scores`.

    n_permutations : int, default=0
        Number of permutations of the rows of `targets`. With 0 there is no null.

    batch : array-like of shape (n_samples,), default=None
        Rows are permuted only inside the batches, for example inside the slides or
        patients from which tiles were cut, so that the null contains what the batches
        alone explain.

    groups : array-like of shape (n_samples,), default=None
        Groups of samples with the same value of each target, such as the cells of a
        well, which all got the same dose. The targets of whole groups are permuted,
        inside `batch` if it is given. Without `groups` such samples count as
        independent, and p-values are too small.

    grid_shape : tuple of int (height, width), default=None
        The grid of an image's tokens, for targets that differ inside images. The rows
        are all tokens of each image, image by image and row by row of the grid. The
        map of each image's targets is shifted over its grid instead of being permuted,
        as in `selectivity_report`. Batches must consist of whole images, and `groups`
        must be None.

    random_state : int, RandomState instance or None, default=None
        Seed of the permutations.

    Returns
    -------
    report : DataFrame
        One row per target. Columns:

        - `target`: name of the target.
        - `feature`: index of the feature with the largest absolute correlation; of
          equal features, the first.
        - `score`: its correlation, with the sign.
        - `null_q95`: 95 % quantile, over the permutations, of the largest absolute
          correlation of any feature. Only with ``n_permutations > 0``.
        - `p_value`: ``(1 + #{null >= |score|}) / (1 + n_permutations)``. Only with
          ``n_permutations > 0``.
        - `correlation`, `n_permutations`: as passed, the same in all rows.

    Raises
    ------
    ValueError
        As `association_scores`; also if `batch` or `groups` has a different length or
        missing values, if a target or `batch` differs inside a group, or if
        `grid_shape` does not fit, as in `selectivity_report`.

    See Also
    --------
    rescore_associations : The same pairs on other data.
    eta_squared : Fraction of a feature's variance that a factor explains.

    Notes
    -----
    The best feature is searched again in every permutation, so the null includes the
    choice among all features. The p-values are not adjusted for the number of
    targets. If rows are not exchangeable, p-values are too small without `batch` (the
    target differs between the rows of a slide), `groups` (it belongs to the slide) or
    `grid_shape` (rows are tokens, and the target varies smoothly inside the image).

    The best feature of each cell type, by the correlation of codes with counts of
    cells, is used in [1]_.

    References
    ----------
    .. [1] N. M. Le et al. arXiv:2407.10785, 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from skdict.metrics import association_report
    >>> rng = np.random.default_rng(0)
    >>> codes = rng.random((200, 30)) * (rng.random((200, 30)) < 0.2)
    >>> n_cells = 5 * codes[:, 3] + rng.random(200)
    >>> report = association_report(codes, n_cells, n_permutations=99, random_state=0)
    >>> int(report["feature"][0]), float(report["p_value"][0])
    (3, 0.01)
    """
    Z, T, names = _standardised(codes, targets, correlation)
    scores = _correlate(Z, T)
    best = np.abs(scores).argmax(axis=0)
    score = scores[best, np.arange(len(best))]
    columns = {"target": names, "feature": best, "score": score}
    if n_permutations > 0:
        null = np.empty((n_permutations, T.shape[1]))
        batch_ids, group_ids = _encode_blocks(targets, names, batch, groups)
        exchange = plan_exchange(T, batch_ids, group_ids, grid_shape, name="targets")
        permuted = _permuted_targets(
            targets, T, correlation, exchange, n_permutations, random_state
        )
        for some in blocks(n_permutations, T.shape[1], _columns_at_a_time(Z)):
            block = np.hstack([*islice(permuted, _length(some))])
            largest = np.abs(_correlate(Z, block)).max(axis=0)
            null[some] = largest.reshape(-1, T.shape[1])
        columns["null_q95"] = np.quantile(null, 0.95, axis=0)
        columns["p_value"] = permutation_p_value(null, np.abs(score), ROUNDING)
    return as_table(columns | _how(correlation, n_permutations, len(T.T)), {})


@validate_params(
    {
        "report": "no_validation",
        "codes": ["array-like", "sparse matrix"],
        "targets": ["array-like"],
        **_PERMUTATION_CONSTRAINTS,
    },
    prefer_skip_nested_validation=True,
)
def rescore_associations(
    report: pd.DataFrame,
    codes: Codes,
    targets: Data,
    *,
    n_permutations: int = 0,
    batch: Data | None = None,
    groups: Data | None = None,
    grid_shape: Data | None = None,
    random_state: Seed = None,
) -> pd.DataFrame:
    """Score pairs of feature and target that were chosen on other data.

    Parameters
    ----------
    report : DataFrame
        From `association_report`, on the data set on which the pairs were chosen. It
        may have been read from a file.

    codes : {array-like, sparse matrix or array} of shape (n_samples, n_components)
        Codes of other samples from the same dictionary, for example of another
        hospital or scanner.

    targets : array-like of shape (n_samples,) or (n_samples, n_targets)
        Their targets: a DataFrame with the columns that `report` names, in any
        order, or an array with the targets in the order of `report`.

    n_permutations : int, default=0
        Number of permutations of the rows of `targets`. With 0 there is no null.

    batch : array-like of shape (n_samples,), default=None
        Rows are permuted only inside the batches.

    groups : array-like of shape (n_samples,), default=None
        Groups of samples with the same value of each target, as in
        `association_report`.

    grid_shape : tuple of int (height, width), default=None
        The grid of an image's tokens, for targets that differ inside images, as in
        `association_report`: the map of each image's targets is shifted.

    random_state : int, RandomState instance or None, default=None
        Seed of the permutations.

    Returns
    -------
    table : DataFrame
        One row per row of `report`, with its `target` and `feature`, and:

        - `score_before`: the score in `report`.
        - `score`: the same correlation of the same pair, on these data.
        - `p_value`: ``(1 + #{null >= score}) / (1 + n_permutations)`` with the sign
          taken from `report`. Only with ``n_permutations > 0``.
        - `correlation`, `n_permutations`: the same in all rows.

    Raises
    ------
    ValueError
        As `association_report`; also if `report` is not such a table, if `targets`
        lacks a target of `report`, or if `codes` lacks a feature.

    See Also
    --------
    association_report : Chooses the pairs.

    Notes
    -----
    The pairs are fixed, so the null does not include a choice among features. Each pair
    is tested by itself, one-sided, in the direction of `score_before`.

    Examples
    --------
    >>> import numpy as np
    >>> from skdict.metrics import association_report, rescore_associations
    >>> rng = np.random.default_rng(0)
    >>> codes = rng.random((400, 30)) * (rng.random((400, 30)) < 0.2)
    >>> n_cells = 5 * codes[:, 3] + rng.random(400)
    >>> report = association_report(codes[:200], n_cells[:200])
    >>> table = rescore_associations(
    ...     report, codes[200:], n_cells[200:], n_permutations=99, random_state=0
    ... )
    >>> int(table["feature"][0]), float(table["p_value"][0])
    (3, 0.01)
    """
    features, correlation = _read_report(report)
    codes = check_codes(codes, deferred=True)
    if features.max() >= codes.shape[1]:
        raise ValueError(
            f"report names the feature {features.max()}, but codes has only "
            f"{codes.shape[1]} features."
        )
    targets = _targets_of(report, targets)
    # Column j holds the feature of pair j; several pairs may have the same feature.
    chosen = codes[:, features]
    Z, T, names = _standardised(
        chosen.compute() if is_dask(chosen) else chosen, targets, correlation
    )
    score = _correlate_pairs(Z, T)
    before = np.asarray(report["score"])
    columns = {
        "target": np.asarray(report["target"]),
        "feature": features,
        "score_before": before,
        "score": score,
    }
    if n_permutations > 0:
        sign = np.where(before < 0, -1.0, 1.0)
        batch_ids, group_ids = _encode_blocks(targets, names, batch, groups)
        exchange = plan_exchange(T, batch_ids, group_ids, grid_shape, name="targets")
        permuted = _permuted_targets(
            targets, T, correlation, exchange, n_permutations, random_state
        )
        null = np.array([_correlate_pairs(Z, some) for some in permuted])
        columns["p_value"] = permutation_p_value(sign * null, sign * score, ROUNDING)
    return as_table(columns | _how(correlation, n_permutations, len(T.T)), {})


@validate_params(
    {
        "codes": ["array-like", "sparse matrix"],
        "factors": [dict, "array-like"],
        **_PERMUTATION_CONSTRAINTS,
    },
    prefer_skip_nested_validation=True,
)
def eta_squared(
    codes: Codes,
    factors: Data,
    *,
    n_permutations: int = 0,
    batch: Data | None = None,
    groups: Data | None = None,
    grid_shape: Data | None = None,
    random_state: Seed = None,
) -> pd.DataFrame:
    r"""Fraction of each feature's variance that each factor explains.

    The table compares the biology with nuisance factors such as the scanner, the stain
    or the batch. A robust feature varies with the biology and not with these.

    Parameters
    ----------
    codes : {array-like, sparse matrix or array} of shape (n_samples, n_components)
        Codes of the samples. A sparse input is never densified.

    factors : dict of array-like of shape (n_samples,) or DataFrame
        The name of each factor and its labels of the samples. A factor has at least
        two different labels, and some samples share a label.

    n_permutations : int, default=0
        Number of permutations of each factor's labels. With 0 there are no p-values.

    batch : array-like of shape (n_samples,), default=None
        Labels are permuted only inside the batches.

    groups : array-like of shape (n_samples,), default=None
        Groups of samples with the same label of each factor, such as the tiles of a
        slide. The labels of whole groups are permuted, inside `batch` if it is given.

    grid_shape : tuple of int (height, width), default=None
        The grid of an image's tokens, for labels that differ inside images, as in
        `selectivity_report`: the label map of each image is shifted. Batches must
        consist of whole images, and `groups` must be None.

    random_state : int, RandomState instance or None, default=None
        Seed of the permutations.

    Returns
    -------
    table : DataFrame
        One row per feature, in the order of the features. Columns: `feature`, and for
        each factor, here called `scanner`,

        - `scanner_eta_squared`: fraction of the variance in the sample, in [0, 1].
        - `scanner_omega_squared`: the same without the part that this number of labels
          explains by chance. If there is no effect it is around 0, possibly below.
        - `scanner_p_value`: ``(1 + #{null >= eta_squared}) / (1 + n_permutations)``.
          It is not corrected for the number of features. Only with
          ``n_permutations > 0``.

        and `strongest`, the factor with the largest omega squared. Features without
        variance have 0 throughout, and p-values of 1.

        The other columns are the same in all rows: `n_permutations` and, for each
        factor, `scanner_mean_omega_squared`, the mean over the features that vary.

    Raises
    ------
    ValueError
        If `codes` is empty or holds NaN or infinity; if a factor has a different
        length, missing values, a single label, or a different label for every sample;
        or if a factor or `batch` differs inside a group.

    See Also
    --------
    describe_features : Flags of features that follow a confound, by their activity.

    Notes
    -----
    With the sums of squares between the :math:`g` levels, inside them and in total
    [1]_,

    .. math::

        \eta^2 = \frac{SS_b}{SS_t}, \qquad
        \omega^2 = \frac{SS_b - (g - 1) MS_w}{SS_t + MS_w}, \quad
        MS_w = \frac{SS_w}{n - g}.

    Without an effect the mean of :math:`\eta^2` is :math:`(g - 1) / (n - 1)`, so a
    factor with hundreds of levels seems to explain much; :math:`\omega^2` corrects for
    this. Both take the samples as independent. If samples of a group resemble each
    other, a factor that differs between few groups has a positive :math:`\omega^2` by
    chance, and only the p-value with `groups` shows it. Each factor is taken by itself:
    factors that coincide in part explain the same variance in part.

    References
    ----------
    .. [1] W. L. Hays. "Statistics for psychologists." Holt, Rinehart and Winston,
       1963.

    Examples
    --------
    >>> import numpy as np
    >>> from skdict.metrics import eta_squared
    >>> rng = np.random.default_rng(0)
    >>> tissue, scanner = rng.integers(0, 3, 300), rng.integers(0, 2, 300)
    >>> codes = np.column_stack((tissue == 1, scanner == 1)) * rng.random((300, 1))
    >>> table = eta_squared(codes, {"tissue": tissue, "scanner": scanner})
    >>> table["strongest"].tolist()
    ['tissue', 'scanner']
    """
    codes = check_codes(codes)
    n_samples, n_components = codes.shape
    named = named_columns(factors, "factors")
    if not named:
        raise ValueError("factors is empty: name at least one factor.")
    Z, squares = scale_codes(codes)
    means = Z.sum(axis=0) / n_samples
    varies = squares > 0
    squares = np.where(varies, squares, 1.0)
    batch_ids = None
    if batch is not None:
        batch_ids = encode(batch, "batch", n_samples)[1]
    rng = check_random_state(random_state)

    columns = {"feature": np.arange(n_components)}
    omegas = {}
    for name, values in named.items():
        ids = _encode_factor(values, name, n_samples)
        shared = {"batch": batch, f"factor {name}": values}
        group_ids = encode_groups(groups, n_samples, shared)
        n_levels = ids.max() + 1
        eta = np.minimum(squares_between(Z, ids, means) / squares, 1.0)
        eta = np.where(varies, eta, 0.0)
        inside = (1 - eta) / (n_samples - n_levels)
        omega = np.where(varies, (eta - (n_levels - 1) * inside) / (1 + inside), 0.0)
        columns[f"{name}_eta_squared"] = eta
        columns[f"{name}_omega_squared"] = omegas[name] = omega
        if n_permutations > 0:
            exchange = plan_exchange(ids, batch_ids, group_ids, grid_shape, name=name)
            n_as_large = np.zeros(n_components)
            for permuted in exchange.permuted(ids, n_permutations, rng):
                null = squares_between(Z, permuted, means) / squares
                n_as_large += at_least(null, eta, _ETA_ROUNDING * eta)
            p_values = (1 + n_as_large) / (1 + n_permutations)
            columns[f"{name}_p_value"] = np.where(varies, p_values, 1.0)
    strongest = np.argmax([*omegas.values()], axis=0)
    columns["strongest"] = np.array([*named], dtype=object)[strongest]
    means_over_features = {
        f"{name}_mean_omega_squared": omega[varies].mean() if varies.any() else 0.0
        for name, omega in omegas.items()
    }
    return as_table(columns, {"n_permutations": n_permutations} | means_over_features)


# Correlations


def _standardised(
    codes: Codes, targets: Data, correlation: str
) -> tuple[_Standardised, np.ndarray, np.ndarray]:
    """Scale codes and targets so that their product is the correlation."""
    if is_dask(codes) and correlation == "spearman":
        raise TypeError(
            "Ranks need all codes of a feature at a time, and codes is a Dask array: "
            "pass codes.compute(), or correlation='pearson'."
        )
    codes = check_codes(codes, deferred=True)
    T = _check_targets(targets)
    n_samples = codes.shape[0]
    if len(T) != n_samples:
        raise ValueError(f"codes has {n_samples} rows, but targets has {len(T)}.")
    if n_samples < 2:
        raise ValueError("A correlation needs at least two samples, got 1.")
    names = getattr(targets, "columns", None)
    if names is None:
        name = getattr(targets, "name", None)  # of a Series
        names = np.arange(T.shape[1]) if name is None else [name]

    if is_dask(codes):
        Z = _DeferredColumns(codes, *_scales(codes))
        return Z, _standardised_targets(T, correlation), np.asarray(names)
    if correlation == "spearman":
        codes = _ranked(codes)
    Z, squares = scale_codes(codes)
    Z = Z.multiply(_inverse_root(squares)[None, :]).tocsr()
    return Z, _standardised_targets(T, correlation), np.asarray(names)


def _check_targets(targets: Data) -> np.ndarray:
    try:
        T = check_numbers(
            targets,
            dtype=np.float64,
            ensure_2d=False,
            ensure_all_finite=False,
            input_name="targets",
        )
    except ValueError as error:
        if "could not convert" in str(error):
            raise ValueError(
                f"targets must be numbers, but {error}. Labels are for "
                "selectivity_report."
            ) from error
        raise
    T = T.reshape(-1, 1) if T.ndim == 1 else T
    check_finite(T, "targets")
    return T


def _standardised_targets(T: np.ndarray, correlation: str) -> np.ndarray:
    if correlation == "spearman":
        T = _ranked(T).toarray()
    # If the targets are centred, the means of the codes cancel: leave them.
    T = T / _nonzero(np.abs(T).max(axis=0))
    constant = np.ptp(T, axis=0) == 0
    T -= T.mean(axis=0)
    T *= _inverse_root(np.where(constant, 0.0, (T**2).sum(axis=0)))
    # Centre again: the first mean is rounded, and the remainder would not cancel
    # because the codes are not centred.
    T -= T.mean(axis=0)
    return T


def _ranked(values: np.ndarray | sparse.csr_array) -> sparse.csr_array:
    """Rank each column, as a sparse matrix in which zeros have rank 0."""
    blocks = [ranks for _, ranks, _ in centred_ranks(values)]
    return sparse.hstack(blocks, format="csr")


@dataclass(frozen=True)
class _DeferredColumns:
    """Standardised codes that Dask computes, scaled anew in every pass."""

    codes: Any
    largest: np.ndarray  # absolute value of each feature, or 1
    factors: np.ndarray  # what makes unit columns of columns with a largest value of 1

    def product(self, T: np.ndarray) -> np.ndarray:
        """Multiply the transposed codes with targets."""
        of_block = partial(
            _product_of_block, largest=self.largest, factors=self.factors
        )
        return reduce_blocks(self.codes, of_block, add, T)


_Standardised: TypeAlias = sparse.csr_array | _DeferredColumns


def _product_of_block(
    codes: Codes, start: int, T: np.ndarray, *, largest: np.ndarray, factors: np.ndarray
) -> np.ndarray:
    rows = sparse.csr_array(check_block(codes, start), dtype=np.float64, copy=True)
    # One after the other: their quotient may be infinite.
    rows.data /= largest[rows.indices]
    rows.data *= factors[rows.indices]
    return rows.T @ T


def _scales(codes: Any) -> tuple[np.ndarray, np.ndarray]:
    """Find by what the columns of Dask codes are divided and multiplied."""
    spread = reduce_blocks(codes, _spread_of_block, _merge_spreads)
    squares = np.where(spread.low == spread.high, 0.0, spread.squares)
    return _nonzero(spread.largest), _inverse_root(squares)


@dataclass(frozen=True)
class _Spread:
    """Of each column of some rows; the mean and the squares of values / largest."""

    n_rows: int
    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray
    squares: np.ndarray  # sum of the squared deviations from the mean

    @property
    def largest(self) -> np.ndarray:
        """Largest absolute value."""
        return np.maximum(-self.low, self.high)


def _spread_of_block(codes: Codes, start: int) -> _Spread:
    rows = sparse.csr_array(check_block(codes, start), dtype=np.float64)
    low, high = (np.asarray(side).ravel() for side in min_max_axis(rows, axis=0))
    scaled, squares = scale_codes(rows)
    n_rows = rows.shape[0]
    return _Spread(n_rows, low, high, scaled.sum(axis=0) / n_rows, squares)


def _merge_spreads(a: _Spread, b: _Spread) -> _Spread:
    n_rows = a.n_rows + b.n_rows
    low, high = np.minimum(a.low, b.low), np.maximum(a.high, b.high)
    # To a common scale, then by the update of Chan, Golub and LeVeque.
    largest = _nonzero(np.maximum(-low, high))
    of_a, of_b = a.largest / largest, b.largest / largest
    step = of_b * b.mean - of_a * a.mean
    mean = of_a * a.mean + step * (b.n_rows / n_rows)
    squares = of_a**2 * a.squares + of_b**2 * b.squares
    squares += step**2 * (a.n_rows * (b.n_rows / n_rows))
    return _Spread(n_rows, low, high, mean, squares)


def _columns_at_a_time(Z: _Standardised) -> int:
    """Number of columns of permuted targets that are correlated at a time."""
    if isinstance(Z, _DeferredColumns):
        return max(1, budget_bytes() // (8 * sum(Z.codes.shape)))
    return _BLOCK_TARGETS


def _nonzero(values: np.ndarray) -> np.ndarray:
    return np.where(values == 0, 1.0, values)


def _inverse_root(squares: np.ndarray) -> np.ndarray:
    return np.where(squares > 0, 1 / np.sqrt(np.where(squares > 0, squares, 1.0)), 0.0)


def _correlate(Z: _Standardised, T: np.ndarray) -> np.ndarray:
    product = Z.product(T) if isinstance(Z, _DeferredColumns) else Z.T @ T
    return np.clip(product, -1.0, 1.0)


def _correlate_pairs(Z: sparse.csr_array, T: np.ndarray) -> np.ndarray:
    """Correlate column `j` of the codes with column `j` of the targets."""
    return np.clip(np.asarray(Z.multiply(T).sum(axis=0)).ravel(), -1.0, 1.0)


def _encode_blocks(
    targets: Data, names: np.ndarray, batch: Data | None, groups: Data | None
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Number the batches and the groups; None if they are not given."""
    batch_ids, group_ids = None, None
    n_samples = len(targets)
    if batch is not None:
        batch_ids = encode(batch, "batch", n_samples)[1]
    if groups is not None:
        raw = _check_targets(targets)
        shared = {f"target {name}": raw[:, j] for j, name in enumerate(names)}
        group_ids = encode_groups(groups, n_samples, shared | {"batch": batch})
    return batch_ids, group_ids


def _permuted_targets(
    targets: Data,
    T: np.ndarray,
    correlation: str,
    exchange: Exchange,
    n_permutations: int,
    random_state: Seed,
) -> Iterator[np.ndarray]:
    """Yield the standardised targets `T` permuted."""
    rng = check_random_state(random_state)
    orders = exchange.permuted(np.arange(len(T)), n_permutations, rng)
    group_ids = exchange.group_ids
    if group_ids is None or np.ptp(np.bincount(group_ids)) == 0:
        return (T[order] for order in orders)
    # Groups differ in size, so a permutation changes the mean, the deviation and the
    # ranks over the samples.
    raw = _check_targets(targets)
    return (_standardised_targets(raw[order], correlation) for order in orders)


def _length(some: slice) -> int:
    return some.stop - some.start


def _how(correlation: str, n_permutations: int, n_rows: int) -> dict[str, np.ndarray]:
    """Make columns that say how a table was made, the same in all rows."""
    return {
        "correlation": np.full(n_rows, correlation, dtype=object),
        "n_permutations": np.full(n_rows, int(n_permutations)),
    }


def _read_report(report: pd.DataFrame) -> tuple[np.ndarray, str]:
    """Read features and kind of correlation from a table of `association_report`."""
    needed = ["target", "feature", "score", "correlation"]
    lacking = [name for name in needed if name not in getattr(report, "keys", list)()]
    if lacking:
        raise ValueError(
            "report must be a table of association_report, but this "
            f"{type(report).__name__} has no column {', '.join(lacking)}."
        )
    features = np.asarray(report["feature"])
    found = sorted({*map(str, report["correlation"])})
    if found not in (["pearson"], ["spearman"]):
        raise ValueError(
            "The column correlation of report must hold only 'pearson' or only "
            f"'spearman', but it holds {', '.join(found) or 'nothing'}."
        )
    if features.dtype.kind not in "iu" or features.min() < 0:
        raise ValueError(
            "The column feature of report must hold indices of features, but it holds "
            f"{features.dtype} such as {features[np.argmin(features)]}."
        )
    return features, found[0]


def _targets_of(report: pd.DataFrame, targets: Data) -> Data:
    if not hasattr(targets, "columns"):
        n_targets = _check_targets(targets).shape[1]
        if n_targets != len(report["target"]):
            raise ValueError(
                f"report has {len(report['target'])} targets, but targets has "
                f"{n_targets} columns."
            )
        return targets
    # All names in a file are text.
    columns = {str(name): name for name in targets.columns}
    names = [*map(str, report["target"])]
    missing = [name for name in names if name not in columns]
    if missing:
        raise ValueError(
            f"targets lacks {len(missing)} of the {len(report['target'])} targets of "
            f"report, the first of them {missing[0]!r}."
        )
    return targets[[columns[name] for name in names]]


# Variance


def _encode_factor(values: Data, name: str, n_samples: int) -> np.ndarray:
    levels, ids = encode(values, name, n_samples)
    if len(levels) < 2:
        raise ValueError(
            f"The factor {name} has the value {levels[0]} for all samples."
        )
    if len(levels) == n_samples:
        raise ValueError(
            f"The factor {name} has a different label for every sample, so it explains "
            "everything."
        )
    return ids
