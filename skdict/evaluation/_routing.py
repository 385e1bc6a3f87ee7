"""Steps, one by one, with the metadata that each asks for."""

from __future__ import annotations

import pickle
from itertools import pairwise

from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    get_routing_for_object,
)
from sklearn.utils.validation import check_is_fitted

from skdict._utils.steps import as_array, giving, plain, steps_of, unfrozen


def split_steps(estimator) -> tuple[list, object]:
    """The steps before the dictionary, and the dictionary: the last step."""
    *before, last = steps_of(estimator) or [None]
    return before, last


def is_frozen(step) -> bool:
    """Whether a step came fitted, and stays as it is."""
    return isinstance(step, FrozenEstimator)


def refitted(steps) -> str:
    """Which of the steps are fitted on the training rows: "yes", "in part" or "no"."""
    frozen = [is_frozen(step) for step in steps]
    if not any(frozen):
        return "yes"
    return "no" if all(frozen) else "in part"


def requested(estimator, params) -> set[str]:
    """Names among ``params`` that ``fit`` or ``transform`` of any step asks for."""
    names: set[str] = set()
    for step in steps_of(estimator):
        routing = get_routing_for_object(unfrozen(step))
        for method in ("transform",) if is_frozen(step) else ("fit", "transform"):
            names |= set(routing.consumes(method, params))
    return names


def fit_step(step, X, y, params):
    """A fitted clone; what a frozen step holds."""
    if is_frozen(step):
        check_is_fitted(unfrozen(step))
        return unfrozen(step)
    return clone(step).fit(X, y, **_route(step, "fit", params))


def transform_step(fitted, X, params, following=None):
    """What a fitted step gives the step that follows, or codes from the last one."""
    if following is None:
        codes = plain(fitted).transform(X, **_route(fitted, "transform", params))
        return as_array(codes)
    if is_frozen(following):
        fitted = giving(fitted, unfrozen(following))
    # What is fitted on the output gets it as the user has configured it.
    return fitted.transform(X, **_route(fitted, "transform", params))


def prepare(steps, dictionary, train, test):
    """Both parts as they reach the dictionary; steps are fitted on the first only."""
    for step, following in pairwise([*steps, dictionary]):
        fitted = fit_step(step, train.X, train.y, train.params)
        train, test = (
            part._replace(X=transform_step(fitted, part.X, part.params, following))
            for part in (train, test)
        )
    return train, test


def seeded(estimator, seed):
    """A clone with every ``random_state`` set; the estimator itself has none."""
    names = [
        name
        for name in estimator.get_params()
        if name == "random_state" or name.endswith("__random_state")
    ]
    estimator = clone(estimator)
    if names:  # a frozen one has none
        estimator.set_params(**dict.fromkeys(names, seed))
    return estimator, bool(names)


def identity_of(steps) -> object:
    """Equal for steps that do the same, so that their work can be shared."""
    try:
        return pickle.dumps([clone(step) for step in steps])
    except Exception:  # whatever a parameter of the user's raises: nothing is shared
        return tuple(map(id, steps))


def _route(step, method: str, params: dict) -> dict:
    # The router knows aliases, and raises where a step has not said what it wants.
    router = MetadataRouter(owner=type(step).__name__).add(
        step=step, method_mapping=MethodMapping().add(caller=method, callee=method)
    )
    given = {name: value for name, value in params.items() if value is not None}
    return router.route_params(caller=method, params=given).step[method]
