"""What a display needs of an estimator."""

from numbers import Integral

from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted


def last_step(estimator):
    """The fitted dictionary itself: the last step, without a Truncator around it."""
    check_is_fitted(estimator)
    if isinstance(estimator, Pipeline):
        estimator = estimator[-1]
    return getattr(estimator, "estimator_", estimator)


def name_of(estimator, name=None):
    """The name given, or that of the class of the last step."""
    return type(last_step(estimator)).__name__ if name is None else name


def encode(estimator, X):
    """Codes of rows, from a dictionary or a Pipeline whose last step is one."""
    check_is_fitted(estimator)
    _require(estimator, "transform", "codes")
    return estimator.transform(X)


def rows_before(estimator, X):
    """Rows as they reach the last step."""
    check_is_fitted(estimator)
    if isinstance(estimator, Pipeline) and len(estimator) > 1:
        return estimator[:-1].transform(X)
    return X


def fitted_attribute(estimator, attribute):
    """A fitted attribute of the last step."""
    return _require(last_step(estimator), attribute, f"its {attribute}")


def check_feature(feature, n_features):
    """The index of a feature, as an int."""
    if isinstance(feature, Integral) and 0 <= feature < n_features:
        return int(feature)
    hint = ""
    if isinstance(feature, str):  # as FeatureReport and get_feature_names_out have it
        hint = " A feature's name ends in its index."
    raise ValueError(
        f"feature must be an index from 0 to {n_features - 1}, got {feature!r}.{hint}"
    )


def _require(estimator, attribute, what):
    value = getattr(estimator, attribute, None)
    if value is None:
        raise TypeError(
            f"The display needs {what}, but {type(estimator).__name__} has no "
            f"{attribute}. Pass a fitted dictionary, or a Pipeline whose last step is "
            "one (pipeline[:-1] leaves out a classifier at the end)."
        )
    return value
