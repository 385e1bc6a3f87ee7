"""Selectivity of features for labels, its permutation null and its scorer."""

from dataclasses import dataclass
from numbers import Integral

import numpy as np

from skdict._utils.constraints import Interval
from skdict._utils.sklearn_private import validate_params
from skdict._utils.steps import encode
from skdict._utils.table import as_table
from skdict.stats import (
    CONTRAST_CONSTRAINT,
    ROUNDING,
    THRESHOLD_CONSTRAINT,
    encode_batch,
    encode_classes,
    encode_groups,
    find_active,
    null_of_best,
    permutation_p_value,
    plan_exchange,
    score_features,
)


@validate_params(
    {
        "codes": ["array-like", "sparse matrix"],
        "y": ["array-like"],
        "contrast": CONTRAST_CONSTRAINT,
        "activity_threshold": THRESHOLD_CONSTRAINT,
    },
    prefer_skip_nested_validation=True,
)
def selectivity_scores(codes, y, *, contrast="average", activity_threshold=0.0):
    r"""Selectivity of every feature for every class.

    Parameters
    ----------
    codes : {array-like, sparse matrix or array} of shape (n_samples, n_components)
        Codes of the samples. A sparse input is never densified.

    y : array-like of shape (n_samples,)
        Labels, of at least two classes.

    contrast : {"average", "maximum"}, default="average"
        What a class is compared with: all samples of the other classes pooled
        ("average"), or the other class in which the feature is most often active
        ("maximum").

    activity_threshold : float, default=0.0
        A feature is active in a sample where ``|z| > activity_threshold``.

    Returns
    -------
    scores : ndarray of shape (n_components, n_classes)
        Scores in [-1, 1]; the classes stand in the order of ``np.unique(y)``.

    Raises
    ------
    ValueError
        If `codes` is empty or holds NaN or infinity, if `y` has another length,
        missing labels or a single class, or if `contrast` or `activity_threshold` is
        invalid.

    See Also
    --------
    selectivity_report : The best feature of each class beside a permutation null.
    selectivity_tests : The pairs that exceed chance.
    selectivity_counts : How many features exceed a score.
    auroc_scores : A figure that needs no threshold.
    make_selectivity_scorer : The same figure as a scorer for model selection.

    Notes
    -----
    With `a` the event that the feature is active, the scores for class `c` are
    [1]_

    .. math::

        s_\mathrm{average} &= P(a \mid y = c) - P(a \mid y \neq c) \\
        s_\mathrm{maximum} &= P(a \mid y = c) - \max_{c' \neq c} P(a \mid y = c')

    The two are equal where `y` has two classes. The paper does not define
    "active"; the default here is any non-zero code.

    Among thousands of features some score high by chance, above all for small
    classes, so a score is best read beside the null of `selectivity_report`.

    References
    ----------
    .. [1] K. Donhauser et al. "Towards scientific discovery with dictionary
       learning: extracting biological concepts from microscopy foundation models."
       ICML 2025. arXiv:2412.16247.

    Examples
    --------
    >>> from skdict.metrics import selectivity_scores
    >>> codes = [[1.0, 0.0], [2.0, 0.5], [0.0, 0.3], [0.0, 0.0]]
    >>> selectivity_scores(codes, ["a", "a", "b", "b"])
    array([[ 1., -1.],
           [ 0.,  0.]])
    """
    activity = find_active(codes, activity_threshold)
    _, labels = encode_classes(y, activity.shape[0])
    class_sizes = np.bincount(labels)
    return score_features(activity, labels, class_sizes, contrast).T


