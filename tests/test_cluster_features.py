"""skdict.concepts.cluster_features: features that occur together, and their class."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from skdict.concepts import cluster_features
from skdict.metrics import describe_features, order_atoms, selectivity_scores


def same_partition(a, b):
    pairs = len(np.unique(np.stack((a, b)), axis=1).T)
    return pairs == len(np.unique(a)) == len(np.unique(b))


def planted(rng, n=400):
    """Three features of one class, two of another, one of neither, one dead."""
    y = rng.choice(["a", "b", "c"], n)
    kind = np.array([*"aaabb"])
    codes = np.zeros((n, 7))
    strength = {label: rng.random(n) + 0.5 for label in "ab"}
    for i, label in enumerate(kind):
        codes[:, i] = (y == label) * strength[label] + 0.05 * rng.random(n)
    codes[:, 5] = rng.random(n) * (rng.random(n) < 0.3)
    codes *= np.array([1, -1, 100, 1e-8, 1, 1, 0])  # scales do not matter, signs do
    order = np.array([5, 0, 3, 6, 2, 4, 1])
    return codes[:, order], y, order


def test_planted_clusters(rng):
    codes, y, order = planted(rng)
    for table in (codes, sparse.csr_matrix(codes), sparse.csr_array(codes)):
        clusters, features = cluster_features(table, y, activity_threshold=1e-9)
        cluster = np.empty(7, int)
        cluster[order] = features["cluster"]
        # Feature 1 is the opposite of 0 and 2.
        assert cluster[0] == cluster[2]
        assert cluster[3] == cluster[4]
        assert len({*cluster}) == 5
        assert cluster[6] == -1
        assert clusters["n_features"].tolist() == [2, 2, 1, 1]
        assert (clusters["similarity"] > 0.9).all()


@pytest.mark.parametrize("method", ["average", "complete", "single", "weighted"])
def test_against_scipy(rng, method, monkeypatch):
    monkeypatch.setattr("skdict.concepts._clusters._BLOCK_ENTRIES", 30)
    base = rng.normal(size=(200, 4))
    codes = np.maximum(base[:, rng.integers(0, 4, 12)] + rng.normal(size=(200, 12)), 0)
    correlation = np.corrcoef(codes.T)
    tree = linkage(squareform(1 - correlation, checks=False), method)
    for table in (codes, sparse.csr_array(codes)):
        for options, expected in (
            ({"n_clusters": 5}, fcluster(tree, 5, "maxclust")),
            ({"min_similarity": 0.4}, fcluster(tree, 0.6, "distance")),
            ({}, fcluster(tree, 0.3, "distance")),
        ):
            clusters, features = cluster_features(table, linkage=method, **options)
            labels = features["cluster"].to_numpy()
            assert same_partition(labels, expected)
            sizes = np.bincount(labels)
            assert_array_equal(clusters["n_features"], sizes)
            assert (np.diff(sizes) <= 0).all()
            for i in range(12):
                others = (labels == labels[i]) & (np.arange(12) != i)
                mean = correlation[i, others].mean() if others.any() else 1
                assert_allclose(features["similarity"][i], mean)
            any_active = [
                (codes[:, labels == c] != 0).any(axis=1).mean()
                for c in range(len(sizes))
            ]
            assert_allclose(clusters["density"], any_active)
            means = [
                features["similarity"][labels == c].mean() for c in range(len(sizes))
            ]
            assert_allclose(clusters["similarity"], means)


def test_atoms_in_place_of_codes(rng):
    atoms = rng.normal(size=(10, 5))
    atoms[4] = 2 * atoms[7]
    codes = rng.random((50, 10)) * (rng.random((50, 10)) < 0.5)
    _, features = cluster_features(codes, components=atoms)
    expected = order_atoms(atoms, min_similarity=0.7).labels
    assert same_partition(features["cluster"], expected)
    assert features["cluster"][4] == features["cluster"][7]


def test_concepts_of_clusters(rng):
    """Each of the features is active in a third of the class, all together in most."""
    n = 600
    y = rng.choice(["a", "b", "c"], n)
    group = np.arange(n) // 2
    y = y[group]
    codes = rng.random((n, 5)) * (rng.random((n, 5)) < 0.02)
    which = rng.integers(0, 3, n)
    for i in range(3):
        codes[:, i] += (y == "b") * (which == i)
    atoms = np.eye(5)
    atoms[:3] += 3
    for table in (codes, sparse.csr_matrix(codes)):
        clusters, _ = cluster_features(table, y, components=atoms, groups=group)
        first = clusters.iloc[0]
        assert first["best_class"] == "b"
        assert first["n_features"] == 3
        assert first["score"] > 2 * first["feature_score"]
        assert first["q_value"] < 1e-6
        assert first["agreement"] == 1
        scores = selectivity_scores(codes, y)[:3, 1]
        assert first["best_feature"] == scores.argmax()
        assert_allclose(first["feature_score"], scores.max())
    # The tests are those of any feature, here of the sums of each cluster.
    joined = np.stack([np.abs(codes[:, :3]).sum(axis=1), codes[:, 3], codes[:, 4]], 1)
    expected = describe_features(joined, y, groups=group)
    names = ["best_class", "score", "q_value", "auroc", "density"]
    pd.testing.assert_frame_equal(clusters[names], expected[names])


def test_labels_without_meaning_are_no_concepts(rng):
    codes = rng.random((300, 40)) * (rng.random((300, 40)) < 0.2)
    found = [
        (
            cluster_features(codes, rng.permutation(np.arange(300) % 3))[0]["q_value"]
            < 0.05
        ).any()
        for _ in range(20)
    ]
    assert np.mean(found) < 0.25


def test_magnitudes(rng):
    codes, _, _ = planted(rng)
    expected = cluster_features(codes).features
    for scale in (1e-150, 1e150):
        for make in (np.asarray, sparse.csr_array):
            found = cluster_features(make(codes * scale)).features
            pd.testing.assert_frame_equal(found, expected)


def test_one_feature():
    clusters, features = cluster_features([[0.0], [1.0]])
    assert clusters["n_features"].tolist() == [1]
    assert features["cluster"].tolist() == [0]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"n_clusters": 2, "min_similarity": 0.5}, "but both n_clusters=2"),
        ({"n_clusters": 9}, "n_clusters=9 is more than the 4 features"),
        ({"codes": np.ones((4, 3))}, "No feature varies"),
        ({"components": np.eye(3)}, "components has 3 rows, but codes has 4"),
        ({"components": np.full((4, 2), np.nan)}, "components holds NaN"),
        ({"y": ["a"] * 4}, "only a"),
        ({"linkage": "ward"}, "linkage"),
    ],
)
def test_bad_input(changed, message):
    with pytest.raises(ValueError, match=message):
        cluster_features(**{"codes": np.eye(4)} | changed)
