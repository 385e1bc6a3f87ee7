"""Callbacks of the training: learning rate, early end, best epoch, progress bar.

All of them are skorch callbacks; users add their own beside them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
from skorch.callbacks import Callback
from torch import Tensor
from tqdm.auto import tqdm

from skdict.training.schedule import Schedule

# A DictionaryNet, whose module imports this one.
Net: TypeAlias = Any


class EndOfTraining(Exception):  # noqa: N818 (it is no error)
    """Raised after an epoch to end the training."""


class LearningRate(Callback):
    """Sets the learning rate of each step."""

    schedule_: Schedule

    def on_train_begin(self, net: Net, **kwargs: Any) -> None:
        last = net.clock.last_step or 0
        constant = 0 if net.held_out is None else net.module_.constant_rate
        self.schedule_ = Schedule(
            net.lr,
            round(constant * last),
            net.clock.last_step,
            net.module_.stream_steps,
            net.warmup_steps,
        )

    def on_batch_begin(self, net: Net, training: bool = False, **kwargs: Any) -> None:
        if training:
            rate = self.rate(net.clock.n_steps)
            for group in net.optimizer_.param_groups:
                group["lr"] = rate

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        return self.schedule_.rate(step)

    def wind_down(self, net: Net, n_steps: int) -> None:
        """Let the rate fall to zero within ``n_steps``, where the training ends."""
        self.schedule_ = self.schedule_.wind_down(net.clock.n_steps, n_steps)
        net.clock.last_step = self.schedule_.last_step


class EarlyEnd(Callback):
    """Ends a training that no longer gains, or that a callback wants to end.

    If the explained variance rises by no more than ``tol`` for ``n_iter_no_change``
    epochs, the learning rate decays to zero over ``n_iter_no_change`` further epochs
    and training ends. (A constant rate keeps the loss above its minimum.) If the net
    holds rows out, the explained variance is that of the held-out rows, and the
    wind-down starts from the parameters of the best epoch. A stream never winds down.
    Epochs count as soon as the model has settled.
    """

    def on_train_begin(self, net: Net, **kwargs: Any) -> None:
        self.best_, self.n_flat_, self.winding_down_ = -np.inf, 0, False

    def on_epoch_end(self, net: Net, dataset_train: Any = None, **kwargs: Any) -> None:
        # A callback may have stopped one of several processes only.
        if net.ranks.any(net.stopped) or net.clock.steps_left == 0:
            raise EndOfTraining
        if net.tol is None or self.winding_down_:
            return
        self.n_flat_ += 1
        if net.module_.is_settling or net.watched > self.best_ + net.tol:
            self.best_, self.n_flat_ = net.watched, 0
        if self.n_flat_ >= net.n_iter_no_change and net.clock.last_step is not None:
            self.winding_down_ = True
            net.best_epoch.restore(net)
            steps_per_epoch = len(net.get_iterator(dataset_train))
            net.learning_rate.wind_down(net, net.n_iter_no_change * steps_per_epoch)


class BestEpoch(Callback):
    """Keeps the parameters of the epoch that was best on the held-out rows.

    They are put back when the training ends. It does nothing without held-out rows, or
    for a model whose best epoch is not the one that explains most.
    """

    def on_train_begin(self, net: Net, **kwargs: Any) -> None:
        self.best_ = -np.inf
        self.parameters_: dict[str, Tensor] = {}

    def on_epoch_end(self, net: Net, **kwargs: Any) -> None:
        if net.held_out is None or not net.module_.keeps_best_epoch:
            return
        if net.watched > self.best_ or not self.parameters_:
            self.best_ = net.watched
            self.parameters_ = {
                name: parameter.detach().clone()
                for name, parameter in net.module_.named_parameters()
            }

    def on_train_end(self, net: Net, **kwargs: Any) -> None:
        if self.parameters_:
            self.restore(net)
            net.codes_changed = True

    def restore(self, net: Net) -> None:
        """Put the parameters of the best epoch back."""
        net.module_.load_state_dict(self.parameters_, strict=False)


class DivergenceCheck(Callback):
    """Refuses a dictionary that training has made worse than none.

    Two things must have happened. The mean error of the last epoch is too large, which
    a few odd rows cannot cause. And the error of its last batch is over ten times that
    of the first batch of the training: a bad start that a short training has not mended
    is no divergence.
    """

    def on_train_begin(self, net: Net, **kwargs: Any) -> None:
        net.first_error = None
        # Twice the error of rebuilding each row as zero, or twice a unit variance.
        offset = net.module_.pre_bias.detach().square().sum()
        self.largest_error_ = 2 * max(1.0, float(offset) + net.variance)

    def on_train_end(self, net: Net, **kwargs: Any) -> None:
        error = float(net.squared_error) / net.rows_seen
        # All processes have about as many rows of a batch.
        first, last = net.ranks.sum(torch.stack([net.first_error, net.last_error]))
        grown = float(last) > 10 * float(first)
        if error > self.largest_error_ and grown:
            raise ValueError(
                "Training diverged: the mean squared error of a row has grown to "
                f"{error:.3g} times their variance. Lower learning_rate={net.lr}; in "
                "partial_fit, pass rows on the scale of the first ones."
            )


class ProgressBar(Callback):
    """Moves a progress bar with every step, if the net is to show one."""

    bar_: tqdm

    def on_train_begin(
        self, net: Net, X: Any = None, max_iter: int = 1, **kwargs: Any
    ) -> None:
        dataset, _ = net.get_split_datasets(X)
        total = max_iter * len(net.get_iterator(dataset))
        bar = tqdm(total=total, disable=not net.show_progress, unit="step")
        self.bar_ = net.resources.enter_context(bar)

    def on_epoch_begin(self, net: Net, **kwargs: Any) -> None:
        left = net.clock.steps_left
        if left is not None:
            self.bar_.total = min(self.bar_.total, self.bar_.n + left)

    def on_batch_end(self, net: Net, training: bool = False, **kwargs: Any) -> None:
        if training:
            self.bar_.update()

    def on_epoch_end(self, net: Net, **kwargs: Any) -> None:
        record = net.record
        self.bar_.set_postfix(
            loss=f"{record['loss']:.3g}",
            ev=f"{net.watched:.3f}",
            dead=f"{record['dead_fraction']:.1%}",
            refresh=False,
        )


class Calls(Callback):
    """Calls a function with the record of each epoch; True ends the training."""

    def __init__(self, function: Callable[[dict[str, Any]], Any]) -> None:
        self.function = function

    def on_epoch_end(self, net: Net, **kwargs: Any) -> None:
        answer = self.function(net.record)
        # Not `if answer`: a function that returns 1 did not ask to stop.
        if isinstance(answer, bool | np.bool_) and answer:
            net.stopped = True


def as_callback(callback: Any) -> Callback | type[Callback]:
    """Return a skorch callback as it is, and wrap any other callable in one."""
    is_class = isinstance(callback, type) and issubclass(callback, Callback)
    if is_class or isinstance(callback, Callback):
        return callback
    return Calls(callback)
