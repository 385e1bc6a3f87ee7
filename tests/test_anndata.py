"""Rows from AnnData objects and codes into them, also through files."""

import json
import sys
from decimal import Decimal
from types import SimpleNamespace

import anndata
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from skdict import ICFL, ControlPCAWhitener, TopKSAE
from skdict.io import from_anndata, to_anndata

pytestmark = [
    # anndata 0.12 announces that its next release writes the newer format.
    pytest.mark.filterwarnings("ignore:Writing zarr v2 data"),
]


def cells(n=40, seed=0):
    rng = np.random.default_rng(seed)
    obs = pd.DataFrame(
        {
            "gene": pd.Categorical(np.where(np.arange(n) % 4, "TP53", "none")),
            "plate": np.arange(n) // 20,
        },
        index=[f"cell {i}" for i in range(n)],
    )
    return AnnData(
        rng.normal(size=(n, 6)).astype(np.float32),
        obs=obs,
        var=pd.DataFrame(index=[f"gene {j}" for j in range(6)]),
        layers={"counts": sp.csr_matrix(rng.poisson(0.5, (n, 6)).astype(np.float32))},
        obsm={
            "X_model": rng.normal(size=(n, 5)).astype(np.float32),
            "named": pd.DataFrame({"a": np.arange(n), "b": 1.0}, index=obs.index),
        },
    )


@pytest.fixture(scope="module")
def fitted():
    adata = cells()
    X, _, control, _ = from_anndata(adata, control={"gene": "none"})
    pipe = make_pipeline(
        ControlPCAWhitener(shrinkage="auto"),
        Normalizer(),
        ICFL(8, 2, max_iter=2, random_state=0),
    )
    pipe.fit(X, controlpcawhitener__control=control)
    return adata, pipe, pipe.transform(X)


def through_a_file(adata, folder, ending):
    path = folder / f"a.{ending}"
    if ending == "h5ad":
        adata.write_h5ad(path)
        return anndata.read_h5ad(path)
    adata.write_zarr(path)
    return anndata.read_zarr(path)


# From AnnData


def test_rows_of_x():
    adata = cells()
    X, table, control, names = from_anndata(adata, control={"gene": "none"})
    np.testing.assert_array_equal(X, adata.X)
    assert np.shares_memory(X.to_numpy(), adata.X)
    assert list(X.columns) == names == list(adata.var_names)
    assert X.index.equals(adata.obs_names)
    pd.testing.assert_frame_equal(table, adata.obs)
    np.testing.assert_array_equal(control, np.arange(40) % 4 == 0)
    table["gene"] = "changed"
    assert "changed" not in set(adata.obs["gene"])


@pytest.mark.parametrize("use", ["X_model", "obsm/X_model"])
def test_rows_of_obsm(use):
    adata = cells()
    profiles = from_anndata(adata, use)
    assert profiles.X is adata.obsm["X_model"]
    assert profiles.feature_names == [f"X_model_{j}" for j in range(5)]
    assert profiles.control is None


def test_rows_of_a_layer_stay_sparse():
    adata = cells()
    profiles = from_anndata(adata, "counts")
    assert sp.issparse(profiles.X)
    assert profiles.feature_names == list(adata.var_names)


def test_rows_of_a_frame():
    adata = cells()
    profiles = from_anndata(adata, "named")
    assert list(profiles.X.columns) == profiles.feature_names == ["a", "b"]


def test_a_view():
    adata = cells()[10:30]
    profiles = from_anndata(adata, "X_model", control="plate == 0")
    assert type(profiles.X) is np.ndarray
    np.testing.assert_array_equal(profiles.X, cells().obsm["X_model"][10:30])
    assert type(profiles.metadata) is pd.DataFrame
    assert profiles.control.sum() == 10


