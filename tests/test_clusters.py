"""Dask arrays on the workers of a cluster: real processes, one of which is killed."""

import os
import signal
import threading
import time

import dask
import dask.array as da
import numpy as np
import processes
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pandas.testing import assert_frame_equal
from sklearn import config_context

from skdict import ControlPCAWhitener, TopKSAE
from skdict.metrics import (
    association_scores,
    feature_density,
    selectivity_report,
    selectivity_tests,
)

N, D, BLOCK = 2400, 6, 100
rng = np.random.default_rng(0)
MIXING = rng.normal(size=(D, D))
Y = rng.integers(0, 3, N)
CONTROL = Y == 0
# So little working memory (in MiB) that no table is read as a whole.
SMALL = 0.05


def rows_of(block_id, seconds=0.0, log=None):
    """Rows of one block, slowly; a file in the folder `log` tells who made them."""
    time.sleep(seconds)
    if log is not None:
        (log / f"{block_id[0]}-{os.getpid()}-{time.monotonic_ns()}").touch()
    rows = np.random.default_rng(block_id[0]).normal(size=(BLOCK, D)) @ MIXING
    rows[:, 0] += Y[block_id[0] * BLOCK : (block_id[0] + 1) * BLOCK]
    return rows.astype(np.float32)


def lazy_rows(**options):
    chunks = ((BLOCK,) * (N // BLOCK), (D,))
    return da.map_blocks(
        rows_of, chunks=chunks, meta=np.empty((0, D), np.float32), **options
    )


ROWS = np.concatenate([rows_of((i,)) for i in range(N // BLOCK)])


def whitener(rows, **options):
    with config_context(working_memory=SMALL):
        return ControlPCAWhitener(**options).fit(rows, control=CONTROL)


# In this process; a client of a cluster would take the work from here on


def test_what_is_not_finite_is_named_by_its_row():
    rows = ROWS.copy()
    rows[[1234, 1250], 2] = np.nan
    message = (
        "NaN or infinity in 2 of the rows 1200 to 1300, the first of them row 1234"
    )
    with pytest.raises(ValueError, match=message):
        whitener(da.from_array(rows, chunks=(BLOCK, 4)))


def test_moments_without_a_cluster():
    for sizes in [(N,), (0, 1, N - 1), (700, 1700)]:
        rows = da.from_array(ROWS, chunks=(sizes, 3))
        assert_allclose(whitener(rows).mean_, whitener(ROWS).mean_, rtol=1e-10)
    at_end = np.arange(N) >= N - 50  # most blocks have no controls
    with config_context(working_memory=SMALL):
        found = ControlPCAWhitener().fit(lazy_rows(), control=at_end)
        expected = ControlPCAWhitener().fit(ROWS, control=at_end)
    assert_allclose(found.mean_, expected.mean_, rtol=1e-10)


# On workers


@pytest.fixture(scope="module")
def client():
    distributed = pytest.importorskip("distributed")
    # Workers that need not import anything, also in the place of the killed one.
    method = processes.forks().get_start_method()
    with (
        dask.config.set({"distributed.worker.multiprocessing-method": method}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def killer(client, tmp_path):
    """Kill the first worker as soon as it has made two blocks; give their folder."""
    victim = next(iter(client.run(os.getpid).values()))
    killed = []

    def kill():
        for _ in range(1000):
            if len([*tmp_path.glob(f"*-{victim}-*")]) >= 2:
                os.kill(victim, signal.SIGKILL)
                killed.append(len([*tmp_path.iterdir()]))
                return
            time.sleep(0.01)

    thread = threading.Thread(target=kill)
    thread.start()
    yield tmp_path
    thread.join()
    # It was killed while others were still to be made.
    assert killed
    assert killed[0] < N // BLOCK
    made = [path.name.split("-")[0] for path in tmp_path.iterdir()]
    assert len({*made}) == N // BLOCK


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"shrinkage": "auto"}])
def test_moments_are_those_of_one_process(client, options):
    found, expected = whitener(lazy_rows(), **options), whitener(ROWS, **options)
    assert found.n_control_samples_ == CONTROL.sum()
    assert_allclose(found.mean_, expected.mean_, rtol=1e-10)
    assert_allclose(found.components_, expected.components_, rtol=1e-7)


@pytest.mark.slow
def test_codes_and_their_metrics_are_those_of_one_process(client):
    sae = TopKSAE(12, k=3, max_iter=2, random_state=0).fit(ROWS)
    codes, lazy = sae.transform(ROWS), sae.transform(lazy_rows())
    assert_array_equal(lazy.compute().toarray(), codes.toarray())
    lazy = lazy.persist()
    assert_array_equal(feature_density(lazy), feature_density(codes))
    null = {"n_permutations": 5, "random_state": 0}
    assert_frame_equal(
        selectivity_report(lazy, Y, **null), selectivity_report(codes, Y, **null)
    )
    assert_allclose(
        association_scores(lazy, ROWS), association_scores(codes, ROWS), atol=1e-12
    )


@pytest.mark.slow
def test_a_worker_dies_half_way(killer):
    sae = TopKSAE(12, k=3, max_iter=2, random_state=0).fit(ROWS)
    lazy = sae.transform(lazy_rows(seconds=0.05, log=killer))
    assert_frame_equal(
        selectivity_tests(lazy, Y), selectivity_tests(sae.transform(ROWS), Y)
    )
