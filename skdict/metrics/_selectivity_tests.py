"""Which features are selective beyond chance: exact tests of all pairs."""

from numbers import Integral, Real

import numpy as np

from skdict._utils.constraints import Interval
from skdict._utils.sklearn_private import StrOptions, validate_params
from skdict._utils.table import as_table
from skdict.stats import (
    CONTRAST_CONSTRAINT,
    THRESHOLD_CONSTRAINT,
    encode_batch,
    encode_classes,
    encode_groups,
    find_active,
    null_statistics,
    permutation_p_value,
    plan_exchange,
    run_label_tests,
    score_features,
)

ALPHA_CONSTRAINT = [Interval(Real, 0, 1, closed="right")]
CORRECTION_CONSTRAINT = [StrOptions({"bh", "by"})]


@validate_params(
    {
        "codes": ["array-like", "sparse matrix"],
        "y": ["array-like"],
        "activity_threshold": THRESHOLD_CONSTRAINT,
        "batch": ["array-like", None],
        "groups": ["array-like", None],
        "control": ["array-like", None],
        "grid_shape": ["array-like", None],
        "alpha": ALPHA_CONSTRAINT,
        "correction": CORRECTION_CONSTRAINT,
    },
    prefer_skip_nested_validation=True,
)
def selectivity_tests(
    codes,
    y,
    *,
    activity_threshold=0.0,
    batch=None,
    groups=None,
    control=None,
    grid_shape=None,
    alpha=0.05,
    correction="bh",
):
    r"""The pairs of feature and class that are selective beyond chance.

    Every feature is tested for every class, and the false discovery rate is
    controlled over all of these tests.

    Parameters
    ----------
    codes : {array-like, sparse matrix or array} of shape (n_samples, n_components)
        Codes of the samples. A sparse input is never densified.

    y : array-like of shape (n_samples,)
        Labels, of at least two classes.

    activity_threshold : float, default=0.0
        A feature is active in a sample where ``|z| > activity_threshold``.

    batch : array-like of shape (n_samples,), default=None
        Under the null hypothesis labels are exchanged among the samples of the same
        batch only.

    groups : array-like of shape (n_samples,), default=None
        What was labelled as a whole, such as the image of each token or the well of
        each cell, as in `selectivity_report`: the labels of whole groups are exchanged.

    control : array-like of shape (n_samples,), default=None
        Boolean or 0/1 array of the control samples that fitted the whitening, as in
        `selectivity_report`: their labels are not exchanged with those of others.

    grid_shape : tuple of int (height, width), default=None
        The grid of an image's tokens, for labels that differ inside images, as in
        `selectivity_report`: the map of each image is shifted.

    alpha : float, default=0.05
        False discovery rate: pairs with a q-value up to it are returned. With 1 all
        pairs that were tested are.

    correction : {"bh", "by"}, default="bh"
        Benjamini-Hochberg, or Benjamini-Yekutieli for any dependence between the
        tests; see :func:`scipy.stats.false_discovery_control`.

    Returns
    -------
    pairs : DataFrame
        One row per pair, sorted by p-value and then by falling score. Columns:

        - `class`, `feature`: the label, and the index of the feature.
        - `n_active`: samples of the class in which the feature is active.
        - `score`: the average selectivity, as in `selectivity_scores`.
        - `p_value`: the probability of a score at least as high when the labels are
          permuted, or their maps shifted.
        - `q_value`: the smallest false discovery rate at which the pair is still
          among the discoveries.

        Classes that share no batch with another, such as that of the controls with
        `control`, are not tested and not among the pairs.

        - `alpha`, `correction`, `n_tests`: the same in all rows; `n_tests` counts all
          pairs that were tested.

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
    describe_features : The same tests by feature, with those of confounds.

    Notes
    -----
    Where feature and class sizes are given, the average score grows with the number
    of samples of the class in which the feature is active. Under permutation of the
    labels that number is hypergeometric, and with batches a sum of independent
    hypergeometric numbers, one for each batch:

    .. math::

        p = P\Big(\sum_g H_g \ge n_\mathrm{active}\Big), \quad
        H_g \sim \mathrm{Hypergeometric}(N_g, K_g, n_g)

    with :math:`N_g` samples in batch `g`, the feature active in :math:`K_g` of them,
    and :math:`n_g` of them of the class. So no labels are drawn: the p-values are
    the limit of infinitely many permutations, and small ones are not cut off at
    ``1 / n_permutations``. Without batches all of them are exact. With batches those
    below 0.1 are, in classes of up to 1000 samples; the others come from the gamma
    distribution with the same mean, variance and skewness (skewness 0.02 at least),
    which mostly errs upwards far out in the tail.

    The score of kind "maximum" has no such distribution; `selectivity_report`
    permutes for it.

    With `grid_shape`, label maps are shifted as in `selectivity_report`. For one image
    all ``height * width`` shifts are counted, so that the p-values are exact and none
    is below the reciprocal of their number. For several they come from Pearson's type
    III distribution with the mean, the variance and the skewness of all shifts; they
    are never smaller than the probability that each image by itself has as many active
    tokens of the class or more.

    With `groups`, the labels of whole groups are exchanged, each row counting as
    before. The number of active samples of a class, less those expected at the
    feature's overall rate, then has no simple distribution: its tail is that of
    Pearson's type III distribution with the mean, the variance and the skewness of the
    permutations, and never thinner than the probability that the groups of the class
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
    batch_ids = encode_batch(batch, labels, control)
    shared = {"y": y, "batch": batch, "control": control}
    group_ids = encode_groups(groups, len(labels), shared)
    exchange = plan_exchange(labels, batch_ids, group_ids, grid_shape)
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
        "codes": ["array-like", "sparse matrix"],
        "y": ["array-like"],
        "score_thresholds": ["array-like"],
        "contrast": CONTRAST_CONSTRAINT,
        "activity_threshold": THRESHOLD_CONSTRAINT,
        "n_permutations": [Interval(Integral, 0, None, closed="left")],
        "batch": ["array-like", None],
        "groups": ["array-like", None],
        "control": ["array-like", None],
        "grid_shape": ["array-like", None],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def selectivity_counts(
    codes,
    y,
    *,
    score_thresholds=(0.2, 0.5),
    contrast="average",
    activity_threshold=0.0,
    n_permutations=0,
    batch=None,
    groups=None,
    control=None,
    grid_shape=None,
    random_state=None,
):
    """How many features exceed a score for at least one class, beside a null.

    Parameters
    ----------
    codes : {array-like, sparse matrix or array} of shape (n_samples, n_components)
        Codes of the samples. A sparse input is never densified.

    y : array-like of shape (n_samples,)
        Labels, of at least two classes: the targets, or a confound such as the
        batch, the plate or the position.

    score_thresholds : array-like of shape (n_thresholds,), default=(0.2, 0.5)
        Scores to exceed. Many of them, such as ``np.linspace(0, 1, 101)``, give the
        whole distribution of the features' best scores.

    contrast : {"average", "maximum"}, default="average"
        The score, as in `selectivity_scores`.

    activity_threshold : float, default=0.0
        A feature is active in a sample where ``|z| > activity_threshold``.

    n_permutations : int, default=0
        Number of permutations of `y`. With 0 the table has no null.

    batch : array-like of shape (n_samples,), default=None
        Labels are permuted among the samples of the same batch only.

    groups : array-like of shape (n_samples,), default=None
        What was labelled as a whole, such as the image of each token, as in
        `selectivity_report`: the labels of whole groups are exchanged.

    control : array-like of shape (n_samples,), default=None
        Boolean or 0/1 array of the control samples that fitted the whitening, as in
        `selectivity_report`: their labels are not exchanged with those of others.

    grid_shape : tuple of int (height, width), default=None
        The grid of an image's tokens, for labels that differ inside images, as in
        `selectivity_report`: the map of each image is shifted.

    random_state : int, RandomState instance or None, default=None
        Seed of the permutations.

    Returns
    -------
    counts : DataFrame
        One row per score threshold, in the order given. Columns:

        - `score_threshold`: the score to exceed.
        - `n_features`: features whose best score over the classes is larger; a class
          that no permutation can move, such as that of the controls with `control`,
          does not count.
        - `null_mean`, `null_q95`: mean and 95 % quantile of that number over the
          permutations. Only with ``n_permutations > 0``.
        - `p_value`: ``(1 + #{null >= n_features}) / (1 + n_permutations)``. Only
          with ``n_permutations > 0``.

        - `contrast`, `n_permutations`: the same in all rows.

    Raises
    ------
    ValueError
        As `selectivity_report`; also if `score_thresholds` is empty, not
        one-dimensional, or holds NaN.

    Warns
    -----
    UserWarning
        If no batch holds samples of two classes, so that nothing is tested.

    See Also
    --------
    selectivity_report : The best feature of each class.
    selectivity_tests : Which pairs of feature and class exceed chance.

    Notes
    -----
    The paper of Donhauser et al. [1]_ counts features above 0.2 and 0.5 in its
    Table 2. With thousands of features and tens of samples a class, hundreds exceed
    0.1 by chance alone, so the counts are to be read beside the null's.

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
    """
    activity = find_active(codes, activity_threshold)
    _, labels = encode_classes(y, activity.shape[0])
    levels = _check_score_thresholds(score_thresholds)
    class_sizes = np.bincount(labels)
    batch_ids = encode_batch(batch, labels, control)
    shared = {"y": y, "batch": batch, "control": control}
    group_ids = encode_groups(groups, len(labels), shared)
    exchange = plan_exchange(
        labels, batch_ids, group_ids, grid_shape, tested=n_permutations > 0
    )
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
    return as_table(
        columns, {"contrast": contrast, "n_permutations": int(n_permutations)}
    )


def _check_score_thresholds(score_thresholds):
    try:
        levels = np.asarray(score_thresholds, dtype=np.float64)
    except (TypeError, ValueError):
        levels = np.empty(0)
    if levels.ndim != 1 or levels.size == 0 or np.isnan(levels).any():
        raise ValueError(
            "score_thresholds must be a list of at least one number and without "
            f"NaN, got {score_thresholds!r}."
        )
    return levels


def _count_above(scores, levels):
    best = np.sort(scores.max(axis=0))
    return len(best) - np.searchsorted(best, levels, side="right")
