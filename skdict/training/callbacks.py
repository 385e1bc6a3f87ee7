"""What happens around the steps: the rate, the end, the best epoch, the bar.

All of them are skorch callbacks; users add their own beside them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from skorch.callbacks import Callback
from torch import Tensor
from tqdm.auto import tqdm

from skdict.training.schedule import Schedule


class EndOfTraining(Exception):  # noqa: N818 (it is no error)
    """Raised behind an epoch to end the training."""


class LearningRate(Callback):
    """Sets the learning rate of each step."""

    schedule_: Schedule

    def on_train_begin(self, net, **kwargs):
        self.schedule_ = Schedule(
            net.lr, 0, net.clock.last_step, net.module_.stream_steps
        )

    def on_batch_begin(self, net, batch=None, training=False, **kwargs):
        if training:
            rate = self.rate(net.clock.n_steps)
            for group in net.optimizer_.param_groups:
                group["lr"] = rate

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        return self.schedule_.rate(step)

    def wind_down(self, net, n_steps: int) -> None:
        """Let the rate fall to zero within ``n_steps``, and the training end there."""
        self.schedule_ = self.schedule_.wind_down(net.clock.n_steps, n_steps)
        net.clock.last_step = self.schedule_.last_step


class EarlyEnd(Callback):
    """Ends a training that no longer gains, or that a callback wants to end.

    Once the explained variance has risen by less than ``tol`` for
    ``n_iter_no_change`` epochs, the learning rate decays to zero over as many
    epochs and training ends. (A constant rate keeps the loss above its minimum.)
    Where the net holds rows out, the explained variance is theirs, and the
    wind-down begins at the parameters of the best epoch. A stream never winds down.
    """

    def on_train_begin(self, net, **kwargs):
        self.best_, self.n_flat_, self.winding_down_ = -np.inf, 0, False

    def on_epoch_end(self, net, dataset_train=None, **kwargs):
        if net.stopped or net.clock.steps_left == 0:
            raise EndOfTraining
        if net.tol is None or self.winding_down_:
            return
        self.n_flat_ += 1
        if net.watched > self.best_ + net.tol:
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

    def on_train_begin(self, net, **kwargs):
        self.best_ = -np.inf
        self.parameters_: dict[str, Tensor] = {}

    def on_epoch_end(self, net, **kwargs):
        if net.held_out is None or not net.module_.keeps_best_epoch:
            return
        if net.watched > self.best_ or not self.parameters_:
            self.best_ = net.watched
            self.parameters_ = {
                name: parameter.detach().clone()
                for name, parameter in net.module_.named_parameters()
            }

    def on_train_end(self, net, X=None, **kwargs):
        if self.parameters_:
            self.restore(net)
            net.look(X)  # what fires has changed

    def restore(self, net) -> None:
        """Put the parameters of the best epoch back."""
        net.module_.load_state_dict(self.parameters_, strict=False)


class DivergenceCheck(Callback):
    """Refuses a dictionary that training has made worse than none.

    The mean error of the last epoch is too large, which a few odd rows cannot do to a
    whole epoch, and that of its last batch is several times the first batch's. A bad
    start that a short training has not mended yet is thus no divergence.
    """

    def on_train_begin(self, net, **kwargs):
        net.first_error = None
        # Twice that of rebuilding each row as zero, or of a unit variance.
        offset = net.module_.pre_bias.detach().square().sum()
        self.largest_error_ = 2 * max(1.0, float(offset) + net.variance)

    def on_train_end(self, net, **kwargs):
        error = float(net.squared_error) / net.rows_seen
        grown = float(net.last_error) > 10 * float(net.first_error)
        if error > self.largest_error_ and grown:
            raise ValueError(
                "Training diverged: the mean squared error of a row has grown to "
                f"{error:.3g} times their variance. Lower learning_rate={net.lr}; in "
                "partial_fit, pass rows on the scale of the first ones."
            )


class ProgressBar(Callback):
    """Moves a bar with every step, where the net is to show one."""

    bar_: tqdm

    def on_train_begin(self, net, X=None, max_iter=1, **kwargs):
        dataset, _ = net.get_split_datasets(X)
        total = max_iter * len(net.get_iterator(dataset))
        bar = tqdm(total=total, disable=not net.show_progress, unit="step")
        self.bar_ = net.resources.enter_context(bar)

    def on_epoch_begin(self, net, **kwargs):
        left = net.clock.steps_left
        if left is not None:
            self.bar_.total = min(self.bar_.total, self.bar_.n + left)

    def on_batch_end(self, net, training=False, **kwargs):
        if training:
            self.bar_.update()

    def on_epoch_end(self, net, **kwargs):
        record = net.record
        self.bar_.set_postfix(
            loss=f"{record['loss']:.3g}",
            ev=f"{net.watched:.3f}",
            dead=f"{record['dead_fraction']:.1%}",
            refresh=False,
        )


class Calls(Callback):
    """Calls a function with the record of each epoch; True ends the training."""

    def __init__(self, function: Callable[[dict[str, Any]], Any]):
        self.function = function

    def on_epoch_end(self, net, **kwargs):
        answer = self.function(net.record)
        # Not `if answer`: a function that returns 1 did not ask to stop.
        if isinstance(answer, bool | np.bool_) and answer:
            net.stopped = True


def as_callback(callback: Any) -> Callback | type[Callback]:
    """A skorch callback as it is, and any other callable as one."""
    is_class = isinstance(callback, type) and issubclass(callback, Callback)
    if is_class or isinstance(callback, Callback):
        return callback
    return Calls(callback)
