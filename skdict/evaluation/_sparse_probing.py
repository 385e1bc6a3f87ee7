"""Probes on the few best features."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.utils import check_random_state
from sklearn.utils.parallel import Parallel, delayed
from tqdm import tqdm

from skdict._utils.constraints import Interval
from skdict._utils.sklearn_private import HasMethods, validate_params
from skdict._utils.types import Codes, Data, Seed
from skdict._utils.warn import warn
from skdict.metrics import auroc_scores, make_linear_probe
from skdict.stats import (
    ROUNDING,
    Exchange,
    balanced_accuracy,
    check_codes,
    encode_classes,
    permutation_p_value,
)

from ._comparison import Table
from ._measures import Part, exchange_of
from ._ranking import RANKING_CONSTRAINT, Ranker

_MEASURES = ("balanced_accuracy", "auroc")


@validate_params(
    {
        "codes": ["array-like", "sparse matrix"],
        "y": ["array-like"],
        "X": ["array-like", "sparse matrix", None],
        "n_features": ["array-like"],
        "ranking": RANKING_CONSTRAINT,
        "groups": ["array-like", None],
        "batch": ["array-like", None],
        "grid_shape": ["array-like", None],
        "cv": ["cv_object"],
        "probe": [HasMethods(["fit", "predict"]), None],
        "n_permutations": [Interval(Integral, 0, None, closed="left")],
        "random_state": ["random_state"],
        "n_jobs": [Interval(Integral, None, None, closed="neither"), None],
        "verbose": ["verbose"],
    },
    prefer_skip_nested_validation=True,
)
def sparse_probing(
    codes: Codes,
    y: Data,
    *,
    X: Data | None = None,
    n_features: Sequence[int] = (1, 2, 5, 10, 20, 50, 100),
    ranking: Any = "f_statistic",
    groups: Data | None = None,
    batch: Data | None = None,
    grid_shape: Data | None = None,
    cv: Any = 5,
    probe: Any = None,
    n_permutations: int = 100,
    random_state: Seed = None,
    n_jobs: int | None = None,
    verbose: int = 0,
) -> pd.DataFrame:
    r"""Score probes that read only the few best features.

    If single features stand for the classes, a probe on few of them is nearly as good
    as one on all. In each fold the features are ranked on the training rows, a probe is
    fitted there on the best of them, and the rows that are held out score it. Probes
    on all features and on the embedding stand beside them.

    Parameters
    ----------
    codes : {array-like, sparse matrix or array} of shape (n_samples, n_components)
        Codes of the samples, from a dictionary that was not trained on the classes. A
        sparse input is never densified as a whole.

    y : array-like of shape (n_samples,)
        Classes.

    X : {array-like, sparse matrix} of shape (n_samples, n_features), default=None
        The embedding of the samples, for the probe to compare with. None omits it.

    n_features : list of int, default=(1, 2, 5, 10, 20, 50, 100)
        Numbers of best features. Those above `n_components` are left out.

    ranking : {"f_statistic", "mean_difference"} or classifier, default="f_statistic"
        What makes a feature good, on the training rows:

        - "f_statistic": the F statistic of the analysis of variance, for any number
          of classes.
        - "mean_difference": the largest difference, over the classes, between the mean
          of the class and that of all other rows. Features with large codes come
          first.
        - a classifier: the sum over the classes of the absolute coefficients, or the
          importances. It is fitted to all features, for each permutation again.

    groups : array-like of shape (n_samples,), default=None
        Rows that belong together, for instance the tokens of an image. No group may
        be on both sides of a fold.

    batch : array-like of shape (n_samples,), default=None
        Experimental batches: labels are permuted only inside them.

    grid_shape : tuple of int (height, width), default=None
        The grid of an image's tokens, for labels that differ inside images, as in
        :func:`compare_dictionaries`: the label map of each image is shifted.

    cv : int, splitter or iterable of (train, test), default=5
        Folds, as in :func:`compare_dictionaries`.

    probe : classifier, default=None
        It must have `decision_function` or `predict_proba`. None means
        :func:`~skdict.metrics.make_linear_probe`.

    n_permutations : int, default=100
        Number of permutations for the null; 0 omits it. In each of them the labels are
        permuted, and in every fold the features are ranked anew and the probes fitted
        anew.

    random_state : int, RandomState instance or None, default=None
        Seed of the permutations.

    n_jobs : int, default=None
        Number of processes over which the permutations are spread.

    verbose : int, default=0
        Whether to show a progress bar.

    Returns
    -------
    runs : DataFrame
        One row for each probe and fold. Columns:

        - `input`: what the probe reads: "best features", "codes" for all of them, or
          "x".
        - `n_features`: number of columns that it reads.
        - `fold`: number of the fold.
        - `balanced_accuracy`: mean over the classes of the recall, on held-out rows.
        - `auroc`: mean over the classes of the area under the ROC curve of the probe's
          score for the class against all other rows; 0.5 for a class without training
          rows.
        - `balanced_accuracy_null`, `auroc_null`: the 95 % quantile of the same under
          permuted labels, in this fold.
        - `balanced_accuracy_p`, `auroc_p`: p-value of the mean over the folds, the same
          for all folds.

        The last four are NaN for the probes on all features and on x, which select
        nothing; chance is ``1 / n_classes`` and 0.5 for them.

    Raises
    ------
    ValueError
        If lengths differ, if codes hold NaN or infinity, if a fold has a group or a
        single class on one side, or if no entry of `n_features` is possible.

    Warns
    -----
    UserWarning
        If no labels can be permuted.

    See Also
    --------
    discovery_yield : How many of the first features one would look at are concepts.
    skdict.inspection.SparseProbingDisplay : Draws the table.
    compare_dictionaries : Probes on all features, over folds and seeds.

    Notes
    -----
    The protocol is that of Gurnee et al. [1]_ and Kantamneni et al. [2]_, who rank by
    the mean difference of two classes. With several classes one set of features is
    chosen for all of them by the F statistic,

    .. math::

        F_f = \frac{\sum_c n_c (\bar z_{cf} - \bar z_f)^2 / (C - 1)}
                   {\sum_c \sum_{i \in c} (z_{if} - \bar z_{cf})^2 / (n - C)}.

    The best of thousands of features separate the training rows by chance. The null
    repeats this choice. Labels are permuted inside batches, and by whole groups where
    the rows of a group share their label, as in :func:`compare_dictionaries`; where
    there are neither, inside the folds. All folds share a permutation, because their
    scores are not independent: a feature that goes with the labels by chance does so in
    several folds. A p-value is ``(1 + #{null >= score}) / (1 + n_permutations)``, of
    the mean over the folds.

    Kantamneni et al. find that probes on sparse codes seldom beat a logistic regression
    on the embedding: pass `X`.

    References
    ----------
    .. [1] W. Gurnee et al. "Finding neurons in a haystack: case studies with sparse
       probing." TMLR 2023. arXiv:2305.01610.
    .. [2] S. Kantamneni et al. "Are sparse autoencoders useful? A case study in sparse
       probing." ICML 2025. arXiv:2502.16681.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skdict import ICFL
    >>> from skdict.evaluation import sparse_probing
    >>> X, y = load_digits(return_X_y=True)
    >>> codes = ICFL(64, 4, max_iter=5, random_state=0).fit(X[900:]).transform(X[:900])
    >>> runs = sparse_probing(
    ...     codes, y[:900], X=X[:900], n_features=[1, 10], cv=2, n_permutations=0
    ... )
    >>> means = runs.groupby(["input", "n_features"])["balanced_accuracy"].mean()
    >>> bool(means["best features", 1] < means["best features", 10] < means["x", 64])
    True
    """
    codes = check_codes(codes)
    inputs = {"codes": codes}
    if X is not None:
        inputs["x"] = check_codes(X, "X")
    table = Table.check(
        {"codes": codes} | inputs, y, groups, None, batch, None, grid_shape
    )
    sizes = check_sizes(n_features, "n_features", codes.shape[1])
    folds = table.folds(cv)
    probe = _check_probe(make_linear_probe() if probe is None else probe)
    rng = check_random_state(random_state)

    parallel = Parallel(n_jobs=n_jobs, return_as="generator")
    bar = tqdm(
        total=len(folds) * (1 + n_permutations),
        disable=not verbose,
        desc="sparse probing",
        unit="labelling",
    )
    classes, labels = encode_classes(table.y, codes.shape[0])
    exchange = _exchange(table, labels, folds)
    if n_permutations and not exchange.moved(labels).any():
        warn(
            "No batch holds samples of two classes: permuting y inside the batches "
            "changes nothing, so nothing is tested."
        )
    small = labels.astype(np.min_scalar_type(len(classes)))
    labellings = [small, *exchange.permuted(small, n_permutations, rng)]
    drawn, lines = [], []
    with bar:
        for rows in folds:
            train, test = (table.part("codes", side).X for side in rows)
            fold = _Fold(train, test, Ranker(train, ranking), probe, sizes)
            given = ([classes[ids[side]] for side in rows] for ids in labellings)
            of_fold = []
            for figures in parallel(delayed(fold.score)(*y) for y in given):
                of_fold.append(figures)
                bar.update()
            drawn.append(of_fold)
            lines.append(
                [
                    score_probe(probe, *(table.part(name, side) for side in rows))
                    for name in inputs
                ]
            )
    scores = np.array(drawn)  # (n_folds, 1 + n_permutations, n_sizes, n_measures)
    found = _frame(scores[:, 0], "best features", sizes)
    if n_permutations:
        null = np.quantile(scores[:, 1:], 0.95, axis=1)
        means = scores.mean(axis=0)
        p_values = permutation_p_value(means[1:], means[0], ROUNDING)
        for i, measure in enumerate(_MEASURES):
            found[f"{measure}_null"] = null[:, :, i].ravel()
        for i, measure in enumerate(_MEASURES):
            found[f"{measure}_p"] = np.tile(p_values[:, i], len(folds))
    beside = [
        _frame(np.array(lines)[:, [i]], name, [array.shape[1]])
        for i, (name, array) in enumerate(inputs.items())
    ]
    runs = pd.concat([found, *beside], ignore_index=True)
    order = {name: place for place, name in enumerate(["best features", *inputs])}
    return runs.sort_values(
        ["input", "n_features", "fold"],
        key=lambda column: column.map(order) if column.name == "input" else column,
        kind="stable",
        ignore_index=True,
    )


class _Fold(NamedTuple):
    train: Codes
    test: Codes
    ranker: Ranker
    probe: Any
    sizes: list[int]

    def score(self, y_train: np.ndarray, y_test: np.ndarray) -> np.ndarray:
        """Score the probes of each size for some labels."""
        labels = np.unique(y_train, return_inverse=True)[1]
        best = self.ranker.order(labels)[: max(self.sizes)]
        train, test = self.train[:, best], self.test[:, best]
        figures = [
            score_probe(
                self.probe,
                Part(train[:, :size], y_train, None, {}),
                Part(test[:, :size], y_test, None, {}),
            )
            for size in self.sizes
        ]
        return np.array(figures)


def score_probe(probe: Any, train: Part, test: Part) -> tuple[float, float]:
    """Balanced accuracy and mean area under the ROC curve of a probe, on one part."""
    known = np.unique(train.y)
    if len(known) == 1:  # of permuted labels, for which there is nothing to learn
        return balanced_accuracy(test.y, np.repeat(known, len(test.y))), 0.5
    fitted = clone(probe).fit(train.X, train.y)
    accuracy = balanced_accuracy(test.y, fitted.predict(test.X))
    # The probabilities of two classes may all be rounded to 1; the margins are not.
    two = len(fitted.classes_) == 2
    methods = ["predict_proba", "decision_function"]
    methods = [m for m in (methods[::-1] if two else methods) if hasattr(fitted, m)]
    scores = np.asarray(getattr(fitted, methods[0])(test.X))
    if scores.ndim == 1:
        scores = np.column_stack([-scores, scores])
    classes = np.unique(test.y)
    areas = np.full(len(classes), 0.5)
    found = np.isin(classes, fitted.classes_)
    if found.any() and len(classes) > 1:
        places = np.searchsorted(fitted.classes_, classes[found])
        of_pairs = auroc_scores(scores[:, places], test.y)
        areas[found] = of_pairs[np.arange(len(places)), np.flatnonzero(found)]
    return accuracy, float(areas.mean())


def check_sizes(values: Any, name: str, largest: int) -> list[int]:
    """Check a list of positive whole numbers, and drop those that are too large."""
    sizes = np.asarray(values)
    if sizes.ndim != 1 or sizes.dtype.kind not in "iu" or (sizes < 1).any():
        raise ValueError(f"{name} must be a list of positive integers, got {values!r}.")
    possible = np.unique(sizes[sizes <= largest]).tolist()
    if not possible:
        raise ValueError(
            f"No entry of {name} is possible, because there are only {largest} "
            f"features: got {values!r}."
        )
    return possible


def _exchange(
    table: Table, labels: np.ndarray, folds: list[tuple[np.ndarray, np.ndarray]]
) -> Exchange:
    """Decide how labels are permuted, the same for all folds."""
    exchange = exchange_of(
        Part(None, table.y, table.groups, table.params, table.grid_shape), labels
    )
    held_out = [test for _, test in folds]
    is_partition = np.array_equal(np.sort(np.concatenate(held_out)), range(len(labels)))
    if exchange.by_rows and "batch" not in table.params and is_partition:
        # Inside the folds, so that they stay stratified.
        fold_ids = np.empty(len(labels), dtype=np.intp)
        for i, test in enumerate(held_out):
            fold_ids[test] = i
        return Exchange(fold_ids)
    return exchange


def _check_probe(probe: Any) -> Any:
    if not (hasattr(probe, "predict_proba") or hasattr(probe, "decision_function")):
        raise ValueError(
            f"probe must have predict_proba or decision_function for the area under "
            f"the ROC curve, which {probe!r} has not."
        )
    return probe


def _frame(scores: np.ndarray, name: str, sizes: list[int]) -> pd.DataFrame:
    """Tidy scores of shape (n_folds, n_sizes, n_measures)."""
    n_folds = len(scores)
    columns = {
        "input": name,
        "n_features": np.tile(sizes, n_folds),
        "fold": np.repeat(np.arange(n_folds), len(sizes)),
    }
    return pd.DataFrame(
        columns | {m: scores[:, :, i].ravel() for i, m in enumerate(_MEASURES)}
    )
