"""Linear probes."""

from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler


def make_linear_probe(**kw) -> Pipeline:
    """Make a class-balanced logistic regression for codes or embeddings.

    Parameters
    ----------
    **kw : dict
        Parameters of :class:`~sklearn.linear_model.LogisticRegression`, which
        override the ones chosen here: ``class_weight="balanced"`` and
        ``max_iter=1000``.

    Returns
    -------
    probe : Pipeline
        A :class:`~sklearn.preprocessing.StandardScaler` that divides by the
        standard deviation and leaves the mean, so that sparse codes stay sparse,
        and the logistic regression.

    See Also
    --------
    sklearn.metrics.balanced_accuracy_score : The score usual for such probes.

    Notes
    -----
    Score it by ``scoring="balanced_accuracy"``, on samples of other experiments
    than the training samples where there are several (for instance by
    :class:`~sklearn.model_selection.GroupKFold`).

    ``max_iter=1000`` is a bound and not a cost: raw pixels of the digits data take
    about 240 iterations, sparse codes of them 20. Dense embeddings whose means are
    large beside their standard deviations are fitted several times faster after
    ``probe.set_params(standardscaler__with_mean=True)``. The optimum is the same,
    because the intercept is not penalised.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import cross_val_score
    >>> from skdict.metrics import make_linear_probe
    >>> X, y = load_iris(return_X_y=True)
    >>> probe = make_linear_probe(C=10.0)
    >>> scores = cross_val_score(probe, X, y, scoring="balanced_accuracy")
    >>> bool(scores.mean() > 0.9)
    True
    """
    # Of sparse codes no frame can be made, whatever is configured for all estimators.
    scaler = StandardScaler(with_mean=False).set_output(transform="default")
    parameters = {"class_weight": "balanced", "max_iter": 1000} | kw
    return make_pipeline(scaler, LogisticRegression(**parameters))
