"""Variants of a pipeline."""

from __future__ import annotations

import sys
from typing import Any

from sklearn import config_context
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import ParameterGrid
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skdict._utils.sklearn_private import HasMethods, validate_params
from skdict._utils.steps import steps_of, unfrozen
from skdict.decomposition import ICFL
from skdict.preprocessing import ControlPCAWhitener


@validate_params(
    {"estimator": [HasMethods(["fit", "set_params"])], "param_grid": [dict, list]},
    prefer_skip_nested_validation=True,
)
def vary(
    estimator: Any, param_grid: dict[str, list[Any]] | list[dict[str, list[Any]]]
) -> dict[str, Any]:
    """Make a named variant of an estimator for each setting of a grid.

    Parameters
    ----------
    estimator : estimator
        A pipeline or a dictionary. It is cloned.

    param_grid : dict of str to list, or list of such dicts
        As in :class:`~sklearn.model_selection.GridSearchCV`: a dict gives every
        combination of its values, a list of dicts those of each dict.

    Returns
    -------
    variants : dict of str to estimator
        The names say what was set, by the last part of each parameter's name, for
        instance "k=4, refit=True".

    Raises
    ------
    ValueError
        If the estimator lacks a parameter, if two settings have the same name, or if a
        parameter belongs to a step in a :class:`~sklearn.frozen.FrozenEstimator`.

    See Also
    --------
    pursuit_ablations : The usual variants of an ICFL pipeline.
    compare_dictionaries : Compares the variants.

    Examples
    --------
    >>> from skdict import ICFL
    >>> from skdict.evaluation import vary
    >>> vary(ICFL(64), {"k": [4, 8]})
    {'k=4': ICFL(k=4, n_components=64), 'k=8': ICFL(k=8, n_components=64)}
    """
    variants = {}
    for setting in ParameterGrid(param_grid):
        name = ", ".join(
            f"{parameter.rpartition('__')[2]}={_written(value)}"
            for parameter, value in setting.items()
        )
        if name in variants:
            raise ValueError(f"Two settings of the grid have the same name: {name!r}.")
        values = {parameter: clone(v, safe=False) for parameter, v in setting.items()}
        variants[name] = _variant(estimator, values)
    return variants


def _variant(estimator: Any, values: dict[str, Any]) -> Any:
    """Clone an estimator and set parameters."""
    given = {"": estimator, **estimator.get_params()}
    for parameter in values:
        parts = parameter.split("__")
        owners = ("__".join(parts[:i]) for i in range(len(parts)))
        # The clones of a frozen estimator share it: a variant would change them all.
        if any(isinstance(given.get(owner), FrozenEstimator) for owner in owners):
            raise ValueError(
                f"{parameter!r} belongs to a frozen step, which stays as it was "
                "fitted. Truncator(FrozenEstimator(...)) varies k."
            )
    estimator = clone(estimator)
    return estimator.set_params(**values) if values else estimator


