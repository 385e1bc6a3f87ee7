"""Tests of which features are selective beyond chance."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from skdict._utils.constraints import Interval
from skdict._utils.labels import as_labels, as_mask, labels_or_missing
from skdict._utils.sklearn_private import StrOptions, validate_params
from skdict._utils.table import as_table
from skdict._utils.types import Codes, Data, Seed
from skdict.stats import (
    LABEL_CONSTRAINTS,
    SCORE_CONSTRAINTS,
    Activity,
    encode_classes,
    exchange_of_labels,
    find_active,
    named_columns,
    null_statistics,
    permutation_p_value,
    run_label_tests,
    score_features,
    take_rows,
)

TEST_CONSTRAINTS: dict[str, Any] = {
    **LABEL_CONSTRAINTS,
    "alpha": [Interval(Real, 0, 1, closed="right")],
    "correction": [StrOptions({"bh", "by"})],
}


@validate_params(TEST_CONSTRAINTS, prefer_skip_nested_validation=True)
def selectivity_tests(
    codes: Codes,
    y: Data,
    *,
    activity_threshold: float = 0.0,
    batch: Data | None = None,
    groups: Data | None = None,
    control: Data | None = None,
    grid_shape: Data | None = None,
    alpha: float = 0.05,
    correction: str = "bh",
) -> pd.DataFrame:
    r"""Find the pairs of feature and class that are selective beyond chance.

    Every feature is tested for every class, and the false discovery rate is
    controlled over all of these tests.

    Parameters
    ----------
    codes : {array-like, sparse matrix or array} of shape (n_samples, n_components)
        Codes of the samples. A sparse input is never densified. The blocks of a Dask
        array are computed in each pass over them, a few at a time.

    y : array-like of shape (n_samples,)
        Labels, of at least two classes.

    activity_threshold : float, default=0.0
        A feature is active in a sample if ``|z| > activity_threshold``.

    batch : array-like of shape (n_samples,), default=None
        Under the null hypothesis labels are exchanged only among the samples of a
        batch.

    groups : array-like of shape (n_samples,), default=None
        Groups that were labelled as a whole, such as the image of each token or the
        well of each cell, as in `selectivity_report`: the labels of whole groups are
        exchanged.

    control : array-like of shape (n_samples,), default=None
        Boolean or 0/1 array of the control samples that fitted the whitening, as in
        `selectivity_report`: their labels are not exchanged with those of others.

    grid_shape : tuple of int (height, width), default=None
        The grid of an image's tokens, for labels that differ inside images, as in
        `selectivity_report`: the label map of each image is shifted.

    alpha : float, default=0.05
        False discovery rate: pairs with a q-value up to this are returned. With 1,
        all tested pairs are returned.

    correction : {"bh", "by"}, default="bh"
        Benjamini-Hochberg, or Benjamini-Yekutieli for any dependence between the
        tests; see :func:`scipy.stats.false_discovery_control`.

    Returns
    -------
    pairs : DataFrame
        One row per pair, sorted by p-value and then by falling score. Columns:

        - `class`, `feature`: the label, and the index of the feature.
        - `n_active`: number of samples of the class in which the feature is active.
        - `score`: the average selectivity, as in `selectivity_scores`.
        - `p_value`: the probability of a score at least as high when the labels are
          permuted, or their maps shifted.
        - `q_value`: the smallest false discovery rate at which the pair is still
          among the discoveries.

        - `alpha`, `correction`, `n_tests`: the same in all rows; `n_tests` is the
          number of all pairs that were tested.

        Classes that share no batch with another, such as that of the controls with
        `control`, are not tested and not among the pairs.

    Raises
    ------
    ValueError
        As `selectivity_report`.

    Warns
    -----
    UserWarning
        If no batch holds samples of two classes, so that nothing is tested.

    See Also
    --------
    selectivity_report : The best feature of each class, with a null of the best.
    describe_features : The same tests by feature, and tests of confounds.

    Notes
    -----
    For a given size of the class and a given number of active samples, the average
    score grows with the number of samples of the class in which the feature is active.
    If labels are permuted, that number is hypergeometric; with batches it is a sum of
    independent hypergeometric numbers, one for each batch:

    .. math::

        p = P\Big(\sum_g H_g \ge n_\mathrm{active}\Big), \quad
        H_g \sim \mathrm{Hypergeometric}(N_g, K_g, n_g)

    Batch `g` has :math:`N_g` samples; the feature is active in :math:`K_g` of them, and
    :math:`n_g` of them belong to the class. No labels are drawn: the p-values are the
    limit of infinitely many permutations, and small p-values are not cut off at
    ``1 / n_permutations``. Without batches all p-values are exact. With batches,
    p-values below 0.1 are exact in classes of up to 1000 samples. The others come from
    the gamma distribution with the same mean, variance and skewness (skewness at least
    0.02), which is mostly too large far out in the tail.

    There is no such distribution for the "maximum" score; `selectivity_report` tests
    it by permutations.

    With `grid_shape`, label maps are shifted as in `selectivity_report`. For one image
    all ``height * width`` shifts are counted: p-values are exact, and none is below the
    reciprocal of that number. For several images p-values come from Pearson's type III
    distribution with the mean, the variance and the skewness of all shifts. They are at
    least the probability that each image by itself has as many active tokens of the
    class or more.

    With `groups`, the labels of whole groups are exchanged, and each row counts as
    before. The statistic is the number of active samples of a class minus the number
    expected at the feature's overall rate. It has no simple distribution: p-values come
    from Pearson's type III distribution with the mean, the variance and the skewness of
    the permutations. They are at least the probability that those groups of the class
    in which the feature is active get its label again.

    References
    ----------
    .. [1] Y. Benjamini, Y. Hochberg. "Controlling the false discovery rate: a
       practical and powerful approach to multiple testing." Journal of the Royal
       Statistical Society B 57 (1995), 289-300.

    Examples
    --------
    >>> import numpy as np
    >>> from skdict.metrics import selectivity_tests
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat(["control", "treated"], 50)
    >>> codes = rng.random((100, 20)) * (rng.random((100, 20)) < 0.3)
    >>> codes[:, 7] = y == "treated"
    >>> pairs = selectivity_tests(codes, y)
    >>> pairs["class"].tolist(), pairs["feature"].tolist()
    (['treated'], [7])
    >>> float(pairs["q_value"][0]) < 1e-20
    True
    >>> int(pairs["n_tests"][0])
    40
    """
    activity = find_active(codes, activity_threshold)
    classes, labels = encode_classes(y, activity.shape[0])
    exchange = exchange_of_labels(
        y, labels, batch=batch, groups=groups, control=control, grid_shape=grid_shape
    )
    tests = run_label_tests(activity, labels, exchange, correction)

    found = (tests.q_values <= alpha) & tests.tested[:, None]
    which, features = np.nonzero(found)
    order = np.lexsort((features, -tests.scores[found], tests.p_values[found]))
    columns = {"class": classes[which], "feature": features}
    columns |= {
        "n_active": tests.counts[found],
        "score": tests.scores[found],
        "p_value": tests.p_values[found],
        "q_value": tests.q_values[found],
    }
    settings = {
        "alpha": float(alpha),
        "correction": correction,
        "n_tests": int(tests.tested.sum()) * activity.shape[1],
    }
    return as_table({name: column[order] for name, column in columns.items()}, settings)


@validate_params(
    {
        **SCORE_CONSTRAINTS,
        "y": ["array-like", dict],
        "score_thresholds": ["array-like"],
    },
    prefer_skip_nested_validation=True,
)
def selectivity_counts(
    codes: Codes,
    y: Data,
    *,
    score_thresholds: Data = (0.2, 0.5),
    contrast: str = "average",
    activity_threshold: float = 0.0,
    n_permutations: int = 0,
    batch: Data | None = None,
    groups: Data | None = None,
    control: Data | None = None,
    grid_shape: Data | None = None,
    random_state: Seed = None,
) -> pd.DataFrame:
    """Count the features that exceed a score for at least one class, with a null.

    Parameters
    ----------
    codes : {array-like, sparse matrix or array} of shape (n_samples, n_components)
        Codes of the samples. A sparse input is never densified. The blocks of a Dask
        array are computed in each pass over them, a few at a time.

    y : array-like of shape (n_samples,), or dict of such columns
        Labels, of at least two classes. They may also be a confound, such as the
        batch, the plate or the position. Each column of a dict is a task by itself,
        which leaves out the samples whose label is missing; ``dict(frame)`` makes a
        dict of a DataFrame.

    score_thresholds : array-like of shape (n_thresholds,), default=(0.2, 0.5)
        Scores to exceed. Many, such as ``np.linspace(0, 1, 101)``, give the whole
        distribution of the features' best scores.

    contrast : {"average", "maximum"}, default="average"
        The score, as in `selectivity_scores`.

    activity_threshold : float, default=0.0
        A feature is active in a sample if ``|z| > activity_threshold``.

    n_permutations : int, default=0
        Number of permutations of `y`. With 0 the table has no null.

    batch : array-like of shape (n_samples,), default=None
        Labels are permuted only among the samples of a batch.

    groups : array-like of shape (n_samples,), default=None
        Groups that were labelled as a whole, such as the image of each token, as in
        `selectivity_report`: the labels of whole groups are exchanged.

    control : array-like of shape (n_samples,), default=None
        Boolean or 0/1 array of the control samples that fitted the whitening, as in
        `selectivity_report`: their labels are not exchanged with those of others.

    grid_shape : tuple of int (height, width), default=None
        The grid of an image's tokens, for labels that differ inside images, as in
        `selectivity_report`: the label map of each image is shifted.

    random_state : int, RandomState instance or None, default=None
        Seed of the permutations.

    Returns
    -------
    counts : DataFrame
        One row per score threshold, in the order given, for each task. Columns:

        - `task`, `n_classes`, `n_samples`: name of the column of `y`, number of its
          classes and of the samples that have one. Only if `y` is a dict.
        - `score_threshold`: the score to exceed.
        - `n_features`: number of features whose best score over the classes is
          larger. Classes that no permutation can move, such as that of the controls
          with `control`, do not count.
        - `null_mean`, `null_q95`: mean and 95 % quantile of that number over the
          permutations. Only with ``n_permutations > 0``.
        - `p_value`: ``(1 + #{null >= n_features}) / (1 + n_permutations)``. Only
          with ``n_permutations > 0``.
        - `contrast`, `n_permutations`: the same in all rows.

    Raises
    ------
    ValueError
        As `selectivity_report`; also if `score_thresholds` is empty, not
        one-dimensional, or holds NaN. The message names the task.

    Warns
    -----
    UserWarning
        If no batch holds samples of two classes, so that nothing is tested.

    See Also
    --------
    selectivity_report : The best feature of each class.
    selectivity_tests : Pairs of feature and class that exceed chance.

    Notes
    -----
    The paper of Donhauser et al. [1]_ counts features above 0.2 and 0.5 in its
    Table 2, for five tasks. With thousands of features and tens of samples in each
    class, hundreds of features exceed 0.1 by chance alone: compare the counts with
    their null.

    References
    ----------
    .. [1] K. Donhauser et al. "Towards scientific discovery with dictionary
       learning: extracting biological concepts from microscopy foundation models."
       ICML 2025. arXiv:2412.16247.

    Examples
    --------
    >>> import numpy as np
    >>> from skdict.metrics import selectivity_counts
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat(["control", "treated"], 50)
    >>> codes = rng.random((100, 20)) * (rng.random((100, 20)) < 0.3)
    >>> codes[:, 7] = y == "treated"
    >>> counts = selectivity_counts(codes, y, n_permutations=99, random_state=0)
    >>> counts["n_features"].tolist(), counts["null_q95"].tolist()
    ([1, 1], [1.0, 0.0])

    Several tasks in one call:

    >>> tasks = {"treatment": y, "plate": np.tile(["p", "q"], 50)}
    >>> counts = selectivity_counts(codes, tasks, score_thresholds=[0.5])
    >>> counts[["task", "n_classes", "score_threshold", "n_features"]]
            task  n_classes  score_threshold  n_features
    0  treatment          2              0.5           1
    1      plate          2              0.5           0
    """
    activity = find_active(codes, activity_threshold)
    levels = _check_score_thresholds(score_thresholds)
    exchanged: dict[str, Data | None] = {
        "batch": batch,
        "groups": groups,
        "control": control,
        "grid_shape": grid_shape,
    }
    null: dict[str, Any] = {
        "contrast": contrast,
        "n_permutations": int(n_permutations),
        "random_state": random_state,
    }
    if not isinstance(y, dict):
        return _counts_of_task(activity, y, levels, exchanged, **null)
    tables = []
    for name, column in named_columns(y, "y").items():
        try:
            own, labels, exchanged_own = _known(activity, column, exchanged)
            table = _counts_of_task(own, labels, levels, exchanged_own, **null)
        except ValueError as error:
            raise ValueError(f"Task {name!r}: {error}") from error
        table.insert(0, "task", name)
        table.insert(1, "n_classes", len(np.unique(labels)))
        table.insert(2, "n_samples", len(labels))
        tables.append(table)
    if not tables:
        raise ValueError("y is an empty dict: there is no task.")
    return pd.concat(tables, ignore_index=True)


def _known(
    activity: Activity, column: Data, exchanged: dict[str, Data | None]
) -> tuple[Activity, np.ndarray, dict[str, Data | None]]:
    """Leave out the samples whose label is missing."""
    n_samples = activity.shape[0]
    labels, missing = labels_or_missing(column, "y", n_samples)
    if not missing.any():
        return activity, labels, exchanged
    rows = np.flatnonzero(~missing)
    if not len(rows):
        raise ValueError(f"All {n_samples} labels are missing.")
    if exchanged["grid_shape"] is not None:
        raise ValueError(
            f"{missing.sum()} labels are missing, but with grid_shape all tokens of "
            "each image are needed."
        )
    kept = {
        name: None if values is None else _checked(values, name, n_samples)[rows]
        for name, values in exchanged.items()
    }
    return take_rows(activity, rows), labels[rows], kept


def _checked(values: Data, name: str, n_samples: int) -> np.ndarray:
    check = as_mask if name == "control" else as_labels
    return check(values, name, n_samples)


def _counts_of_task(
    activity: Activity,
    y: Data,
    levels: np.ndarray,
    exchanged: dict[str, Data | None],
    *,
    contrast: str,
    n_permutations: int,
    random_state: Seed,
) -> pd.DataFrame:
    _, labels = encode_classes(y, activity.shape[0])
    class_sizes = np.bincount(labels)
    exchange = exchange_of_labels(y, labels, **exchanged, tested=n_permutations > 0)
    tested = exchange.moved_rows(labels)
    scores = score_features(activity, labels, class_sizes, contrast)
    n_features = _count_above(scores[tested], levels)
    columns = {"score_threshold": levels, "n_features": n_features}
    if n_permutations > 0:
        null = null_statistics(
            lambda permuted: _count_above(permuted[tested], levels),
            activity,
            labels,
            contrast,
            exchange=exchange,
            n_permutations=n_permutations,
            random_state=random_state,
        )
        columns["null_mean"] = null.mean(axis=0)
        columns["null_q95"] = np.quantile(null, 0.95, axis=0)
        columns["p_value"] = permutation_p_value(null, n_features, 0)
    return as_table(columns, {"contrast": contrast, "n_permutations": n_permutations})


def _check_score_thresholds(score_thresholds: Data) -> np.ndarray:
    try:
        levels = np.asarray(score_thresholds, dtype=np.float64)
    except (TypeError, ValueError):
        levels = np.empty(0)
    if levels.ndim != 1 or levels.size == 0 or np.isnan(levels).any():
        raise ValueError(
            "score_thresholds must be a list of at least one number, without NaN, "
            f"got {score_thresholds!r}."
        )
    return levels


def _count_above(scores: np.ndarray, levels: np.ndarray) -> np.ndarray:
    best = np.sort(scores.max(axis=0))
    return len(best) - np.searchsorted(best, levels, side="right")
