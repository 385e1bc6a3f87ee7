"""Two processes of torch.distributed against one: the same dictionaries."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from two_ranks import ROWS, fits, state

from skdict._ranks import ALONE, ranks

HERE = Path(__file__).parent
NAMES = [name for name, _ in fits(Path())]
DYING = """
import os, signal
import numpy as np
from skdict import ICFL

def die(record):
    if record["epoch"] == 2 and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)

ICFL(16, 2, max_iter=1000, tol=None, callbacks=[die]).fit(np.eye(40, 8))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where two processes have left what they fitted."""
    folder = tmp_path_factory.mktemp("ranks")
    ROWS.tofile(folder / "rows")
    command = "torch.distributed.run", "--nproc-per-node=2", "--standalone"
    subprocess.run(
        [sys.executable, "-m", *command, str(HERE / "two_ranks.py"), str(folder)],
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
        if name != "messages":
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


def test_a_process_that_dies_ends_the_others():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    # Without torchrun, which would end the others itself.
    first, second = (
        subprocess.Popen(
            [sys.executable, "-c", DYING],
            env={**os.environ, **address, "RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    )
    try:
        second.communicate(timeout=120)
        died = time.perf_counter()
        _, message = first.communicate(timeout=60)
    finally:
        first.kill()
        second.kill()
    assert second.returncode == -signal.SIGKILL
    assert first.returncode == 1
    assert "Connection closed by peer" in message or "reset by peer" in message
    assert time.perf_counter() - died < 30


def test_one_process_alone():
    assert ranks() is ALONE
    assert ALONE.cut(5) == slice(0, 5)
