"""How many of the first features that one would look at are concepts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from numbers import Integral, Real
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state
from sklearn.utils.parallel import Parallel, delayed
from tqdm import tqdm

from skdict._utils.constraints import Interval
from skdict._utils.labels import encode
from skdict._utils.sklearn_private import validate_params
from skdict._utils.types import Codes, Data, Seed
from skdict.stats import (
    ROUNDING,
    Exchange,
    average_precisions,
    check_codes,
    named_columns,
    permutation_p_value,
)

from ._comparison import Table
from ._measures import Part, exchange_of
from ._ranking import RANKING_CONSTRAINT, Ranker, varying
from ._sparse_probing import check_sizes

_STAGES = ("proposal", "audit")


class DiscoveryYield(NamedTuple):
    """The tables of :func:`discovery_yield`.

    Attributes
    ----------
    yields : DataFrame
        One row for each fold and budget.
    features : DataFrame
        One row for each fold and proposed feature.
    """

    yields: pd.DataFrame
    features: pd.DataFrame


@validate_params(
    {
        "codes": ["array-like", "sparse matrix"],
        "y": ["array-like"],
        "audit_labels": ["array-like", dict, None],
        "budgets": ["array-like"],
        "min_precision": [Interval(Real, 0, 1, closed="right")],
        "ranking": RANKING_CONSTRAINT,
        "groups": ["array-like", None],
        "batch": ["array-like", None],
        "grid_shape": ["array-like", None],
        "cv": ["cv_object"],
        "n_permutations": [Interval(Integral, 0, None, closed="left")],
        "random_state": ["random_state"],
        "n_jobs": [Interval(Integral, None, None, closed="neither"), None],
        "verbose": ["verbose"],
    },
    prefer_skip_nested_validation=True,
)
def discovery_yield(
    codes: Codes,
    y: Data,
    *,
    audit_labels: Data | None = None,
    budgets: Sequence[int] = (10, 25, 50, 100),
    min_precision: float = 0.3,
    ranking: Any = "f_statistic",
    groups: Data | None = None,
    batch: Data | None = None,
    grid_shape: Data | None = None,
    cv: Any = 2,
    n_permutations: int = 100,
    random_state: Seed = None,
    n_jobs: int | None = None,
    verbose: int = 0,
) -> DiscoveryYield:
    r"""Fraction of the features proposed by some labels that are concepts by others.

    A scientist who looks at features has time for few of them, and takes those that go
    with a known label. How many of them will turn out to be a concept? One half of the
    labels proposes features, and the other half audits them: a proposed feature counts
    if the samples with its largest codes are those of one class.

    Parameters
    ----------
    codes : {array-like, sparse matrix or array} of shape (n_samples, n_components)
        Codes of the samples. A sparse input is never densified.

    y : array-like of shape (n_samples,)
        Classes that propose features, for instance the treatment.

    audit_labels : array-like of shape (n_samples,), dict or DataFrame, default=None
        Classes that audit the proposed features, for instance the phenotype that an
        expert has seen. Several columns are audited together. None means `y`, on rows
        that did not propose.

    budgets : list of int, default=(10, 25, 50, 100)
        Numbers of features that are looked at. Those above `n_components` are left
        out.

    min_precision : float, default=0.3
        A feature is a concept if its average precision for the best class is at least
        this. Classes that make up this fraction of the held-out rows or more are left
        out of the audit: any feature would pass.

    ranking : {"f_statistic", "mean_difference"} or classifier, default="f_statistic"
        Which features are proposed first, as in :func:`sparse_probing`. The original
        protocol has an L1-penalised logistic regression, for instance
        ``LogisticRegression(l1_ratio=1, solver="saga")``.

    groups : array-like of shape (n_samples,), default=None
        Rows that belong together. They all propose or they all audit.

    batch : array-like of shape (n_samples,), default=None
        Experimental batches: labels are permuted only inside them.

    grid_shape : tuple of int (height, width), default=None
        The grid of an image's tokens, as in :func:`compare_dictionaries`.

    cv : int, splitter or iterable of (train, test), default=2
        Folds, as in :func:`compare_dictionaries`: training rows propose, the rows that
        are held out audit.

    n_permutations : int, default=100
        Number of permutations for either null; 0 omits both.

    random_state : int, RandomState instance or None, default=None
        Seed of the permutations.

    n_jobs : int, default=None
        Number of processes over which the permutations are spread.

    verbose : int, default=0
        Whether to show a progress bar.

    Returns
    -------
    result : DiscoveryYield
        A named tuple of two tables. `yields` has one row for each fold and budget:

        - `fold`, `budget`.
        - `discovery_yield`: fraction of the `budget` features proposed first that are
          concepts.
        - `n_concepts`: number of classes that are the best class of such a feature.
        - `yield_at_random`: the yield to expect of features drawn at random from those
          that vary on the training rows.
        - `proposal_null`, `audit_null`: 95 % quantile of the yield, in this fold, if
          the labels that propose are permuted, or those that audit.
        - `proposal_p`, `audit_p`: p-value of the yield, in this fold.

        `features` has one row for each fold and proposed feature, up to the largest
        budget: `fold`, `rank` from 1, `feature`, the `audit` column and its
        `best_class`, `average_precision`, `is_concept`.

    Raises
    ------
    ValueError
        If lengths differ, if codes hold NaN or infinity, if a fold has a group or a
        single class on one side, if no budget is possible, or if all classes of a fold
        are too frequent for an audit.

    See Also
    --------
    sparse_probing : Probes on the features that are proposed first.
    skdict.metrics.selectivity_tests : Which features are selective beyond chance.

    Notes
    -----
    For the features :math:`S_B` proposed first and the audited classes :math:`H`,

    .. math::

        \mathrm{yield}(B) = \frac{1}{B} \sum_{f \in S_B}
        1\big[\max_{h \in H} \mathrm{AP}_{fh} \ge \tau\big].

    This is the propose-and-audit protocol of saev, the library of Stevens et al. [1]_,
    for any table of labels. There, labels of whole images (habitats, scenes) propose,
    and masks of parts or objects audit: pass such other labels as `audit_labels`. Where
    there is one column of labels only, the labels of one half of the rows propose and
    those of the other half audit.

    The null of the proposal ranks by permuted labels: it says whether `y` finds
    concepts better than an arbitrary choice. The null of the audit keeps the choice
    and permutes the labels that audit: it says whether such precisions arise by chance,
    as they do for a class that is nearly as frequent as `min_precision`. Labels are
    exchanged as in :func:`compare_dictionaries`. Each p-value is that of one fold: the
    yields of two halves that propose to each other are not independent, so their mean
    has no simple p-value.

    References
    ----------
    .. [1] S. Stevens, J. Beattie, T. Berger-Wolf, Y. Su. "Towards open-ended visual
       scientific discovery with sparse autoencoders." arXiv:2511.17735, and the
       documents of its library, saev.

    Examples
    --------
    >>> import numpy as np
    >>> from skdict.evaluation import discovery_yield
    >>> rng = np.random.default_rng(0)
    >>> y = np.tile(list("abcde"), 60)
    >>> codes = rng.random((300, 40)) * (rng.random((300, 40)) < 0.2)
    >>> codes[:, :5] += y[:, None] == np.array(list("abcde"))  # one for each class
    >>> result = discovery_yield(codes, y, budgets=[5, 10], random_state=0)
    >>> result.yields.groupby("budget")["discovery_yield"].mean().tolist()
    [1.0, 0.5]
    >>> result.features["best_class"][:5].sort_values().tolist()
    ['a', 'b', 'c', 'd', 'e']
    """
    codes = check_codes(codes)
    columns = {"y": y} if audit_labels is None else _columns(audit_labels)
    table = Table.check({"codes": codes}, y, groups, None, batch, None, grid_shape)
    audits = {
        name: encode(column, "y" if audit_labels is None else name, codes.shape[0])
        for name, column in columns.items()
    }
    sizes = check_sizes(budgets, "budgets", codes.shape[1])
    folds = table.folds(cv)
    rng = check_random_state(random_state)
    parallel = Parallel(n_jobs=n_jobs, return_as="generator")
    bar = tqdm(
        total=len(folds) * n_permutations,
        disable=not verbose,
        desc="discovery yield",
        unit="permutation",
    )
    yields, features = [], []
    nulls: list[list[list[np.ndarray]]] = []
    with bar:
        for i, rows in enumerate(folds):
            train, test = (table.part("codes", side) for side in rows)
            audit = _Audit.of_rows(test, audits, rows[1], min_precision, i)
            labels = np.unique(train.y, return_inverse=True)[1]
            ranker = Ranker(train.X, ranking)
            proposed = ranker.order(labels)[: max(sizes)]
            precisions, concepts = audit.best_of(test.X)
            found = precisions >= min_precision
            yields.append(
                {
                    "fold": i,
                    "budget": sizes,
                    "discovery_yield": _yields(found[proposed], sizes),
                    "n_concepts": [
                        len(np.unique(concepts[some][found[some]]))
                        for some in (proposed[:size] for size in sizes)
                    ],
                    "yield_at_random": _mean(found[varying(train.X)]),
                }
            )
            names, classes = audit.names_of(concepts[proposed])
            features.append(
                {
                    "fold": i,
                    "rank": np.arange(1, len(proposed) + 1),
                    "feature": proposed,
                    "audit": names,
                    "best_class": classes,
                    "average_precision": precisions[proposed],
                    "is_concept": found[proposed],
                }
            )
            # Joblib takes the draws in a thread of its own, so they have an own source.
            own_rng = np.random.RandomState(rng.randint(2**31 - 1))
            exchange = exchange_of(train, labels)
            draws = exchange.permuted(labels, n_permutations, own_rng)
            orders = parallel(delayed(ranker.order)(draw) for draw in draws)
            audited = audit.permuted(test.X[:, proposed], n_permutations, rng)
            nulls.append([])
            for order, passed in zip(orders, audited, strict=True):
                nulls[-1].append([_yields(found[order], sizes), _yields(passed, sizes)])
                bar.update()
    table_of_yields = _concatenate(yields)
    if n_permutations:
        null = np.array(nulls)  # (n_folds, n_permutations, 2, n_budgets)
        observed = np.array([of_fold["discovery_yield"] for of_fold in yields])
        highest = np.quantile(null, 0.95, axis=1)
        p_values = permutation_p_value(
            null.swapaxes(0, 1), observed[:, None, :], ROUNDING
        )
        for j, stage in enumerate(_STAGES):
            table_of_yields[f"{stage}_null"] = highest[:, j].ravel()
        for j, stage in enumerate(_STAGES):
            table_of_yields[f"{stage}_p"] = p_values[:, j].ravel()
    return DiscoveryYield(table_of_yields, _concatenate(features))


class _Audit(NamedTuple):
    """The labels that audit the held-out rows, one entry for each column of them."""

    names: list[str]
    classes: list[np.ndarray]
    labels: list[np.ndarray]
    audited: list[np.ndarray]  # which classes are rare enough
    exchanges: list[Exchange]
    min_precision: float

    @classmethod
    def of_rows(
        cls,
        test: Part,
        columns: dict[str, tuple[np.ndarray, np.ndarray]],
        rows: np.ndarray,
        min_precision: float,
        fold: int,
    ) -> Self:
        classes = [names for names, _ in columns.values()]
        labels = [ids[rows] for _, ids in columns.values()]
        audited = []
        for names, ids in zip(classes, labels, strict=True):
            sizes = np.bincount(ids, minlength=len(names))
            audited.append((sizes > 0) & (sizes < min_precision * len(ids)))
        if not any(mask.any() for mask in audited):
            raise ValueError(
                f"No class is left for the audit in fold {fold}: each makes up at "
                f"least {min_precision:g} of the {len(rows)} rows held out, so that "
                "any feature has this precision. Pass audit_labels with rarer classes, "
                "or a higher min_precision."
            )
        exchanges = [
            exchange_of(test._replace(y=names[ids]), ids)
            for names, ids in zip(classes, labels, strict=True)
        ]
        return cls([*columns], classes, labels, audited, exchanges, min_precision)

    def best_of(
        self, codes: Codes, labels: list[np.ndarray] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Best average precision of each feature, and the number of its class."""
        precisions = np.hstack(
            [
                np.where(mask, average_precisions(codes, ids, len(mask)), -1.0)
                for ids, mask in zip(labels or self.labels, self.audited, strict=True)
            ]
        )
        best = precisions.argmax(axis=1)
        return np.take_along_axis(precisions, best[:, None], axis=1)[:, 0], best

    def names_of(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Column and name of classes that are numbered over all columns."""
        sizes = [len(classes) for classes in self.classes]
        columns = np.repeat(np.array(self.names, dtype=object), sizes)
        classes = [of_column.astype(object) for of_column in self.classes]
        return columns[numbers], np.concatenate(classes)[numbers]

    def permuted(
        self, codes: Codes, n_permutations: int, rng: np.random.RandomState
    ) -> Iterator[np.ndarray]:
        """Say which features pass the audit by permuted labels, many times."""
        draws = [
            exchange.permuted(ids, n_permutations, rng)
            for exchange, ids in zip(self.exchanges, self.labels, strict=True)
        ]
        for labels in zip(*draws, strict=True):
            yield self.best_of(codes, [*labels])[0] >= self.min_precision


def _columns(labels: Data) -> dict[str, Data]:
    if isinstance(labels, dict) or hasattr(labels, "columns"):
        columns = named_columns(labels, "audit_labels")
        if not columns:
            raise ValueError("audit_labels is empty: pass at least one column.")
        return columns
    return {"audit_labels": labels}


def _yields(found: np.ndarray, budgets: list[int]) -> np.ndarray:
    """Mean of the first entries, for each of the budgets."""
    return np.cumsum(found)[np.array(budgets) - 1] / budgets


def _mean(found: np.ndarray) -> float:
    return float(found.mean()) if found.size else 0.0


def _concatenate(tables: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.concat([pd.DataFrame(table) for table in tables], ignore_index=True)
