"""Importance of the concepts for the decision of a head."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn import config_context
from sklearn.utils import check_random_state

from skdict._utils.checks import as_floats, check_numbers
from skdict._utils.constraints import Interval
from skdict._utils.labels import as_labels, encode
from skdict._utils.sklearn_private import StrOptions, validate_params
from skdict._utils.types import Codes, Data, Seed
from skdict.stats import check_codes

from ._attributions import (
    Explained,
    gradient_input,
    integrated_gradients,
    occlusion,
    sobol,
)
from ._decode import chain_of, rows_before
from ._features import as_features
from ._heads import Head
from ._linear import LinearDecoder, linear_decoder

HEAD_CONSTRAINTS: dict[str, Any] = {
    "codes": ["array-like", "sparse matrix"],
    "X": ["array-like", None],
    "to": [StrOptions({"input", "dictionary"})],
    "keep_error": ["boolean"],
    "response": [StrOptions({"auto", "decision_function", "predict_proba", "predict"})],
    "params": [dict, None],
    "groups": ["array-like", None],
    "random_state": ["random_state"],
}
_POSITIVE = [Interval(Integral, 1, None, closed="left")]
# Deviations below this fraction of the scores are rounding.
_ROUNDING = 1e-9
_COUNT = [Interval(Integral, 0, None, closed="left")]


class ConceptImportance(NamedTuple):
    """Importance of concepts, from :func:`concept_importance`."""

    table: pd.DataFrame
    attributions: sp.csr_array


@validate_params(
    {
        **HEAD_CONSTRAINTS,
        "method": [
            StrOptions({"occlusion", "gradient_input", "integrated_gradients", "sobol"})
        ],
        "max_concepts": [*_POSITIVE, None],
        "n_steps": _POSITIVE,
        "n_masks": _POSITIVE,
        "n_random": _COUNT,
    },
    prefer_skip_nested_validation=True,
)
def concept_importance(
    head: Any,
    estimator: Any,
    codes: Codes,
    X: Data | None = None,
    *,
    method: str = "occlusion",
    label: Any = None,
    to: str = "input",
    keep_error: bool = True,
    response: str = "auto",
    params: dict[str, Data] | None = None,
    groups: Data | None = None,
    max_concepts: int | None = 32,
    n_steps: int = 16,
    n_masks: int = 32,
    n_random: int = 1,
    random_state: Seed = None,
) -> ConceptImportance:
    r"""Importance of every concept for the decision of a head on embeddings.

    Codes are decoded to the rows that the head takes. The importance of a feature is
    what its presence contributes to the head's score, row by row.

    Parameters
    ----------
    head : estimator or torch module
        Fitted scikit-learn classifier or regressor, or a torch module from rows to
        scores, which is used in evaluation mode.

    estimator : estimator
        Fitted dictionary, or Pipeline that ends in one.

    codes : {array-like, sparse matrix or array} of shape (n_samples, n_components)
        Codes of the rows. A sparse input is never densified.

    X : array-like of shape (n_samples, n_features), default=None
        Rows from which the codes were made. With them, the head is explained on the
        rows themselves, and without them on their reconstructions. A step that has
        divided rows by their norms needs them.

    method : {"occlusion", "gradient_input", "integrated_gradients", "sobol"}
        How the contribution of a feature is measured, by default by occlusion; see
        Notes.

    label : label, default=None
        Class whose score is explained. None explains the score of the class that the
        head prefers, in each row. Classes of a torch module are its outputs 0, 1, ...

    to : {"input", "dictionary"}, default="input"
        The rows that the head takes: those that `estimator` takes, or those that the
        dictionary takes after the steps before it.

    keep_error : bool, default=True
        Whether rows keep what the dictionary does not explain of them, if `X` is given.

    response : {"auto", "decision_function", "predict_proba", "predict"}, default="auto"
        The score of a scikit-learn head. "auto" takes the first that it has. With
        "predict", a classifier gives 1 to the class that it predicts and 0 to others.

    params : dict, default=None
        Metadata with one entry for each row, for the steps that ask for them.

    groups : array-like of shape (n_samples,), default=None
        Groups of rows that are not independent, for the standard error.

    max_concepts : int or None, default=32
        Number of concepts in the table. People do not read explanations by more of them
        [3]_. None means all.

    n_steps : int, default=16
        Number of points between no features and all of them, for integrated gradients.

    n_masks : int, default=32
        Number of masks for Sobol indices, best a power of 2.

    n_random : int, default=1
        Number of times that the atoms are exchanged at random among the features, for
        the column `random_importance`.

    random_state : int, RandomState instance or None, default=None
        Seed of the masks and of the exchanges.

    Returns
    -------
    importance : ConceptImportance
        A named tuple of

        - `table`: DataFrame with a row for each concept, the most important first.
          Columns: `feature`, its index; `importance`, the mean contribution over all
          rows; `standard_error` of that mean; `density`, the fraction of rows in which
          it is active; `importance_active`, the mean over these rows;
          `positive_fraction` of these rows in which it raises the score;
          `random_importance`, the mean absolute importance of the same feature with the
          atom of another one, and `fraction`, the part of the sum of the absolute
          importances of all features.
        - `attributions`: csr_array of shape (n_samples, n_components) with the
          contribution of each feature in each row.

    Raises
    ------
    ValueError
        If the head has no such class or gives no finite scores, if lengths differ, or
        if the inverses of the steps are not one linear map for all rows.

    See Also
    --------
    insertion_deletion : Whether the importances order concepts as the head does.
    fidelity : Whether the head decides from the concepts as from the rows.
    important_rows : Rows in which a concept mattered most.
    compare_probe_sets : Whether other rows would give another explanation.

    Notes
    -----
    As in [1]_, let :math:`f(z)` be the score for the row to which the code :math:`z`
    decodes. The contribution of feature j is

    - occlusion: :math:`f(z) - f(z_{z_j = 0})`;
    - gradient x input: :math:`z_j \, \partial f / \partial z_j`;
    - integrated gradients: :math:`z_j \int_0^1 \partial f(\alpha z) / \partial z_j
      \, d\alpha`, by Gauss's rule; the sum over features is :math:`f(z) - f(0)`;
    - Sobol: the total index of :math:`m_j` in :math:`f(m \odot z)` for uniform random
      masks :math:`m \in [0, 1]`, by Jansen's estimator on a Sobol sequence [2]_: the
      fraction of the variance that is lost if all other features are known. It has no
      sign.

    For a head that is an affine map, which is found out by trying, the first three are
    :math:`z_j w^\top d_j` and the last is the square of that over its sum, with the
    atom :math:`d_j` and the weights :math:`w`. They are computed in this closed form.
    For other heads, occlusion takes one evaluation of the head for each non-zero of the
    codes; gradients take two, or one backward pass if the head is a torch module;
    Sobol indices of a row with k active features take `n_masks` (k + 2): pass some
    hundred rows. The gradient of a forest is zero almost everywhere; use occlusion.

    A concept may be important although the head never uses it by itself, if its atom
    is correlated with one that it uses. Importance says what the head does and not
    what is true of the cells.

    References
    ----------
    .. [1] T. Fel et al. "A holistic approach to unifying automatic concept extraction
       and concept importance estimation." arXiv:2306.07304, 2023.

    .. [2] T. Fel et al. "Look at the variance! Efficient black-box explanations with
       Sobol-based sensitivity analysis." arXiv:2111.04138, 2021.

    .. [3] V. V. Ramaswamy et al. "Overlooked factors in concept-based explanations."
       arXiv:2207.09615, 2022.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skdict import ICFL
    >>> from skdict.concepts import concept_importance
    >>> X, y = load_digits(return_X_y=True)
    >>> dictionary = ICFL(64, 8, max_iter=3, random_state=0).fit(X)
    >>> head = LogisticRegression(max_iter=5000).fit(X, y)
    >>> codes = dictionary.transform(X[y == 3])
    >>> table, attributions = concept_importance(
    ...     head, dictionary, codes, X[y == 3], label=3, n_random=10, random_state=0
    ... )
    >>> len(table), attributions.shape
    (32, (183, 64))
    >>> top = table.iloc[0]
    >>> bool(top["importance"] > 2 * top["random_importance"])
    True
    """
    explained, codes = _explain(
        head, estimator, codes, X, label, to, keep_error, response, params
    )
    n_samples, n_components = codes.shape
    group_ids = None
    if groups is not None:
        group_ids = encode(groups, "groups", n_samples)[1]
    rng = check_random_state(random_state)
    methods: dict[str, Callable[..., np.ndarray]] = {
        "occlusion": occlusion,
        "gradient_input": gradient_input,
        "integrated_gradients": partial(integrated_gradients, n_steps=n_steps),
        "sobol": partial(sobol, n_masks=n_masks, rng=rng),
    }
    attribute = methods[method]
    atoms = explained.decoder.atoms
    values = attribute(explained, atoms)
    attributions = sp.csr_array((values, codes.indices, codes.indptr), codes.shape)
    importance, error = _mean_and_error(attributions, group_ids)
    n_active = np.bincount(codes.indices, minlength=n_components)
    used = np.flatnonzero(n_active)
    random_importance = np.zeros(n_components)
    for _ in range(n_random):
        exchanged = atoms.copy()
        exchanged[used] = atoms[rng.permutation(used)]
        drawn = attribute(explained, exchanged)
        means = np.bincount(codes.indices, drawn, minlength=n_components) / n_samples
        random_importance += np.abs(means) / n_random
    raises = np.bincount(codes.indices, values > 0, minlength=n_components)
    total = np.abs(importance).sum()
    active = np.maximum(n_active, 1)
    table = pd.DataFrame(
        {
            "feature": np.arange(n_components),
            "importance": importance,
            "standard_error": error,
            "density": n_active / n_samples,
            "importance_active": importance * n_samples / active,
            "positive_fraction": raises / active,
            "random_importance": random_importance,
            "fraction": np.abs(importance) / (total if total > 0 else 1.0),
        }
    )
    order = np.argsort(-np.abs(importance), kind="stable")[:max_concepts]
    return ConceptImportance(table.iloc[order].reset_index(drop=True), attributions)


@validate_params(
    {
        "attributions": ["array-like", "sparse matrix"],
        "n_rows": _POSITIVE,
        "groups": ["array-like", None],
    },
    prefer_skip_nested_validation=True,
)
def important_rows(
    attributions: Codes,
    feature: int,
    *,
    n_rows: int = 8,
    groups: Data | None = None,
) -> pd.DataFrame:
    """Rows in which a concept mattered most for the decision.

    Parameters
    ----------
    attributions : {array-like, sparse} of shape (n_samples, n_components)
        From :func:`concept_importance`.

    feature : int
        Index of the concept.

    n_rows : int, default=8
        Largest number of rows.

    groups : array-like of shape (n_samples,), default=None
        Groups of rows, such as the image of each token: at most one row of each is
        taken.

    Returns
    -------
    rows : DataFrame
        The rows with the largest absolute contributions, the largest first. Columns:
        `row`, its index; `attribution`; `fraction`, the part of the absolute
        contributions of all concepts in that row. Rows without a contribution are left
        out.

    See Also
    --------
    concept_importance : Makes the attributions.
    skdict.images.strongest_patches : Tokens in which a feature is strongest.

    Examples
    --------
    >>> from skdict.concepts import important_rows
    >>> important_rows([[0.5, 0.5], [0.0, 1.0], [3.0, -1.0]], 0)
       row  attribution  fraction
    0    2          3.0      0.75
    1    0          0.5      0.50
    """
    attributions = sp.csr_array(
        check_codes(attributions, "attributions"), dtype=np.float64
    )
    (index,) = as_features([feature], attributions.shape[1], "feature")
    values = attributions[:, [index]].toarray().ravel()
    order = np.argsort(-np.abs(values), kind="stable")
    order = order[values[order] != 0]
    if groups is not None:
        ids = encode(groups, "groups", len(values))[1]
        order = order[np.sort(np.unique(ids[order], return_index=True)[1])]
    order = order[:n_rows]
    totals = np.asarray(abs(attributions[order]).sum(axis=1)).ravel()
    return pd.DataFrame(
        {
            "row": order,
            "attribution": values[order],
            "fraction": np.abs(values[order]) / totals,
        }
    )


@validate_params(
    {
        **HEAD_CONSTRAINTS,
        "attributions": ["array-like", "sparse matrix"],
        "n_points": [Interval(Integral, 2, None, closed="left")],
        "n_random": _COUNT,
    },
    prefer_skip_nested_validation=True,
)
def insertion_deletion(
    head: Any,
    estimator: Any,
    codes: Codes,
    X: Data | None = None,
    *,
    attributions: Codes,
    label: Any = None,
    to: str = "input",
    keep_error: bool = True,
    response: str = "auto",
    params: dict[str, Data] | None = None,
    n_points: int = 11,
    n_random: int = 3,
    random_state: Seed = None,
) -> pd.DataFrame:
    """Take concepts out in the order of their importance, and put them in.

    In every row the active concepts are ordered by their attribution. If attributions
    are faithful, the score falls fast when the first ones are taken out, and rises fast
    when they are put in: faster than in a random order.

    Parameters
    ----------
    head, estimator, codes, X
        As in :func:`concept_importance`.

    attributions : {array-like, sparse} of shape (n_samples, n_components)
        From :func:`concept_importance`, with the same `label`.

    label, to, keep_error, response, params
        As in :func:`concept_importance`.

    n_points : int, default=11
        Number of points of a curve, from no concepts to all active ones.

    n_random : int, default=3
        Number of random orders.

    random_state : int, RandomState instance or None, default=None
        Seed of the random orders.

    Returns
    -------
    curves : DataFrame
        One row for each point. Columns: `curve`, "deletion" or "insertion"; `order`,
        "importance" or "random"; `draw`, the number of the random order; `fraction` of
        the active concepts of a row that were taken out or put in; `score`, the mean of
        the explained score over rows; `agreement`, the fraction of rows for which the
        head still decides as from all concepts (for a regressor, whether the score is
        the same); and `auc`, the area under the curve of the score, the same for all of
        its points. For deletion a small area is good, for insertion a large one.

    Raises
    ------
    ValueError
        As :func:`concept_importance`.

    See Also
    --------
    concept_importance : Makes the attributions.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skdict import ICFL
    >>> from skdict.concepts import concept_importance, insertion_deletion
    >>> X, y = load_digits(return_X_y=True)
    >>> dictionary = ICFL(64, 8, max_iter=3, random_state=0).fit(X)
    >>> head = LogisticRegression(max_iter=5000).fit(X, y)
    >>> codes = dictionary.transform(X[:100])
    >>> _, attributions = concept_importance(head, dictionary, codes, X[:100])
    >>> curves = insertion_deletion(
    ...     head, dictionary, codes, X[:100], attributions=attributions, random_state=0
    ... )
    >>> auc = curves.groupby(["curve", "order"])["auc"].mean()
    >>> bool(auc["deletion", "importance"] < auc["deletion", "random"])
    True
    >>> bool(auc["insertion", "importance"] > auc["insertion", "random"])
    True
    """
    explained, codes = _explain(
        head, estimator, codes, X, label, to, keep_error, response, params
    )
    ranked = sp.csr_array(check_codes(attributions, "attributions"), dtype=np.float64)
    if ranked.shape != codes.shape:
        raise ValueError(
            f"attributions has the shape {ranked.shape}, but codes {codes.shape}."
        )
    # The attribution of every stored entry of the codes, in their order.
    of_entries = np.zeros(0)
    if codes.nnz:  # scipy returns another shape for no entries
        of_entries = np.asarray(ranked[explained.of_rows, codes.indices]).ravel()
    rng = check_random_state(random_state)
    orders = [("importance", 0, of_entries)]
    orders += [("random", i, rng.random_sample(codes.nnz)) for i in range(n_random)]
    fractions = np.linspace(0, 1, n_points)
    decided = explained.scores.argmax(axis=1)
    numbers = np.arange(codes.shape[0])
    tables = []
    for name, draw, keys in orders:
        ranks = _ranks(keys, codes.indptr, explained.of_rows)
        n_active = np.diff(codes.indptr)[explained.of_rows]
        for curve in ("deletion", "insertion"):
            means, agreements = [], []
            for fraction in fractions:
                taken = ranks < np.ceil(fraction * n_active - 1e-9)
                # What is missing from the rows as they are.
                missing = taken if curve == "deletion" else ~taken
                lost = sp.csr_array(
                    (codes.data * missing, codes.indices, codes.indptr), codes.shape
                )
                scores = explained.scores_without(lost)
                own = scores[numbers, explained.outputs]
                same = scores.argmax(axis=1) == decided
                if scores.shape[1] == 1:
                    same = np.isclose(scores[:, 0], explained.scores[:, 0])
                means.append(own.mean())
                agreements.append(same.mean())
            tables.append(
                pd.DataFrame(
                    {
                        "curve": curve,
                        "order": name,
                        "draw": draw,
                        "fraction": fractions,
                        "score": means,
                        "agreement": agreements,
                        "auc": np.trapezoid(means, fractions),
                    }
                )
            )
    return pd.concat(tables, ignore_index=True)


@validate_params(
    {
        **HEAD_CONSTRAINTS,
        "X": ["array-like"],
        "y": ["array-like", None],
        "order": ["array-like", None],
        "n_features": ["array-like"],
    },
    prefer_skip_nested_validation=True,
)
def fidelity(
    head: Any,
    estimator: Any,
    codes: Codes,
    X: Data,
    y: Data | None = None,
    *,
    to: str = "input",
    response: str = "auto",
    params: dict[str, Data] | None = None,
    order: Data | None = None,
    n_features: Data = (1, 2, 5, 10, 20, 50, 100),
    random_state: Seed = None,
) -> pd.DataFrame:
    """Whether a head decides from the concepts as it decides from the rows.

    Parameters
    ----------
    head, estimator, codes
        As in :func:`concept_importance`.

    X : array-like of shape (n_samples, n_features)
        Rows from which the codes were made.

    y : array-like of shape (n_samples,), default=None
        True classes, for the accuracy of a classifier.

    to, response, params
        As in :func:`concept_importance`.

    order : array-like of int, default=None
        Features in the order of their importance, such as ``table["feature"]`` from
        :func:`concept_importance`. The head then also decides from the first of them
        alone. Choose them on other rows.

    n_features : array-like of int, default=(1, 2, 5, 10, 20, 50, 100)
        Numbers of first features; those beyond the length of `order` are left out.

    random_state : int, RandomState instance or None, default=None
        Seed of the random features.

    Returns
    -------
    table : DataFrame
        One row for each kind of input. Columns:

        - `input`: "rows", the rows themselves; "all concepts", their reconstructions;
          "no concepts", what the decoder gives for an empty code; "first concepts" of
          `order`; "random concepts", as many features drawn at random from those that
          are active in any row.
        - `n_features`: how many features are kept.
        - `agreement`: fraction of rows for which the head decides as from the rows; NaN
          for a head with a single score.
        - `correlation`: Pearson's, of all scores with those of the rows; 0 where one of
          the two is constant.
        - `accuracy`: fraction of rows whose class is right. Only with `y`.

    Raises
    ------
    ValueError
        As :func:`concept_importance`; if `y` is given for a head without classes.

    See Also
    --------
    concept_importance : Importance of every concept.
    insertion_deletion : Takes concepts out row by row.

    Notes
    -----
    What the dictionary does not explain of a row is left out here. If the agreement of
    "all concepts" is low, the head uses what the dictionary has lost, and importances
    of concepts explain a part of the decision only. "no concepts" has the agreement of
    a head that always decides the same.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skdict import ICFL
    >>> from skdict.concepts import fidelity
    >>> X, y = load_digits(return_X_y=True)
    >>> dictionary = ICFL(64, 8, max_iter=3, random_state=0).fit(X)
    >>> head = LogisticRegression(max_iter=5000).fit(X, y)
    >>> table = fidelity(head, dictionary, dictionary.transform(X), X, y)
    >>> table.set_index("input")["agreement"].round(1).to_dict()
    {'rows': 1.0, 'all concepts': 1.0, 'no concepts': 0.1}
    """
    codes = as_floats(check_codes(codes))
    n_samples, n_components = codes.shape
    labels = None
    wrapped = Head(head, response)
    if y is not None:
        labels = as_labels(y, "y", n_samples)
        if not (wrapped.is_module or hasattr(head, "classes_")):
            raise ValueError("y needs a classifier, but the head has no classes.")
    decoder = linear_decoder(
        estimator, codes, X, to=to, keep_error=False, params=params
    )
    sparse_codes = sp.csr_array(codes, dtype=np.float64)
    inputs = [
        ("all concepts", n_components, decoder.rows),
        ("no concepts", 0, decoder.without(sparse_codes)),
    ]
    rng = check_random_state(random_state)
    if order is not None:
        ranked = as_features(order, n_components, "order")
        used = np.unique(sparse_codes.indices)
        for n in _sizes(n_features, len(ranked)):
            drawn = rng.permutation(used)[:n]
            for name, kept in (("first", ranked[:n]), ("random", drawn)):
                is_kept = np.zeros(n_components, dtype=bool)
                is_kept[kept] = True
                lost = sparse_codes.copy()
                lost.data *= ~is_kept[lost.indices]
                inputs.append((f"{name} concepts", n, decoder.without(lost)))
    own = _rows_of_head(estimator, X, to, params)
    whole = wrapped.scores(own)
    names = wrapped.classes(whole.shape[1])
    if labels is not None:
        _check_named(labels, names, whole.shape[1])
    rows = []
    for name, n, given in [("rows", n_components, own), *inputs]:
        scores = wrapped.scores(given)
        decided = scores.argmax(axis=1)
        agreement = np.nan
        if whole.shape[1] > 1:
            agreement = (decided == whole.argmax(axis=1)).mean()
        row = {
            "input": name,
            "n_features": n,
            "agreement": agreement,
            "correlation": _correlation(scores, whole),
        }
        if labels is not None:
            row["accuracy"] = (names[decided] == labels).mean()
        rows.append(row)
    return pd.DataFrame(rows)


def _explain(
    head: Any,
    estimator: Any,
    codes: Codes,
    X: Data | None,
    label: Any,
    to: str,
    keep_error: bool,
    response: str,
    params: dict[str, Data] | None,
) -> tuple[Explained, sp.csr_array]:
    wrapped = Head(head, response)
    codes = as_floats(check_codes(codes))
    decoder: LinearDecoder = linear_decoder(
        estimator, codes, X, to=to, keep_error=keep_error, params=params
    )
    sparse_codes = sp.csr_array(codes, dtype=np.float64)
    sparse_codes.eliminate_zeros()
    return Explained(wrapped, decoder, sparse_codes, label), sparse_codes


def _rows_of_head(
    estimator: Any, X: Data, to: str, params: dict[str, Data] | None
) -> np.ndarray:
    if to == "dictionary":
        with config_context(transform_output="default"):
            _, X = rows_before(chain_of(estimator), X, params or {})
    return check_numbers(X, input_name="X").astype(np.float64)


def _mean_and_error(
    attributions: sp.csr_array, group_ids: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean of every column over the rows, and its standard error over the groups."""
    n_samples, n_components = attributions.shape
    mean = np.asarray(attributions.sum(axis=0)).ravel() / n_samples
    if group_ids is None:
        sums, sizes = attributions, np.ones(n_samples)
    else:
        sizes = np.bincount(group_ids).astype(np.float64)
        rows = (np.ones(n_samples), (group_ids, np.arange(n_samples)))
        sums = sp.csr_array(sp.coo_array(rows)) @ attributions
    n_groups = len(sizes)
    if n_groups < 2:
        return mean, np.full(n_components, np.nan)
    # The mean is a ratio of sums over groups: its error is that of their residuals.
    # sum (s - size * mean)^2, without a dense table.
    columns = sp.csr_array(sums)
    of_rows = np.repeat(np.arange(n_groups), np.diff(columns.indptr))
    crossed = np.bincount(
        columns.indices, columns.data * sizes[of_rows], minlength=n_components
    )
    squared = np.bincount(columns.indices, columns.data**2, minlength=n_components)
    residual = squared - 2 * mean * crossed + mean**2 * (sizes**2).sum()
    variance = np.maximum(residual, 0.0) * n_groups / (n_groups - 1) / n_samples**2
    return mean, np.sqrt(variance)


