"""Rows in memory maps, zarr, HDF5 and Dask, against the same rows in memory."""

import copy
import functools
import threading
import tracemalloc

import dask
import dask.array as da
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import config_context
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from skdict import (
    ICFL,
    KSVD,
    BatchTopKSAE,
    ControlCenterScaler,
    ControlPCAWhitener,
    Reconstructor,
    TopKSAE,
    Transcoder,
    Truncator,
)
from skdict._utils import arrays
from skdict.decomposition._registry import DICTIONARIES
from skdict.evaluation import compare_dictionaries
from skdict.metrics import make_linear_probe
from skdict.preprocessing import InMemory, RowwiseTransformer
from skdict.report import FeatureReport
from skdict.rows import StoredRows, centre_and_spread, draw_rows, epochs
from skdict.rows.stored import widened

KINDS = [entry.estimator for entry in DICTIONARIES]
N, D = 3000, 8
rng = np.random.default_rng(0)
Y = np.arange(N) * 4 // N  # sorted, as plates are
X = (rng.normal(size=(N, D)) + 3 * rng.normal(size=(4, D))[Y]).astype(np.float16)
ROWS = X.astype(np.float32)
CONTROL = Y == 1
TABLES = {"X": X, "ROWS": ROWS, "targets": ROWS[:, :3] + 1}
# A working memory in MiB that has no room for all rows, and buffers of 300 rows.
SMALL = 8 * 300 * D * 4 / 2**20


def new(folder):
    return folder / f"rows{len(list(folder.iterdir()))}"


def memmap(folder, X):
    path = new(folder)
    X.tofile(path)
    return np.memmap(path, X.dtype, "r", shape=X.shape)


def zarr_chunks(folder, X, **options):
    store = new(folder)
    options = {"chunks": (70, 5), **options}
    array = zarr.create_array(store=store, shape=X.shape, dtype=X.dtype, **options)
    array[:] = X
    return zarr.open_array(store, mode="r")


def zarr_shards(folder, X):
    return zarr_chunks(folder, X, chunks=(60, 4), shards=(120, 8))


def hdf5(folder, X, chunks=(64, 3)):
    return h5py.File(new(folder), "w").create_dataset("X", data=X, chunks=chunks)


def hdf5_contiguous(folder, X):
    return hdf5(folder, X, chunks=None)


def dask_blocks(_, X):
    return da.from_array(X, chunks=((40, *[80] * 37), 3))


SOURCES = [memmap, zarr_chunks, zarr_shards, hdf5, hdf5_contiguous, dask_blocks]
DEFERRED = SOURCES[1:]
sources = pytest.mark.parametrize("source", SOURCES)
deferred = pytest.mark.parametrize("source", DEFERRED)


@pytest.fixture
def store(tmp_path):
    """Function that stores rows in a way."""
    opened = []

    def keep(source, rows=X, **options):
        opened.append(source(tmp_path, rows, **options))
        return opened[-1]

    yield keep
    for array in opened:
        if isinstance(array, h5py.Dataset):
            array.file.close()


@pytest.fixture
def little_memory():
    with config_context(working_memory=SMALL):
        yield


def fitted(kind, rows, y=None, **options):
    options = {"max_iter": 3, "batch_size": 100, "random_state": 0, **options}
    return kind(24, k=3, **options).fit(rows, y)


@functools.cache
def _fitted_in_memory(kind, rows, targets, options):
    rows, targets = TABLES[rows], None if targets is None else TABLES[targets]
    return fitted(kind, rows, targets, **dict(options))


def fitted_in_memory(kind, rows="X", targets=None, **options):
    """A copy of what is fitted once to rows in memory, which most tests start from."""
    model = _fitted_in_memory(kind, rows, targets, tuple(options.items()))
    return copy.deepcopy(model)


# StoredRows


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stored")
    opened = [source(folder, X) for source in SOURCES]
    with config_context(working_memory=SMALL):
        return [StoredRows(array) for array in opened]


