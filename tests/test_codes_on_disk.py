"""Codes written block by block: read back, resumed, refused."""

import os
import re
import signal
import sys

import anndata
import dask.array as da
import killed_writing
import numpy as np
import processes
import pyarrow.dataset
import pytest
import scipy.sparse as sp
import zarr

from skdict import ICFL
from skdict.io import read_codes, write_codes

N, D = 1000, 6
rng = np.random.default_rng(0)
X = rng.normal(size=(N, D)).astype(np.float32)
CODES = ICFL(12, k=3, max_iter=2, random_state=0).fit(X).transform(X)
formats = pytest.mark.parametrize("format", ["zarr", "parquet"])


def lazy(codes=CODES, rows=150):
    """Codes as a Dask array with CSR blocks."""
    dense = da.from_array(codes.toarray(), chunks=(rows, -1))
    meta = sp.csr_matrix((0, 0), dtype=codes.dtype)
    return dense.map_blocks(sp.csr_matrix, meta=meta)


def same(found, expected=CODES):
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    assert (found != expected).nnz == 0


@formats
@pytest.mark.parametrize("kind", ["dask", "csr", "array", "unknown"])
def test_codes_come_back(tmp_path, format, kind):
    codes = {
        "dask": lazy,
        "csr": lambda: CODES,
        "array": CODES.toarray,
        "unknown": lambda: lazy()[da.from_array(np.ones(N, bool), chunks=150)],
    }[kind]()
    write_codes(codes, tmp_path / "codes", format=format)
    found = read_codes(tmp_path / "codes")
    assert isinstance(found, da.Array)
    same(found.compute())
    same(found[130:470].compute(), CODES[130:470])
    assert sp.issparse(found.blocks[0].compute())


@formats
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_empty_rows_blocks_and_features(tmp_path, format, dtype):
    codes = sp.csr_matrix(([2], ([500], [3])), shape=(N, 12), dtype=dtype)
    write_codes(lazy(codes), tmp_path / "a", format=format)
    same(read_codes(tmp_path / "a").compute(), codes)


def test_suffix_tells_the_format(tmp_path):
    write_codes(CODES, tmp_path / "a.parquet")
    write_codes(CODES, tmp_path / "a.zarr")
    assert list((tmp_path / "a.parquet").glob("*.parquet"))
    assert (tmp_path / "a.zarr" / "zarr.json").exists()
    with pytest.raises(ValueError, match="'auto', 'zarr' or 'parquet'"):
        write_codes(CODES, tmp_path / "b", format="csv")


def test_anndata_reads_the_store(tmp_path):
    write_codes(lazy(), tmp_path / "codes.zarr")
    group = zarr.open_group(str(tmp_path / "codes.zarr"), mode="r")
    same(anndata.io.read_elem(group))
    same(anndata.experimental.read_elem_lazy(group).compute())


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.filterwarnings("ignore:Writing zarr v2 data")
@pytest.mark.filterwarnings("ignore:zarr v3 autosharding")
@pytest.mark.filterwarnings("ignore:Consolidated metadata")
def test_codes_join_a_store_of_anndata(tmp_path, zarr_format):
    adata = anndata.AnnData(X, obsm={"X_other": X})
    with anndata.settings.override(zarr_write_format=zarr_format):
        adata.write_zarr(tmp_path / "cells.zarr")
    write_codes(lazy(), tmp_path / "cells.zarr" / "obsm" / "X_icfl")
    same(anndata.read_zarr(tmp_path / "cells.zarr").obsm["X_icfl"])


def test_parquet_has_a_line_for_each_row(tmp_path):
    write_codes(lazy(), tmp_path / "codes.parquet")
    table = pyarrow.dataset.dataset(tmp_path / "codes.parquet").to_table().to_pandas()
    assert table["row"].tolist() == list(range(N))
    for i in (0, 499, N - 1):
        row = CODES[i]
        np.testing.assert_array_equal(table["indices"][i], row.indices)
        np.testing.assert_array_equal(table["values"][i], row.data)


class InterruptError(Exception):
    pass


def failing(n_good, codes=CODES, rows=150):
    """Codes whose blocks cannot be computed from the n-th on."""

    def block(part, block_id):
        if block_id[0] >= n_good:
            raise InterruptError
        return sp.csr_matrix(part)

    dense = da.from_array(codes.toarray(), chunks=(rows, -1))
    meta = sp.csr_matrix((0, 0), dtype=codes.dtype)
    return dense.map_blocks(block, meta=meta, dtype=codes.dtype)


@pytest.fixture
def one_by_one(monkeypatch):
    """Blocks are computed one at a time."""
    monkeypatch.setattr("skdict.io._codes._BLOCKS", 1)


