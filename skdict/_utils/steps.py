"""Steps of fitted pipelines, and their codes, whatever output the user has configured.

``set_output`` and ``set_config(transform_output=...)`` say what users get from
``transform``. This library's own code needs arrays, and codes as CSR: scikit-learn
refuses to make a frame of a sparse matrix. The user's objects are never changed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn import config_context, get_config
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping

from skdict._utils.types import Codes, Data

__all__ = [
    "as_array",
    "encode",
    "giving",
    "plain",
    "routed",
    "steps_of",
    "takes_frames",
    "unfrozen",
]

_NO_STEP = (None, "passthrough")


def encode(estimator: Any, X: Data) -> Codes:
    """Encode rows with a fitted estimator or Pipeline, whatever output is configured.

    Parameters
    ----------
    estimator : estimator
        Fitted, with `transform`.
    X : array-like of shape (n_samples, n_features)
        Rows, as the estimator takes them.

    Returns
    -------
    codes : CSR matrix or array, or dense array, of shape (n_samples, n_components)
        Sparse or dense, as the estimator gives them, but never a frame.
    """
    with config_context(transform_output="default"):
        return as_array(plain(estimator).transform(X))


def plain(estimator: Any) -> Any:
    """Copy an estimator so that `transform` gives arrays; the two share all else.

    Inside a pipeline, a step that was fitted on frames still gets frames, and one that
    was fitted on arrays gets arrays, whatever is configured now. Otherwise scikit-learn
    would warn about the names of features.
    """
    return _giving(estimator, "default", {})


def takes_frames(estimator: Any) -> bool:
    """Whether the estimator was fitted on a frame."""
    return hasattr(estimator, "feature_names_in_")


def as_array(values: Any) -> Codes:
    """Make CSR of sparse values and an ndarray of frames; keep any other array."""
    if sp.issparse(values):
        return values.tocsr()
    return np.asarray(values) if hasattr(values, "columns") else values


def unfrozen(estimator: Any) -> Any:
    """Return what a FrozenEstimator holds, and any other estimator as it is."""
    while isinstance(estimator, FrozenEstimator):
        estimator = estimator.estimator
    return estimator


def steps_of(estimator: Any) -> list:
    """List the steps of a pipeline and of the pipelines in it.

    An estimator that is no pipeline is the only step. The steps of a frozen pipeline
    are given frozen.
    """
    inner = unfrozen(estimator)
    if not isinstance(inner, Pipeline):
        return [estimator]
    steps = [step for _, step in inner.steps if step not in _NO_STEP]
    flat = [inner_step for step in steps for inner_step in steps_of(step)]
    if inner is estimator:
        return flat
    return [s if isinstance(s, FrozenEstimator) else FrozenEstimator(s) for s in flat]


def routed(step: Any, method: str, params: dict[str, Any]) -> dict[str, Any]:
    """Choose the metadata that a method of a step asks for; None is left out."""
    # The router knows aliases, and raises if a step has not said what it wants.
    router = MetadataRouter(owner=type(step).__name__).add(
        step=step, method_mapping=MethodMapping().add(caller=method, callee=method)
    )
    given = {name: value for name, value in params.items() if value is not None}
    return router.route_params(caller=method, params=given).step[method]


def giving(estimator: Any, following: Any) -> Any:
    """Copy an estimator so that `transform` gives what the `following` step takes."""
    return _giving(estimator, _container(estimator, following), {})


def _giving(estimator: Any, container: str, memo: dict[tuple[int, str], Any]) -> Any:
    """Copy an estimator so that `transform` gives a container, as of ``set_output``."""
    if not isinstance(estimator, BaseEstimator | TransformerMixin):
        return estimator
    key = id(estimator), container
    if key in memo:
        return memo[key]
    # Not copy.copy, which drops whatever the estimator leaves out of a pickle.
    memo[key] = copied = object.__new__(type(estimator))
    vars(copied).update(vars(estimator))
    if isinstance(estimator, Pipeline):
        copied.steps, following = [], None
        for name, step in reversed(estimator.steps):
            if step not in _NO_STEP:
                if following is not None:
                    container = _container(step, following)
                following, step = step, _giving(step, container, memo)
            copied.steps.insert(0, (name, step))
        return copied
    # If the class itself makes the frames, the estimators that it holds need not. A
    # FrozenEstimator or a search passes on what its estimator gives.
    if "transform" in getattr(type(estimator), "_sklearn_auto_wrap_output_keys", ()):
        copied._sklearn_output_config = {"transform": container}
        container = "default"
    for name, value in vars(estimator).items():
        if name != "_sklearn_output_config":
            vars(copied)[name] = _each_giving(value, container, memo)
    return copied


def _each_giving(value: Any, container: str, memo: dict[tuple[int, str], Any]) -> Any:
    """Do as `_giving` does, also with the estimators in lists, tuples and dicts."""
    if type(value) in (list, tuple):
        return type(value)(_each_giving(one, container, memo) for one in value)
    if type(value) is dict:
        return {k: _each_giving(one, container, memo) for k, one in value.items()}
    return _giving(value, container, memo)


def _container(step: Any, following: Any) -> str:
    """Name the container that a step has to give to the fitted step that follows."""
    if not takes_frames(following):
        return "default"
    config = getattr(step, "_sklearn_output_config", {})
    chosen = config.get("transform", get_config()["transform_output"])
    if chosen != "default":
        return chosen
    return "pandas"