@validate_params(
    {"pipeline": [HasMethods(["fit", "set_params"])]},
    prefer_skip_nested_validation=True,
)
def pursuit_ablations(pipeline: Any) -> dict[str, dict[str, Any]]:
    """Make the usual variants of a pipeline that ends in ICFL.

    Parameters
    ----------
    pipeline : Pipeline or ICFL
        The `n_components` and `k` of its ICFL must be set. It is cloned.

    Returns
    -------
    ablations : dict of str to dict of str to estimator
        Each dict answers one question when passed to :func:`compare_dictionaries`:

        - "steps": all J and L with J L = k; L = 1 is matching pursuit, J = 1 picks
          all atoms at once;
        - "resets": with the resets of the pipeline, and without;
        - "whitening": with the whitening of the pipeline, and with centring on the
          controls instead; only if the pipeline has a
          :class:`~skdict.ControlPCAWhitener`;
        - "k", "n_components": half, once and twice the value of the pipeline;
        - "learning_rate": a quarter, half, once and twice the value of the pipeline.

        Seeds need no variants: compare with several seeds and pass the runs to
        ``summary_table(runs, by=["dictionary", "seed"])``.

    Raises
    ------
    ValueError
        If the last step is not an ICFL, is frozen, or lacks `n_components` or `k`, if
        there are two whiteners, or if the whitener finds its controls by
        `control_label`.

    See Also
    --------
    vary : Variants of any estimator.

    Examples
    --------
    >>> from skdict import ICFL
    >>> from skdict.evaluation import pursuit_ablations
    >>> ablations = pursuit_ablations(ICFL(64, 4))
    >>> list(ablations)
    ['steps', 'resets', 'k', 'n_components', 'learning_rate']
    >>> list(ablations["steps"])
    ['J=4, L=1', 'J=2, L=2', 'J=1, L=4']
    """
    if isinstance(steps_of(pipeline)[-1], FrozenEstimator):
        raise ValueError(
            "The ablations train the dictionary again, but it is frozen: pass a "
            "pipeline with an ICFL that is not; the steps before it may be frozen."
        )
    icfl, prefix = pipeline, ""
    if isinstance(pipeline, Pipeline):
        icfl, prefix = pipeline[-1], f"{pipeline.steps[-1][0]}__"
    if not isinstance(icfl, ICFL) or icfl.k is None or icfl.n_components is None:
        raise ValueError(
            "The ablations need a pipeline whose last step is an ICFL with "
            f"n_components and k set, but it is {icfl!r}."
        )

    def variants(parameter: str, values: list[Any]) -> dict[str, Any]:
        return vary(pipeline, {prefix + parameter: values})

    def variant(**values: Any) -> Any:
        values = {prefix + name: value for name, value in values.items()}
        return _variant(pipeline, values)

    k, m, rate = icfl.k, icfl.n_components, icfl.learning_rate
    ablations = {
        "steps": {
            f"J={k // size}, L={size}": variant(atoms_per_step=size)
            for size in range(1, k + 1)
            if k % size == 0
        },
        # reset_similarity=1 would not do, because rounding exceeds it.
        "resets": {
            "resets on": clone(pipeline),
            "resets off": variant(reset_every=sys.maxsize),
        },
        "whitening": _without_whitening(pipeline),
        "k": variants("k", sorted({max(k // 2, 1), k, 2 * k})),
        "n_components": variants("n_components", sorted({max(m // 2, 1), m, 2 * m})),
        "learning_rate": variants(
            "learning_rate", [rate / 4, rate / 2, rate, 2 * rate]
        ),
    }
    return {name: group for name, group in ablations.items() if group}


def _without_whitening(pipeline: Any) -> dict:
    """Clone the pipeline with its whitening, and with centring instead."""
    params = pipeline.get_params()
    # `get_params` lists frozen whiteners twice, as a step and in it: take the step.
    whiteners = [
        (name, unfrozen(value))
        for name, value in params.items()
        if isinstance(unfrozen(value), ControlPCAWhitener)
        and not isinstance(params.get(name.rpartition("__")[0]), FrozenEstimator)
    ]
    if not whiteners:
        return {}
    if len(whiteners) > 1:
        raise ValueError(
            f"The pipeline whitens {len(whiteners)} times: {[n for n, _ in whiteners]}."
        )
    ((name, whitener),) = whiteners
    if whitener.control_label is not None:
        raise ValueError(
            f"{name!r} finds its controls by control_label, which centring cannot: "
            "leave it None and pass control=mask to compare_dictionaries."
        )
    with config_context(enable_metadata_routing=True):
        centring = StandardScaler(with_std=False)
        centring.set_fit_request(sample_weight="control")
        return {
            "whitened": clone(pipeline),
            "centred": clone(pipeline).set_params(**{name: centring}),
        }


def _written(value: Any) -> str:
    return " ".join(str(value).split())