@pytest.mark.usefixtures("one_by_one")
@formats
@pytest.mark.parametrize("n_good", [0, 1, 4, 6])
def test_an_interrupted_writing_goes_on(tmp_path, format, n_good):
    path = tmp_path / "codes"
    with pytest.raises(InterruptError):
        write_codes(failing(n_good), path, format=format)
    with pytest.raises(ValueError, match="incomplete"):
        read_codes(path)
    computed = []
    counted = lazy().map_blocks(
        lambda part, block_id: computed.append(block_id[0]) or part,
        meta=sp.csr_matrix((0, 0), dtype=CODES.dtype),
        dtype=CODES.dtype,
    )
    computed.clear()
    write_codes(counted, path, format=format)
    # The last complete block is compared.
    assert sorted(set(computed)) == list(range(max(0, n_good - 1), 7))
    same(read_codes(path).compute())
    assert not list(path.glob(".skdict*"))


@pytest.mark.usefixtures("one_by_one")
@formats
def test_other_codes_do_not_go_on(tmp_path, format):
    path = tmp_path / "codes"
    with pytest.raises(InterruptError):
        write_codes(failing(3), path, format=format)
    changed = CODES.copy()
    changed.data[changed.indptr[420]] += 1
    for codes, message in (
        (lazy(changed), "the first row that differs is 420"),
        (lazy(CODES[:-1]), "shape"),
        (lazy(CODES.astype(np.float64)), "dtype"),
        (lazy(rows=170), "other blocks"),
    ):
        with pytest.raises(FileExistsError, match=message):
            write_codes(codes, path, format=format)
    other = {"zarr": "parquet", "parquet": "zarr"}[format]
    with pytest.raises(FileExistsError, match="format"):
        write_codes(lazy(), path, format=other)
    write_codes(lazy(), path, format=format)
    same(read_codes(path).compute())


@formats
def test_what_is_there_is_kept_unless_asked(tmp_path, format):
    path = tmp_path / "codes"
    write_codes(CODES, path, format=format)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        write_codes(CODES[:10], path, format=format)
    same(read_codes(path).compute())
    write_codes(CODES[:10], path, format=format, overwrite=True)
    same(read_codes(path).compute(), CODES[:10])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(FileExistsError):
            write_codes(CODES, tmp_path / "other", format=format, overwrite=overwrite)
    assert (tmp_path / "other" / "thesis.txt").exists()


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_killed_writing_goes_on(tmp_path):
    """In forks of one process."""
    np.save(tmp_path / "codes.npy", CODES.toarray())
    run = processes.run(killed_writing.main, tmp_path, folder=tmp_path, timeout=120)
    assert run.returncode == 0, run.stderr
    assert len(run.stdout.splitlines()) == 2
    for line in run.stdout.splitlines():
        format, killed, status, n_blocks = line.split()
        assert 1 <= int(n_blocks) <= 20 - 8 + 3  # one is compared, two are read ahead
        assert (int(killed), int(status)) == (signal.SIGKILL, 0), run.stderr
        same(read_codes(tmp_path / format).compute())


def test_what_is_no_table_of_finite_numbers(tmp_path):
    bad = CODES.copy()
    bad.data[bad.indptr[300]] = np.nan
    message = re.escape("The codes from row 300 on holds NaN")
    with pytest.raises(ValueError, match="NaN"):
        write_codes(bad, tmp_path / "a")
    with pytest.raises(ValueError, match=message):
        write_codes(lazy(bad), tmp_path / "b")
    with pytest.raises(ValueError, match="a table"):
        write_codes(np.zeros(3), tmp_path / "c")
    with pytest.raises(FileNotFoundError, match="no folder"):
        read_codes(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="holds no codes"):
        read_codes(tmp_path)
    with pytest.raises(FileNotFoundError):
        write_codes(CODES, tmp_path / "nowhere" / "codes")


def test_without_zarr_it_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(ImportError, match=r"pip install 'skdict\[stores\]'"):
        write_codes(CODES, tmp_path / "codes")


def test_damage_is_told(tmp_path):
    write_codes(lazy(), tmp_path / "a.parquet")
    next((tmp_path / "a.parquet").glob("part-000000000300*")).unlink()
    with pytest.raises(ValueError, match="are missing"):
        read_codes(tmp_path / "a.parquet")
    write_codes(lazy(), tmp_path / "a.zarr")
    zarr.open_group(str(tmp_path / "a.zarr"), mode="r+")["indptr"].resize((20,))
    with pytest.raises(ValueError, match="damaged"):
        read_codes(tmp_path / "a.zarr")