def test_keys_that_are_not_there_or_twice():
    adata = cells()
    message = r"use='X_umap' is neither.* 'counts' in layers and 'X_model', 'named' in"
    for use in ("X_umap", "obsm/counts", "layers/X_model", "obsm/"):
        with pytest.raises(ValueError, match=message.replace("X_umap", use)):
            from_anndata(adata, use)
    adata.obsm["counts"] = adata.obsm["X_model"]
    with pytest.raises(ValueError, match="use='layers/counts' or use='obsm/counts'"):
        from_anndata(adata, "counts")
    assert from_anndata(adata, "obsm/counts").X.shape == (40, 5)
    assert from_anndata(adata, "layers/counts").X.shape == (40, 6)
    with pytest.raises(ValueError, match=r"adata.X is empty.*none in layers"):
        from_anndata(AnnData(obs=adata.obs))
    with pytest.raises(TypeError, match="adata is a DataFrame, not an AnnData"):
        from_anndata(adata.obs)


def test_the_rule_is_that_of_files():
    adata = cells()
    with pytest.raises(ValueError, match=r"'gene' \(category\).*'TP53' \(30\)"):
        from_anndata(adata, control={"gene": "DMSO"})
    adata.obs["gene"] = adata.obs["gene"].cat.rename_categories({"TP53": "x"})
    adata.obs.loc[["cell 0", "cell 1"], "gene"] = np.nan
    with pytest.warns(UserWarning, match="2 of 40 rows have no value"):
        control = from_anndata(adata, control={"gene": "none"}).control
    assert control.sum() == 9


def test_a_backed_object(tmp_path):
    cells().write_h5ad(tmp_path / "a.h5ad")
    adata = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")
    profiles = from_anndata(adata, control={"gene": "none"})
    assert profiles.X.shape == (40, 6)
    np.testing.assert_array_equal(profiles.X[3:5], cells().X[3:5])
    assert profiles.control.sum() == 10
    adata.file.close()


def test_a_lazy_object():
    """In read_lazy's form: rows of dask, and a table that has to be read."""
    adata = cells()
    lazy = SimpleNamespace(
        X=da.from_array(adata.X, chunks=(10, -1)),
        obs=SimpleNamespace(to_memory=lambda: adata.obs),
        obsm={"X_model": da.from_array(adata.obsm["X_model"])},
        layers={},
        var_names=adata.var_names,
    )
    for use, expected in (("X", adata.X), ("X_model", adata.obsm["X_model"])):
        profiles = from_anndata(lazy, use, control={"gene": "none"})
        assert isinstance(profiles.X, da.Array)
        np.testing.assert_array_equal(profiles.X.compute(), expected)
        assert profiles.metadata is adata.obs
        assert profiles.control.sum() == 10


# To AnnData


@pytest.mark.parametrize("ending", ["h5ad", "zarr"])
def test_codes_come_back_from_a_file(fitted, tmp_path, ending):
    adata, pipe, codes = fitted
    adata = adata.copy()
    assert to_anndata(codes, estimator=pipe, adata=adata) is adata
    back = through_a_file(adata, tmp_path, ending)
    stored = back.obsm["X_icfl"]
    assert isinstance(stored, sp.csr_matrix)
    assert stored.dtype == codes.dtype
    assert (stored != codes).nnz == 0
    about = back.uns["skdict"]["X_icfl"]
    np.testing.assert_array_equal(about["components"], pipe[-1].components_)
    assert list(about["feature_names"]) == [f"icfl{i}" for i in range(8)]
    assert list(about["input_names"]) == list(adata.var_names)
    assert about["estimator"] == "ICFL"
    parameters = json.loads(about["parameters"])
    assert parameters == json.loads(json.dumps(pipe[-1].get_params()))
    assert [name for name, _ in json.loads(about["steps"])] == [
        "ControlPCAWhitener",
        "Normalizer",
    ]
    assert isinstance(about["version"], str)
    # The codes of the file are rows of the next step.
    assert from_anndata(back, "X_icfl").feature_names[0] == "X_icfl_0"


@pytest.mark.parametrize("ending", ["h5ad", "zarr"])
def test_a_new_object(fitted, tmp_path, ending):
    adata, pipe, codes = fitted
    new = to_anndata(codes, adata.obs, estimator=pipe)
    back = through_a_file(new, tmp_path, ending)
    assert (codes != back.X).nnz == 0
    assert (back.obsm["X_icfl"] != codes).nnz == 0
    assert list(back.var_names) == [f"icfl{i}" for i in range(8)]
    pd.testing.assert_frame_equal(back.obs, adata.obs)


