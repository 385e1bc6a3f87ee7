"""Clusters of features, and the class that the features of a cluster share."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy.cluster.hierarchy import fcluster
from scipy.cluster.hierarchy import linkage as build_tree

from skdict._utils.arrays import blocks, unit_rows
from skdict._utils.constraints import Interval
from skdict._utils.labels import encode
from skdict._utils.sklearn_private import StrOptions, validate_params
from skdict._utils.types import Codes, Data
from skdict.metrics import describe_features, selectivity_scores
from skdict.stats import LABEL_CONSTRAINTS, check_codes, find_active

# Number of entries of a block of similarities.
_BLOCK_ENTRIES = 2**23
_MIN_SIMILARITY = 0.7
# Largest rounding error of the similarity of two equal features.
_TOLERANCE = 1e-12


class FeatureClusters(NamedTuple):
    """The tables of :func:`cluster_features`.

    Parameters
    ----------
    clusters : DataFrame
        One row for each cluster.
    features : DataFrame
        One row for each feature.
    """

    clusters: pd.DataFrame
    features: pd.DataFrame


@validate_params(
    {
        **LABEL_CONSTRAINTS,
        "y": ["array-like", None],
        "components": ["array-like", None],
        "linkage": [StrOptions({"average", "complete", "single", "weighted"})],
        "n_clusters": [Interval(Integral, 1, None, closed="left"), None],
        "min_similarity": [Interval(Real, -1, 1, closed="both"), None],
        "alpha": [Interval(Real, 0, 1, closed="right")],
        "correction": [StrOptions({"bh", "by"})],
    },
    prefer_skip_nested_validation=True,
)
def cluster_features(
    codes: Codes,
    y: Data | None = None,
    *,
    components: Data | None = None,
    linkage: str = "average",
    n_clusters: int | None = None,
    min_similarity: float | None = None,
    activity_threshold: float = 0.0,
    batch: Data | None = None,
    groups: Data | None = None,
    control: Data | None = None,
    grid_shape: Data | None = None,
    alpha: float = 0.05,
    correction: str = "bh",
) -> FeatureClusters:
    """Join features that occur together, and name the class that they share.

    A dictionary may have several features for one concept. Their clusters are fewer
    than the features, and a cluster may be selective where each of its features is
    active too rarely.

    Parameters
    ----------
    codes : {array-like, sparse matrix or array} of shape (n_samples, n_components)
        Codes of the samples. A sparse input is never densified.

    y : array-like of shape (n_samples,), default=None
        Labels, of at least two classes, for the concept of each cluster. None omits it.

    components : array-like of shape (n_components, n_features), default=None
        Atoms. If given, features are similar if their atoms have a large cosine; if
        not, if their codes are correlated (Pearson).

    linkage : {"average", "complete", "single", "weighted"}, default="average"
        Linkage, as in :func:`scipy.cluster.hierarchy.linkage`.

    n_clusters : int, default=None
        Number of clusters, with those of single features.

    min_similarity : float, default=None
        Smallest similarity at which clusters are joined: for ``linkage="average"``, the
        mean over the pairs of their features. None means 0.7, if `n_clusters` is None,
        too.

    activity_threshold, batch, groups, control, grid_shape
        For the tests of the classes, as in
        :func:`~skdict.metrics.describe_features`.

    alpha, correction
        As in :func:`~skdict.metrics.describe_features`.

    Returns
    -------
    clusters : DataFrame
        One row for each cluster, the largest first. Columns:

        - `cluster`: its number, from 0.
        - `n_features`: number of its features.
        - `similarity`: mean similarity of two of its features; 1 for a single one.
        - `density`: fraction of the samples in which any of its features is active.

        and, with `y`:

        - `best_class`, `score`, `q_value`, `auroc`: as in
          :func:`~skdict.metrics.describe_features`, if the cluster is active where any
          of its features is, with the sum of their magnitudes as its code. The rate of
          false discoveries is controlled over all clusters and classes.
        - `agreement`: fraction of its features that have the same best class by
          themselves.
        - `best_feature`, `feature_score`: the feature with the highest score for this
          class, and that score.

    features : DataFrame
        One row for each feature: `feature`, its `cluster` (-1 for a feature whose code
        is the same in all samples), and `similarity`, the mean similarity with the
        other features of its cluster (1 if there are none).

    Raises
    ------
    ValueError
        As :func:`~skdict.metrics.describe_features`; also if `components` has another
        number of rows than `codes` has columns, if no feature varies, or if both
        `n_clusters` and `min_similarity` are given.

    See Also
    --------
    skdict.metrics.order_atoms : Orders atoms by the same clustering.
    skdict.metrics.describe_features : The classes of single features.

    Notes
    -----
    The clusters do not depend on `y`, so the tests of the classes are those of any
    features. They say that a cluster is selective, not that joining its features made
    it so: for that, compare `score` with `feature_score`.

    The distances of all pairs are held in memory twice: 8,192 features of 100,000
    samples with 32 non-zeros take about 1 GB, and 20 seconds on one core.

    Examples
    --------
    >>> import numpy as np
    >>> from skdict.concepts import cluster_features
    >>> rng = np.random.default_rng(0)
    >>> y = rng.choice(["treated", "untreated"], 300)
    >>> codes = rng.random((300, 6)) * (rng.random((300, 6)) < 0.2)
    >>> codes[:, 4] = (y == "treated") * rng.random(300)
    >>> codes[:, 1] = codes[:, 4] + 0.1 * rng.random(300)
    >>> clusters, features = cluster_features(codes, y)
    >>> features["cluster"].tolist()
    [1, 0, 2, 3, 0, 4]
    >>> clusters.loc[0, "best_class"], int(clusters.loc[0, "n_features"])
    ('treated', 2)
    """
    codes = check_codes(codes)
    n_samples, n_components = codes.shape
    if n_clusters is not None and min_similarity is not None:
        raise ValueError(
            "Clusters are cut at a number or at a similarity, but both "
            f"n_clusters={n_clusters} and min_similarity={min_similarity} were given."
        )
    varying = np.flatnonzero(_varies(codes))
    if not len(varying):
        raise ValueError("No feature varies: all samples have the same code.")
    if n_clusters is not None and n_clusters > len(varying):
        raise ValueError(
            f"n_clusters={n_clusters} is more than the {len(varying)} features whose "
            "codes vary."
        )
    if components is None:
        unit = _standardised(codes, varying)
    else:
        atoms = check_codes(components, "components")
        if len(atoms) != n_components:
            raise ValueError(
                f"components has {len(atoms)} rows, but codes has {n_components} "
                "columns."
            )
        unit = _Unit(unit_rows(atoms[varying])[0].T, None)
    distances = _distances(unit)
    labels = np.zeros(1, np.intp)
    if len(varying) > 1:
        # linkage overwrites nothing of ours, so that the distances can be read again.
        tree = build_tree(distances, linkage)
        if n_clusters is not None:
            labels = fcluster(tree, n_clusters, "maxclust") - 1
        else:
            least = _MIN_SIMILARITY if min_similarity is None else min_similarity
            labels = fcluster(tree, 1 - least + _TOLERANCE, "distance") - 1
    labels = _by_size(labels)
    own = _own_similarities(distances, labels)
    cluster = np.full(n_components, -1)
    similarity = np.ones(n_components)
    cluster[varying], similarity[varying] = labels, own
    features = pd.DataFrame(
        {
            "feature": np.arange(n_components),
            "cluster": cluster,
            "similarity": similarity,
        }
    )
    joined = _join(codes, varying, labels, activity_threshold)
    sizes = np.bincount(labels)
    columns: dict[str, Any] = {
        "cluster": np.arange(len(sizes)),
        "n_features": sizes,
        "similarity": np.bincount(labels, own) / sizes,
        "density": np.diff(sp.csc_array(joined).indptr) / n_samples,
    }
    if y is not None:
        tests = {
            "batch": batch,
            "groups": groups,
            "control": control,
            "grid_shape": grid_shape,
            "alpha": alpha,
            "correction": correction,
        }
        columns |= _concepts(
            codes, joined, y, varying, labels, activity_threshold, tests
        )
    return FeatureClusters(pd.DataFrame(columns), features)


class _Unit(NamedTuple):
    """Columns of unit length after `means` has been subtracted from all entries."""

    columns: Any  # (n, n_features), dense or CSC
    means: np.ndarray | None


def _varies(codes: Codes) -> np.ndarray:
    if sp.issparse(codes):
        low, high = codes.min(axis=0).toarray(), codes.max(axis=0).toarray()
        return (low < high).ravel()
    return codes.min(axis=0) < codes.max(axis=0)


def _standardised(codes: Codes, features: np.ndarray) -> _Unit:
    """Scale columns so that their centred entries have unit length."""
    if not sp.issparse(codes):
        columns = codes[:, features].astype(np.float64)
        columns /= np.abs(columns).max(axis=0)
        columns -= columns.mean(axis=0)
        return _Unit(unit_rows(columns.T)[0].T, None)
    columns = sp.csc_array(codes)[:, features].astype(np.float64)
    n_stored = np.diff(columns.indptr)
    largest = abs(columns).max(axis=0).toarray().ravel()
    columns.data /= np.repeat(largest, n_stored)
    n = columns.shape[0]
    means = columns.sum(axis=0) / n
    # Two passes: squares of the centred entries, those of the zeros counted apart.
    centred = columns.copy()
    centred.data -= np.repeat(means, n_stored)
    squares = centred.multiply(centred).sum(axis=0) + (n - n_stored) * means**2
    lengths = np.sqrt(squares)
    columns.data /= np.repeat(lengths, n_stored)
    return _Unit(columns, means / lengths)


def _distances(unit: _Unit) -> np.ndarray:
    """One minus the similarity of all pairs, as scipy's condensed vector."""
    n, n_features = unit.columns.shape
    condensed = np.empty(n_features * (n_features - 1) // 2)
    start = 0
    for block in blocks(n_features, n_features, _BLOCK_ENTRIES):
        some = unit.columns[:, block]
        table = some.T @ unit.columns
        table = table.toarray() if sp.issparse(table) else table
        if unit.means is not None:
            table -= n * unit.means[block, None] * unit.means
        for row, similarities in enumerate(table, block.start):
            own = similarities[row + 1 :]
            condensed[start : start + len(own)] = 1 - np.clip(own, -1, 1)
            start += len(own)
    return condensed


def _by_size(labels: np.ndarray) -> np.ndarray:
    """Number clusters by falling size, and equal ones by their first feature."""
    first, sizes = np.unique(labels, return_index=True, return_counts=True)[1:]
    order = np.lexsort((first, -sizes))
    return np.argsort(order)[np.unique(labels, return_inverse=True)[1]]


def _own_similarities(distances: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mean similarity of each feature with the others of its cluster."""
    n = len(labels)
    found = np.ones(n)
    order = np.argsort(labels, kind="stable")
    for own in np.split(order, np.cumsum(np.bincount(labels))[:-1]):
        if len(own) < 2:
            continue
        totals = np.zeros(len(own))
        for i, j in enumerate(own[:-1]):
            others = own[i + 1 :]
            # Place of the pair (j, k), j < k, in the condensed vector.
            pairs = 1 - distances[n * j - j * (j + 1) // 2 + others - j - 1]
            totals[i] += pairs.sum()
            totals[i + 1 :] += pairs
        found[own] = totals / (len(own) - 1)
    return found


def _join(
    codes: Codes, features: np.ndarray, labels: np.ndarray, threshold: float
) -> sp.csr_array:
    """Sum the magnitudes of the active entries of each cluster."""
    active = sp.csr_array(find_active(codes, threshold))
    rows = np.repeat(np.arange(active.shape[0]), np.diff(active.indptr))
    values = np.abs(np.ravel(codes[rows, active.indices]).astype(np.float64))
    magnitudes = sp.csr_array(
        (values, active.indices, active.indptr), shape=active.shape
    )
    members = sp.csr_array(
        (np.ones(len(features)), (features, labels)),
        shape=(codes.shape[1], labels.max() + 1),
    )
    return sp.csr_array(magnitudes @ members)


def _concepts(
    codes: Codes,
    joined: sp.csr_array,
    y: Data,
    features: np.ndarray,
    labels: np.ndarray,
    threshold: float,
    tests: dict[str, Any],
) -> dict[str, Any]:
    """Tests of the classes of clusters, beside those of their features."""
    of_clusters = describe_features(joined, y, **tests)
    single = describe_features(codes, y, activity_threshold=threshold, **tests)
    best = of_clusters["best_class"].to_numpy()
    own = single["best_class"].to_numpy()[features]
    agrees = own == best[labels]
    scores = _scores_for(codes, y, threshold, features, best[labels])
    order = np.lexsort((-scores, labels))
    leading = order[np.unique(labels[order], return_index=True)[1]]
    kept = ["best_class", "score", "q_value", "auroc"]
    return {name: of_clusters[name].to_numpy() for name in kept} | {
        "agreement": np.bincount(labels, agrees) / np.bincount(labels),
        "best_feature": features[leading],
        "feature_score": scores[leading],
    }


def _scores_for(
    codes: Codes, y: Data, threshold: float, features: np.ndarray, wanted: np.ndarray
) -> np.ndarray:
    """Selectivity of each feature for one class of its own."""
    classes = encode(y, "y", codes.shape[0])[0]
    scores = selectivity_scores(codes, y, activity_threshold=threshold)
    return scores[features, np.searchsorted(classes, wanted)]
