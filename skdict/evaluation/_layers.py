"""Comparison of the embeddings of several layers and of several models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn import config_context

from skdict._utils.sklearn_private import HasMethods, validate_params
from skdict._utils.types import Data

from ._comparison import COMMON_CONSTRAINTS, Table, _check_probe, compare, list_seeds
from ._measures import measure_probe
from ._routing import prepare, seeded, split_steps


@validate_params(
    {
        "layers": [dict],
        "pipeline": [HasMethods(["fit", "get_params"])],
        "y": ["array-like"],
        "inner_cv": ["cv_object"],
        **COMMON_CONSTRAINTS,
    },
    prefer_skip_nested_validation=True,
)
def sweep_layers(
    layers: dict[str, Data],
    pipeline: Any,
    y: Data,
    *,
    groups: Data | None = None,
    cv: Any = 5,
    inner_cv: Any = 3,
    control: Data | None = None,
    batch: Data | None = None,
    params: dict[str, Data] | None = None,
    seeds: int | Sequence[int] | None = 5,
    n_permutations: int = 100,
    grid_shape: Data | None = None,
    probe: Any = None,
    n_jobs: int | None = None,
    verbose: int = 0,
) -> pd.DataFrame:
    """Compare the embeddings of several layers, and choose one without leaking.

    Donhauser et al. [1]_ chose their layer by the best linear probe. If a layer is
    measured on the rows by which it was chosen, the best of many layers looks better
    than it is. Here each outer fold chooses a layer by probes on its training rows
    alone. All layers are then measured on its held-out rows, and
    ``runs[runs["chosen"]]`` are the measures of the chosen ones.

    Parameters
    ----------
    layers : dict of str to array-like of shape (n_samples, n_features_of_layer)
        Embeddings of the same samples at several layers.

    pipeline : estimator
        A Pipeline whose last step is a dictionary, or a dictionary, as in
        :func:`compare_dictionaries`.

    y : array-like of shape (n_samples,)
        Classes.

    groups : array-like of shape (n_samples,), default=None
        Rows that belong together, for the outer and the inner folds.

    cv : int, splitter or iterable of (train, test), default=5
        Outer folds, as in :func:`compare_dictionaries`.

    inner_cv : int or splitter, default=3
        Inner folds, made like `cv` from the training rows of an outer fold. By the
        probe's mean score over them the outer fold chooses its layer.

    control, batch, params, seeds, n_permutations, grid_shape
        As in :func:`compare_dictionaries`.

    probe, n_jobs, verbose
        As in :func:`compare_dictionaries`.

    Returns
    -------
    runs : DataFrame
        One row for each layer, outer fold and seed, with the columns of
        :func:`compare_dictionaries`, but `layer` instead of `dictionary`, and two
        more:

        - `chosen`: True if the outer fold chose this layer;
        - `inner_probe_x`: the layer's score in this choice, the mean over the inner
          folds of the probe's balanced accuracy.

    Raises
    ------
    ValueError
        As :func:`compare_dictionaries`; also if the layers differ in their number of
        rows.

    See Also
    --------
    compare_dictionaries : Describes the measures.
    summary_table : With ``by="layer"``, mean and spread of each layer.

    Notes
    -----
    The probe that chooses gets the rows as the dictionary does, after the steps before
    it, which are fitted again in every inner fold. Of equal layers the first is chosen.
    Every `random_state` of these steps is set to the first seed.

    References
    ----------
    .. [1] K. Donhauser et al. "Towards scientific discovery with dictionary
       learning: extracting biological concepts from microscopy foundation models."
       ICML 2025. arXiv:2412.16247.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from skdict import ICFL
    >>> from skdict.evaluation import sweep_layers
    >>> X, y = load_digits(return_X_y=True)
    >>> X, y = X[:400], y[:400]
    >>> layers = {"blurred": X.reshape(-1, 16, 4).mean(axis=2), "full": X}
    >>> runs = sweep_layers(
    ...     layers, ICFL(32, 4, max_iter=3), y, cv=2, seeds=1, n_permutations=0
    ... )
    >>> runs.loc[runs["chosen"], ["fold", "layer"]]
       fold layer
    2     0  full
    3     1  full
    """
    table = Table.check(layers, y, groups, control, batch, params, grid_shape)
    return _sweep(
        [[*layers]],
        pipeline,
        table,
        cv,
        inner_cv,
        seeds=seeds,
        n_permutations=n_permutations,
        probe=probe,
        n_jobs=n_jobs,
        verbose=verbose,
    )


@validate_params(
    {
        "models": [dict],
        "pipeline": [HasMethods(["fit", "get_params"])],
        "y": ["array-like"],
        "inner_cv": ["cv_object"],
        **COMMON_CONSTRAINTS,
    },
    prefer_skip_nested_validation=True,
)
def sweep_models(
    models: dict[str, Data | dict[str, Data]],
    pipeline: Any,
    y: Data,
    *,
    groups: Data | None = None,
    cv: Any = 5,
    inner_cv: Any = 3,
    control: Data | None = None,
    batch: Data | None = None,
    params: dict[str, Data] | None = None,
    seeds: int | Sequence[int] | None = 5,
    n_permutations: int = 100,
    grid_shape: Data | None = None,
    probe: Any = None,
    n_jobs: int | None = None,
    verbose: int = 0,
) -> pd.DataFrame:
    """Compare the embeddings of the same samples by several models.

    The models may be those of one family that differ in size [1]_. If there are several
    layers of a model, each outer fold chooses one for each model, as in
    :func:`sweep_layers`, and ``runs[runs["chosen"]]`` compares the models.

    Parameters
    ----------
    models : dict of str to (array-like of shape (n_samples, n_features_of_model), \
            or dict of str to such arrays)
        Embeddings of the same samples by each model, or by several layers of it.

    pipeline : estimator
        A Pipeline whose last step is a dictionary, or a dictionary, as in
        :func:`compare_dictionaries`. All models get the same `n_components` and `k`.

    y : array-like of shape (n_samples,)
        Classes.

    groups : array-like of shape (n_samples,), default=None
        Rows that belong together, for the outer and the inner folds.

    cv : int, splitter or iterable of (train, test), default=5
        Outer folds, as in :func:`compare_dictionaries`; the same for all models.

    inner_cv : int or splitter, default=3
        Inner folds, by which the layer of a model is chosen, as in
        :func:`sweep_layers`.

    control, batch, params, seeds, n_permutations, grid_shape
        As in :func:`compare_dictionaries`.

    probe, n_jobs, verbose
        As in :func:`compare_dictionaries`.

    Returns
    -------
    runs : DataFrame
        One row for each model, layer, outer fold and seed, with the columns of
        :func:`sweep_layers` and two more:

        - `model`: name of the model; `layer` is "embedding" if it has a single one.
        - `n_features`: number of columns of the embedding.

    Raises
    ------
    ValueError
        As :func:`compare_dictionaries`; also if the models differ in their number of
        rows.

    See Also
    --------
    sweep_layers : The same for the layers of one model.
    summary_table : With ``by="model"``, mean and spread of each model.

    Notes
    -----
    `probe_x`, the selectivities and `probe_codes` compare models. The cosine and the
    explained variance do not: each is measured in the space of its own model.

    References
    ----------
    .. [1] K. Donhauser et al. "Towards scientific discovery with dictionary
       learning: extracting biological concepts from microscopy foundation models."
       ICML 2025. arXiv:2412.16247.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skdict import ICFL
    >>> from skdict.evaluation import summary_table, sweep_models
    >>> X, y = load_digits(return_X_y=True)
    >>> X, y = X[:400], y[:400]
    >>> models = {"small": X.reshape(-1, 16, 4).mean(axis=2), "large": X}
    >>> runs = sweep_models(
    ...     models, ICFL(32, 4, max_iter=3), y, cv=2, seeds=1, n_permutations=0
    ... )
    >>> runs.groupby("model", sort=False)["n_features"].first().to_dict()
    {'small': 16, 'large': 64}
    >>> means = summary_table(runs, by="model").set_index(["measure", "model"])["mean"]
    >>> bool(means["probe_codes", "large"] > means["probe_codes", "small"])
    True
    """
    layers = {
        (model, layer): X
        for model, given in models.items()
        for layer, X in (given if isinstance(given, dict) else {_ALONE: given}).items()
    }
    empty = [model for model, given in models.items() if _is_empty(given)]
    if empty:
        raise ValueError(f"There are no layers of the models {empty}.")
    names = {f"{model}, layer {layer}": (model, layer) for model, layer in layers}
    if len(names) < len(layers):
        raise ValueError("Two layers have the same name after that of their model.")
    table = Table.check(
        {name: layers[place] for name, place in names.items()},
        y,
        groups,
        control,
        batch,
        params,
        grid_shape,
    )
    runs = _sweep(
        [[n for n, (own, _) in names.items() if own == model] for model in models],
        pipeline,
        table,
        cv,
        inner_cv,
        seeds=seeds,
        n_permutations=n_permutations,
        probe=probe,
        n_jobs=n_jobs,
        verbose=verbose,
    )
    places = [names[name] for name in runs.pop("layer")]
    runs.insert(0, "model", [model for model, _ in places])
    runs.insert(1, "layer", [layer for _, layer in places])
    widths = [_n_features(layers[place]) for place in places]
    runs.insert(list(runs).index("inner_probe_x") + 1, "n_features", widths)
    return runs


_ALONE = "embedding"  # the layer of a model that has a single one


def _is_empty(given: Any) -> bool:
    return isinstance(given, dict) and not given


def _n_features(X: Any) -> int:
    return X.shape[1] if hasattr(X, "shape") else len(X[0])


def _sweep(
    choices_of: list[list[str]],
    pipeline: Any,
    table: Table,
    cv: Any,
    inner_cv: Any,
    *,
    seeds: int | Sequence[int] | None,
    probe: Any,
    **settings: Any,
) -> pd.DataFrame:
    """Compare all arrays of a table; choose one of each list in every outer fold."""
    folds = table.folds(cv)
    scores = [
        _inner_scores(
            pipeline, table.subset(train), inner_cv, list_seeds(seeds)[0], probe
        )
        for train, _ in folds
    ]
    choices = [
        {max(own, key=of_fold.__getitem__) for own in choices_of} for of_fold in scores
    ]
    runs = compare(
        {name: (name, pipeline) for name in table.arrays},
        table,
        folds=folds,
        seeds=seeds,
        probe=probe,
        key="layer",
        **settings,
    )
    places = list(zip(runs["layer"], runs["fold"], strict=True))
    chosen = [layer in choices[fold] for layer, fold in places]
    inner = [scores[fold][layer] for layer, fold in places]
    after = list(runs).index("refitted") + 1
    runs.insert(after, "chosen", chosen)
    runs.insert(after + 1, "inner_probe_x", inner)
    return runs


def _inner_scores(
    pipeline: Any, table: Table, inner_cv: Any, seed: int | None, probe: Any
) -> dict[str, float]:
    """Mean score of the probe for each layer, over folds of the table."""
    if seed is not None:
        pipeline, _ = seeded(pipeline, seed)
    steps, dictionary = split_steps(pipeline)
    probe = _check_probe(probe, table.y)
    folds = table.folds(inner_cv)

    def score(name: str, fold: tuple[np.ndarray, np.ndarray]) -> float:
        parts = prepare(steps, dictionary, *(table.part(name, rows) for rows in fold))
        return measure_probe(probe, *parts)

    with config_context(enable_metadata_routing=True):
        return {
            name: float(np.mean([score(name, fold) for fold in folds]))
            for name in table.arrays
        }
