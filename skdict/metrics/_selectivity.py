"""Selectivity of features for labels, its permutation null and its scorer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from skdict._utils.sklearn_private import validate_params
from skdict._utils.steps import encode
from skdict._utils.table import as_table
from skdict._utils.types import Codes, Data, Seed
from skdict.stats import (
    ROUNDING,
    SCORE_CONSTRAINTS,
    encode_classes,
    exchange_of_labels,
    find_active,
    null_of_best,
    permutation_p_value,
    score_features,
)


@validate_params(
    {
        name: SCORE_CONSTRAINTS[name]
        for name in ("codes", "y", "contrast", "activity_threshold")
    },
    prefer_skip_nested_validation=True,
)
def selectivity_scores(
    codes: Codes, y: Data, *, contrast: str = "average", activity_threshold: float = 0.0
) -> np.ndarray:
    r"""Selectivity of every feature for every class.

    Parameters
    ----------
    codes : {array-like, sparse matrix or array} of shape (n_samples, n_components)
        Codes of the samples. A sparse input is never densified. The blocks of a Dask
        array are computed in each pass over them, a few at a time.

    y : array-like of shape (n_samples,)
        Labels, of at least two classes.

    contrast : {"average", "maximum"}, default="average"
        What a class is compared with: all samples of the other classes together
        ("average"), or the other class in which the feature is most often active
        ("maximum").

    activity_threshold : float, default=0.0
        A feature is active in a sample if ``|z| > activity_threshold``.

    Returns
    -------
    scores : ndarray of shape (n_components, n_classes)
        Scores in [-1, 1]; the classes are in the order of ``np.unique(y)``.

    Raises
    ------
    ValueError
        If `codes` is empty or holds NaN or infinity, if `y` has a different length,
        missing labels or a single class, or if `contrast` or `activity_threshold` is
        invalid.

    See Also
    --------
    selectivity_report : The best feature of each class, with a permutation null.
    selectivity_tests : Pairs of feature and class that exceed chance.
    selectivity_counts : Number of features that exceed a score.
    auroc_scores : A score that needs no threshold.
    make_selectivity_scorer : A scorer for model selection.

    Notes
    -----
    Let `a` be the event that the feature is active. The scores for class `c` are [1]_

    .. math::

        s_\mathrm{average} &= P(a \mid y = c) - P(a \mid y \neq c) \\
        s_\mathrm{maximum} &= P(a \mid y = c) - \max_{c' \neq c} P(a \mid y = c')

    If `y` has two classes, the two scores are equal. The paper does not define
    "active"; the default here is any non-zero code.

    Among thousands of features some score high by chance, above all for small
    classes: compare scores with the null of `selectivity_report`.

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


