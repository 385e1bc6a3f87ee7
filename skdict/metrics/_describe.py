"""One table with the tests of every feature."""

from __future__ import annotations

import numpy as np
import pandas as pd

from skdict._utils.labels import encode
from skdict._utils.sklearn_private import validate_params
from skdict._utils.table import as_table
from skdict._utils.types import Codes, Data
from skdict.stats import (
    check_codes,
    choose_exchange,
    cross,
    encode_batch,
    encode_classes,
    encode_groups,
    find_active,
    named_columns,
    number_images,
    plan_exchange,
    run_label_tests,
)

from ._auroc import auroc_scores
from ._selectivity_tests import TEST_CONSTRAINTS


@validate_params(
    {**TEST_CONSTRAINTS, "confounds": [dict, "array-like", None]},
    prefer_skip_nested_validation=True,
)
def describe_features(
    codes: Codes,
    y: Data,
    *,
    confounds: Data | None = None,
    activity_threshold: float = 0.0,
    batch: Data | None = None,
    groups: Data | None = None,
    control: Data | None = None,
    grid_shape: Data | None = None,
    alpha: float = 0.05,
    correction: str = "bh",
) -> pd.DataFrame:
    """Describe every feature: its best class, and whether it follows a confound.

    Parameters
    ----------
    codes : {array-like, sparse matrix or array} of shape (n_samples, n_components)
        Codes of the samples. A sparse input is never densified. The blocks of a Dask
        array are computed in each pass over them, a few at a time; see `auroc_scores`.

    y : array-like of shape (n_samples,)
        Labels, of at least two classes.

    confounds : dict of array-like of shape (n_samples,) or DataFrame, default=None
        Other possible explanations of a feature, by name, such as the batch, the
        plate or the position. Each has at least two values.

    activity_threshold : float, default=0.0
        A feature is active in a sample if ``|z| > activity_threshold``.

    batch : array-like of shape (n_samples,), default=None
        Under the null hypothesis, labels and the values of a confound are exchanged
        only among the samples of a batch.

    groups : array-like of shape (n_samples,), default=None
        Groups that were labelled as a whole, such as the image of each token, as in
        `selectivity_report`: the labels of whole groups are exchanged. Values of a
        confound that differ inside a group are exchanged inside the groups.

    control : array-like of shape (n_samples,), default=None
        Boolean or 0/1 array of the control samples that fitted the whitening, as in
        `selectivity_report`: nothing is exchanged between them and the others.

    grid_shape : tuple of int (height, width), default=None
        The grid of an image's tokens, for labels that differ inside images, as in
        `selectivity_report`: the label map of each image is shifted. A confound that is
        the same for all tokens of each image is exchanged by whole images.

    alpha : float, default=0.05
        False discovery rate up to which a feature counts as selective.

    correction : {"bh", "by"}, default="bh"
        How the rate is controlled, as in `selectivity_tests`: over all features and
        classes, and for each confound over all features and values.

    Returns
    -------
    features : DataFrame
        One row per feature, in the order of the features. Columns:

        - `feature`: index of the feature.
        - `density`: fraction of the samples in which it is active.
        - `best_class`: the class with the highest score, among the classes with a
          q-value up to `alpha` or, if there are none, among all.
        - `score`, `q_value`, `auroc`: average selectivity for that class, as in
          `selectivity_scores`; its q-value, as in `selectivity_tests`; its area
          under the ROC curve, as in `auroc_scores`.
        - `n_classes`: number of classes with a q-value up to `alpha`.

        and for each confound, here called `batch`:

        - `best_batch`, `batch_score`, `batch_q_value`: as `best_class`, `score` and
          `q_value`, with the batches in place of the classes.
        - `q_value_within_batch`: the smallest q-value over the classes when labels
          are exchanged inside the batches only.
        - `follows_batch`: whether the feature is selective for a batch, but not for
          any class inside the batches.

        The columns `alpha` and `correction` are the same in all rows.

    Raises
    ------
    ValueError
        As `selectivity_report`; also if a confound has a different length, missing
        values or a single value.

    Warns
    -----
    UserWarning
        If no batch holds samples of two classes, so that no feature can be called
        selective.

    See Also
    --------
    selectivity_tests : The tests of single pairs.
    eta_squared : Fractions of the variance of the codes that factors explain.

    Notes
    -----
    A confound explains a feature if two conditions hold: the feature is selective for
    a value of the confound, and it is no longer selective for a class when only samples
    with the same value are compared. The second condition is a stratified test: labels
    are exchanged inside the values of the confound, as if these were batches. A feature
    that responds to both class and batch is therefore not flagged. A feature that marks
    a class of a single batch is flagged, because the data cannot tell the class from
    the batch. With few samples of a class in each batch, a feature may also be flagged
    because the second test lacks power.

    :class:`~skdict.report.FeatureReport` shows the same tests as a page.

    Examples
    --------
    >>> import numpy as np
    >>> from skdict.metrics import describe_features
    >>> rng = np.random.default_rng(0)
    >>> batch = rng.integers(0, 2, 200)
    >>> y = np.where(rng.random(200) < 0.3 + 0.4 * batch, "treated", "control")
    >>> codes = rng.random((200, 3)) < 0.2
    >>> codes[:, 1] |= y == "treated"
    >>> codes[:, 2] |= batch == 1
    >>> features = describe_features(codes, y, confounds={"batch": batch})
    >>> features["best_class"][1]
    'treated'
    >>> features["follows_batch"].tolist()
    [False, False, True]
    """
    codes = check_codes(codes, deferred=True)
    activity = find_active(codes, activity_threshold)
    n_samples, n_components = activity.shape
    classes, labels = encode_classes(y, n_samples)
    batch_ids = encode_batch(batch, labels, control)
    shared = {"y": y, "batch": batch, "control": control}
    group_ids = encode_groups(groups, n_samples, shared)
    exchange = plan_exchange(labels, batch_ids, group_ids, grid_shape)
    nested_groups = [] if group_ids is None else [group_ids]
    if exchange.grid_shape is not None:
        nested_groups = [number_images(n_samples, exchange.grid_shape)]
    named = named_columns(confounds, "confounds")

    tests = run_label_tests(activity, labels, exchange, correction)
    which, features = tests.best_classes(alpha), np.arange(n_components)
    columns = {
        "feature": features,
        "density": tests.counts.sum(axis=0) / n_samples,
        "best_class": classes[which],
        "score": tests.scores[which, features],
        "q_value": tests.q_values[which, features],
        "auroc": auroc_scores(codes, labels)[features, which],
        "n_classes": (tests.q_values <= alpha).sum(axis=0),
    }
    for name, values in named.items():
        levels, ids = encode(values, name, n_samples)
        if len(levels) < 2:
            raise ValueError(
                f"The confound {name} has the value {levels[0]} for all samples."
            )
        of_confound, of_labels = (
            run_label_tests(
                activity,
                tested,
                choose_exchange(tested, nested_groups, inside, exchange.grid_shape),
                correction,
            )
            for tested, inside in (
                (ids, batch_ids),
                (labels, ids if batch_ids is None else cross(batch_ids, ids)),
            )
        )
        which = of_confound.best_classes(alpha)
        q_values = of_confound.q_values[which, features]
        within = of_labels.q_values.min(axis=0)
        own = {
            f"best_{name}": levels[which],
            f"{name}_score": of_confound.scores[which, features],
            f"{name}_q_value": q_values,
            f"q_value_within_{name}": within,
            f"follows_{name}": (q_values <= alpha) & (within > alpha),
        }
        if taken := columns.keys() & own:
            raise ValueError(
                f"The confound {name} needs another name: the table has a column "
                f"{min(taken)} already."
            )
        columns |= own

    settings = {
        "alpha": float(alpha),
        "correction": correction,
    }
    return as_table(columns, settings)
