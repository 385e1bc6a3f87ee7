"""One table with what is known of every feature."""

import numpy as np

from skdict._utils.labels import encode
from skdict._utils.sklearn_private import validate_params
from skdict._utils.table import as_table
from skdict.stats import (
    THRESHOLD_CONSTRAINT,
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
from ._selectivity_tests import ALPHA_CONSTRAINT, CORRECTION_CONSTRAINT


@validate_params(
    {
        "codes": ["array-like", "sparse matrix"],
        "y": ["array-like"],
        "confounds": [dict, "array-like", None],
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
def describe_features(
    codes,
    y,
    *,
    confounds=None,
    activity_threshold=0.0,
    batch=None,
    groups=None,
    control=None,
    grid_shape=None,
    alpha=0.05,
    correction="bh",
):
    """One row per feature: its best class, and whether it follows a confound.

    Parameters
    ----------
    codes : {array-like, sparse matrix or array} of shape (n_samples, n_components)
        Codes of the samples. A sparse input is never densified.

    y : array-like of shape (n_samples,)
        Labels, of at least two classes.

    confounds : dict of array-like of shape (n_samples,) or DataFrame, default=None
        What else might explain a feature, by name: the batch, the plate, the
        position. Each has at least two values.

    activity_threshold : float, default=0.0
        A feature is active in a sample where ``|z| > activity_threshold``.

    batch : array-like of shape (n_samples,), default=None
        Labels, and values of a confound, are exchanged among the samples of the same
        batch only under the null hypothesis.

    groups : array-like of shape (n_samples,), default=None
        What was labelled as a whole, such as the image of each token, as in
        `selectivity_report`: the labels of whole groups are exchanged. Values of a
        confound that differ inside a group are exchanged inside the groups.

    control : array-like of shape (n_samples,), default=None
        Boolean or 0/1 array of the control samples that fitted the whitening, as in
        `selectivity_report`: nothing is exchanged between them and the others.

    grid_shape : tuple of int (height, width), default=None
        The grid of an image's tokens, for labels that differ inside images, as in
        `selectivity_report`: the map of each image is shifted. A confound that is the
        same for all tokens of each image is exchanged by whole images.

    alpha : float, default=0.05
        False discovery rate up to which a feature counts as selective.

    correction : {"bh", "by"}, default="bh"
        How it is controlled, as in `selectivity_tests`: over all features and
        classes, and for each confound over all features and values.

    Returns
    -------
    features : DataFrame
        One row per feature, in their order. Columns:

        - `feature`: index of the feature.
        - `density`: share of the samples in which it is active.
        - `best_class`: the class with the highest score among those with a q-value
          up to `alpha`; where there is none, among all.
        - `score`, `q_value`, `auroc`: average selectivity for that class, as in
          `selectivity_scores`; its q-value, as in `selectivity_tests`; its area
          under the ROC curve, as in `auroc_scores`.
        - `n_classes`: number of classes with a q-value up to `alpha`.

        and for each confound, called `batch` here:

        - `best_batch`, `batch_score`, `batch_q_value`: as the first three above, with
          the batches in place of the classes.
        - `q_value_within_batch`: the smallest q-value over the classes when labels
          are exchanged inside the batches only.
        - `follows_batch`: whether the feature is selective for a batch, and for no
          class inside the batches.

        The columns `alpha` and `correction` are the same in all rows.

    Raises
    ------
    ValueError
        As `selectivity_report`; also if a confound has another length, missing
        values or a single value.

    Warns
    -----
    UserWarning
        If no batch holds samples of two classes, so that no feature can be called
        selective.

    See Also
    --------
    selectivity_tests : The tests of single pairs.
    eta_squared : Shares of the variance of the codes themselves.

    Notes
    -----
    A confound explains a feature where two things hold: the feature is selective for
    one of its values, and what it tells of the classes is gone when samples with the
    same value are compared. The second is the stratified test: labels exchanged
    inside the values of the confound, as a sum of independent hypergeometric
    numbers. A feature that responds to both class and batch is therefore not
    flagged. One that marks a class of a single batch is: data in which class and
    batch coincide cannot tell them apart. A test that finds nothing is no proof, so
    with few samples of a class in each batch a feature may be flagged for lack of
    power.

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
    codes = check_codes(codes)
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
        "density": np.bincount(activity.indices, minlength=n_components) / n_samples,
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
