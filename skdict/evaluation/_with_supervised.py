"""Comparison of dictionaries with a supervised one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.base import clone
from sklearn.utils import check_random_state
from tqdm import tqdm

from skdict._utils.checks import as_floats, check_finite, check_numbers
from skdict._utils.constraints import Interval
from skdict._utils.sklearn_private import HasMethods, StrOptions, validate_params
from skdict._utils.steps import encode
from skdict._utils.types import Codes, Data, Seed
from skdict.metrics import explained_variance, make_linear_probe, reconstruction_cosine
from skdict.stats import (
    balanced_accuracy,
    check_codes,
    count_active,
    find_active,
    run_label_tests,
    total_active,
)

from ._comparison import Table
from ._measures import Part, decoded_atoms, exchange_of
from ._sparse_probing import check_sizes
from ._supervised import SupervisedDictionary, check_attributes

_SUPERVISED = "supervised"
# False discovery rate among the features that are precise for a value.
_ALPHA = 0.05


class SupervisedComparison(NamedTuple):
    """The tables of :func:`compare_with_supervised`.

    Attributes
    ----------
    approximation : DataFrame
        One row for each dictionary, fold and attribute.
    control : DataFrame
        One row for each dictionary, fold, attribute and number of edited features.
    interpretability : DataFrame
        One row for each dictionary, fold, attribute and value.
    """

    approximation: pd.DataFrame
    control: pd.DataFrame
    interpretability: pd.DataFrame


@validate_params(
    {
        "dictionaries": [dict],
        "X": ["array-like"],
        "attributes": [dict, "array-like"],
        "estimate": [StrOptions({"mean", "least_squares"})],
        "head": [HasMethods(["fit", "predict"]), dict, None],
        "n_features": ["array-like"],
        "n_pairs": [Interval(Integral, 1, None, closed="left")],
        "min_precision": [Interval(Real, 0, 1, closed="right")],
        "groups": ["array-like", None],
        "cv": ["cv_object"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    },
    prefer_skip_nested_validation=True,
)
def compare_with_supervised(
    dictionaries: dict[str, Any],
    X: Data,
    attributes: Data,
    *,
    estimate: str = "mean",
    head: Any = None,
    n_features: Sequence[int] = (1, 2, 5, 10, 20),
    n_pairs: int = 100,
    min_precision: float = 0.8,
    groups: Data | None = None,
    cv: Any = 5,
    random_state: Seed = None,
    verbose: int = 0,
) -> SupervisedComparison:
    r"""Compare dictionaries with one that is made of known attributes of the rows.

    Where attributes of the rows are known, the supervised dictionary of them shows what
    can be reached with one feature for each value. The dictionaries are compared with
    it on approximation, control and interpretability.

    Parameters
    ----------
    dictionaries : dict of str to estimator
        Fitted dictionaries, with `transform` and a linear `inverse_transform`. They are
        not fitted again.

    X : array-like of shape (n_samples, n_features)
        Rows, as the dictionaries take them. If there are steps before them, for
        instance ``pipeline[:-1].transform(X)``. Best are rows that the dictionaries
        have not seen.

    attributes : dict of array-like of shape (n_samples,) or DataFrame
        The name of each attribute and its values in the rows. An attribute has at
        least two values.

    estimate : {"mean", "least_squares"}, default="mean"
        How the atoms of :class:`SupervisedDictionary` are found. "least_squares" suits
        attributes that go together.

    head : classifier, dict of str to classifier or None, default=None
        What reads an attribute from rows. It is fitted for each attribute on the
        training rows, unless it is a :class:`~sklearn.frozen.FrozenEstimator`. A dict
        gives one for each attribute. None means
        :func:`~skdict.metrics.make_linear_probe`.

    n_features : list of int, default=(1, 2, 5, 10, 20)
        Numbers of features that an edit may change.

    n_pairs : int, default=100
        Number of held-out rows that are edited, for each attribute and fold.

    min_precision : float, default=0.8
        A feature is precise for a value if at least this fraction of the training rows
        in which it is active have the value.

    groups : array-like of shape (n_samples,), default=None
        Rows that belong together. No group may be on both sides of a fold.

    cv : int, splitter or iterable of (train, test), default=5
        Folds, stratified by the first attribute. Supervised dictionary, heads and the
        choice of features see training rows only.

    random_state : int, RandomState instance or None, default=None
        Seed of the rows that are edited and of the random features.

    verbose : int, default=0
        Whether to show a progress bar.

    Returns
    -------
    result : SupervisedComparison
        A named tuple of three tables. All of them name `dictionary`, `fold` and
        `attribute`, and all figures are of held-out rows. `approximation` and `control`
        have the rows "supervised".

        `approximation`:

        - `explained_variance`, `cosine`: of the rows, the same for all attributes.
        - `magnitude`: fraction of the variance of the rows that lies between the means
          of the attribute's values.
        - `recovered`: how much of these differences of means the reconstruction keeps,
          at most 1; negative if it distorts them.
        - `head_x`, `head_reconstruction`: balanced accuracy of the head on the rows and
          on their reconstructions.

        `control`, with `n_features` from 0, the row without an edit:

        - `success`: fraction of the edited rows for which the head reads the new value.
        - `success_random`: the same for as many random features of the same choice.
        - `others_kept`: fraction of what the heads of the other attributes read that
          the edit does not change; NaN if there is a single attribute.
        - `distance`: mean distance from the row as edited by the supervised
          dictionary, in units of that edit.

        The supervised dictionary changes two features, one for the old value and one
        for the new.

        `interpretability`, also with the `value`:

        - `best_feature`: the feature whose activity detects the value best, by F1 on
          the training rows, and `f1` of it on the held-out rows.
        - `f1_always`: F1 of the answer that all rows have the value.
        - `best_of`: the attribute of which this feature detects a value best. If it is
          another one, the value is occluded by that attribute.
        - `n_precise`: number of features that are precise for the value and selective
          for it beyond chance, on the training rows.
        - `recall_best`, `recall_all`: fraction of the rows with the value in which the
          best of these is active, and in which any of them is.
        - `n_effective`: effective number of these features, by how many rows each of
          them is active in: 1 if one does all the work, many if the value is split over
          many features. 0 without any.

    Raises
    ------
    ValueError
        If lengths differ, if attributes are missing or have a single value in a fold,
        or if a dictionary gives or takes rows of another shape.

    See Also
    --------
    SupervisedDictionary : The yardstick.
    sparse_probing : How well few features tell classes apart.
    compare_dictionaries : Comparison without attributes to edit.

    Notes
    -----
    The framework is that of Makelov et al. [1]_, who edit pairs of prompts that differ
    in one attribute only. Rows of a screen have no such counterparts, so the aim of an
    edit from value :math:`v` to :math:`v'` is that of the supervised dictionary,
    :math:`w = u_{v'} - u_v`. For a row :math:`s`, a row :math:`t` with the new value is
    drawn among those that agree with it in most of the other attributes. The edit moves
    some features :math:`S` from their codes in :math:`s` to those in :math:`t`, and
    keeps what the reconstruction lacks,

    .. math::

        x_s + \sum_{f \in S} (z_{tf} - z_{sf}) d_f .

    As in the paper, :math:`S` is chosen greedily: each feature is the one that reduces
    the distance to :math:`x_s + w` most, or, if none does, each pair. Nothing more is
    changed if no pair does either. The random features are drawn from the same
    candidates, those that differ between the rows.

    The supervised dictionary knows the attributes of the held-out rows. If the head
    cannot read an attribute from rows (`head_x` is near chance), the atoms of its
    values are chance differences of the training rows, `recovered` is negative, and the
    figures of approximation and control say nothing about this attribute.

    *Occlusion* and *over-splitting* are the paper's two failures. An attribute is
    occluded if a feature that the attribute shares with a stronger one is the best that
    there is: the head reads it well (`head_x`), its `magnitude` is small, and `best_of`
    names another attribute. A value is over-split if `recall_best` is far below
    `recall_all` and `n_effective` is large. F1 of a feature is
    :math:`2 TP / (2 TP + FP + FN)` of its activity.

    References
    ----------
    .. [1] A. Makelov, G. Lange, N. Nanda. "Towards principled evaluations of sparse
       autoencoders for interpretability and control." 2024. arXiv:2405.08366.

    Examples
    --------
    >>> import numpy as np
    >>> from skdict import ICFL
    >>> from skdict.evaluation import compare_with_supervised
    >>> rng = np.random.default_rng(0)
    >>> shape, size = rng.integers(0, 3, 300), rng.integers(0, 2, 300)
    >>> X = np.eye(8)[shape] + 2 * np.eye(8)[3 + size] + 0.1 * rng.normal(size=(300, 8))
    >>> icfl = ICFL(16, 2, random_state=0).fit(X)
    >>> result = compare_with_supervised(
    ...     {"ICFL": icfl}, X, {"shape": shape, "size": size}, cv=2, random_state=0
    ... )
    >>> of_two = result.control.query("n_features == 2").groupby("dictionary")
    >>> of_two["success"].mean()["supervised"].item()
    1.0
    """
    if not dictionaries or _SUPERVISED in dictionaries:
        raise ValueError(
            f"dictionaries must name at least one dictionary, and none {_SUPERVISED!r}."
        )
    X = check_numbers(X, ensure_all_finite=False, input_name="X")
    check_finite(X, "X")
    columns = check_attributes(attributes, len(X))
    heads = {name: _head_of(head, name) for name in columns}
    rng = check_random_state(random_state)
    first = next(iter(columns.values()))
    table = Table.check({"X": X}, first, groups, None, None, None)
    folds = table.folds(cv)
    for i, fold in enumerate(folds):
        _check_values(columns, fold, i)
    views = [_View.of(name, one, X) for name, one in dictionaries.items()]
    sizes = [0, *check_sizes(n_features, "n_features", max(v.width for v in views))]

    approximation: list[dict[str, Any]] = []
    control: list[dict[str, Any]] = []
    interpretability: list[dict[str, Any]] = []
    bar = tqdm(
        total=len(folds) * len(views),
        disable=not verbose,
        desc="with supervised",
        unit="dictionary",
    )
    with bar:
        for i, (train, test) in enumerate(folds):
            own = {name: column[train] for name, column in columns.items()}
            new = {name: column[test] for name, column in columns.items()}
            supervised = SupervisedDictionary(estimate=estimate).fit(X[train], own)
            fitted = {
                name: clone(one).fit(X[train], own[name]) for name, one in heads.items()
            }
            truth = _View(
                _SUPERVISED,
                check_codes(supervised.transform(columns)),
                np.asarray(supervised.inverse_transform(supervised.transform(columns))),
                supervised.components_,
            )
            pairs = {name: _draw_pairs(new, name, n_pairs, rng) for name in new}
            rows = table.part("X", train)
            for view in (truth, *views):
                place = {"dictionary": view.name, "fold": i}
                approximation += [
                    place | row
                    for row in _approximation(X[test], view.X_hat[test], new, fitted)
                ]
                control += [
                    place | row
                    for row in _control(
                        X[test],
                        view.codes[test],
                        view.atoms,
                        new,
                        fitted,
                        supervised,
                        pairs,
                        [0, 1, 2] if view is truth else sizes,
                        rng,
                    )
                ]
                if view is truth:
                    continue
                interpretability += [
                    place | row
                    for row in _interpretability(
                        view.codes, train, test, columns, rows, min_precision
                    )
                ]
                bar.update()
    tables = (approximation, control, interpretability)
    return SupervisedComparison(*map(_ordered, tables))


class _View(NamedTuple):
    """What a dictionary makes of all rows."""

    name: str
    codes: Codes
    X_hat: np.ndarray
    atoms: np.ndarray

    @property
    def width(self) -> int:
        return self.codes.shape[1]

    @classmethod
    def of(cls, name: str, dictionary: Any, X: np.ndarray) -> _View:
        codes = encode(dictionary, X)
        X_hat = np.asarray(dictionary.inverse_transform(codes))
        if X_hat.shape != X.shape:
            raise ValueError(
                f"{name!r} rebuilds rows of shape {X_hat.shape[1:]}, but those of X "
                f"have {X.shape[1:]}."
            )
        atoms = decoded_atoms(dictionary, codes)
        return cls(
            name, as_floats(check_codes(codes)), X_hat, np.asarray(atoms, np.float64)
        )


# The three axes


def _approximation(
    X: np.ndarray,
    X_hat: np.ndarray,
    attributes: dict[str, np.ndarray],
    heads: dict[str, Any],
) -> Iterator[dict[str, Any]]:
    overall = {
        "explained_variance": explained_variance(X, X_hat),
        "cosine": reconstruction_cosine(X, X_hat),
    }
    total = np.square(X - X.mean(axis=0)).sum()
    for name, column in attributes.items():
        ids = np.unique(column, return_inverse=True)[1]
        sizes = np.bincount(ids)
        means, means_hat = (_means(rows, ids, sizes) for rows in (X, X_hat))
        between = sizes @ np.square(means).sum(axis=1)
        lost = sizes @ np.square(means_hat - means).sum(axis=1)
        yield {
            "attribute": name,
            **overall,
            "magnitude": between / total if total > 0 else 0.0,
            "recovered": 1 - lost / between if between > 0 else float(lost == 0),
            "head_x": balanced_accuracy(column, heads[name].predict(X)),
            "head_reconstruction": balanced_accuracy(
                column, heads[name].predict(X_hat)
            ),
        }


def _control(
    X: np.ndarray,
    codes: Codes,
    atoms: np.ndarray,
    attributes: dict[str, np.ndarray],
    heads: dict[str, Any],
    supervised: SupervisedDictionary,
    pairs: dict[str, tuple[np.ndarray, np.ndarray]],
    sizes: list[int],
    rng: np.random.RandomState,
) -> Iterator[dict[str, Any]]:
    before = {name: head.predict(X) for name, head in heads.items()}
    for name, column in attributes.items():
        sources, targets = pairs[name]
        aims = _aims(supervised, name, column[sources], column[targets])
        # By the greedy and by the random choice.
        shifts = np.zeros((2, len(sizes), *aims.shape))
        for j, (s, t) in enumerate(zip(sources, targets, strict=True)):
            changes, features = _change(codes, s, t)
            parts = changes[:, None] * atoms[features]
            chosen, ends = _greedy(parts, aims[j], max(sizes))
            # A random choice has as many features as the greedy one.
            drawn = rng.permutation(len(features))[: len(chosen)]
            for k, order in enumerate((chosen, drawn)):
                moved = np.vstack([np.zeros_like(aims[:1]), parts[order]]).cumsum(
                    axis=0
                )
                for i, size in enumerate(sizes):
                    n_taken = max(end for end in ends if end <= size)
                    shifts[k, i, j] = moved[n_taken]
        lengths = np.linalg.norm(aims, axis=1)
        lengths = np.where(lengths > 0, lengths, 1.0)
        others = [other for other in attributes if other != name]
        for i, size in enumerate(sizes):
            edited, at_random = (X[sources] + shift[i] for shift in shifts)
            kept = [
                np.mean(heads[other].predict(edited) == before[other][sources])
                for other in others
            ]
            success, success_random = (
                float(np.mean(heads[name].predict(rows) == column[targets]))
                for rows in (edited, at_random)
            )
            distances = np.linalg.norm(shifts[0, i] - aims, axis=1) / lengths
            yield {
                "attribute": name,
                "n_features": size,
                "success": success,
                "success_random": success_random,
                "others_kept": float(np.mean(kept)) if others else np.nan,
                "distance": float(distances.mean()),
            }


def _interpretability(
    codes: Codes,
    train: np.ndarray,
    test: np.ndarray,
    attributes: dict[str, np.ndarray],
    rows: Part,
    min_precision: float,
) -> Iterator[dict[str, Any]]:
    active: Any = find_active(codes[train], 0.0)
    new_active: Any = find_active(codes[test], 0.0)
    detectors = {
        name: _Detectors.of(active, column[train])
        for name, column in attributes.items()
    }
    # The attribute of which each feature detects a value best.
    best = np.array([found.f1.max(axis=0) for found in detectors.values()])
    names = [*attributes]
    best_of = best.argmax(axis=0)
    for name, column in attributes.items():
        found, new = detectors[name], _Detectors.of(new_active, column[test])
        exchange = exchange_of(rows._replace(y=column[train]), found.labels)
        tests = run_label_tests(active, found.labels, exchange)
        for i, value in enumerate(found.values):
            at = np.flatnonzero(new.values == value)
            if not at.size:
                continue  # nothing to judge it by
            feature = int(found.f1[i].argmax())
            is_value = column[test] == value
            fraction = is_value.mean()
            precise = np.flatnonzero(
                (found.precision[i] >= min_precision) & (tests.q_values[i] <= _ALPHA)
            )
            recall = new.recall[at[0], precise]
            squares = np.square(recall).sum()
            first = precise[found.recall[i, precise].argmax()] if precise.size else None
            any_active = _any_active(new_active, precise, is_value)
            yield {
                "attribute": name,
                "value": value,
                "best_feature": feature,
                "f1": new.f1[at[0], feature],
                "f1_always": 2 * fraction / (1 + fraction),
                "best_of": names[best_of[feature]],
                "n_precise": len(precise),
                "recall_best": 0.0 if first is None else new.recall[at[0], first],
                "recall_all": any_active,
                "n_effective": recall.sum() ** 2 / squares if squares > 0 else 0.0,
            }


class _Detectors(NamedTuple):
    """The activity of each feature as a detector of each value, (n_values, n)."""

    values: np.ndarray
    labels: np.ndarray
    f1: np.ndarray
    precision: np.ndarray
    recall: np.ndarray

    @classmethod
    def of(cls, active: sparse.csr_array, column: np.ndarray) -> _Detectors:
        values, labels = np.unique(column, return_inverse=True)
        hits = count_active(active, labels, len(values)).astype(np.float64)
        fired, sizes = total_active(active), np.bincount(labels)[:, None]
        return cls(
            values,
            labels,
            2 * hits / (fired + sizes),
            hits / np.maximum(fired, 1),
            hits / sizes,
        )


# Edits


def _draw_pairs(
    attributes: dict[str, np.ndarray],
    name: str,
    n_pairs: int,
    rng: np.random.RandomState,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw rows, and for each a row with another value that is like it otherwise."""
    values, ids = np.unique(attributes[name], return_inverse=True)
    sources = rng.choice(len(ids), n_pairs)
    wanted = (ids[sources] + rng.randint(1, len(values), n_pairs)) % len(values)
    targets = np.empty(n_pairs, dtype=np.intp)
    for j, (source, value) in enumerate(zip(sources, wanted, strict=True)):
        rows = np.flatnonzero(ids == value)
        alike = np.zeros(len(rows), dtype=np.intp)
        for other, column in attributes.items():
            alike += (column[rows] == column[source]) & (other != name)
        targets[j] = rng.choice(rows[alike == alike.max()])
    return sources, targets