@settings(max_examples=60)
@given(
    which=st.integers(0, len(SOURCES) - 1),
    rows=st.lists(st.integers(0, N - 1), max_size=50),
    start=st.integers(-N, N),
    stop=st.integers(-N, N),
    step=st.integers(1, 3),
)
def test_rows_are_taken_as_from_an_array(stored, which, rows, start, stop, step):
    table = stored[which]
    assert (table.shape, table.dtype, len(table)) == (ROWS.shape, ROWS.dtype, N)
    rows = np.array(rows, dtype=np.int64)
    some = slice(start, stop, step)
    mask = np.isin(np.arange(N), rows)
    for key in (rows, some, mask, (some, slice(None))):
        np.testing.assert_array_equal(table[key], ROWS[key], strict=True)


@pytest.mark.parametrize(
    "layout",
    {
        "plain": lambda X: X,
        "read-only": lambda X: np.frombuffer(X.tobytes(), X.dtype).reshape(X.shape),
        "columns first": np.asfortranarray,
        "backwards": lambda X: X[::-1, ::-1],
        "big-endian": lambda X: X.astype(">f2"),
        "one in two": lambda X: np.repeat(X, 2, axis=1)[:, ::2],
    }.items(),
    ids=lambda layout: layout[0],
)
def test_every_half_precision_number_is_widened_as_by_numpy(monkeypatch, layout):
    monkeypatch.setattr(arrays, "_BLOCK_ENTRIES", 2**12)
    every = np.arange(2**16, dtype=np.uint16).view(np.float16).reshape(256, 256)
    X = layout[1](every)
    with np.errstate(invalid="ignore"):
        expected = X.astype(np.float32)
    wide = widened(X)
    assert wide.dtype == np.float32
    np.testing.assert_array_equal(wide, expected)
    assert (np.signbit(wide) == np.signbit(expected)).all()
    assert wide.flags.writeable


@pytest.mark.parametrize(
    ("source", "multiple"), [(zarr_chunks, 70), (zarr_shards, 120), (hdf5, 64)]
)
def test_blocks_are_whole_chunks(store, source, multiple):
    edges = StoredRows(store(source)).edges
    assert (edges[:-1] % multiple == 0).all()
    assert edges[-1] == N
    wide = StoredRows(
        store(zarr_chunks, np.zeros((500, 5000), np.float16), chunks=(70, 2500))
    ).edges
    assert (np.diff(wide)[:-1] == 70).all()


def test_blocks_of_dask_are_its_own():
    table = StoredRows(dask_blocks(None, X))
    np.testing.assert_array_equal(table.edges, [0, *range(40, N + 1, 80)])


@pytest.mark.parametrize("n", [1, 10, 300, N, 5 * N])
@sources
def test_scattered_rows_are_different_and_from_everywhere(store, source, n):
    table = StoredRows(store(source))
    generator = torch.Generator().manual_seed(0)
    rows = table.scattered(n, generator).numpy()
    assert len(rows) == min(n, N)
    assert (np.diff(rows) > 0).all()
    assert 0 <= rows[0] <= rows[-1] < N
    if n == 300:
        assert set(Y[rows]) == set(Y)
    assert not np.array_equal(rows, table.scattered(n, generator)) or n >= N


@pytest.mark.usefixtures("little_memory")
def test_first_atoms_are_rows_from_everywhere(store):
    model = ICFL(24, k=3, init="samples", max_iter=0, random_state=0).fit(store(memmap))
    centred = ROWS - ROWS.mean(axis=0)
    cosines = model.components_ @ (centred / np.linalg.norm(centred, axis=1)[:, None]).T
    assert cosines.max(axis=1).min() > 0.999
    assert len(np.unique(Y[cosines.argmax(axis=1)])) == 4


@pytest.mark.usefixtures("little_memory")
def test_draws_are_on_the_cpu_whatever_the_default_device_is(store):
    table = StoredRows(store(memmap))
    with torch.device("meta"):
        generator = torch.Generator("cpu").manual_seed(0)
        assert len(draw_rows(table, 100, generator)) == 100
        assert sum(len(rows) for (rows,) in epochs([table], 500, generator)) == N


# Epochs


class Chunked:
    """The least that rows must be."""

    def __init__(self, rows, size):
        self.rows, self.dtype, self.shape = rows, rows.dtype, rows.shape
        self.chunks = (size, rows.shape[1])

    def __getitem__(self, rows):
        return self.rows[rows]


def numbered(n):
    return np.arange(2 * n, dtype=np.float32).reshape(n, 2)


