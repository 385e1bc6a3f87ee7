"""Many dictionaries from one reading of the rows."""

import threading

import numpy as np
import pytest
import zarr
from numpy.testing import assert_array_equal
from oracles import CLASSES, KINDS, X64, X, planted, same_fit
from sklearn import config_context, get_config

from skdict import ICFL, KSVD, SAE, TopKSAE, Transcoder
from skdict.decomposition import fit_many
from skdict.training import Checkpoint

SMALL = 8 * 300 * X.shape[1] * 4 / 2**20  # buffers of 300 rows


def grid(classes=CLASSES, **params):
    same = {"batch_size": 300, "validation_fraction": 0.1, "max_iter": 3} | params
    return [planted(cls, **same) for cls in classes]


@pytest.fixture
def store(tmp_path):
    array = zarr.create_array(
        store=tmp_path / "rows", shape=X.shape, dtype=X.dtype, chunks=(100, X.shape[1])
    )
    array[:] = X
    return array


class Counting:
    """Rows that count how often each is read."""

    def __init__(self, array):
        self.array = array
        self.shape, self.dtype, self.chunks = array.shape, array.dtype, array.chunks
        self.n_read = 0

    def __getitem__(self, rows):
        part = self.array[rows]
        self.n_read += len(part)
        return part


def test_each_becomes_what_it_becomes_alone():
    together = fit_many(grid(), X64, random_state=5)
    for one, same in zip(grid(), together, strict=True):
        assert fit_many([one], X64, random_state=5) == [one]
        same_fit(one, same)
        assert len(one.history_) == len(same.history_) == 3


def test_stored_rows_give_what_each_becomes_alone(store):
    with config_context(working_memory=SMALL):
        together = fit_many(grid(KINDS), store, random_state=5)
        for one, same in zip(grid(KINDS), together, strict=True):
            fit_many([one], store, random_state=5)
            same_fit(one, same)


def test_many_read_no_more_rows_than_one(store):
    def n_read(n):
        rows = Counting(store)
        saes = [TopKSAE(24, k=1 + i, random_state=i, max_iter=3) for i in range(n)]
        with config_context(working_memory=SMALL):
            fit_many(saes, rows, random_state=0)
        return rows.n_read

    # Each asks for the first row once, to know the dtype.
    chunk = store.chunks[0]
    assert n_read(6) <= n_read(1) + 5 * 2 * chunk


def test_the_fits_are_as_good_as_separate_ones():
    for one in fit_many(grid(KINDS, max_iter=20), X, random_state=0):
        alone = planted(
            type(one), batch_size=300, validation_fraction=0.1, max_iter=20
        ).fit(X)
        # A dictionary from other rows to start with differs by a few hundredths.
        assert one.score(X) > alone.score(X) - 0.1, type(one)


def test_one_that_stops_early_leaves_the_others():
    n_iters = [2, 7, 4]
    n_threads = threading.active_count()
    fitted = fit_many(
        [ICFL(24, 2, max_iter=n, tol=None, random_state=0) for n in n_iters],
        X,
        random_state=0,
    )
    assert [icfl.n_iter_ for icfl in fitted] == n_iters
    stopping = ICFL(24, 2, callbacks=[lambda record: True])
    going_on = ICFL(24, 2, max_iter=3, tol=None)
    fit_many([stopping, going_on], X)
    assert (stopping.n_iter_, going_on.n_iter_) == (1, 3)
    assert threading.active_count() == n_threads


def test_seeds_differ_and_chance_is_shared():
    a, b = fit_many([SAE(24, random_state=s, max_iter=1) for s in (0, 1)], X)
    assert not np.array_equal(a.components_, b.components_)
    fits = [
        fit_many([ICFL(24, 2, random_state=0, max_iter=1)], X, random_state=seed)[0]
        for seed in (0, 1)
    ]
    assert not np.array_equal(fits[0].components_, fits[1].components_)


def test_an_error_leaves_all_as_they_were():
    n_threads = threading.active_count()

    def fail(record):
        raise OSError("no more")

    before = ICFL(24, 2, max_iter=1, random_state=0).fit(X)
    components = before.components_
    failing = ICFL(24, 2, max_iter=1, callbacks=[fail])
    with pytest.raises(OSError, match="no more"):
        fit_many([before, ICFL(24, 2, max_iter=3), failing], X)
    assert before.components_ is components
    assert not hasattr(failing, "components_")
    assert threading.active_count() == n_threads


def test_different_batches_are_refused():
    with pytest.raises(ValueError, match=r"rows in batches of .* Set the same"):
        fit_many([ICFL(24, 2), KSVD(24, 2)], X)
    with pytest.raises(ValueError, match="given twice"):
        fit_many([ICFL()] * 2, X)
    with pytest.raises(TypeError, match="no Transcoder"):
        fit_many([Transcoder()], X)
    with pytest.raises(TypeError, match="fits dictionaries"):
        fit_many([object()], X)
    with pytest.raises(ValueError, match="no checkpoints"):
        fit_many([ICFL(callbacks=[Checkpoint("fit.checkpoint")])], X)
    with pytest.raises(ValueError, match="NaN"):
        fit_many([ICFL()], np.full((4, 2), np.nan))
    assert fit_many([], X) == []


def test_the_configuration_of_the_caller_holds():
    seen = []
    look = [lambda record: seen.append(get_config()["working_memory"])]
    with config_context(working_memory=7):
        fit_many([ICFL(24, 2, max_iter=1, callbacks=look)], X)
    assert seen == [7]


def test_a_warm_start_goes_on():
    icfl = ICFL(24, 2, max_iter=2, warm_start=True, random_state=0).fit(X)
    components = icfl.components_.copy()
    fit_many([icfl], X, random_state=0)
    assert abs(icfl.components_ - components).max() < 1
    assert_array_equal(icfl.components_.shape, components.shape)