@validate_params(SCORE_CONSTRAINTS, prefer_skip_nested_validation=True)
def selectivity_report(
    codes: Codes,
    y: Data,
    *,
    contrast: str = "average",
    activity_threshold: float = 0.0,
    n_permutations: int = 0,
    batch: Data | None = None,
    groups: Data | None = None,
    control: Data | None = None,
    grid_shape: Data | None = None,
    random_state: Seed = None,
) -> pd.DataFrame:
    """Find the most selective feature of each class, with a permutation null.

    Parameters
    ----------
    codes : {array-like, sparse matrix or array} of shape (n_samples, n_components)
        Codes of the samples. A sparse input is never densified. The blocks of a Dask
        array are computed in each pass over them, a few at a time.

    y : array-like of shape (n_samples,)
        Labels, of at least two classes.

    contrast : {"average", "maximum"}, default="average"
        The score, as in `selectivity_scores`.

    activity_threshold : float, default=0.0
        A feature is active in a sample if ``|z| > activity_threshold``.

    n_permutations : int, default=0
        Number of permutations of `y`. With 0 the report has no null.

    batch : array-like of shape (n_samples,), default=None
        Labels are permuted only among the samples of a batch, for example of an
        experiment, so that the null contains what the batches alone explain.

    groups : array-like of shape (n_samples,), default=None
        Groups that were labelled as a whole, such as the image of each token or the
        well of each cell. Whole groups exchange their labels, inside `batch` if it is
        given. Without `groups`, samples that share their label by design count as
        independent, and p-values are too small (see Notes).

    control : array-like of shape (n_samples,), default=None
        Boolean or 0/1 array that marks the control samples to which
        `ControlPCAWhitener` was fitted, if they are among the samples scored. Their
        labels are not exchanged with those of other samples. Without `control`,
        p-values are too small (see Notes).

    grid_shape : tuple of int (height, width), default=None
        The grid of an image's tokens, for labels that differ inside images. The rows
        are all tokens of each image, image by image and row by row of the grid. The
        label map of each image is shifted over its grid instead of being permuted (see
        Notes). Batches and controls must consist of whole images, and `groups` must be
        None.

    random_state : int, RandomState instance or None, default=None
        Seed of the permutations.

    Returns
    -------
    report : DataFrame
        One row per class, in the order of ``np.unique(y)``. Columns:

        - `class`: the label.
        - `n_samples`: the size of the class.
        - `best_feature`: index of the feature with the highest score; of equal
          features, the first.
        - `score`: the score of that feature.
        - `null_q95`: 95 % quantile, over the permutations, of the class's best
          score. Only with ``n_permutations > 0``.
        - `p_value`: ``(1 + #{null >= score}) / (1 + n_permutations)``. Only with
          ``n_permutations > 0``.

        A class that shares no batch with another, such as that of the controls with
        `control`, is never exchanged and so not tested: its `null_q95` and
        `p_value` are NaN.

        The other columns are the same in all rows: `contrast`, `n_permutations` and
        `mean_score`, the mean of the column `score`. With ``n_permutations > 0`` there
        are also `null_mean_q95` and `mean_p_value`, the 95 % quantile of that mean over
        the permutations and its p-value. Classes that are not tested contribute the
        same to the mean of every permutation.

    Raises
    ------
    ValueError
        As `selectivity_scores`; also if `batch`, `groups` or `control` has another
        length or missing values, if `y`, `batch` or `control` differs inside a
        group, if the rows do not fill whole grids of `grid_shape`, if `batch` or
        `control` differs inside an image, or if both `groups` and `grid_shape` are
        given.

    Warns
    -----
    UserWarning
        If no batch (with `grid_shape`, no image) holds samples of two classes, so that
        no exchange changes anything and no class is tested. Without `grid_shape`, also
        if the batches look like images whose neighbouring tokens have like labels (see
        Notes).

    See Also
    --------
    selectivity_scores : The scores of all features for all classes.
    selectivity_tests : Tests of all pairs of feature and class, without permutations.
    describe_features : One row per feature, with flags for confounds.

    Notes
    -----
    The best feature is searched again in every permutation, so the null includes
    the choice of the best among all features. The p-values are those of each
    class by itself: they are not adjusted for the number of classes.

    A permutation is a fair draw only if the labels could have been exchanged. The
    labels of an image's tokens could not: the tokens share the image's label, and they
    resemble each other. If they are permuted token by token, labels that mean nothing
    look significant. With `groups`, the labels of whole images are permuted, and each
    row counts as before. The number of possible p-values is then the number of ways to
    label the groups, so a class of two or three groups can hardly have a small one.

    Labels that differ inside an image, such as those of a segmented tissue, are alike
    for neighbouring tokens, and so are the codes. A permutation token by token, inside
    the image or not, destroys this: smooth labels that have nothing to do with the
    image then have p-values up to 0.05 in 40 to 100 % of the cases. With `grid_shape`
    the label map of each image is instead shifted by a random number of rows and
    columns, each image by its own offset; what leaves at one edge comes in at the other
    [1]_. That keeps the shapes of labels and codes and breaks their alignment. It
    supposes that the image looks alike everywhere, and the seam where opposite edges
    meet makes it approximate: labels without meaning have p <= 0.05 in 5 to 13 % of the
    cases. A single image has `height * width` shifts, one of which changes nothing.
    However many are drawn, no p-value is expected below the reciprocal of their
    number, and with few large regions p-values are larger still. Labels never leave
    their image: what distinguishes whole images is not tested.

    A table does not tell whether its rows are tokens on a grid: the rows of a class may
    also be together because they are sorted. There is a warning if `batch` suggests a
    grid: all batches are blocks of consecutive rows with the same square number of
    rows, labels are alike for neighbours on that square (Moran's I above 0.1 and beyond
    chance), and a token is more like the token below it on the square than like the
    token half as many rows of the table away. Without `batch` there is no warning.

    Labels of controls could not have been exchanged with others if the whitener was
    fitted to the very controls that are scored. These are exactly white, the other
    samples only nearly, and features fire on the others more often whatever the label.
    Score rows that the whitener has not seen, or pass `control`. Controls among the
    tokens of an image cannot stay in their places while its labels are shifted; in
    that case score rows that the whitener has not seen.

    Active entries are found once. The time of a permutation is linear in the number of
    active entries plus n_classes x n_components.

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

    If the same rows come from six images, three of which can be "treated" in 20 ways:

    >>> image = np.repeat([0, 1, 2, 3, 4, 5], [10, 20, 20, 20, 20, 10])
    >>> report = selectivity_report(
    ...     codes, y, groups=image, n_permutations=999, random_state=0
    ... )
    >>> round(float(report["p_value"][1]), 2)
    0.06

    If they are the 10 x 10 tokens of one image, with one label for each half:

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
    exchange = exchange_of_labels(
        y,
        labels,
        batch=batch,
        groups=groups,
        control=control,
        grid_shape=grid_shape,
        tested=n_permutations > 0,
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
    {name: SCORE_CONSTRAINTS[name] for name in ("contrast", "activity_threshold")},
    prefer_skip_nested_validation=True,
)
def make_selectivity_scorer(
    contrast: str = "average", *, activity_threshold: float = 0.0
) -> _SelectivityScorer:
    """Make a scorer from the selectivity of a dictionary's features.

    Parameters
    ----------
    contrast : {"average", "maximum"}, default="average"
        The score, as in `selectivity_scores`.

    activity_threshold : float, default=0.0
        A feature is active in a sample if ``|z| > activity_threshold``.

    Returns
    -------
    scorer : callable
        ``scorer(estimator, X, y)`` returns the mean over classes of the best
        feature's score on the codes of `X`; higher is better. It serves as `scoring`
        in model selection for a dictionary, or for a Pipeline whose last step is one.
        What `set_output` configures there does not matter. The scorer can be pickled,
        equals a scorer with the same parameters, and requests no metadata.

    Raises
    ------
    ValueError
        If `contrast` or `activity_threshold` is invalid.

    See Also
    --------
    selectivity_scores : The scores of all features for all classes.

    Notes
    -----
    A dictionary is not a classifier, so an integer `cv` means
    :class:`~sklearn.model_selection.KFold` without shuffling. If labels are sorted,
    its folds may hold a single class, for which the score is not defined. Pass
    :class:`~sklearn.model_selection.StratifiedKFold` or a grouped splitter. The
    mean is over the classes that occur in the fold.

    Small test folds raise the best score by chance, and more so with more
    features: compare candidates of different `n_components` only on folds that hold
    many samples of each class. `selectivity_report` gives the null.

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

    scikit-learn's `make_scorer` cannot make it, because that calls only `predict`,
    `predict_proba` or `decision_function`. scikit-learn takes a scorer without
    `get_metadata_routing` as one that requests no metadata.
    """

    contrast: str
    activity_threshold: float

    def __call__(self, estimator: Any, X: Data, y: Data) -> float:
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

    def _accept_sample_weight(self) -> bool:
        # scikit-learn's searches call this if they combine several scorers and
        # metadata routing is off.
        return False
