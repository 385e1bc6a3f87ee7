"""Passes over the data until the time is up or the loss stops falling."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from skorch.callbacks import Callback
from torch import Tensor, nn
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
    ``n_iter_no_change`` passes, the learning rate decays to zero over as many
    passes and training ends. (A constant rate keeps the loss above its minimum.)
    Where the net holds rows out, the explained variance is theirs, and the
    parameters of the best pass are put back in the end.

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
        seconds; validation_explained_variance where rows are held out.

    Raises
    ------
    ValueError
        If training diverged.
    """
    validating = net.held_out is not None
    net.first_error = None
    watched = "validation_explained_variance" if validating else "explained_variance"
    n_held_out = 0 if net.held_out is None else len(net.held_out)
    steps = -(-(len(X) - n_held_out) // net.batch_size)
    history: list[Record] = []
    if max_iter == 0:
        net.look(X)
    best, n_flat, winding_down = -np.inf, 0, False
    best_parameters = _Best()
    # Twice that of rebuilding each row as zero, or of a unit variance.
    offset = net.module_.pre_bias.detach().square().sum()
    largest_error = 2 * max(1.0, float(offset) + variance)
    with tqdm(total=max_iter * steps, disable=not verbose, unit="step") as bar:
        net.callbacks_ = [*net.callbacks_, ("bar", _StepCounter(bar))]
        for epoch in range(1, max_iter + 1):
            start = time.perf_counter()
            net.fit_loop(X, epochs=1)
            record = _record(net, epoch, variance, time.perf_counter() - start)
            if validating:
                record[watched] = _explained(net.validation_error, variance)
                best_parameters.offer(net.module_, record[watched])
            history.append(record)
            bar.set_postfix(
                loss=f"{record['loss']:.3g}",
                ev=f"{record[watched]:.3f}",
                dead=f"{record['dead_share']:.1%}",
                refresh=False,
            )
            answers = [callback(dict(record)) for callback in callbacks or ()]
            # Not `True in answers`: a callback that returns 1 did not ask to stop.
            stop = any(isinstance(a, bool | np.bool_) and a for a in answers)
            if stop or net.steps_left == 0:
                break
            n_flat += 1
            if tol is None or winding_down:
                continue
            if record[watched] > best + tol:
                best, n_flat = record[watched], 0
            if n_flat >= n_iter_no_change and net.steps_left is not None:
                winding_down = True
                if validating:
                    best_parameters.restore(net.module_)
                net.steps_left = min(net.steps_left, n_iter_no_change * steps)
                bar.total = bar.n + net.steps_left
    if history:
        _check_converging(net, largest_error)
    if history and validating:
        best_parameters.restore(net.module_)
        net.look(X)  # what fires has changed
    return history


class _Best:
    """The parameters of the pass that was best on the held-out rows."""

    def __init__(self) -> None:
        self.score = -np.inf
        self.parameters: dict[str, Tensor] = {}

    def offer(self, module: nn.Module, score: float) -> None:
        if score > self.score or not self.parameters:
            self.score = score
            self.parameters = {
                name: value.clone() for name, value in module.state_dict().items()
            }

    def restore(self, module: nn.Module) -> None:
        module.load_state_dict(self.parameters)


def _check_converging(net: DictionaryNet, largest_error: float) -> None:
    """Refuse a dictionary that training has made worse than none.

    The mean error of the last pass is too large, which a few odd rows cannot do to a
    whole pass, and that of its last batch is several times the first batch's. A bad
    start that a short training has not mended yet is thus no divergence.
    """
    assert net.first_error is not None
    error = float(net.squared_error) / net.rows_seen
    if error > largest_error and float(net.last_error) > 10 * float(net.first_error):
        raise ValueError(
            "Training diverged: the mean squared error of a row has grown to "
            f"{error:.3g} times their variance. Lower learning_rate={net.lr}; in "
            "partial_fit, pass rows on the scale of the first ones."
        )


def _explained(mean_squared_error: Tensor | float, variance: float) -> float:
    if variance > 0:
        return 1 - float(mean_squared_error) / variance
    return float(mean_squared_error == 0)


def _record(net: DictionaryNet, epoch: int, variance: float, seconds: float) -> Record:
    mean_squared_error = float(net.squared_error) / net.rows_seen
    return {
        "epoch": epoch,
        "loss": mean_squared_error * net.scale * net.scale,  # may overflow to inf
        "explained_variance": _explained(mean_squared_error, variance),
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
