"""The comparison for embeddings of several layers."""

from __future__ import annotations

from numbers import Integral

import numpy as np
from sklearn import config_context

from skdict._utils.sklearn_private import HasMethods, validate_params

from ._comparison import COMMON_CONSTRAINTS, Table, _check_probe, compare
from ._measures import measure_probe
from ._routing import prepare, seeded, split_steps
from ._summary import summary_table


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
    layers,
    pipeline,
    y,
    *,
    groups=None,
    cv=5,
    inner_cv=3,
    control=None,
    batch=None,
    params=None,
    seeds=5,
    n_permutations=100,
    grid_shape=None,
    probe=None,
    n_jobs=None,
    verbose=0,
):
    """Compare the embeddings of several layers, and choose one without leaking.

    The paper chose its layer by the best linear probe. Where the same rows choose
    the layer and judge it, the best of many layers looks better than it is. Here
    every outer fold chooses by probes on its own training rows alone, and what it
    chose is judged on the rows that it held out.

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
        Rows that belong together, in the outer and the inner folds.

    cv : int, splitter or iterable of (train, test), default=5
        Outer folds, as in :func:`compare_dictionaries`.

    inner_cv : int or splitter, default=3
        Folds of the training rows of each outer fold, that choose the layer.

    control, batch, params, seeds, n_permutations, grid_shape
        As in :func:`compare_dictionaries`.

    probe, n_jobs, verbose
        As in :func:`compare_dictionaries`.

    Returns
    -------
    table : DataFrame
        That of :func:`compare_dictionaries` with the column `layer` in the place of
        `dictionary`. The rows of the layer "chosen" are the outer folds' figures of
        the layer that each chose. In ``table.attrs["runs"]`` these runs name it under
        `chosen`; ``table.attrs["choices"]`` lists for each outer fold the layer
        chosen and the inner probe score of every layer.

    Raises
    ------
    ValueError
        As :func:`compare_dictionaries`; also if the layers differ in their number of
        rows, or if one is called "chosen".

    See Also
    --------
    compare_dictionaries : Its measures are those of this table.

    Notes
    -----
    The probe that chooses sees the rows as the dictionary does, behind the steps
    before it, which are fitted again in every inner fold. Ties go to the layer that
    comes first. Steps with a `random_state` choose by the first seed.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from skdict import ICFL
    >>> from skdict.evaluation import sweep_layers
    >>> X, y = load_digits(return_X_y=True)
    >>> X, y = X[:400], y[:400]
    >>> layers = {"blurred": X.reshape(-1, 16, 4).mean(axis=2), "full": X}
    >>> table = sweep_layers(
    ...     layers, ICFL(32, 4, max_iter=3), y, cv=2, seeds=1, n_permutations=0
    ... )
    >>> [choice["layer"] for choice in table.attrs["choices"]]
    ['full', 'full']
    """
    if "chosen" in layers:
        raise ValueError('No layer may be called "chosen", the name of what is chosen.')
    table = Table.check(layers, y, groups, control, batch, params, grid_shape)
    folds = table.folds(cv)
    first_seed = None
    if seeds is not None:
        first_seed = 0 if isinstance(seeds, Integral) else next(iter(seeds), None)
    choices = [
        _choose(pipeline, table.subset(train), inner_cv, first_seed, probe, i)
        for i, (train, _) in enumerate(folds)
    ]
    runs = compare(
        {name: (name, pipeline) for name in layers},
        table,
        folds=folds,
        seeds=seeds,
        n_permutations=n_permutations,
        probe=probe,
        n_jobs=n_jobs,
        verbose=verbose,
        key="layer",
    )
    runs += [
        run | {"layer": "chosen", "chosen": run["layer"]}
        for run in runs
        if run["layer"] == choices[run["fold"]]["layer"]
    ]
    summary = summary_table(runs, by="layer")
    summary.attrs["choices"] = choices
    return summary


def _choose(pipeline, table: Table, inner_cv, seed, probe, fold: int) -> dict:
    """The layer with the best probe, by folds of the rows of the table."""
    if seed is not None:
        pipeline, _ = seeded(pipeline, seed)
    steps, dictionary = split_steps(pipeline)
    probe = _check_probe(probe, table.y)
    inner = table.folds(inner_cv)
    with config_context(enable_metadata_routing=True):
        scores = {
            name: float(
                np.mean(
                    [
                        measure_probe(
                            probe,
                            *prepare(
                                steps,
                                dictionary,
                                *(table.part(name, r) for r in rows),
                            ),
                        )
                        for rows in inner
                    ]
                )
            )
            for name in table.arrays
        }
    return {
        "fold": fold,
        "layer": max(scores, key=scores.__getitem__),
        "scores": scores,
    }
