"""Comparison of dictionaries on held-out rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
from sklearn import config_context
from sklearn.base import is_regressor
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    StratifiedGroupKFold,
    StratifiedKFold,
    check_cv,
)
from sklearn.utils.parallel import Parallel, delayed
from tqdm import tqdm

from skdict._utils.checks import check_folds
from skdict._utils.constraints import Interval
from skdict._utils.labels import as_labels, as_mask
from skdict._utils.sklearn_private import (
    HasMethods,
    num_samples,
    safe_indexing,
    validate_params,
)
from skdict._utils.steps import takes_frames, unfrozen
from skdict._utils.types import Data
from skdict._utils.warn import warn
from skdict.metrics import make_linear_probe, offset_ratio
from skdict.rows import in_memory
from skdict.stats import check_grid_shape, is_of_images, number_images

from ._measures import Part, measure_dictionary, measure_probe
from ._routing import (
    identity_of,
    is_frozen,
    prepare,
    refitted,
    requested,
    seeded,
    split_steps,
)

COMMON_CONSTRAINTS: dict[str, Any] = {
    "groups": ["array-like", None],
    "cv": ["cv_object"],
    "control": ["array-like", None],
    "batch": ["array-like", None],
    "params": [dict, None],
    "seeds": [Interval(Integral, 1, None, closed="left"), list, tuple, range, None],
    "n_permutations": [Interval(Integral, 0, None, closed="left")],
    "grid_shape": ["array-like", None],
    "probe": [HasMethods(["fit", "predict"]), None],
    "n_jobs": [Interval(Integral, None, None, closed="neither"), None],
    "verbose": ["verbose"],
}


@validate_params(
    {"dictionaries": [dict], "y": ["array-like", None], **COMMON_CONSTRAINTS},
    prefer_skip_nested_validation=True,
)
def compare_dictionaries(
    dictionaries: dict[str, Any],
    X: Data,
    y: Data | None = None,
    *,
    groups: Data | None = None,
    cv: Any = 5,
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
    """Compare dictionaries on held-out rows, over folds and seeds.

    Every dictionary is fitted on the training rows of a fold, with the steps before it,
    and measured on the rows that were held out. Add those of
    :func:`baseline_dictionaries` to the dictionaries of interest: a measure means
    little without them.

    Parameters
    ----------
    dictionaries : dict of str to estimator
        Dictionaries, or pipelines whose last step is one: it has `transform` to codes
        and `inverse_transform` back. They are cloned. Pipelines or steps in a
        :class:`~sklearn.frozen.FrozenEstimator` are already fitted and stay as they
        are (see Notes). Below, x is the input of the last step.

    X : array-like of shape (n_samples, n_features)
        Rows. zarr, HDF5 and Dask arrays are read, if half of the working memory has
        room for them.

    y : array-like of shape (n_samples,), default=None
        Classes, for selectivity and probes. None omits these measures.

    groups : array-like of shape (n_samples,), default=None
        Rows that belong together, for instance the tokens of an image. No group may
        be on both sides of a fold.

    cv : int, splitter or iterable of (train, test), default=5
        Folds. An int is their number; they are then stratified by `y` (without it, by
        `control`), and keep `groups` whole or else shuffle the rows. A splitter is
        called with `X`, `y` and `groups`.

    control : array-like of bool of shape (n_samples,), default=None
        Control rows, for the steps that ask for `control` through metadata routing,
        as :class:`~skdict.ControlPCAWhitener` does by itself. Steps get the entries of
        their rows.

    batch : array-like of shape (n_samples,), default=None
        Experimental batches, for the steps that ask for `batch`, and for the null of
        the selectivity, in which labels are permuted inside batches.

    params : dict, default=None
        Further metadata with one entry for each row, for the steps that ask for them.

    seeds : int, list of int or None, default=5
        Every `random_state` of a pipeline is set to each seed in turn; an int means
        ``range(seeds)``. A pipeline without a `random_state` runs once in every fold.
        None leaves each `random_state` as it is.

    n_permutations : int, default=100
        Number of permutations for the null of the selectivity; 0 omits the null.

    grid_shape : tuple of int (height, width), default=None
        The grid of an image's tokens, for labels that differ inside images. The rows
        are all tokens of each image, image by image and row by row of the grid. The
        null then shifts the label map of each image, as in
        :func:`~skdict.metrics.selectivity_report`. Folds must hold whole images (pass
        the image of each row as `groups`), and batches must consist of whole images.

    probe : classifier, default=None
        Probe of x, codes and reconstruction. None means
        :func:`~skdict.metrics.make_linear_probe`.

    n_jobs : int, default=None
        Number of processes over which the dictionaries and seeds of a fold are spread,
        each with one thread. The measured seconds are then those of a busy machine.
        None means a single process with the threads of the session.

    verbose : int, default=0
        Whether to show a progress bar.

    Returns
    -------
    runs : DataFrame
        One row for each dictionary, fold and seed; :func:`summary_table` makes means
        and spreads of them. The columns `dictionary`, `seed` and `fold` name the run.
        `refitted` says which steps of the pipeline were fitted on the training rows:
        "yes" for all, "no" if the whole pipeline is frozen, "in part" if some steps
        are. The other columns are the measures:

        - `offset_ratio`: length of the mean of x over its spread, on held-out rows. If
          it is large, any reconstruction near the mean has a large cosine.
        - `cosine`, `explained_variance`: of x and its reconstruction, on held-out rows.
        - `l0`: mean number of non-zeros of a code, on held-out rows.
        - `dead_fraction`: fraction of features that are active on fewer than 1e-5 of
          the *training* rows.
        - `coherence`: largest absolute cosine of two atoms, where an atom is what
          `inverse_transform` makes of one feature.
        - `mean_coherence`: mean absolute cosine of two atoms.
        - `average_selectivity`, `maximum_selectivity`: mean over classes of the best
          feature's score, on held-out rows. With the suffix `_null`, the 95 % quantile
          of the same under permuted labels; with `_p`, the p-value.
        - `probe_x`, `probe_codes`, `probe_reconstruction`: balanced accuracy on
          held-out rows of probes fitted on the training rows.
        - `fit_seconds`, `encode_seconds`: seconds in which the last step is fitted on
          the training rows and encodes the held-out rows. `fit_seconds` is NaN for a
          frozen dictionary.

    Raises
    ------
    ValueError
        If lengths differ, if a fold has a group or a row on both sides or a single
        class on one side, if a last step is not a dictionary, or if no step asks for
        metadata that were passed.

    Warns
    -----
    UserWarning
        If the mean of x is more than three times as long as its spread, where a
        reconstruction by the mean alone has a cosine of 0.95.

    See Also
    --------
    summary_table : Mean, standard deviation and interval of every measure.
    baseline_dictionaries : Dictionaries to compare with.
    pursuit_ablations : Variants of one pipeline.
    sweep_layers : Compares the embeddings of several layers.

    Notes
    -----
    Pipelines with equal steps before the dictionary share these steps, which are fitted
    once in every fold, or once for each seed if they have a `random_state`. Cosine and
    explained variance are measured after these steps: compare them only between
    dictionaries after the same steps, not between whitened and centred rows. `probe_x`
    and the measures of the codes can always be compared.

    The null permutes labels between rows of a batch. If all rows of a group have the
    same label (and batch), as tokens have the label of their image, it permutes whole
    groups, because their rows are not independent. Labels that differ inside an image
    are alike for neighbouring tokens: their null is too low without `grid_shape`, with
    which whole label maps are shifted.

    Frozen steps are not fitted in the folds, so their training rows may be among those
    held out. The measures of a frozen pipeline that has seen the rows of `X` are
    measures on training rows, and look better than those of a pipeline that is fitted
    in each fold. Pass rows that no frozen step has seen.

    Folds overlap in their training rows. The spread over runs is thus a spread over
    seeds and folds, not a confidence interval for new data; see :func:`summary_table`.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skdict import ICFL
    >>> from skdict.evaluation import baseline_dictionaries, compare_dictionaries
    >>> X, y = load_digits(return_X_y=True)
    >>> X, y = X[:300], y[:300]
    >>> baselines = baseline_dictionaries(64, 4)
    >>> runs = compare_dictionaries(
    ...     {"ICFL": ICFL(64, 4), "random atoms": baselines["random atoms"]},
    ...     X, y, cv=2, seeds=2, n_permutations=20,
    ... )
    >>> len(runs)  # 2 dictionaries x 2 folds x 2 seeds
    8
    >>> cosine = runs.groupby("dictionary")["cosine"].mean()
    >>> bool(cosine["ICFL"] > cosine["random atoms"] + 0.05)
    True
    """
    X = in_memory(X, "compare_dictionaries")
    table = Table.check({"X": X}, y, groups, control, batch, params, grid_shape)
    return compare(
        {name: ("X", estimator) for name, estimator in dictionaries.items()},
        table,
        folds=table.folds(cv),
        seeds=seeds,
        n_permutations=n_permutations,
        probe=probe,
        n_jobs=n_jobs,
        verbose=verbose,
    )


class Table(NamedTuple):
    """All rows, as one or several arrays by name, with their labels and metadata."""

    arrays: dict[str, Any]
    y: np.ndarray | None
    groups: np.ndarray | None
    params: dict[str, Any]
    grid_shape: tuple[int, int] | None = None  # of the tokens of an image

    @classmethod
    def check(
        cls,
        arrays: dict[str, Any],
        y: Data | None,
        groups: Data | None,
        control: Data | None,
        batch: Data | None,
        params: dict[str, Any] | None,
        grid_shape: Data | None = None,
    ) -> Self:
        if not arrays:
            raise ValueError("There is nothing to compare: the dict is empty.")
        given = {"control": control, "batch": batch}
        twice = {name for name in given if given[name] is not None} & set(params or {})
        if twice:
            raise ValueError(f"{sorted(twice)} are passed both by name and in params.")
        given = {k: v for k, v in (given | (params or {})).items() if v is not None}
        n_samples = num_samples(next(iter(arrays.values())))
        for name, value in [*arrays.items(), *given.items()]:
            if num_samples(value) != n_samples:
                raise ValueError(
                    f"{name} has {num_samples(value)} rows, but there are {n_samples}."
                )
        for name, check in (("control", as_mask), ("batch", as_labels)):
            if name in given:
                given[name] = check(given[name], name, n_samples)
        return cls(
            arrays,
            None if y is None else as_labels(y, "y", n_samples),
            None if groups is None else as_labels(groups, "groups", n_samples),
            given,
            None if grid_shape is None else _grid_of_rows(grid_shape, n_samples, batch),
        )

    def folds(self, cv: Any) -> list[tuple[np.ndarray, np.ndarray]]:
        """List the folds as indices, and check them."""
        X = next(iter(self.arrays.values()))
        target = self.y
        if isinstance(cv, Integral):
            if target is None:
                target = self.params.get("control")
            splitter = _splitter(cv, target is not None, self.groups is not None)
        else:
            splitter = check_cv(cv)
        folds = check_folds(splitter.split(X, target, self.groups), X.shape[0])
        for i, fold in enumerate(folds):
            self._check_fold(i, *fold)
        return folds

    def _check_fold(self, i: int, train: np.ndarray, test: np.ndarray) -> None:
        both = np.intersect1d(train, test)
        if both.size:
            raise ValueError(
                f"{both.size} rows are on both sides of fold {i} (the first is row "
                f"{both[0]}): they would not be held out."
            )
        if self.groups is not None:
            both = np.intersect1d(self.groups[train], self.groups[test])
            if both.size:
                raise ValueError(
                    f"{both.size} groups are on both sides of fold {i} (the first is "
                    f"{both[0]}): pass a splitter that keeps groups whole, such as "
                    "GroupKFold."
                )
        if self.grid_shape is not None:
            images = number_images(len(test), self.grid_shape, f"Fold {i} holds out ")
            n_tokens = len(test) // (images[-1] + 1)
            starts = test[::n_tokens]
            whole = starts[images] + np.arange(len(test)) % n_tokens
            if (starts % n_tokens).any() or not np.array_equal(test, whole):
                raise ValueError(
                    f"Fold {i} cuts images: with grid_shape all tokens of an image "
                    "must be held out together and in their order. Pass the image of "
                    "each row as groups."
                )
        if self.y is not None:
            for side, rows in (("trained on", train), ("held out", test)):
                classes = np.unique(self.y[rows])
                if len(classes) < 2:
                    raise ValueError(
                        f"The {len(rows)} rows {side} in fold {i} hold "
                        f"{len(classes)} classes, but at least 2 are needed: split "
                        "with StratifiedGroupKFold(...).split(X, y, groups), or with "
                        "StratifiedKFold(...).split(X, y) if there are no groups."
                    )

    def part(self, array: str, rows: np.ndarray) -> Part:
        def cut(values: Any) -> Any:
            return None if values is None else safe_indexing(values, rows)

        return Part(
            cut(self.arrays[array]),
            cut(self.y),
            cut(self.groups),
            {name: cut(value) for name, value in self.params.items()},
            self.grid_shape,
        )

    def subset(self, rows: np.ndarray) -> Table:
        """Make a table of some rows."""
        parts = {name: self.part(name, rows) for name in self.arrays}
        part = next(iter(parts.values()))
        arrays = {name: part.X for name, part in parts.items()}
        return Table(arrays, part.y, part.groups, part.params)


def compare(
    dictionaries: dict[str, Any],
    table: Table,
    *,
    folds: list[tuple[np.ndarray, np.ndarray]],
    seeds: int | Sequence[int] | None,
    n_permutations: int,
    probe: Any,
    n_jobs: int | None,
    verbose: int,
    key: str = "dictionary",
) -> pd.DataFrame:
    """Run dictionaries, each given by its name as (array, estimator)."""
    if not dictionaries:
        raise ValueError("There is nothing to compare: the dict is empty.")
    probe = _check_probe(probe, table.y)
    with config_context(enable_metadata_routing=True):
        _check_dictionaries(dictionaries, table.params)
        entries = list(_entries(dictionaries, seeds))
        with _progress(len(folds) * len(entries), verbose) as progress:
            runs = [
                {key: name, "seed": seed, "fold": i, "refitted": fitted} | figures
                for i, fold in enumerate(folds)
                for (name, seed, fitted), figures in _run_fold(
                    entries, table, fold, progress, n_permutations, probe, n_jobs
                )
            ]
    order = {name: place for place, name in enumerate(dictionaries)}
    runs.sort(key=lambda run: order[run[key]])
    # In the order of MEASURES, although the first run may lack some of them.
    measures = [name for name in MEASURES if any(name in run for run in runs)]
    made = pd.DataFrame(runs, columns=[key, "seed", "fold", "refitted", *measures])
    _warn_of_offset(made, key)
    return made


def _warn_of_offset(runs: pd.DataFrame, key: str) -> None:
    """Say that cosines tell little where the rows are far from zero."""
    ratios = runs.groupby(key, sort=False)["offset_ratio"].mean()
    far = ratios[ratios > _LARGE_OFFSET]
    if len(far):
        worst = far.max()
        warn(
            f"The mean of the rows that reach {list(far.index)} is up to {worst:.3g} "
            "times as long as their spread, so the mean row alone has a cosine of "
            f"{worst / np.hypot(1, worst):.3g} with them. Compare by explained "
            "variance, or subtract the mean first: ControlCenterScaler subtracts that "
            "of the controls."
        )


# The mean row then has a cosine of 0.95 with the rows.
_LARGE_OFFSET = 3


def list_seeds(seeds: Any) -> list[Any]:
    """List the seeds of the runs; [None] leaves every ``random_state`` as it is."""
    if seeds is None:
        return [None]
    values = list(range(seeds)) if isinstance(seeds, Integral) else list(seeds)
    if not values:
        raise ValueError("seeds is empty.")
    return values


class _Entry(NamedTuple):
    name: str
    seed: Any
    array: str
    steps: list[Any]
    dictionary: Any
    shared: tuple[Any, ...]  # equal for entries whose dictionaries get the same rows


def _entries(
    dictionaries: dict[str, Any], seeds: int | Sequence[int] | None
) -> Iterator[_Entry]:
    values = list_seeds(seeds)
    for name, (array, estimator) in dictionaries.items():
        for seed in values:
            random = False
            if seed is not None:
                estimator, random = seeded(estimator, seed)
            steps, dictionary = split_steps(estimator)
            shared = (array, identity_of(steps), _takes(steps, dictionary))
            yield _Entry(name, seed, array, steps, dictionary, shared)
            if not random:
                break


def _takes(steps: list[Any], dictionary: Any) -> bool | None:
    """Whether a frozen dictionary needs a DataFrame; None for other dictionaries."""
    return takes_frames(dictionary) if steps and is_frozen(dictionary) else None


def _run_fold(
    entries: list[_Entry],
    table: Table,
    fold: tuple[np.ndarray, np.ndarray],
    progress: Any,
    n_permutations: int,
    probe: Any,
    n_jobs: int | None,
) -> Iterator[tuple[tuple[str, Any, str], dict[str, float]]]:
    prepared, probed, offsets = {}, {}, {}
    for entry in entries:
        if entry.shared not in prepared:
            with _noted(f"in the steps before dictionary {entry.name!r}"):
                prepared[entry.shared] = prepare(
                    entry.steps,
                    entry.dictionary,
                    *(table.part(entry.array, rows) for rows in fold),
                )
    # By default joblib would give each process several threads.
    threads = {"backend": "loky", "inner_max_num_threads": 1}
    parallel = Parallel(
        n_jobs=n_jobs,
        return_as="generator",
        **(threads if n_jobs not in (None, 1) else {}),
    )
    if probe is not None:
        scores = parallel(
            delayed(measure_probe)(probe, *parts) for parts in prepared.values()
        )
        probed = dict(zip(prepared, scores, strict=True))
    measured = parallel(
        delayed(_measure)(entry, *prepared[entry.shared], probe, n_permutations)
        for entry in entries
    )
    for entry, figures in zip(entries, measured, strict=True):
        # After the dictionary, whose errors name it; once for all that get these rows.
        if entry.shared not in offsets:
            offsets[entry.shared] = offset_ratio(prepared[entry.shared][1].X)
        figures["offset_ratio"] = offsets[entry.shared]
        if probe is not None:
            figures["probe_x"] = probed[entry.shared]
        progress.update()
        yield (
            (entry.name, entry.seed, refitted([*entry.steps, entry.dictionary])),
            {name: figures[name] for name in MEASURES if name in figures},
        )


def _measure(
    entry: _Entry, train: Part, test: Part, probe: Any, n_permutations: int
) -> dict[str, float]:
    with _noted(f"in dictionary {entry.name!r}, seed {entry.seed}"):
        return measure_dictionary(
            entry.dictionary,
            train,
            test,
            probe=probe,
            n_permutations=n_permutations,
            seed=entry.seed,
        )


MEASURES = (
    "offset_ratio",
    "cosine",
    "explained_variance",
    "l0",
    "dead_fraction",
    "coherence",
    "mean_coherence",
    "average_selectivity",
    "average_selectivity_null",
    "average_selectivity_p",
    "maximum_selectivity",
    "maximum_selectivity_null",
    "maximum_selectivity_p",
    "probe_x",
    "probe_codes",
    "probe_reconstruction",
    "fit_seconds",
    "encode_seconds",
)


@contextmanager
def _noted(where: str) -> Iterator[None]:
    """Add a note to an error that says which fit raised it."""
    try:
        yield
    except Exception as error:
        error.add_note(f"Raised {where}.")
        raise


def _progress(total: int, verbose: int) -> Any:
    return tqdm(total=total, disable=not verbose, desc="comparison", unit="run")


def _check_probe(probe: Any, y: Any) -> Any:
    if y is None:
        return None
    return make_linear_probe() if probe is None else probe


def _check_dictionaries(dictionaries: dict[str, Any], params: dict[str, Any]) -> None:
    asked_for = set()
    for name, (_, estimator) in dictionaries.items():
        if isinstance(estimator, type):
            raise TypeError(
                f"{name!r} is the class {estimator.__name__}; pass an instance of it."
            )
        _, last = split_steps(estimator)
        if is_regressor(unfrozen(last)):
            raise ValueError(
                f"The last step of {name!r} is {last!r}, which rebuilds targets and no "
                "rows: it cannot be compared with dictionaries."
            )
        for method in ("fit", "transform", "inverse_transform"):
            if not hasattr(last, method):
                raise ValueError(
                    f"The last step of {name!r} is {last!r}, which has no {method}: "
                    "a dictionary is needed, for instance ICFL, TopKSAE or PCA."
                )
        asked_for |= requested(estimator, params)
    # The null uses the batch too.
    idle = set(params) - asked_for - {"batch"}
    if idle:
        raise ValueError(
            f"No step of any dictionary asks for {sorted(idle)}. A step asks through "
            "metadata routing, for instance StandardScaler(with_std=False)"
            ".set_fit_request(sample_weight='control'); ControlPCAWhitener asks for "
            "control by itself. A step in a FrozenEstimator is not fitted and asks for "
            "nothing."
        )


def _splitter(n_splits: Any, stratified: bool, grouped: bool) -> Any:
    if grouped:
        return StratifiedGroupKFold(n_splits) if stratified else GroupKFold(n_splits)
    splitter = StratifiedKFold if stratified else KFold
    return splitter(n_splits, shuffle=True, random_state=0)


def _grid_of_rows(
    grid_shape: Data, n_samples: int, batch: Data | None
) -> tuple[int, int]:
    """Check the grid against the rows and the batches."""
    grid_shape = check_grid_shape(grid_shape)
    number_images(n_samples, grid_shape)
    if batch is not None and not is_of_images(as_labels(batch, "batch"), grid_shape):
        raise ValueError(
            "batch differs inside an image. With grid_shape the labels of an image are "
            "shifted over all of its tokens, so they cannot stay inside batches."
        )
    return grid_shape
