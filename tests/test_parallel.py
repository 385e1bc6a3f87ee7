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
    run(2, folder, port)
    return folder


def run(n_processes, folder, *arguments):
    command = "torch.distributed.run", f"--nproc-per-node={n_processes}", "--standalone"
    script = HERE / "two_ranks.py"
    subprocess.run(
        [sys.executable, "-m", *command, script, folder, *arguments],
        check=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def results(folder):
    return [dict(np.load(folder / f"{rank}.npz")) for rank in range(2)]


def test_both_processes_have_the_same_attributes(results):
    first, second = results
    assert first.keys() == second.keys()
    for name, value in first.items():
        if name not in ("messages", "fit_and_die", "fit_and_raise"):
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


CLOSED = "Connection closed by peer", "reset by peer"


def test_a_process_that_dies_ends_the_others(folder, results):
    (first, ended), (second, died) = (found["fit_and_die"] for found in results)
    assert second == -signal.SIGKILL
    assert first == 1
    message = (folder / "fit_and_die-0.err").read_text()
    assert any(text in message for text in CLOSED)
    assert ended - died < 30


def test_a_process_that_fails_and_lives_ends_the_others(folder, results):
    (first, ended), (second, later) = (found["fit_and_raise"] for found in results)
    assert first == second == 1
    message = (folder / "fit_and_raise-0.err").read_text()
    assert any(text in message for text in CLOSED)
    # The second process was there for 20 seconds more. It cannot go on alone.
    assert ended < later
    assert "Start them anew" in (folder / "fit_and_raise-1.err").read_text()


def test_three_processes_fit_what_one_fits(folder):
    names = ["ICFL", "BatchTopKSAE stream", "TopKSAE stored", "whitener None"]
    run(3, folder, *names)
    found = [dict(np.load(folder / f"{rank} of three.npz")) for rank in range(3)]
    for name in names:
        for key, value in state(dict(fits(folder))[name]()).items():
            if key != "history seconds":
                together = [results[f"{name}: {key}"] for results in found]
                assert_allclose(
                    together[0], value, 1e-7, 1e-7, err_msg=f"{name}: {key}"
                )
                for other in together[1:]:
                    assert_array_equal(other, together[0])


def test_one_process_alone():
    assert ranks() is ALONE
    assert ALONE.cut(5) == slice(0, 5)