def test_without_estimator_and_metadata(fitted):
    _, _, codes = fitted
    new = to_anndata(codes.toarray(), key="X_topk")
    assert isinstance(new.obsm["X_topk"], sp.csr_matrix)
    assert list(new.var_names)[:2] == ["feature_0", "feature_1"]
    assert list(new.obs_names)[:2] == ["0", "1"]
    assert "skdict" not in new.uns


def test_several_dictionaries_in_one_object(fitted):
    adata, pipe, codes = fitted
    adata = adata.copy()
    to_anndata(codes, estimator=pipe, adata=adata)
    sae = TopKSAE(4, 1, max_iter=1, random_state=0).fit(adata.X)
    to_anndata(sae.transform(adata.X), estimator=sae, adata=adata, key="X_topk")
    assert adata.uns["skdict"]["X_icfl"]["estimator"] == "ICFL"
    assert adata.uns["skdict"]["X_topk"]["estimator"] == "TopKSAE"
    # Codes of unknown origin must not be described by the dictionary before them.
    to_anndata(codes, adata=adata, key="X_topk")
    assert set(adata.uns["skdict"]) == {"X_icfl"}


@pytest.mark.parametrize("container", [sp.csr_array, sp.csc_matrix, sp.coo_array])
def test_other_sparse_codes(fitted, container):
    _, _, codes = fitted
    stored = to_anndata(container(codes)).obsm["X_icfl"]
    assert type(stored) is sp.csr_matrix
    assert (stored != codes).nnz == 0


def test_unsorted_codes_are_not_changed():
    codes = sp.csr_matrix(([1.0, 2.0], [3, 1], [0, 2]), shape=(1, 4))
    stored = to_anndata(codes).obsm["X_icfl"]
    assert stored.has_sorted_indices
    assert list(codes.indices) == [3, 1]
    np.testing.assert_array_equal(stored.toarray(), [[0, 2, 0, 1]])


@pytest.mark.parametrize("container", [sp.csr_matrix, sp.csr_array, np.asarray])
def test_codes_of_dask_stay_lazy(fitted, tmp_path, container):
    adata, _, codes = fitted
    adata = adata.copy()
    dense = da.from_array(codes.toarray(), chunks=(10, -1))
    lazy = dense.map_blocks(container, meta=container(np.zeros((0, 0), "f4")))
    to_anndata(lazy, adata=adata)
    assert isinstance(adata.obsm["X_icfl"], da.Array)
    back = through_a_file(adata, tmp_path, "zarr")
    assert isinstance(back.obsm["X_icfl"], sp.csr_matrix)
    assert (back.obsm["X_icfl"] != codes).nnz == 0


ODD_COLUMNS = {
    "date": (pd.to_datetime(["2020-01-01", None, "2020-01-02"]), "2020-01-01"),
    "span": (pd.to_timedelta([1, 2, None], unit="s"), "0 days 00:00:01"),
    "mixed": ([1, "a", None], "1"),
    "flags": ([True, None, False], "True"),
    "whole": (np.array([1, 2, 3], dtype=object), 1),
    "text": (pd.array(["a", None, "a"], dtype="string"), "a"),
    "arrow text": (pd.array(["a", None, "b"], dtype="string[pyarrow]"), "a"),
    "arrow number": (pd.array([1, None, 3], dtype="int64[pyarrow]"), 1),
    "arrow whole": (pd.array([1, 2, 3], dtype="int64[pyarrow]"), 1),
    "arrow flag": (pd.array([True, None, False], dtype="bool[pyarrow]"), True),
    "Float64": (pd.array([1.5, None, 2], dtype="Float64"), 1.5),
    "Int64": (pd.array([1, None, 2], dtype="Int64"), 1),
    "boolean": (pd.array([True, None, True], dtype="boolean"), True),
    "float16": (np.array([1, 2, 3], dtype="f2"), 1),
    "interval": (pd.cut([1, 2, 3], 2), "(0.998, 2.0]"),
    "dates": (pd.Categorical(pd.to_datetime(["2020-01-01"] * 3)), "2020-01-01"),
    "numbers": (pd.Categorical([2, 1, 2]), 2),
    "ambiguous": (pd.Categorical([1, "1", 1]), "1"),
    "bytes": ([b"a", b"\xff", None], "a"),
    "decimal": ([Decimal("1.5"), None, Decimal("1.5")], "1.5"),
    "lists": ([[1], [2], [3]], "[1]"),
    "nothing": ([None, None, None], None),
    3: ([1, 2, 3], 1),
}


