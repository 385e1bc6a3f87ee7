"""Whatever happens in between, an estimator is what its completed calls have made it.

A machine of hypothesis streams rows from arrays, memory maps, zarr, HDF5 and Dask into
a dictionary, saves and loads it, copies it, and lets readers fail in the middle.
"""

import copy
import gc
import os
import pickle
import tempfile
import threading
from pathlib import Path

import dask.array as da
import h5py
import numpy as np
import pytest
import zarr
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)
from sklearn import config_context

from skdict import ICFL, TopKSAE, load, save

N, D = 400, 6
X = np.random.default_rng(0).normal(size=(N, D)).astype(np.float16)
# Room for 40 rows, and for 10 in a buffer: every part is larger than memory.
LITTLE = 8 * 10 * D * 4 / 2**20


class BrokenReaderError(OSError):
    pass


class Broken:
    """Rows of which a part cannot be read, or is not what it should be."""

    chunks = (20, D)
    dtype = X.dtype

    def __init__(self, rows, place, how):
        self.rows, self.place, self.how, self.shape = rows, place, how, rows.shape

    def __getitem__(self, key):
        rows = self.rows[key].copy()
        if key.start <= self.place < key.stop:
            if self.how == "raises":
                raise BrokenReaderError
            if self.how == "short":
                return rows[:-1]
            rows[self.place - key.start] = np.nan if self.how == "nan" else np.inf
        return rows


class Stream(RuleBasedStateMachine):
    kind = ICFL

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.root = Path(self.folder.name)
        self.model = self.kind(12, k=2, batch_size=32, random_state=0)
        self.twin = copy.deepcopy(self.model)
        self.n_seen = self.n_files = 0

    def new(self):
        self.n_files += 1
        return self.root / f"file{self.n_files}"

    def stored(self, how, rows):
        path = self.new()
        if how == "array":
            return rows
        if how == "memmap":
            rows.tofile(path)
            return np.memmap(path, rows.dtype, "r", shape=rows.shape)
        if how == "dask":
            return da.from_array(rows, chunks=(30, 4))
        if how == "hdf5":
            with h5py.File(path, "w") as file:
                file["X"] = rows
            return h5py.File(path, "r")["X"]
        store = zarr.create_array(
            store=path, shape=rows.shape, chunks=(25, D), dtype=rows.dtype
        )
        store[:] = rows
        return zarr.open_array(path, mode="r")

    @rule(
        how=st.sampled_from(["array", "memmap", "dask", "hdf5", "zarr"]),
        start=st.integers(0, N - 60),
        size=st.integers(45, 120),
    )
    def learn(self, how, start, size):
        rows = X[start : start + size]
        # The twin has the same kind of source, and no accidents.
        for model in (self.model, self.twin):
            with config_context(working_memory=LITTLE):
                model.partial_fit(self.stored(how, rows))
        self.n_seen += len(rows)

    @rule(
        how=st.sampled_from(["raises", "short", "nan", "inf"]),
        place=st.integers(0, 99),
    )
    def fail(self, how, place):
        before = dict(vars(self.model))
        broken = Broken(X[:100], place, how)
        error = BrokenReaderError if how == "raises" else ValueError
        with config_context(working_memory=LITTLE), pytest.raises(error):
            self.model.partial_fit(broken)
        assert vars(self.model).keys() == before.keys()
        assert all(vars(self.model)[name] is value for name, value in before.items())

    @rule(how=st.sampled_from(["save", "pickle", "copy"]))
    def keep(self, how):
        if not self.n_seen:
            return
        if how == "save":
            path = self.new().with_suffix(".skops")
            save(self.model, path)
            self.model = load(path)
        elif how == "pickle":
            self.model = pickle.loads(pickle.dumps(self.model))
        else:
            self.model = copy.deepcopy(self.model)

    @rule(how=st.sampled_from(["array", "memmap", "dask", "hdf5", "zarr"]))
    def encode(self, how):
        if not self.n_seen:
            return
        with config_context(working_memory=LITTLE):
            codes = self.model.transform(self.stored(how, X[:90]))
        codes = codes.compute() if hasattr(codes, "dask") else codes
        expected = self.model.transform(X[:90])
        np.testing.assert_allclose(codes.toarray(), expected.toarray(), atol=1e-4)

    @invariant()
    def model_is_its_twin(self):
        if not self.n_seen:
            return
        assert self.model.n_samples_seen_ == self.n_seen
        assert len(self.model.history_) == len(self.twin.history_)
        np.testing.assert_array_equal(self.model.components_, self.twin.components_)
        np.testing.assert_array_equal(self.model.pre_bias_, self.twin.pre_bias_)

    @invariant()
    def no_thread_reads_on(self):
        names = [thread.name for thread in threading.enumerate()]
        assert not [name for name in names if name.startswith("skdict-reader")]

    def teardown(self):
        gc.collect()  # closes the files of HDF5
        self.folder.cleanup()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [ICFL, TopKSAE])
def test_streams_survive_accidents(kind):
    machine = type(f"{kind.__name__}Stream", (Stream,), {"kind": kind})
    run_state_machine_as_test(
        machine,
        settings=settings(max_examples=8, stateful_step_count=10, deadline=None),
    )


def n_open_files():
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_many_epochs_leave_nothing_behind(tmp_path):
    X.tofile(tmp_path / "rows")
    rows = np.memmap(tmp_path / "rows", X.dtype, "r", shape=X.shape)
    store = zarr.create_array(
        store=tmp_path / "rows.zarr", shape=X.shape, chunks=(25, D), dtype=X.dtype
    )
    store[:] = X
    model = ICFL(12, k=2, batch_size=32, random_state=0)
    with config_context(working_memory=LITTLE):
        model.set_params(max_iter=1).fit(rows).fit(store)  # starts the threads of zarr
        model.transform(store).compute()
        gc.collect()
        before = threading.active_count(), n_open_files()
        for _ in range(5):
            model.set_params(max_iter=3).fit(rows).fit(store)
            model.transform(store).compute()
        gc.collect()
        assert threading.active_count() <= before[0] + 1
        assert n_open_files() <= before[1] + 1