def _aims(
    supervised: SupervisedDictionary, name: str, old: np.ndarray, new: np.ndarray
) -> np.ndarray:
    """The change of a row by the supervised dictionary, for each pair of values."""
    atoms = supervised.atoms_of(name)
    names = np.array([supervised.values_[i] for i in atoms])
    components = supervised.components_[atoms]
    places = {value: place for place, value in enumerate(names.tolist())}
    nowhere = np.zeros((1, components.shape[1]))
    padded = np.vstack([components, nowhere])  # of a value without training rows
    old_at, new_at = (
        [places.get(value, len(names)) for value in side.tolist()]
        for side in (old, new)
    )
    return padded[new_at] - padded[old_at]


def _change(codes: Codes, s: int, t: int) -> tuple[np.ndarray, np.ndarray]:
    """Change from one row's codes to another's, and the features that differ."""
    difference = codes[[t]] - codes[[s]]
    if hasattr(difference, "tocsr"):
        difference = difference.tocsr()
        difference.eliminate_zeros()
        return difference.data.astype(np.float64), difference.indices
    features = np.flatnonzero(difference[0])
    return difference[0, features].astype(np.float64), features


def _greedy(
    parts: np.ndarray, aim: np.ndarray, n_most: int
) -> tuple[np.ndarray, list[int]]:
    """Choose parts step by step whose sum comes nearest to the aim.

    A step takes one part. If none shortens the distance, it takes the two that shorten
    it most together, as where a feature must be off for another to be on.

    Returns
    -------
    chosen : ndarray of int
        Parts in the order of the choice.
    ends : list of int
        Number of parts before the first step and after each.
    """
    gram = parts @ parts.T
    # By how much each part shortens the squared distance that is left.
    gains = 2 * (parts @ aim) - gram.diagonal()
    chosen: list[int] = []
    ends = [0]
    while len(chosen) < n_most and len(gains):
        step = [int(gains.argmax())]
        if not gains[step[0]] > 0:
            together = gains[:, None] + gains - 2 * gram
            np.fill_diagonal(together, -np.inf)
            if len(chosen) + 2 > n_most or not together.max() > 0:
                break
            step = [int(i) for i in np.unravel_index(together.argmax(), gram.shape)]
        chosen += step
        ends.append(len(chosen))
        gains = gains - 2 * gram[step].sum(axis=0)
        gains[chosen] = -np.inf
    return np.array(chosen, dtype=np.intp), ends