@pytest.mark.parametrize("ending", ["h5ad", "zarr"])
def test_every_column_can_be_written(tmp_path, ending):
    metadata = pd.DataFrame({name: values for name, (values, _) in ODD_COLUMNS.items()})
    before = metadata.copy()
    new = to_anndata(np.eye(3, dtype=np.float32), metadata)
    pd.testing.assert_frame_equal(metadata, before)
    obs = through_a_file(new, tmp_path, ending).obs
    assert list(obs.columns) == [str(name) for name in ODD_COLUMNS]
    for name, (_, expected) in ODD_COLUMNS.items():
        column = obs[str(name)]
        missing = metadata[name].isna().to_numpy()
        np.testing.assert_array_equal(column.isna(), missing, err_msg=str(name))
        if expected is None:
            continue
        first = column.iloc[0]
        if isinstance(expected, str) and "-" in expected:
            first = first[:10]
        assert first == expected, name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.iloc[:2], "codes has 3 rows, but metadata has 2"),
        (lambda t: t.rename(columns={"a": "a/b"}), r"called 'a/b'.*slash"),
        (lambda t: t.rename(columns={"a": "_index"}), "called '_index'"),
        (lambda t: pd.concat([t, t], axis=1), "The columns .* same name: 'a'"),
        (lambda t: t.set_axis(["x", "y", "x"]), "The rows .* same name: 'x'"),
        (lambda t: t.set_axis([1, "1", 2]), "The rows .* same name: '1'"),
    ],
)
def test_metadata_that_cannot_be_written(change, message):
    metadata = change(pd.DataFrame({"a": [1, 2, 3]}))
    with pytest.raises(ValueError, match=message):
        to_anndata(np.eye(3), metadata)


def test_bad_input(fitted):
    adata, pipe, codes = fitted
    with pytest.raises(ValueError, match="codes has 39 rows, but adata has 40"):
        to_anndata(codes[:39], adata=adata)
    with pytest.raises(ValueError, match="Give one of them"):
        to_anndata(codes, adata.obs, adata=adata)
    with pytest.raises(ValueError, match=r"Pass adata.copy\(\)"):
        to_anndata(codes[:9], adata=adata[:9])
    with pytest.raises(TypeError, match="adata is a DataFrame"):
        to_anndata(codes, adata=adata.obs)
    with pytest.raises(ValueError, match="codes has 7 columns, but ICFL has 8 atoms"):
        to_anndata(codes[:, :7], estimator=pipe)
    with pytest.raises(ValueError, match="ICFL has no components_"):
        to_anndata(codes, estimator=ICFL(8))
    with pytest.raises(ValueError, match="Normalizer has no components_"):
        to_anndata(codes, estimator=Normalizer())
    for key in ("", "a/b"):
        with pytest.raises(ValueError, match="without a slash"):
            to_anndata(codes, key=key)
    for wrong in (np.zeros(3), [["a", "b"]], np.zeros((2, 2, 2))):
        with pytest.raises(ValueError, match="no table of numbers"):
            to_anndata(wrong)
    assert "X_icfl" not in adata.obsm  # nothing of the above has left a trace


def test_parameters_that_json_lacks(fitted):
    adata, _, _ = fitted
    sae = TopKSAE(
        4,
        1,
        max_iter=np.int64(1),
        callbacks=[print],
        random_state=np.random.RandomState(0),
    ).fit(adata.X)
    about = to_anndata(sae.transform(adata.X), estimator=sae).uns["skdict"]["X_icfl"]
    parameters = json.loads(about["parameters"])
    assert parameters["max_iter"] == 1
    assert "print" in parameters["callbacks"][0]
    assert "RandomState" in parameters["random_state"]
    assert "input_names" not in about


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "anndata", None)
    with pytest.raises(ImportError, match=r"needs anndata, .*'skdict\[tables\]'"):
        to_anndata(np.eye(3))
