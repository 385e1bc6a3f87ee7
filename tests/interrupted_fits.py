"""Kills fits at random moments and lets others go on from their checkpoints.

Run by test_checkpoint.py in a process of its own, which forks; by hand:

    python tests/interrupted_fits.py FOLDER SEED N_KILLS

Each line of the output says for one estimator whether the atoms are those of a fit that
was not interrupted, how many fits were killed, how many of them had a checkpoint of an
unfinished training by then, and how many were killed while a checkpoint was written.
"""

import os
import random
import signal
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn import config_context

from skdict import ICFL, KSVD, TopKSAE, Transcoder
from skdict._utils import files
from skdict.training import Checkpoint

N, D = 1200, 6
X = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
COMMON = {
    "n_components": 12,
    "k": 2,
    "batch_size": 60,
    "max_iter": 5,
    "validation_fraction": 0.1,
    "tol": 0.01,
    "n_iter_no_change": 1,
    "random_state": 0,
}
CASES = {
    "ICFL": (ICFL, {"reset_every": 3, "reset_similarity": 0.6}),
    "TopKSAE": (TopKSAE, {"tol": None}),
    "KSVD": (KSVD, {"batch_size": 120}),
    "Transcoder": (Transcoder, {"tol": None}),
}
# A working memory in MiB that has no room for all rows, and buffers of 150 rows.
SMALL = 8 * 150 * D * 4 / 2**20


def fit(name, rows, path, slow=0.0):
    """Fit, with a checkpoint after each step if there is a path; return the atoms."""
    make, options = CASES[name]
    checkpoint = [] if path is None else [Checkpoint(path, every_steps=1)]
    if slow:
        slow_down_writing(slow)
    y = np.array(rows[:, :2]) if make is Transcoder else None
    with config_context(working_memory=SMALL):
        estimator = make(**COMMON | options, callbacks=checkpoint).fit(rows, y)
    return np.concatenate(
        [estimator.components_.ravel(), estimator.feature_density_, [estimator.n_iter_]]
    )


def slow_down_writing(seconds):
    """Write in small pieces, so that many kills come in the middle of a file."""

    def write(stream, part):
        for start in range(0, len(part), 1024):
            stream.write(part[start : start + 1024])
            time.sleep(seconds)
        return len(part)

    files._write_all = write


def forked(name, rows, path, result, slow=0.0):
    """The id of a process that fits and saves what it has learned."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        atoms = fit(name, rows, path, slow)
        np.save(f"{result}.part.npy", atoms)
        os.replace(f"{result}.part.npy", result)
        status = 0
    finally:
        os._exit(status)


def stamp(path):
    return path.stat().st_mtime_ns if path.exists() else None


def has_ended(child):
    """Whether a process has ended; it can still be waited for."""
    options = os.WEXITED | os.WNOHANG | os.WNOWAIT
    return os.waitid(os.P_PID, child, options) is not None


def kill_some(name, rows, folder, n_kills, chance):
    whole = folder / "whole.npy"
    assert os.waitpid(forked(name, rows, None, whole), 0)[1] == 0
    path, result = folder / "fit.checkpoint", folder / "resumed.npy"
    n_killed = n_unfinished = n_writing = 0
    while n_killed < n_kills and not result.exists():
        before = stamp(path)
        child = forked(name, rows, path, result, slow=0.0002)
        while stamp(path) == before and not has_ended(child):
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.15))
        os.kill(child, signal.SIGKILL)
        if os.waitpid(child, 0)[1] == signal.SIGKILL:
            n_killed += 1
            n_unfinished += path.exists()
            n_writing += bool(list(folder.glob(".skdict-*.tmp")))
    if not result.exists():
        assert os.waitpid(forked(name, rows, path, result), 0)[1] == 0
    assert not list(folder.glob(".skdict-*.tmp"))
    same = np.array_equal(np.load(whole), np.load(result))
    return same, n_killed, n_unfinished, n_writing


def main(folder, seed, n_kills):
    warnings.simplefilter("error")
    torch.set_num_threads(1)  # a fork must not meet threads
    chance = random.Random(int(seed))
    # torch imports much when it is first used, which no child has to repeat.
    for name in CASES:
        fit(name, X, None)
    for name in CASES:
        for kind in ("memory", "stored"):
            own = Path(folder) / f"{name}-{kind}"
            own.mkdir()
            rows = X
            if kind == "stored":
                X.tofile(own / "rows")
                rows = np.memmap(own / "rows", np.float32, "r", shape=X.shape)
            counts = kill_some(name, rows, own, int(n_kills), chance)
            print(name, kind, *counts, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
