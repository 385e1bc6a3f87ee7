"""skdict.evaluation.relationship_recall: known pairs among extreme cosines."""

import itertools

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from numpy.testing import assert_allclose
from scipy import sparse
from sklearn.metrics.pairwise import cosine_similarity

from skdict.evaluation import relationship_recall

N = 60
GENES = np.array([f"gene {i}" for i in range(N)])


def every_pair(names):
    return list(itertools.combinations(names, 2))


def planted(rng, n_features=30):
    profiles = rng.normal(size=(N, n_features))
    profiles[1::4] += 1.5 * profiles[::4]
    profiles[3::4] -= 1.5 * profiles[2::4]
    return profiles, [(GENES[i], GENES[i + 1]) for i in range(0, N, 2)]


def test_against_quantiles(rng):
    profiles, pairs = planted(rng)
    cosines = cosine_similarity(profiles)
    of_all = cosines[np.triu_indices(N, 1)]
    low, high = np.quantile(of_all, [0.1, 0.9])
    known = np.array([cosines[i, i + 1] for i in range(0, N, 2)])
    found = relationship_recall(profiles, GENES, pairs, tail=0.1, n_permutations=0)
    assert [*found] == [
        "profiles",
        "pairs",
        "n_pairs",
        "n_unknown",
        "recall",
        "recall_low",
        "recall_high",
        "expected",
    ]
    row = found.iloc[0]
    assert_allclose(row["recall_low"], (known <= low).mean())
    assert_allclose(row["recall_high"], (known >= high).mean())
    assert_allclose(row["recall"], row["recall_low"] + row["recall_high"])
    assert row["recall"] > 0.8
    assert row["recall_low"] > 0.3
    assert row["recall_high"] > 0.3
    assert row["expected"] == 0.2


def test_sparse_profiles_and_blocks(rng, monkeypatch):
    profiles, pairs = planted(rng)
    profiles[abs(profiles) < 1] = 0
    dense = relationship_recall(profiles, GENES, pairs, random_state=0)
    monkeypatch.setattr("skdict.evaluation._profiles._BLOCK_ENTRIES", 200)
    for n_rows in (N, N - 1):  # with all cosines in memory, and without
        monkeypatch.setattr("skdict.evaluation._profiles._MAX_TABLE_ROWS", n_rows)
        for make in (np.asarray, sparse.csr_matrix, sparse.csr_array):
            found = relationship_recall(make(profiles), GENES, pairs, random_state=0)
            pd.testing.assert_frame_equal(found, dense)


def test_magnitudes(rng):
    profiles, pairs = planted(rng)
    expected = relationship_recall(profiles, GENES, pairs, n_permutations=0)
    for scale in (1e-200, 1e200):
        for make in (np.asarray, sparse.csr_array):
            found = relationship_recall(
                make(profiles * scale), GENES, pairs, n_permutations=0
            )
            pd.testing.assert_frame_equal(found, expected)


def test_all_pairs_have_the_expected_recall_whatever_the_ties(rng):
    """Codes with one feature each have only the cosines 0 and 1."""
    pairs = every_pair(GENES)
    for codes in (
        np.eye(4)[rng.integers(0, 4, N)],
        np.zeros((N, 2)),
        rng.normal(size=(N, 5)),
    ):
        found = relationship_recall(codes, GENES, pairs, tail=0.07, random_state=0)
        assert_allclose(found["recall"], 0.14)
        assert_allclose(found["recall_low"], 0.07)
        assert_allclose(found["null_mean"], 0.14)
        assert found["p_value"][0] == 1


def test_null_is_calibrated(rng):
    """A hub with an extreme profile does not make chance look like knowledge."""
    p_values = []
    for seed in range(40):
        profiles = rng.normal(size=(30, 8)) + 1.5
        pairs = [(0, i) for i in range(1, 12)] + [(12, 13), (20, 21)]
        found = relationship_recall(
            profiles, np.arange(30), pairs, tail=0.2, random_state=seed
        )
        p_values.append(found["p_value"][0])
    assert 0.35 < np.mean(p_values) < 0.68
    assert np.mean(np.array(p_values) <= 0.1) < 0.2


def test_pairs_that_stay_in_their_batch(rng):
    """If all pairs of a batch are alike, no exchange inside it tells known pairs."""
    batch = np.repeat([0, 1, 2, 3], 15)
    profiles = 5 * np.eye(4)[batch] + 0.01 * rng.normal(size=(N, 4))
    pairs = [
        (GENES[15 * b + i], GENES[15 * b + i + 1]) for b in range(4) for i in (0, 5)
    ]
    free, inside = (
        relationship_recall(profiles, GENES, pairs, tail=0.2, batch=b, random_state=0)
        for b in (None, batch)
    )
    assert free["p_value"][0] < 0.02
    assert inside["p_value"][0] > 0.05


@pytest.mark.parametrize("container", [pl.DataFrame, pa.table, pd.DataFrame])
def test_pairs_in_any_table(rng, container):
    # Tables of polars and Arrow are iterated by columns.
    pairs = container({"first": list("acb"), "second": list("bdd")})
    found = relationship_recall(rng.normal(size=(4, 3)), list("abcd"), pairs)
    assert found["n_pairs"][0] == 3


def test_several_tables(rng):
    profiles, pairs = planted(rng)
    noise = rng.normal(size=(N, 10))
    frame = pd.DataFrame(pairs, columns=["a", "b"]).assign(score=1.0)
    unknown = [*pairs[:3], ("gene 0", "nobody"), ("gene 0", "gene 0"), pairs[0][::-1]]
    found = relationship_recall(
        {"codes": profiles, "noise": noise},
        GENES,
        {"CORUM": frame, "few": unknown},
        random_state=0,
    )
    assert found["profiles"].tolist() == ["codes", "codes", "noise", "noise"]
    assert found["pairs"].tolist() == ["CORUM", "few"] * 2
    assert found["n_pairs"].tolist() == [30, 3, 30, 3]
    assert found["n_unknown"].tolist() == [0, 2, 0, 2]
    assert found["p_value"][0] < 0.02 < found["p_value"][2]
    assert (found["null_mean"] <= found["null_q95"]).all()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"y": ["a", "b", "b", "c"]}, "1 perturbations have several rows"),
        ({"y": ["a", "b"]}, "There are 4 rows, but y has length 2"),
        ({"pairs": [("x", "y")]}, "pairs has no pair of two different"),
        ({"pairs": {"K": [("a", "a")]}}, r"pairs\['K'\] has no pair"),
        ({"pairs": [("a",)]}, "must have two columns"),
        ({"pairs": ["ab", "cd"]}, "must have two columns"),
        ({"pairs": [("a", "b"), ("c",)]}, "must have two columns"),
        ({"pairs": []}, "must have two columns"),
        ({"tail": 0.5}, "tail"),
        ({"profiles": {}}, "profiles is an empty dict"),
        (
            {"profiles": {"x": np.eye(4), "y": np.eye(3)}},
            r"profiles\['y'\] has 3 rows, but profiles\['x'\] has 4",
        ),
        (
            {"profiles": {"x": [[np.inf]] * 4}},
            r"profiles\['x'\] holds NaN or infinity in 4 of 4 rows",
        ),
        ({"profiles": np.eye(2), "y": ["a", "b"]}, "At least 3 perturbations"),
    ],
)
def test_bad_input(changed, message):
    call = {"profiles": np.eye(4), "y": list("abcd"), "pairs": [("a", "b")]} | changed
    with pytest.raises(ValueError, match=message):
        relationship_recall(**call)
