"""Steps, rows, codes and attributes of estimators, for displays and the report."""

from __future__ import annotations

from typing import Any

from sklearn.utils.validation import check_is_fitted

from skdict._utils.constraints import is_integer
from skdict._utils.steps import encode as codes_of
from skdict._utils.steps import plain, steps_of, unfrozen
from skdict._utils.types import Codes, Data
from skdict.decomposition import Truncator


def fitted_steps(estimator: Any) -> list[Any]:
    """List the steps of a fitted dictionary or Pipeline, and those in a Truncator."""
    check_is_fitted(estimator)
    *before, last = steps_of(estimator) or [None]
    truncator = unfrozen(last)
    if isinstance(truncator, Truncator):
        return [*before, *fitted_steps(truncator.estimator_)]
    return [*map(unfrozen, before), truncator]


def last_step(estimator: Any) -> Any:
    """Return the fitted dictionary: the last step, without a Truncator around it."""
    return fitted_steps(estimator)[-1]


def coder_of(estimator: Any) -> Any:
    """Return the dictionary, or the Truncator around it, that encodes its rows."""
    coder = unfrozen(steps_of(estimator)[-1])
    if not isinstance(coder, Truncator):
        return coder
    inner = coder_of(coder.estimator_)
    return inner if coder.k is None else shorter(inner, coder.k)


def shorter(dictionary: Any, k: int) -> Truncator:
    """Put a Truncator around a fitted dictionary."""
    truncator = Truncator(dictionary, k)
    truncator.estimator_ = dictionary
    return truncator


def name_of(estimator: Any, name: str | None = None) -> str:
    """Return the name given, or that of the class of the last step."""
    return type(last_step(estimator)).__name__ if name is None else name


def encode(estimator: Any, X: Data) -> Codes:
    """Encode rows by a dictionary or a Pipeline whose last step is one."""
    check_is_fitted(estimator)
    _require(estimator, "transform", "codes")
    return codes_of(estimator, X)


def rows_before(estimator: Any, X: Data) -> Data:
    """Transform rows by the steps before the dictionary.

    They become a DataFrame if the dictionary was fitted on one.
    """
    for step in fitted_steps(plain(estimator))[:-1]:
        X = step.transform(X)
    return X


def fitted_attribute(estimator: Any, attribute: str) -> Any:
    """Return a fitted attribute of the last step."""
    return _require(last_step(estimator), attribute, f"its {attribute}")


def check_feature(feature: Any, n_features: int) -> int:
    """Check the index of a feature and convert it to int."""
    if is_integer(feature) and 0 <= feature < n_features:
        return int(feature)
    hint = ""
    if isinstance(feature, str):  # as in FeatureReport and get_feature_names_out
        hint = " A feature's name ends in its index."
    raise ValueError(
        f"feature must be an index from 0 to {n_features - 1}, got {feature!r}.{hint}"
    )


def _require(estimator: Any, attribute: str, what: str) -> Any:
    value = getattr(estimator, attribute, None)
    if value is None:
        raise TypeError(
            f"The display needs {what}, but {type(estimator).__name__} has no "
            f"{attribute}. Pass a fitted dictionary, or a Pipeline whose last step is "
            "one (pipeline[:-1] leaves out a classifier at the end)."
        )
    return value