@validate_params(
    {
        "codes": ["array-like", "sparse matrix"],
        "y": ["array-like"],
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
def selectivity_report(
    codes,
    y,
    *,
    contrast="average",
    activity_threshold=0.0,
    n_permutations=0,
    batch=None,
    groups=None,
    control=None,
    grid_shape=None,
    random_state=None,
):
    """The most selective feature of each class, beside a permutation null.

    Parameters
    ----------
    codes : {array-like, sparse matrix or array} of shape (n_samples, n_components)
        Codes of the samples. A sparse input is never densified.

    y : array-like of shape (n_samples,)
        Labels, of at least two classes.

    contrast : {"average", "maximum"}, default="average"
        The score, as in `selectivity_scores`.

    activity_threshold : float, default=0.0
        A feature is active in a sample where ``|z| > activity_threshold``.

    n_permutations : int, default=0
        Number of permutations of `y`. With 0 the report has no null.

    batch : array-like of shape (n_samples,), default=None
        Labels are permuted among the samples of the same batch only, for example
        inside each experiment batch, so that what the batches alone explain is part
        of the null.

    groups : array-like of shape (n_samples,), default=None
        What was labelled as a whole, such as the image of each token or the well of
        each cell: labels of whole groups are exchanged, inside `batch` where given.
        Without it samples that share their label by design count as independent, and
        the null is too lax (see Notes).

    control : array-like of shape (n_samples,), default=None
        Boolean or 0/1 array that marks the control samples with which
        `ControlPCAWhitener` was fitted, where these rows are scored, too. Their
        labels are then not exchanged with those of the other samples; without it
        the null is too lax (see Notes).

    grid_shape : tuple of int (height, width), default=None
        The grid of an image's tokens, for labels that differ inside images: the rows
        are all tokens of each image, image by image and row by row of the grid. The
        label map of each image is then shifted over its grid instead of being
        permuted, see Notes. Batches and controls must be whole images, and `groups` is
        not for such labels.

    random_state : int, RandomState instance or None, default=None
        Seed of the permutations.

    Returns
    -------
    report : DataFrame
        One row per class, in the order of ``np.unique(y)``. Columns:

        - `class`: the label.
        - `n_samples`: the size of the class.
        - `best_feature`: index of the feature with the highest score; the first
          one where several tie.
        - `score`: the score of that feature.
        - `null_q95`: 95 % quantile, over the permutations, of the class's best
          score. Only with ``n_permutations > 0``.
        - `p_value`: ``(1 + #{null >= score}) / (1 + n_permutations)``. Only with
          ``n_permutations > 0``.

        A class that shares no batch with another, such as that of the controls with
        `control`, is never exchanged and so not tested: its `null_q95` and
        `p_value` are NaN.

        The other columns are the same in all rows: `contrast`, `n_permutations`,
        `mean_score` (the mean of the column `score`) and, with
        ``n_permutations > 0``, `null_mean_q95` and `mean_p_value`, the 95 % quantile
        and the p-value of that mean. Classes that are not tested add the same to the
        mean of every permutation.

    Raises
    ------
    ValueError
        As `selectivity_scores`; also if `batch`, `groups` or `control` has another
        length or missing values, if `y`, `batch` or `control` differs inside a
        group, if the rows do not fill whole grids of `grid_shape`, if `batch` or
        `control` differs inside an image of them, or if `groups` came with
        `grid_shape`.

    Warns
    -----
    UserWarning
        If no batch holds samples of two classes, or with `grid_shape` no image, so
        that no exchange changes anything and no class is tested. Also without
        `grid_shape`, if the batches look like images with labels that are alike for
        neighbours, see Notes.

    See Also
    --------
    selectivity_scores : The scores of all features for all classes.
    selectivity_tests : All pairs of feature and class, tested exactly.
    describe_features : One row per feature, with flags for confounds.

    Notes
    -----
    The best feature is searched anew in every permutation, so the null includes
    the choice of the best among all features. The p-values are those of each
    class by itself: they are not adjusted for the number of classes.

    A permutation is a fair draw only where the labels could have been exchanged.
    The tokens of an image have the image's label and resemble each other, so the
    labels of tokens could not: permuted token by token, labels that mean nothing
    look significant. With `groups`, those of whole images are permuted, each row
    counting as before. As many p-values are possible as there are ways to label the
    groups, so that a class of two or three groups can hardly have a small one.

    Labels that differ inside an image, such as those of a segmented tissue, are alike
    for neighbouring tokens, and so are the codes. Permuted token by token, inside the
    image or not, they are no longer: labels that vary smoothly and have nothing to do
    with the image then have p-values up to 0.05 in 40 to 100 % of the cases. With
    `grid_shape` the label map of each image is shifted by a random number of rows and
    columns instead, what leaves at one edge coming in at the other [1]_, images by
    offsets of their own. That keeps the shapes of labels and codes and breaks their
    alignment. It supposes an image that looks alike everywhere, and the seam where
    opposite edges meet makes it approximate: labels without meaning are at p <= 0.05
    in 5 to 13 % of the cases. A single image has `height * width` shifts, of which one
    changes nothing, so that no p-value is expected below their reciprocal however many
    are drawn; with few large regions even that is out of reach. Nothing leaves its
    image: what distinguishes whole images is not tested.

    The grid cannot be known from a table, in which a class may as well stand together
    because the rows are sorted. There is a warning where `batch` says so: batches of
    one square number of consecutive rows, whose labels are alike for neighbours on
    that square (Moran's I above 0.1 and beyond chance) and, on the row below, more
    alike than half as many rows on. Without `batch` there is none.

    After whitening with the very controls that are scored they could not: the
    controls are exactly white, the others only nearly, and features fire on them
    more often whatever the label. Score rows that the whitener has not seen, or
    pass `control`. Controls among the tokens of an image cannot stay in their places
    while its labels are shifted, so there only the former is left.

    The active entries are found once. A permutation then costs one count of
    (class, feature) pairs, linear in their number, and a table of n_classes x
    n_components scores.

    References
    ----------
    .. [1] H. W. Lotwick, B. W. Silverman. "Methods for analysing spatial processes
       of several types of points." Journal of the Royal Statistical Society B 44
       (1982), 406-413.

    Examples
    --------
    >>> import numpy as np
    >>> from skdict.metrics import selectivity_report
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat(["control", "treated"], 50)
    >>> codes = rng.random((100, 20)) * (rng.random((100, 20)) < 0.3)
    >>> codes[:, 7] = y == "treated"
    >>> report = selectivity_report(codes, y, n_permutations=99, random_state=0)
    >>> int(report["best_feature"][1]), float(report["score"][1])
    (7, 1.0)
    >>> float(report["p_value"][1])
    0.01
    >>> bool(report["mean_score"][0] > report["null_mean_q95"][0])
    True

    The same rows, if they are those of six images: three of six can be "treated" in
    20 ways.

    >>> image = np.repeat([0, 1, 2, 3, 4, 5], [10, 20, 20, 20, 20, 10])
    >>> report = selectivity_report(
    ...     codes, y, groups=image, n_permutations=999, random_state=0
    ... )
    >>> round(float(report["p_value"][1]), 2)
    0.06

    Or if they are the tokens of one image, 10 x 10, with one label for each half:

    >>> report = selectivity_report(
    ...     codes, y, grid_shape=(10, 10), n_permutations=999, random_state=0
    ... )
    >>> round(float(report["p_value"][1]), 1)
    0.1
    """
    activity = find_active(codes, activity_threshold)
    classes, labels = encode_classes(y, activity.shape[0])
    class_sizes = np.bincount(labels)
    scores = score_features(activity, labels, class_sizes, contrast)
    best_features, best_scores = scores.argmax(axis=1), scores.max(axis=1)
    batch_ids = encode_batch(batch, labels, control)
    shared = {"y": y, "batch": batch, "control": control}
    group_ids = encode_groups(groups, len(labels), shared)
    exchange = plan_exchange(
        labels, batch_ids, group_ids, grid_shape, tested=n_permutations > 0
    )
    null = null_of_best(
        activity,
        labels,
        contrast,
        exchange=exchange,
        n_permutations=n_permutations,
        random_state=random_state,
    )

    mean_score, *null_means = np.vstack((best_scores, *null)).mean(axis=1).tolist()
    columns = {
        "class": classes,
        "n_samples": class_sizes,
        "best_feature": best_features,
        "score": best_scores,
    }
    settings = {
        "contrast": contrast,
        "n_permutations": int(n_permutations),
        "mean_score": mean_score,
    }
    if n_permutations > 0:
        exchanged = exchange.moved(labels)
        null_q95 = np.quantile(null, 0.95, axis=0)
        p_values = permutation_p_value(null, best_scores, 0)
        columns["null_q95"] = np.where(exchanged, null_q95, np.nan)
        columns["p_value"] = np.where(exchanged, p_values, np.nan)
        settings["null_mean_q95"] = float(np.quantile(null_means, 0.95))
        settings["mean_p_value"] = float(
            permutation_p_value(np.array(null_means), mean_score, ROUNDING)
        )
    return as_table(columns, settings)


@validate_params(
    {"contrast": CONTRAST_CONSTRAINT, "activity_threshold": THRESHOLD_CONSTRAINT},
    prefer_skip_nested_validation=True,
)
def make_selectivity_scorer(contrast="average", *, activity_threshold=0.0):
    """Make a scorer from the selectivity of a dictionary's features.

    Parameters
    ----------
    contrast : {"average", "maximum"}, default="average"
        The score, as in `selectivity_scores`.

    activity_threshold : float, default=0.0
        A feature is active in a sample where ``|z| > activity_threshold``.

    Returns
    -------
    scorer : callable
        ``scorer(estimator, X, y)`` returns the mean over classes of the best
        feature's score on the codes of `X`; higher is better. It pickles, compares
        equal to a scorer with the same parameters, requests no metadata, and serves
        as `scoring` in model selection for a dictionary or a Pipeline whose last step
        is one, whatever output is configured.

    Raises
    ------
    ValueError
        If `contrast` or `activity_threshold` is invalid.

    See Also
    --------
    selectivity_scores : The scores of all features for all classes.

    Notes
    -----
    A dictionary is no classifier, so an integer `cv` means
    :class:`~sklearn.model_selection.KFold` without shuffling. With sorted labels
    its folds hold one class each, for which the score is not defined. Pass
    :class:`~sklearn.model_selection.StratifiedKFold` or a grouped splitter; the
    mean is over the classes that occur in the fold.

    Small test folds raise the best score by chance, and more so with more
    features: candidates of different `n_components` are compared fairly only
    where the folds hold many samples of each class. `selectivity_report` gives
    the null.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import MiniBatchDictionaryLearning
    >>> from sklearn.model_selection import StratifiedKFold, cross_val_score
    >>> from skdict.metrics import make_selectivity_scorer
    >>> X, y = load_iris(return_X_y=True)
    >>> dictionary = MiniBatchDictionaryLearning(8, max_iter=5, random_state=0)
    >>> scorer = make_selectivity_scorer()
    >>> scores = cross_val_score(dictionary, X, y, cv=StratifiedKFold(), scoring=scorer)
    >>> scores.shape
    (5,)
    """
    return _SelectivityScorer(
        contrast=contrast, activity_threshold=float(activity_threshold)
    )


@dataclass(frozen=True)
class _SelectivityScorer:
    """Mean over classes of the best feature's selectivity.

    Not made by scikit-learn's `make_scorer`, which knows the response methods
    `predict`, `predict_proba` and `decision_function` only. A scorer without
    `get_metadata_routing` is taken as one that requests no metadata.
    """

    contrast: str
    activity_threshold: float

    def __call__(self, estimator, X, y):
        if y is None:
            raise ValueError("The selectivity scorer needs labels, but y is None.")
        if not hasattr(estimator, "transform"):
            raise TypeError(
                "The selectivity scorer needs an estimator with a transform method, "
                f"but {type(estimator).__name__} has none."
            )
        codes = encode(estimator, X)
        scores = selectivity_scores(
            codes, y, contrast=self.contrast, activity_threshold=self.activity_threshold
        )
        return float(scores.max(axis=0).mean())

    def _accept_sample_weight(self):
        # Asked for by scikit-learn's searches where several scorers are combined
        # and metadata routing is off.
        return False
