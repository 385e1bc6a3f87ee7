"""Fitting and transforming step by step, with the metadata that each asks for."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils.metadata_routing import get_routing_for_object
from sklearn.utils.validation import check_is_fitted

from skdict._utils.steps import (
    as_array,
    giving,
    plain,
    routed,
    steps_of,
    unfrozen,
)
from skdict._utils.types import Data

if TYPE_CHECKING:
    from ._measures import Part


def split_steps(estimator: Any) -> tuple[list, object]:
    """Split into the steps before the dictionary and the dictionary, the last step."""
    *before, last = steps_of(estimator) or [None]
    return before, last


def is_frozen(step: Any) -> bool:
    """Whether a step is given fitted and stays as it is."""
    return isinstance(step, FrozenEstimator)


def refitted(steps: Iterable[Any]) -> str:
    """Whether the steps are fitted on the training rows: "yes", "in part" or "no"."""
    frozen = [is_frozen(step) for step in steps]
    if not any(frozen):
        return "yes"
    return "no" if all(frozen) else "in part"


def requested(estimator: Any, params: Iterable[str]) -> set[str]:
    """Names among ``params`` that ``fit`` or ``transform`` of any step asks for."""
    names: set[str] = set()
    for step in steps_of(estimator):
        routing = get_routing_for_object(unfrozen(step))
        for method in ("transform",) if is_frozen(step) else ("fit", "transform"):
            names |= set(routing.consumes(method, params))
    return names


def fit_step(step: Any, X: Data, y: Data, params: dict[str, Any]) -> Any:
    """Fit a clone of a step; a frozen step is only unwrapped."""
    if is_frozen(step):
        check_is_fitted(unfrozen(step))
        return unfrozen(step)
    return clone(step).fit(X, y, **routed(step, "fit", params))


def transform_step(
    fitted: Any, X: Data, params: dict[str, Any], following: Any = None
) -> Any:
    """Transform rows for the step that follows, or to codes by the last step."""
    if following is None:
        codes = plain(fitted).transform(X, **routed(fitted, "transform", params))
        return as_array(codes)
    if is_frozen(following):
        fitted = giving(fitted, unfrozen(following))
    # A step that will be fitted gets the output that the user has configured.
    return fitted.transform(X, **routed(fitted, "transform", params))


def prepare(
    steps: list[Any], dictionary: Any, train: Part, test: Part
) -> tuple[Part, Part]:
    """Transform both parts by the steps before the dictionary, fitted on the first."""
    for step, following in pairwise([*steps, dictionary]):
        fitted = fit_step(step, train.X, train.y, train.params)
        train, test = (
            part._replace(X=transform_step(fitted, part.X, part.params, following))
            for part in (train, test)
        )
    return train, test


def seeded(estimator: Any, seed: Any) -> tuple[Any, bool]:
    """Clone an estimator with ``random_state`` set, and say whether it has any."""
    names = [
        name
        for name in estimator.get_params()
        if name == "random_state" or name.endswith("__random_state")
    ]
    estimator = clone(estimator)
    if names:  # a FrozenEstimator has none
        estimator.set_params(**dict.fromkeys(names, seed))
    return estimator, bool(names)


def identity_of(steps: list[Any]) -> object:
    """Make a key that is equal for equal steps, so that they are fitted once."""
    try:
        return pickle.dumps([clone(step) for step in steps])
    except Exception:  # a user's parameter may raise anything: share nothing then
        return tuple(map(id, steps))
