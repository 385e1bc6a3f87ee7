"""Passes over the data until the time is up or the loss stops falling."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from skorch.callbacks import Callback
from torch import Tensor
from tqdm.auto import tqdm

from skdict.training.net import DictionaryNet

Record = dict[str, Any]


def train(
    net: DictionaryNet,
    X: np.ndarray | Tensor,
    *,
    max_iter: int,
    variance: float,
    tol: float | None,
    n_iter_no_change: int,
    verbose: int,
    callbacks: Iterable[Callable[[Record], Any]] | None,
) -> list[Record]:
    """Train a started net, and return one record per pass.

    Once the explained variance has risen by less than ``tol`` for
    ``n_iter_no_change`` passes, the learning rate falls to zero within as many
    passes and training ends: the rate is what keeps a flat loss above its floor.

    Parameters
    ----------
    net : DictionaryNet
        Started.
    X : array of shape (n, d)
        The rows, not yet divided by the net's scale.
    max_iter : int
        Most passes over ``X``. With 0 the rows are encoded once, to count what
        fires, and nothing is learned.
    variance : float
        Mean squared distance of the rows from their mean, in the net's scale.
    tol : float or None
        Rise of the explained variance that counts; None never stops early.
    n_iter_no_change : int
        Passes without such a rise before training winds down.
    verbose : int
        A progress bar above zero.
    callbacks : iterable of callables, or None
        Each gets the record of each pass; training stops where one returns True.

    Returns
    -------
    list of dict
        Keys: epoch, loss, explained_variance, dead_share, resets, learning_rate,
        seconds.
    """
    steps = -(-len(X) // net.batch_size)
    history: list[Record] = []
    if max_iter == 0:
        net.look(X)
    best, n_flat, winding_down = -np.inf, 0, False
    with tqdm(total=max_iter * steps, disable=not verbose, unit="step") as bar:
        net.callbacks_ = [*net.callbacks_, ("bar", _StepCounter(bar))]
        for epoch in range(1, max_iter + 1):
            start = time.perf_counter()
            net.fit_loop(X, epochs=1)
            record = _record(net, epoch, variance, time.perf_counter() - start)
            history.append(record)
            bar.set_postfix(
                loss=f"{record['loss']:.3g}",
                ev=f"{record['explained_variance']:.3f}",
                dead=f"{record['dead_share']:.1%}",
                refresh=False,
            )
            answers = [callback(record) for callback in callbacks or ()]
            # Not `True in answers`: a callback that returns 1 did not ask to stop.
            stop = any(isinstance(a, bool | np.bool_) and a for a in answers)
            if stop or net.steps_left == 0:
                break
            n_flat += 1
            if tol is None or winding_down:
                continue
            if record["explained_variance"] > best + tol:
                best, n_flat = record["explained_variance"], 0
            if n_flat >= n_iter_no_change and net.steps_left is not None:
                winding_down = True
                net.steps_left = min(net.steps_left, n_iter_no_change * steps)
                bar.total = bar.n + net.steps_left
    return history


def _record(net: DictionaryNet, epoch: int, variance: float, seconds: float) -> Record:
    mean_squared_error = float(net.squared_error) / net.rows_seen
    if variance > 0:
        explained = 1 - mean_squared_error / variance
    else:
        explained = float(mean_squared_error == 0)
    return {
        "epoch": epoch,
        "loss": mean_squared_error * net.scale * net.scale,  # may overflow to inf
        "explained_variance": explained,
        "dead_share": float((net.fired == 0).double().mean()),
        "resets": int(net.n_resets),
        "learning_rate": net.learning_rate,
        "seconds": seconds,
    }


class _StepCounter(Callback):
    """Moves the progress bar with every step."""

    def __init__(self, bar: tqdm):
        self.bar = bar

    def on_batch_end(self, net, **kwargs):
        self.bar.update()
