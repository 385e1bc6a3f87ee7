"""What test_parallel.py lets two processes do: fit everything, and keep the results.

``python -m torch.distributed.run --nproc-per-node 2 tests/two_ranks.py FOLDER PORT``
writes a file for each process; the test itself fits the same alone. All that needs two
processes is done here, because their start takes longer than most fits. With names of
fits instead of the port, any number of processes does those.
"""

import contextlib
import os
import signal
import sys
import time
import traceback
from datetime import timedelta
from pathlib import Path

import numpy as np
import test_checkpoint
import torch
from oracles import CLASSES, KINDS, X64, planted
from sklearn import config_context

from skdict import ICFL, SAE, ControlPCAWhitener, TopKSAE, Transcoder, _ranks
from skdict.decomposition import fit_many
from skdict.rows import StoredRows
from skdict.training import Checkpoint

# More rows than a batch, in an odd number, so that parts and batches differ in size.
ROWS = X64[:1501]
CONTROL = np.arange(len(ROWS)) % 3 > 0
# A working memory in MiB that has no room for all rows, and buffers of 300 rows.
SMALL = 8 * 300 * ROWS.shape[1] * 8 / 2**20


def new(cls, **params):
    # Atoms are redrawn and latents found dead in the few steps.
    names = cls().get_params()
    few = {"reset_every": 4, "reset_similarity": 0.6, "dead_after": 0.3}
    given = {name: value for name, value in few.items() if name in names}
    sizes = {"max_iter": 3, "batch_size": 400}
    return planted(cls, **(sizes | given | params))


def fits(folder):
    """Yield the names of estimators, and for each a function that fits it."""
    for cls in CLASSES:
        yield (
            cls.__name__,
            lambda cls=cls: new(cls, validation_fraction=0.2).fit(ROWS),
        )
        yield (
            f"{cls.__name__} stream",
            lambda cls=cls: new(cls).partial_fit(ROWS[:800]).partial_fit(ROWS[800:]),
        )
    for cls in KINDS:
        yield (
            f"{cls.__name__} stored",
            lambda cls=cls: stored(new(cls, max_iter=2), folder),
        )
    for activation in ("topk", "gated"):
        yield (
            f"Transcoder {activation}",
            lambda activation=activation: Transcoder(
                24, 2, activation=activation, max_iter=2, random_state=0
            ).fit(ROWS, ROWS[:, ::-1].copy()),
        )
    for shrinkage in (None, "auto"):
        yield (
            f"whitener {shrinkage}",
            lambda shrinkage=shrinkage: ControlPCAWhitener(shrinkage=shrinkage).fit(
                ROWS + 1e6, control=CONTROL
            ),
        )
    yield (
        "fit_many",
        lambda: fit_many(
            [new(SAE, validation_fraction=None), new(ICFL)], ROWS, random_state=0
        )[1],
    )
    yield "float32", lambda: new(TopKSAE).fit(ROWS.astype(np.float32))


def stored(estimator, folder):
    path = folder / "rows"
    rows = np.memmap(path, ROWS.dtype, "r", shape=ROWS.shape)
    with config_context(working_memory=SMALL):
        assert not StoredRows(rows).fits
        return estimator.fit(rows)


def state(estimator):
    """Everything numerical that has been fitted."""
    found = {}
    for name, value in vars(estimator).items():
        if name == "history_":
            for key in value[0]:
                found[f"history {key}"] = np.array([record[key] for record in value])
        elif name == "_training_state" and value is not None:
            for key, counter in value["model"].items():
                found[f"counter {key}"] = counter
        elif name.endswith("_") and isinstance(value, np.ndarray | float | int):
            found[name] = np.asarray(value)
    return found


def interrupted_fits(folder):
    """Yield names of fits, and what was fitted: whole, or killed twice and resumed."""
    rows = np.random.default_rng(0).normal(size=(601, 6)).astype(np.float32)
    for cls in (ICFL, TopKSAE):
        path = folder / cls.__name__
        yield f"{cls.__name__} whole", test_checkpoint.new(cls).fit(rows)
        for n_steps in (5, 14):
            die = test_checkpoint.At(n_steps, test_checkpoint.die)
            often = Checkpoint(path, every_seconds=1e-9)
            with contextlib.suppress(test_checkpoint.Killed):
                test_checkpoint.new(cls, die, often).fit(rows)
        # The second one takes the result from the file.
        for name in ("resumed", "taken from the file"):
            again = test_checkpoint.new(cls, Checkpoint(path)).fit(rows)
            yield f"{cls.__name__} {name}", again


def fit_until_one_ends(folder, rank, port, fit):
    """Fit in forks of both processes, of which the second ends by itself.

    A fork has a group of its own, and torchrun, which would end the first itself, does
    not know of it. Return how the fork has ended and when.
    """
    child = os.fork()
    if child == 0:
        try:
            os.environ.pop("TORCHELASTIC_USE_AGENT_STORE")
            os.environ["MASTER_PORT"] = port
            with open(folder / f"{fit.__name__}-{rank}.err", "w") as stream:
                os.dup2(stream.fileno(), 2)
                fit()
        except Exception:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    deadline = time.monotonic() + 60
    while not (found := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.01)
    return os.waitstatus_to_exitcode(found[1]), time.monotonic()


def fit_and_die():
    fit_until(lambda: os.kill(os.getpid(), signal.SIGKILL))


def fit_and_raise():
    """Let the second process fail, and live on until the first has ended."""

    def fail():
        raise KeyError("of the second process")

    _ranks._FAREWELL = timedelta(seconds=2)
    try:
        fit_until(fail)
    except KeyError:
        time.sleep(20)
        ICFL(16, 2).fit(np.eye(40, 8))


def fit_until(function):
    def stop(record):
        if record["epoch"] == 2 and os.environ["RANK"] == "1":
            function()

    ICFL(16, 2, max_iter=1000, tol=None, callbacks=[stop]).fit(np.eye(40, 8))


if __name__ == "__main__":
    folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
    if not sys.argv[2].isdigit():
        chosen = {name: state(dict(fits(folder))[name]()) for name in sys.argv[2:]}
        results = {f"{n}: {key}": v for n in chosen for key, v in chosen[n].items()}
        np.savez(folder / f"{rank} of three.npz", **results)
        sys.exit()
    # torch imports much for its first optimiser, which the forks need not repeat. They
    # come first, because a fork must not meet threads of torch.
    torch.optim.SGD([torch.zeros(1)])
    results = {}
    for i, fit in enumerate((fit_and_die, fit_and_raise)):
        port = str(int(sys.argv[2]) + i)
        results[fit.__name__] = fit_until_one_ends(folder, rank, port, fit)
    for name, fit in fits(folder):
        found = state(fit())
        results |= {f"{name}: {key}": value for key, value in found.items()}
    for name, fit in interrupted_fits(folder):
        results |= {f"{name}: {key}": value for key, value in state(fit).items()}
    # No seed: that of the first process holds.
    results["unseeded"] = TopKSAE(24, 2, max_iter=1).fit(ROWS).components_
    # A callback that stops one process stops all.
    last = new(ICFL, callbacks=[lambda record: rank == 1 and record["epoch"] == 2])
    results["n_iter_"] = last.fit(ROWS).n_iter_
    messages = []
    for rows, batch_size in ((ROWS[: 100 + rank], 100), (ROWS, 1)):
        try:
            new(ICFL, batch_size=batch_size).fit(rows)
        except ValueError as error:
            messages.append(str(error))
    results["messages"] = np.array(messages)
    np.savez(folder / f"{rank}.npz", **results)
