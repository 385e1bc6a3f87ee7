"""What a display needs of an estimator."""

from sklearn.utils.validation import check_is_fitted

from skdict._utils.constraints import is_integer
from skdict._utils.steps import encode as codes_of
from skdict._utils.steps import plain, steps_of, unfrozen
from skdict.decomposition import Truncator


def fitted_steps(estimator):
    """The steps of a fitted dictionary or Pipeline, also those inside a Truncator."""
    check_is_fitted(estimator)
    *before, last = steps_of(estimator) or [None]
    truncator = unfrozen(last)
    if isinstance(truncator, Truncator):
        return [*before, *fitted_steps(truncator.estimator_)]
    return [*map(unfrozen, before), truncator]


def last_step(estimator):
    """The fitted dictionary itself: the last step, without a Truncator around it."""
    return fitted_steps(estimator)[-1]


def coder_of(estimator):
    """What encodes rows that reach the dictionary: it, or a Truncator around it."""
    coder = unfrozen(steps_of(estimator)[-1])
    if not isinstance(coder, Truncator):
        return coder
    inner = coder_of(coder.estimator_)
    return inner if coder.k is None else shorter(inner, coder.k)


def shorter(dictionary, k):
    """A Truncator around what is already fitted."""
    truncator = Truncator(dictionary, k)
    truncator.estimator_ = dictionary
    return truncator


def name_of(estimator, name=None):
    """The name given, or that of the class of the last step."""
    return type(last_step(estimator)).__name__ if name is None else name


def encode(estimator, X):
    """Codes of rows, from a dictionary or a Pipeline whose last step is one."""
    check_is_fitted(estimator)
    _require(estimator, "transform", "codes")
    return codes_of(estimator, X)


def rows_before(estimator, X):
    """Rows as they reach the dictionary: as a frame where it was fitted on one."""
    for step in fitted_steps(plain(estimator))[:-1]:
        X = step.transform(X)
    return X


def fitted_attribute(estimator, attribute):
    """A fitted attribute of the last step."""
    return _require(last_step(estimator), attribute, f"its {attribute}")


def check_feature(feature, n_features):
    """The index of a feature, as an int."""
    if is_integer(feature) and 0 <= feature < n_features:
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