def _ranks(keys: np.ndarray, indptr: np.ndarray, of_rows: np.ndarray) -> np.ndarray:
    """Place of every entry among those of its row; the largest has 0."""
    order = np.lexsort((-keys, of_rows))
    ranks = np.empty(len(keys), dtype=np.intp)
    ranks[order] = np.arange(len(keys)) - indptr[of_rows]
    return ranks


def _check_named(labels: np.ndarray, names: np.ndarray, n_outputs: int) -> None:
    """Check that the labels are those of the scores."""
    if n_outputs == 1:
        raise ValueError(
            "y needs a score for each class, but the head gives a single one."
        )
    if not {*labels.tolist()} & {*names.tolist()}:
        raise ValueError(
            f"No label of y is a class of the head: y holds {labels[0]!r}, and the "
            f"classes are {names.tolist()}."
        )


def _sizes(n_features: Data, longest: int) -> list[int]:
    sizes = np.unique(np.asarray(n_features))
    if sizes.dtype.kind not in "iu" or not len(sizes) or sizes[0] < 1:
        raise ValueError("n_features must be a list of positive whole numbers.")
    return [int(n) for n in sizes if n <= longest]


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    sizes = [np.sqrt((values**2).sum()) for values in (a, b)]
    a, b = (values - values.mean(axis=0) for values in (a, b))
    spreads = [np.sqrt((values**2).sum()) for values in (a, b)]
    # What is left of equal scores is rounding.
    if any(s <= _ROUNDING * size for s, size in zip(spreads, sizes, strict=True)):
        return 0.0
    return float(np.clip((a * b).sum() / np.prod(spreads), -1.0, 1.0))
