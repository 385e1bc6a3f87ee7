"""Processes that tests start, kill or expect to abort, without the imports of each.

A fresh interpreter imports torch and scikit-learn for seconds. These are forks of a
server that has imported them and has computed nothing: they share no thread, no fitted
estimator and no random state with the tests.
"""

import multiprocessing
import os
import signal
import sys
from subprocess import CompletedProcess, TimeoutExpired

# torch imports torch._dynamo for its first optimiser.
IMPORTED = [
    "torch._dynamo",
    "dask.array",
    "distributed",
    "pandas",
    "sklearn.linear_model",
    "sklearn.model_selection",
    "sklearn.pipeline",
    "skops.io",
    "skdict.decomposition._registry",
    "skdict.io",
    "skdict.metrics",
    "skdict.persistence",
    "skdict.preprocessing",
]


def forks():
    """The context of multiprocessing whose processes are such forks."""
    if "forkserver" not in multiprocessing.get_all_start_methods():  # on Windows
        return multiprocessing.get_context("spawn")
    from multiprocessing.forkserver import ensure_running

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    ensure_running()
    return context


def run(function, *args, folder, timeout):
    """Call a function of a module in a process of its own.

    Parameters
    ----------
    function : callable
        At the top of a module. What it prints is the output, and what it raises ends
        the process with status 1, as in a script.
    *args
        Arguments.
    folder : Path
        Keeps the two files of the output.
    timeout : float
        Seconds after which the process is killed and this fails.

    Returns
    -------
    subprocess.CompletedProcess
        Its ``returncode`` is negative if a signal has ended the process.
    """
    files = folder / "stdout", folder / "stderr"
    process = forks().Process(target=_redirected, args=(files, function, args))
    process.start()
    process.join(timeout)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise TimeoutExpired(function.__name__, timeout)
    out, err = (file.read_text() if file.exists() else "" for file in files)
    return CompletedProcess(function.__name__, process.exitcode, out, err)


def _redirected(files, function, args):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, file in enumerate(files, 1):
        with open(file, "w") as stream:
            os.dup2(stream.fileno(), number)
    try:
        function(*args)
    finally:
        sys.stdout.flush()
