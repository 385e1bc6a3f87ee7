"""Steps, one by one, with the metadata that each asks for."""

from __future__ import annotations

import pickle

from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    get_routing_for_object,
)


def split_steps(estimator) -> tuple[list, object]:
    """The steps before the dictionary, and the dictionary: the last step."""
    *before, last = _flat(estimator) or [None]
    return before, last


def _flat(estimator) -> list:
    """The steps, also those of pipelines inside pipelines."""
    if not isinstance(estimator, Pipeline):
        return [estimator]
    steps = [step for _, step in estimator.steps if step not in (None, "passthrough")]
    return [inner for step in steps for inner in _flat(step)]


def requested(estimator, params) -> set[str]:
    """Names among ``params`` that ``fit`` or ``transform`` of any step asks for."""
    before, last = split_steps(estimator)
    names: set[str] = set()
    for step in [*before, last]:
        routing = get_routing_for_object(step)
        for method in ("fit", "transform"):
            names |= set(routing.consumes(method, params))
    return names


def fit_step(step, X, y, params):
    """A fitted clone."""
    return clone(step).fit(X, y, **_route(step, "fit", params))


def transform_step(fitted, X, params):
    return fitted.transform(X, **_route(fitted, "transform", params))


def prepare(steps, train, test):
    """Both parts after the steps, which are fitted on the first part only."""
    for step in steps:
        fitted = fit_step(step, train.X, train.y, train.params)
        train, test = (
            part._replace(X=transform_step(fitted, part.X, part.params))
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
    return clone(estimator).set_params(**dict.fromkeys(names, seed)), bool(names)


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
