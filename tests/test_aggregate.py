"""skdict.evaluation.aggregate: rows of one group as one row."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

from skdict.evaluation import aggregate

STATISTICS = {"mean": "mean", "median": "median", "max": "max"}


@pytest.mark.parametrize("statistic", STATISTICS)
@given(
    X=arrays(np.float64, (9, 4), elements=st.sampled_from([-2.0, -0.5, 0, 0, 0, 1, 3])),
    ids=arrays(np.int64, 9, elements=st.integers(0, 3)),
)
def test_dense_and_sparse_agree_with_pandas(statistic, X, ids):
    expected = pd.DataFrame(X).groupby(ids).agg(statistic)
    dense = aggregate(X, ids, statistic=statistic)
    assert_allclose(dense.X, expected, atol=1e-15)
    assert_array_equal(dense.metadata["groups"], expected.index)
    assert_array_equal(dense.metadata["n_rows"], np.bincount(ids)[expected.index])
    codes = aggregate(sparse.csr_array(X), ids, statistic=statistic)
    assert isinstance(codes.X, sparse.csr_array)
    assert_allclose(codes.X.toarray(), expected, atol=1e-15)
    assert (codes.X.data != 0).all()
    pd.testing.assert_frame_equal(codes.metadata, dense.metadata)


def test_blocks_of_columns(monkeypatch, rng):
    X, ids = rng.normal(size=(50, 7)), rng.integers(0, 5, 50)
    whole = aggregate(X, ids).X
    monkeypatch.setattr("skdict.evaluation._aggregate._BLOCK_ENTRIES", 100)
    assert_array_equal(aggregate(X, ids).X, whole)


def test_types_and_magnitudes():
    for dtype, result in ((np.float32, np.float32), (np.int64, np.float64)):
        X = np.array([[1, 0], [2, 0]], dtype)
        for table in (X, sparse.csr_matrix(X)):
            assert aggregate(table, ["a", "a"]).X.dtype == result
    assert type(aggregate(sparse.csr_matrix(X), ["a", "a"]).X) is sparse.csr_matrix
    big = np.full((4, 1), 1.5e308)
    for statistic in STATISTICS:
        for table in (big, sparse.csr_matrix(big)):
            found = aggregate(table, ["a"] * 4, statistic=statistic).X
            assert_allclose(found.max(), 1.5e308)


def test_several_columns_and_metadata():
    metadata = pd.DataFrame(
        {
            "plate": ["p", "p", "q", "q"],
            "well": [1, 1, 1, 2],
            "gene": ["x", "x", None, "y"],
            "cell": [0, 1, 0, 0],
        },
        index=[7, 7, 8, 9],
    )
    X = np.arange(8.0).reshape(4, 2)
    wells = aggregate(X, metadata[["plate", "well"]], metadata=metadata)
    assert [*wells.metadata] == ["plate", "well", "gene", "n_rows"]
    assert wells.metadata["plate"].tolist() == ["p", "q", "q"]
    assert wells.metadata["well"].tolist() == [1, 1, 2]
    assert wells.metadata["gene"].isna().tolist() == [False, True, False]
    assert wells.metadata["n_rows"].tolist() == [2, 1, 1]
    assert_array_equal(wells.X, [[1, 2], [4, 5], [6, 7]])
    alone = aggregate(X, metadata[["plate"]]).metadata
    assert alone.to_dict("list") == {"plate": ["p", "q"], "n_rows": [2, 2]}
    as_dict = {"plate": metadata["plate"].tolist(), "well": metadata["well"].to_numpy()}
    assert_array_equal(aggregate(X, as_dict).X, wells.X)


@pytest.mark.parametrize("container", [pl.DataFrame, pa.table])
def test_tables_of_polars_and_arrow(container):
    data = {"plate": ["p", "p", "q"], "gene": ["x", "x", None], "n": [1, 2, 3]}
    expected = aggregate(np.eye(3), pd.DataFrame(data)[["plate"]], metadata=data)
    table = container(data)
    found = aggregate(np.eye(3), table.select(["plate"]), metadata=table)
    assert_array_equal(found.X, expected.X)
    pd.testing.assert_frame_equal(found.metadata, expected.metadata)


def test_cells_weigh_their_wells_equally():
    X, wells = [[1.0], [1.0], [1.0], [5.0]], ["a", "a", "a", "b"]
    of_wells = aggregate(X, wells, metadata={"gene": ["x"] * 4})
    assert aggregate(of_wells.X, of_wells.metadata["gene"]).X.tolist() == [[3.0]]


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"groups": ["a"]}, "There are 2 rows, but groups has length 1"),
        ({"groups": ["a", None]}, "groups holds 1 missing"),
        ({"groups": {}}, "groups has no columns"),
        ({"groups": {"well": ["a", None]}}, r"groups\['well'\] holds 1 missing"),
        ({"metadata": {"x": [1]}}, r"metadata\['x'\] has length 1"),
        ({"metadata": {"n_rows": [1, 1]}}, "called n_rows"),
        ({"X": [[np.nan], [1]]}, "X holds NaN or infinity in 1 of 2 rows"),
        ({"statistic": "sum"}, "statistic"),
    ],
)
def test_bad_input(given_, message):
    call = {"X": [[0.0], [1.0]], "groups": ["a", "a"]} | given_
    with pytest.raises(ValueError, match=message):
        aggregate(**call)