# Helpers


def _head_of(head: Any, name: str) -> Any:
    if head is None:
        return make_linear_probe()
    if not isinstance(head, dict):
        return head
    if name not in head:
        raise ValueError(f"head has no classifier for the attribute {name!r}.")
    return head[name]


def _check_values(
    columns: dict[str, np.ndarray], fold: tuple[np.ndarray, np.ndarray], i: int
) -> None:
    for name, column in columns.items():
        for side, rows in zip(("trained on", "held out"), fold, strict=True):
            if len(np.unique(column[rows])) < 2:
                raise ValueError(
                    f"Attribute {name} has a single value in the {len(rows)} rows "
                    f"{side} in fold {i}: at least 2 are needed."
                )


def _means(X: np.ndarray, ids: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Means of the rows with each value, minus the mean of all."""
    sums = np.zeros((len(sizes), X.shape[1]))
    np.add.at(sums, ids, X - X.mean(axis=0))
    return sums / sizes[:, None]


def _any_active(
    active: sparse.csr_array, features: np.ndarray, rows: np.ndarray
) -> float:
    """Fraction of some rows in which any of the features is active."""
    if not features.size:
        return 0.0
    chosen = active[np.flatnonzero(rows)][:, features]
    return float((np.diff(chosen.indptr) > 0).mean())


def _ordered(rows: list[dict[str, Any]]) -> pd.DataFrame:
    table = pd.DataFrame(rows)
    order = {
        name: place for place, name in enumerate(dict.fromkeys(table["dictionary"]))
    }
    keys = table["dictionary"].map(order)
    return table.iloc[np.argsort(keys, kind="stable")].reset_index(drop=True)
