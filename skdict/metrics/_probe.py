"""Linear probes."""

from __future__ import annotations

from typing import Any

from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler


def make_linear_probe(**kw: Any) -> Pipeline:
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
        A :class:`~sklearn.preprocessing.StandardScaler` and the logistic regression.
        The scaler divides by the standard deviation and does not subtract the mean,
        so that sparse codes stay sparse.

    See Also
    --------
    sklearn.metrics.balanced_accuracy_score : The score usual for such probes.

    Notes
    -----
    Score the probe by ``scoring="balanced_accuracy"``. If the samples come from
    several experiments, hold out whole experiments, for instance by
    :class:`~sklearn.model_selection.GroupKFold`.

    Training usually ends long before ``max_iter=1000``: raw pixels of the digits data
    take about 240 iterations, sparse codes of them 20. Dense embeddings whose means
    are much larger than their standard deviations are fitted several times faster
    after ``probe.set_params(standardscaler__with_mean=True)``. The optimum is the
    same, because the intercept is not penalised.

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
    # Ignore a global set_config(transform_output="pandas"): sparse codes cannot become
    # a DataFrame.
    scaler = StandardScaler(with_mean=False).set_output(transform="default")
    parameters = {"class_weight": "balanced", "max_iter": 1000} | kw
    return make_pipeline(scaler, LogisticRegression(**parameters))