@settings(max_examples=50, deadline=None)
@given(
    n=st.integers(1, 60),
    chunk=st.integers(1, 20),
    batch_size=st.integers(1, 70),
    buffer=st.integers(1, 40),
    shuffled=st.booleans(),
    held_out=st.sets(st.integers(0, 59)),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_row_comes_once_with_its_target(
    n, chunk, batch_size, buffer, shuffled, held_out, seed
):
    held_out = sorted(i for i in held_out if i < n)[: n - 1]
    without = torch.tensor(held_out, dtype=torch.int64)
    rows = numbered(n)
    with config_context(working_memory=buffer * 8 * 8 / 2**20):
        tables = [
            StoredRows(Chunked(rows, chunk)),
            torch.from_numpy(rows[:, :1] + 7),
            StoredRows(Chunked(-rows, 9)),
        ]
        assert tables[0].buffer_rows == buffer

        def epoch(generator):
            return list(epochs(tables, batch_size, generator, without))

        generator = torch.Generator().manual_seed(seed) if shuffled else None
        first, second = epoch(generator), epoch(generator)
    for batches in (first, second):
        x = np.concatenate([batch[0] for batch in batches])
        y = torch.cat([batch[1] for batch in batches]).numpy()
        np.testing.assert_array_equal(y, x[:, :1] + 7)
        z = np.concatenate([batch[2] for batch in batches])
        np.testing.assert_array_equal(z, -x)
        sizes = [len(batch[0]) for batch in batches]
        kept = np.delete(rows, held_out, axis=0)
        assert len(sizes) == -(-len(kept) // batch_size)
        if shuffled:
            assert max(sizes) - min(sizes) <= 1
            np.testing.assert_array_equal(x[x[:, 0].argsort()], kept)
        else:
            assert sizes[:-1] == [batch_size] * (len(sizes) - 1)
            np.testing.assert_array_equal(x, kept)
    if shuffled:
        generator.manual_seed(seed)
        with config_context(working_memory=buffer * 8 * 8 / 2**20):
            again = epoch(generator)
        for a, b in zip(first, again, strict=True):
            np.testing.assert_array_equal(a[0], b[0])


def test_batches_mix_rows_of_many_places():
    rows = numbered(20_000)
    with config_context(working_memory=8 * 4000 * 8 / 2**20):
        table = StoredRows(da.from_array(rows, chunks=(100, 2)))
        generator = torch.Generator().manual_seed(0)
        places = [
            len(np.unique(batch[:, 0] // 200))
            for (batch,) in epochs(
                [table[:][:, :1][:0] if 0 else table], 200, generator
            )
        ]
    # 200 rows out of a buffer of 40 blocks.
    assert min(places) > 30


def test_at_most_two_buffers_are_in_memory(tmp_path):
    rows = np.zeros((200_000, 64), np.float16)
    table_bytes = rows.size * 4
    source = memmap(tmp_path, rows)
    del rows
    with config_context(working_memory=table_bytes / 2**20 / 2):  # a buffer: 1/16
        table = StoredRows(source)
        tracemalloc.start()
        generator = torch.Generator().manual_seed(0)
        for (batch,) in epochs([table], 1000, generator):
            assert batch.dtype == np.float32
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 3 / 16 * table_bytes


# Fits


@sources
def test_rows_that_fit_give_the_fit_of_memory(store, source):
    expected = fitted_in_memory(ICFL, max_iter=1)
    model = fitted(ICFL, store(source), max_iter=1)
    assert isinstance(model.components_, np.ndarray)
    assert model.components_.dtype == np.float32
    np.testing.assert_array_equal(model.components_, expected.components_)
    np.testing.assert_array_equal(model.pre_bias_, expected.pre_bias_)


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("source", [memmap, zarr_shards, dask_blocks])
def test_a_buffer_is_as_good_as_a_full_shuffle(store, source):
    rows = store(source)
    assert not StoredRows(rows).fits
    for options in ({}, {"validation_fraction": 0.1})[: 2 if source is memmap else 1]:
        options = {"max_iter": 4, **options}
        expected = fitted_in_memory(ICFL, "ROWS", **options).score(ROWS)
        model = fitted(ICFL, rows, **options)
        assert model.score(ROWS) == pytest.approx(expected, abs=0.02)
        assert model.score(rows) == pytest.approx(model.score(ROWS), abs=1e-6)
        assert model.n_samples_seen_ == N
        again = fitted(ICFL, rows, **options)
        np.testing.assert_array_equal(again.components_, model.components_)


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_dictionary_learns_from_stored_rows(store, kind):
    rows = store(memmap)
    model = fitted(kind, rows, max_iter=2)
    density = np.diff(model.transform(ROWS).tocsc().indptr) / N
    assert model.feature_density_.shape == (24,)
    assert abs(model.feature_density_ - density).max() < 0.5
    assert model.score(rows) > 0
    assert model.partial_fit(rows).n_samples_seen_ == 2 * N


@pytest.mark.usefixtures("little_memory")
def test_ksvd_does_not_hold_all_rows(store, monkeypatch):
    sizes = []
    step = KSVD._model.step_

    def spy(self, x, *args):
        sizes.append(len(x))
        return step(self, x, *args)

    monkeypatch.setattr(KSVD._model, "step_", spy)
    rows = store(memmap)
    KSVD(24, 3, max_iter=1, random_state=0).fit(rows)
    assert max(sizes) <= StoredRows(rows).buffer_rows
    assert sum(sizes) == N


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("source", [memmap, hdf5, dask_blocks])
def test_whitener_and_scaler_learn_the_same(store, source):
    rows = store(source)
    for options in ({}, {"shrinkage": "auto"}, {"n_components": 0.9}):
        whitener = ControlPCAWhitener(**options)
        expected = whitener.fit(X, control=CONTROL).transform(X)
        found = whitener.fit(rows, control=CONTROL).transform(rows)
        np.testing.assert_allclose(np.asarray(found), expected, atol=1e-4)
    batch = np.arange(N) % 3
    scaler = ControlCenterScaler()
    expected = scaler.fit(X, control=CONTROL, batch=batch).transform(X, batch=batch)
    scaler.fit(rows, control=CONTROL, batch=batch)
    found = scaler.transform(rows, batch=batch)
    np.testing.assert_allclose(np.asarray(found), expected, atol=1e-5)
    back = scaler.inverse_transform(found, batch=batch)
    np.testing.assert_allclose(np.asarray(back), X, atol=1e-2)


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("source", [memmap, zarr_shards])
def test_transcoder_takes_stored_rows_and_targets(store, source):
    rows = store(source)
    targets = da.from_array(ROWS[:, :3] + 1, chunks=(77, 3))
    model = fitted(Transcoder, rows, targets, max_iter=5)
    expected = fitted_in_memory(Transcoder, "ROWS", "targets", max_iter=5)
    assert model.score(ROWS, ROWS[:, :3]) == pytest.approx(
        expected.score(ROWS, ROWS[:, :3]), abs=0.05
    )
    predicted = np.asarray(model.predict(rows))
    np.testing.assert_allclose(predicted, model.predict(ROWS), atol=1e-5)
    flat = fitted(Transcoder, rows, da.from_array(ROWS[:, 0], chunks=50))
    assert np.asarray(flat.predict(rows)).shape == (N,)


# What is computed later


@deferred
def test_codes_of_deferred_rows_are_a_dask_array(store, source):
    rows = store(source)
    model = fitted_in_memory(ICFL)
    codes = model.transform(rows)
    assert isinstance(codes, da.Array)
    assert codes.shape == (N, 24)
    assert codes.dtype == np.float32
    assert sp.issparse(codes.blocks[0].compute())
    expected = model.transform(X)
    # What happens to the estimator afterwards does not matter.
    model.set_params(max_iter=1).fit(X[:100])
    for scheduler in ("threads", "synchronous"):
        found = codes.compute(scheduler=scheduler)
        assert found.format == "csr"
        np.testing.assert_allclose(found.toarray(), expected.toarray(), atol=1e-5)


def test_codes_of_a_memory_map_are_in_memory(store, little_memory):
    model = fitted_in_memory(ICFL)
    codes = model.transform(store(memmap))
    np.testing.assert_allclose(codes.toarray(), model.transform(X).toarray(), atol=1e-5)


@deferred
def test_steps_keep_rows_unread(store, source):
    rows = store(source)
    steps = [
        Truncator(ICFL(24, 5, max_iter=1, random_state=0), k=2),
        Truncator(BatchTopKSAE(24, 5, max_iter=1, random_state=0), k=2),
        Reconstructor(TopKSAE(24, 5, max_iter=1, random_state=0)),
        RowwiseTransformer(FrozenEstimator(StandardScaler().fit(X))),
    ]
    for step in steps:
        found = step.fit(rows).transform(rows)
        assert isinstance(found, da.Array)
        expected = step.transform(X)
        dense = [
            a.toarray() if sp.issparse(a) else a for a in (found.compute(), expected)
        ]
        np.testing.assert_allclose(*dense, rtol=1e-3, atol=1e-3)


def pipe(normalizer):
    return make_pipeline(
        ControlPCAWhitener(),
        normalizer,
        ICFL(24, 3, max_iter=2, random_state=0),
        InMemory(),
        make_linear_probe(),
    )


@functools.cache
def score_in_memory():
    plain = pipe(Normalizer()).fit(ROWS, Y, controlpcawhitener__control=CONTROL)
    return plain.score(ROWS, Y)


@pytest.mark.usefixtures("little_memory")
@deferred
def test_the_whole_pipeline_reads_rows_in_parts(store, source, monkeypatch):
    rows = store(source)
    monkeypatch.setattr(np, "asarray", refusing(np.asarray, rows))
    monkeypatch.setattr(type(rows), "__array__", refuse, raising=False)

    lazy = pipe(RowwiseTransformer(Normalizer()))
    lazy.fit(rows, Y, controlpcawhitener__control=CONTROL)
    assert lazy.score(rows, Y) == pytest.approx(score_in_memory(), abs=0.05)
    assert isinstance(lazy[:-2].transform(rows), da.Array)
    np.testing.assert_array_equal(lazy.predict(rows), lazy.predict(ROWS))


def refuse(self, *args, **kwargs):
    raise AssertionError("all rows are read at once")


def refusing(convert, rows):
    def checked(array, *args, **kwargs):
        assert array is not rows
        return convert(array, *args, **kwargs)

    return checked


def test_configuration_of_the_caller_reaches_other_threads(store):
    model = fitted_in_memory(ICFL)
    rows = store(zarr_chunks)
    with config_context(sparse_interface="sparray"):
        codes = model.transform(rows)
    assert isinstance(codes.compute(), sp.csr_array)
    assert isinstance(model.transform(rows).compute(), sp.csr_matrix)


def test_partial_reading_of_codes_back(store):
    model = fitted_in_memory(ICFL)
    codes = model.transform(store(zarr_chunks))
    rebuilt = model.inverse_transform(codes)
    assert isinstance(rebuilt, da.Array)
    np.testing.assert_allclose(
        rebuilt.compute(), model.inverse_transform(model.transform(X)), atol=1e-5
    )


# What is wrong


@sources
@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_row_that_is_not_finite_is_named(store, source, bad):
    rows = X.copy()
    rows[1245, 3] = bad
    rows[1246, 0] = bad
    source = store(source, rows)
    for learner in (ICFL(24, 3), ControlPCAWhitener()):
        with pytest.raises(ValueError, match=r"Input X contains NaN.* row 1245"):
            learner.fit(
                source, **({} if isinstance(learner, ICFL) else {"control": CONTROL})
            )
    with pytest.raises(ValueError, match="Input X contains NaN"):
        np.asarray(fitted_in_memory(ICFL).transform(source))


class Failing(Chunked):
    """Rows of which one cannot be read from the n-th time on."""

    def __init__(self, n_good):
        super().__init__(X, 100)
        self.n_good = n_good

    def __getitem__(self, rows):
        if rows.start <= 1500 < rows.stop:
            self.n_good -= 1
            if self.n_good < 0:
                raise OSError("a bad sector")
        return super().__getitem__(rows)


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("n_good", [0, 1, 2, 3, 5])
def test_a_reader_that_fails_says_where_and_leaves_no_thread(n_good):
    before = threading.active_count()
    model = fitted_in_memory(ICFL)
    atoms = model.components_
    with pytest.raises(OSError, match="a bad sector") as caught:
        model.set_params(max_iter=20).fit(Failing(n_good))
    (note,) = caught.value.__notes__
    assert note == "While rows 1500 to 1800 of X were read."
    assert model.components_ is atoms
    assert threading.active_count() == before


@pytest.mark.usefixtures("little_memory")
def test_an_interrupted_epoch_leaves_no_thread(store):
    rows = store(zarr_chunks)
    before = threading.active_count()

    def interrupt(record):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted(ICFL, rows, callbacks=[interrupt])
    table = StoredRows(rows)
    batches = iter(epochs([table], 10, torch.Generator()))
    next(batches)
    batches.close()
    assert threading.active_count() == before


@sources
def test_centre_and_spread_are_those_of_memory(store, source):
    with config_context(working_memory=SMALL):
        table = StoredRows(store(source))
    mean, spread = centre_and_spread(table)
    np.testing.assert_allclose(mean, ROWS.mean(axis=0, dtype=np.float64), rtol=1e-6)
    assert spread == pytest.approx(ROWS.var(axis=0, dtype=np.float64).sum() ** 0.5)


@deferred
def test_other_widths_and_shapes_are_refused_at_once(store, source):
    model = fitted_in_memory(ICFL)
    wide = store(source, np.zeros((N, D + 1), np.float16))
    with pytest.raises(ValueError, match=f"X has {D + 1} features, but ICFL"):
        model.transform(wide)
    with pytest.raises(ValueError, match=f"X has {D + 1} features"):
        model.partial_fit(wide)


def test_unsuitable_tables_are_refused(store, little_memory):
    model = fitted_in_memory(ICFL)
    cube = da.zeros((300, 2, 8), chunks=50)
    for call in (model.fit, model.transform):
        with pytest.raises(ValueError, match="Expected 2D array, got 3D"):
            call(cube)
    unknown = da.from_array(X, chunks=(50, D))
    unknown = unknown[unknown[:, 0] > 0]
    with pytest.raises(ValueError, match=r"compute_chunk_sizes\(\)"):
        model.fit(unknown)
    assert model.transform(unknown).compute().shape[0] == (X[:, 0] > 0).sum()
    with pytest.raises(ValueError, match="Numbers are needed"):
        model.fit(zarr_words())
    with pytest.raises(TypeError, match="sparse"):
        model.fit(da.from_array(ROWS, chunks=(50, D)).map_blocks(sp.csr_matrix))
    with pytest.raises(ValueError, match="0 sample"):
        model.fit(da.zeros((0, D), chunks=5))
    with pytest.raises(ValueError, match="pass the labels as batch instead"):
        ControlCenterScaler(batch_column=0).fit(da.from_array(X))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        fitted(Transcoder, X, da.from_array(ROWS[:-1], chunks=(50, D)))


def zarr_words():
    return da.from_array(np.full((N, D), "word"), chunks=(50, D))


def test_a_step_that_must_learn_is_refused():
    rows = da.from_array(X, chunks=(50, D))
    with pytest.raises(ValueError, match="StandardScaler learns from the rows"):
        RowwiseTransformer(StandardScaler()).fit(rows)
    assert (
        RowwiseTransformer(StandardScaler()).fit(ROWS).transform(rows).shape == X.shape
    )


def test_without_dask_it_says_how_to_install_it(store, monkeypatch):
    model = fitted_in_memory(ICFL)
    rows = store(zarr_chunks)
    monkeypatch.setitem(__import__("sys").modules, "dask.array", None)
    with pytest.raises(ImportError, match=r"pip install 'skdict\[stores\]'"):
        model.transform(rows)


def test_dask_computes_with_any_number_of_workers(store):
    codes = fitted_in_memory(ICFL).transform(store(hdf5))
    with dask.config.set(scheduler="threads", num_workers=4):
        many = codes.compute()
    assert abs(many - codes.compute(scheduler="synchronous")).max() < 1e-5


@pytest.mark.parametrize("source", [zarr_chunks, hdf5, dask_blocks])
def test_reports_and_comparisons_read_what_fits_and_refuse_the_rest(store, source):
    rows = store(source)
    icfl = ICFL(12, 2, max_iter=1, random_state=0).fit(ROWS)

    def report(X):
        return FeatureReport(icfl, X, Y, n_permutations=3, verbose=False).to_frame()

    def comparison(X):
        return compare_dictionaries(
            {"frozen": FrozenEstimator(icfl)}, X, Y, cv=2, seeds=None, n_permutations=0
        ).drop(columns="encode_seconds")

    for function in (report, comparison):
        pd.testing.assert_frame_equal(function(rows), function(ROWS))
        with (
            config_context(working_memory=SMALL),
            pytest.raises(TypeError, match=r"needs its rows in memory.*3000 rows"),
        ):
            function(rows)
