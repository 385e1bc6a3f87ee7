"""Two processes of torch.distributed against one: the same dictionaries."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from two_ranks import ROWS, fits, state

from skdict._ranks import ALONE, ranks

HERE = Path(__file__).parent
NAMES = [name for name, _ in fits(Path())]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where two processes have left what they fitted."""
    folder = tmp_path_factory.mktemp("ranks")
    ROWS.tofile(folder / "rows")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = "torch.distributed.run", "--nproc-per-node=2", "--standalone"
    subprocess.run(
        [sys.executable, "-m", *command, HERE / "two_ranks.py", folder, port],
        check=True,
        timeout=300,
    )
    return folder


@pytest.fixture(scope="module")
def results(folder):
    return [dict(np.load(folder / f"{rank}.npz")) for rank in range(2)]


def test_both_processes_have_the_same_attributes(results):
    first, second = results
    assert first.keys() == second.keys()
    for name, value in first.items():
        if name not in ("messages", "ended"):
            assert_array_equal(value, second[name], err_msg=name)


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_fit_what_one_fits(folder, results, name):
    alone = state(dict(fits(folder))[name]())
    tolerance = 1e-4 if name == "float32" else 1e-7
    for key, value in alone.items():
        if key != "history seconds":
            together = results[0][f"{name}: {key}"]
            assert_allclose(together, value, tolerance, tolerance, err_msg=key)


def test_atoms_were_redrawn(results):
    assert results[0]["ICFL: history resets"].sum() > 0


def test_a_callback_stops_all(results):
    assert results[0]["n_iter_"] == 2


def test_processes_with_other_rows_or_too_few_are_refused(results):
    other, few = results[0]["messages"]
    assert "('ICFL', 100, 16, 'float64') on rank 0" in other
    assert "('ICFL', 101, 16, 'float64') on rank 1" in other
    assert "Raise batch_size" in few


@pytest.mark.parametrize("name", ["ICFL", "TopKSAE"])
@pytest.mark.parametrize("again", ["resumed", "taken from the file"])
def test_two_processes_go_on_together(results, name, again):
    for found in results:
        for key in ("components_", "feature_density_"):
            whole = found[f"{name} whole: {key}"]
            assert_array_equal(found[f"{name} {again}: {key}"], whole)
        # Parts of an epoch are added up in another order.
        key = "history loss"
        whole = found[f"{name} whole: {key}"]
        assert_allclose(found[f"{name} {again}: {key}"], whole, rtol=1e-5)


def test_a_process_that_dies_ends_the_others(folder, results):
    (first, ended), (second, died) = (found["ended"] for found in results)
    assert second == -signal.SIGKILL
    assert first == 1
    message = (folder / "0.err").read_text()
    assert "Connection closed by peer" in message or "reset by peer" in message
    assert ended - died < 30


def test_one_process_alone():
    assert ranks() is ALONE
    assert ALONE.cut(5) == slice(0, 5)
