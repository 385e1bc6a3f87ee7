"""The skorch net that trains every model, and what it counts on the way.

Rows are divided by one scale so that they spread about 1 around their centre. Learning
rates then mean the same for any data.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from typing import Any, Self

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping
from torch import Tensor
from torch.utils.data import Dataset

from skdict._ranks import ALONE, Ranks
from skdict.models import Clock, Dictionary, Objective
from skdict.models.dictionary import half_squared_error
from skdict.rows import (
    Batches,
    Part,
    RowBatches,
    StoredRows,
    Table,
    draw_rows,
    epochs,
    load,
    take,
)
from skdict.training.callbacks import (
    BestEpoch,
    DivergenceCheck,
    EarlyEnd,
    EndOfTraining,
    LearningRate,
    ProgressBar,
    as_callback,
)
from skdict.training.checkpoint import (
    Checkpoint,
    checkpoint_among,
    restore_epoch,
    restore_place,
    restore_result,
)
from skdict.training.together import Reader

Batch = tuple[Tensor, Tensor]

# Largest number of rows by which a model is calibrated, and in a stream the smallest:
# fewer rows tell less than the steps before them.
_CALIBRATION_ROWS, _LEAST_CALIBRATION_ROWS = 16384, 256


class Rows(Dataset):
    """Rows with their targets, or some of them.

    Parameters
    ----------
    X : ndarray, Tensor or StoredRows of shape (n, d)
        Rows as the user has them, not yet divided by the scale.
    targets : ndarray, Tensor or StoredRows of shape (n, d_out), default=None
        What is to be rebuilt from the row of the same index. None: the rows themselves.
    without : Tensor of int64, default=None
        Indices of the rows that do not belong to it, in ascending order.
    """

    def __init__(
        self, X: Table, targets: Table | None = None, without: Tensor | None = None
    ) -> None:
        self.X = X
        self.targets = targets
        self.without = without

    def __len__(self) -> int:
        return len(self.X) - (0 if self.without is None else len(self.without))

    def taken(self, rows: Tensor) -> Rows:
        """Some of the rows, in memory."""
        targets = None if self.targets is None else take(self.targets, rows)
        return Rows(take(self.X, rows), targets)


class Pairs:
    """Batches of rows, each with its target, on the device and divided by the scales.

    Parameters
    ----------
    rows : Rows
        Where they come from.
    batch_size : int
        Rows of a batch.
    device : torch.device
        Where they go.
    scales : tuple of float
        That of the rows and that of the targets.
    generator : torch.Generator, default=None
        Shuffles them in each epoch; None keeps their order.
    ranks : Ranks
        The processes that share each batch; this one reads its part only.
    read : callable
        Cuts the rows into batches.
    """

    def __init__(
        self,
        rows: Rows,
        batch_size: int,
        device: torch.device,
        scales: tuple[float, float],
        generator: torch.Generator | None = None,
        ranks: Ranks = ALONE,
        read: Reader = epochs,
    ) -> None:
        tables = [rows.X] if rows.targets is None else [rows.X, rows.targets]
        self.epochs: Batches = read(tables, batch_size, generator, rows.without, ranks)
        self.device = device
        self.scales = scales

    @property
    def n_rows(self) -> int:
        return self.epochs.n_rows

    def __len__(self) -> int:
        return len(self.epochs)

    def __iter__(self) -> Iterator[Batch]:
        return self.batches()

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """Draw an epoch now, and return its batches from the ``start``-th one on."""
        return self._loaded(self.epochs.batches(start))

    def _loaded(self, batches: Iterator[list[Part]]) -> Iterator[Batch]:
        for parts in batches:
            pair = zip(parts, self.scales, strict=False)
            loaded = [load(part, self.device, scale) for part, scale in pair]
            yield loaded[0], loaded[-1]


class DictionaryNet(NeuralNet):
    """A skorch net that trains a model on whole batches.

    Parameters
    ----------
    module : Dictionary
        From :mod:`skdict.models`, on the device.
    generator : torch.Generator
        The only source of randomness.
    batch_size : int
        Rows per step.
    scale : float
        Number by which the targets are divided, and the rows where they are the
        targets.
    variance : float
        Mean squared distance of the targets from their mean, in the net's scale.
    targets : array of shape (n, d_out), default=None
        What is to be rebuilt from the row of the same index. None: the rows themselves.
    input_scale : float
        Number by which rows that are no targets are divided.
    n_steps : int or None, default=None
        Number of steps over which the learning rate falls linearly to zero. None: a
        stream without end, whose rate falls with the square root of the steps.
    warmup_steps : int, default=0
        Number of first steps in which the learning rate rises linearly.
    held_out : Tensor of int64, default=None
        Indices of the rows on which each epoch is validated, and from which nothing is
        learned.
    tol : float or None, default=None
        A rise of the explained variance counts if it is larger than this. None never
        ends early.
    n_iter_no_change : int, default=5
        Number of epochs without such a rise before training winds down.
    verbose : int, default=0
        Above zero, show a progress bar.
    callbacks : iterable of skorch callbacks and callables, or None
        A callable gets the record of each epoch; training stops if one returns True.
    ranks : Ranks
        The processes that train the model together. Each has a part of every batch.
    order : torch.Generator, default=None
        Draws rows instead of ``generator``, but for the order of an epoch.
    read : callable
        Cuts rows into batches, those of all epochs that learn or count what fires.
    """

    def __init__(
        self,
        module: Dictionary,
        *,
        generator: torch.Generator,
        scale: float = 1.0,
        variance: float = 1.0,
        targets: Table | None = None,
        input_scale: float = 1.0,
        n_steps: int | None = None,
        warmup_steps: int = 0,
        held_out: Tensor | None = None,
        tol: float | None = None,
        n_iter_no_change: int = 5,
        verbose: int = 0,
        callbacks: Iterable[Callback | Callable[[dict], Any]] | None = None,
        ranks: Ranks = ALONE,
        order: torch.Generator | None = None,
        read: Reader = epochs,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            module,
            criterion=half_squared_error,
            optimizer=module.optimizer,
            iterator_train=RowBatches,
            train_split=None,
            callbacks=[as_callback(callback) for callback in callbacks or ()],
            verbose=0,
            device=None,
            **{f"optimizer__{k}": v for k, v in module.optimizer_options().items()},
            **kwargs,
        )
        self.generator = generator
        self.scale = scale
        self.variance = variance
        self.targets = targets
        self.input_scale = input_scale
        self.n_steps = n_steps
        self.warmup_steps = warmup_steps
        self.held_out = held_out
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.show_progress = verbose > 0 and ranks.rank == 0
        self.ranks = ranks
        self.order = order or generator
        self.read = read

    @property
    def _default_callbacks(self) -> list[tuple[str, Callback]]:
        return [
            ("learning_rate", LearningRate()),
            ("divergence", DivergenceCheck()),
            ("best_epoch", BestEpoch()),
            ("progress", ProgressBar()),
        ]

    def start(self) -> Self:
        """Initialise the net and set its counts to zero."""
        self.initialize()
        self.module_.ranks = self.ranks
        # The users' callbacks see each epoch before the training can end with it.
        self.callbacks_.append(("early_end", EarlyEnd()))
        # A checkpoint holds what all others have done with a step.
        self.callbacks_.sort(key=lambda named: isinstance(named[1], Checkpoint))
        self.clock = Clock(0, self.n_steps, self.generator)
        atoms = self.module_.atoms
        self.fired = torch.zeros(len(atoms), dtype=torch.int64, device=atoms.device)
        self.squared_error = atoms.new_zeros(())
        self.rows_seen = 0
        # A tensor on an accelerator, because reading a number would wait for it.
        self.n_redrawn: int | Tensor = 0
        # Mean squared errors of a row: first and last batch, held-out rows.
        self.first_error: Tensor | None = None
        self.last_error = atoms.new_zeros(())
        self.validation_error = atoms.new_zeros(())
        self.stopped = False
        self.validation_rows: Rows | None = None
        # Batches done in this epoch, and the generator's state when it began.
        self.n_batches = 0
        self.epoch_generator = self.generator.get_state()
        self.resumes_epoch = False
        return self

    def train(self, X: Table, max_iter: int) -> list[dict[str, Any]]:
        """Make epochs over the rows, and return one record for each.

        Parameters
        ----------
        X : array of shape (n, d)
            The rows, not yet divided by the net's scale.
        max_iter : int
            Largest number of epochs. With 0 the rows are encoded once, to count what
            fires, and nothing is learned.

        Returns
        -------
        list of dict
            Keys: epoch, loss, explained_variance, dead_fraction, resets,
            learning_rate, seconds; validation_explained_variance if rows are held out;
            and what the users' callbacks have recorded.

        Raises
        ------
        ValueError
            If training diverged.
        """
        # What is computed alike may differ in the last bit where machines differ.
        self.ranks.follow_first_(self.module_.state_dict().values())
        # Whether what fires must be counted anew when the training has ended.
        self.codes_changed = max_iter == 0 or self.module_.trains_with_other_codes
        checkpoint = self.checkpoint
        saved = None if checkpoint is None else checkpoint.saved_
        if saved is not None and saved.finished:
            restore_result(self, saved)
            return [without_batches(record) for record in self.history]
        if max_iter > 0:
            with ExitStack() as self.resources:
                self.notify("on_train_begin", X=X, y=None, max_iter=max_iter)
                if saved is not None:
                    max_iter -= restore_place(self, saved)
                    self.resumes_epoch = True
                with suppress(EndOfTraining):
                    self.fit_loop(X, epochs=max_iter)
                self.notify("on_train_end", X=X, y=None)
        calibrated = self.calibrate(X)
        self.ranks.follow_first_(self.module_.state_dict().values())
        if calibrated or self.codes_changed:
            self.look(X)
        if checkpoint is not None:
            checkpoint.write_(self, finished=True)
        return [without_batches(record) for record in self.history]

    def notify(self, method_name: str, **kwargs: Any) -> None:
        getattr(self, method_name)(self, **kwargs)
        for _, callback in self.callbacks_:
            try:
                getattr(callback, method_name)(self, **kwargs)
            except KeyboardInterrupt:
                # The user's Ctrl-C gets through. skorch's EarlyStopping raises it, too,
                # and only ends the training.
                if not isinstance(callback, EarlyStopping):
                    raise
                self.stopped = True

    # Overrides of skorch's methods: rows stay one array, an epoch is a sequence of
    # whole batches, and nothing is read back from the device before the epoch is over.

    def initialize_criterion(self) -> Self:
        self.criterion_ = self.criterion
        return self

    def check_data(self, X: Any, y: None = None) -> None:
        pass

    def get_dataset(self, X: Any, y: None = None) -> Rows:
        return X if isinstance(X, Rows) else Rows(X, self.targets)

    def get_split_datasets(
        self, X: Table, y: None = None, **fit_params: Any
    ) -> tuple[Rows, Rows | None]:
        whole = Rows(X, self.targets)
        if self.held_out is None:
            return whole, None
        if self.validation_rows is None:
            self.validation_rows = whole.taken(self.held_out)
        return Rows(X, self.targets, self.held_out), self.validation_rows

    def get_iterator(
        self, dataset: Rows, training: bool = False, ranks: Ranks | None = None
    ) -> Pairs:
        learned_from = ranks is None and dataset is not self.validation_rows
        return Pairs(
            dataset,
            self.batch_size,
            self.module_.atoms.device,
            (self.scale if dataset.targets is None else self.input_scale, self.scale),
            self.generator if training else None,
            self.ranks if ranks is None else ranks,
            self.read if learned_from else epochs,
        )

    def infer(self, x: Tensor, **fit_params: Any) -> Tensor:
        """Return the reconstruction, which scorers and `predict` compare."""
        return self.module_(x)[0]

    def on_epoch_begin(self, net: Self, **kwargs: Any) -> None:
        if len(self.history):
            # A long training has millions of batches.
            self.history[-1]["batches"].clear()
        super().on_epoch_begin(net, **kwargs)
        self.epoch_began = time.perf_counter()

    def on_epoch_end(
        self,
        net: Self,
        dataset_train: Rows | None = None,
        dataset_valid: Rows | None = None,
        **kwargs: Any,
    ) -> None:
        error = float(self.squared_error) / self.rows_seen
        record = {
            "loss": error * self.scale * self.scale,  # may overflow to inf
            "explained_variance": self._explained(error),
            "dead_fraction": float((self.fired == 0).double().mean()),
            "resets": int(self.n_redrawn),
            "learning_rate": self.learning_rate.rate(self.clock.n_steps),
            "seconds": self._longest(time.perf_counter() - self.epoch_began),
        }
        if dataset_valid is not None:
            explained = self._explained(float(self.validation_error))
            record["validation_explained_variance"] = explained
        for key, value in record.items():
            self.history.record(key, value)

    def _longest(self, seconds: float) -> float:
        time = torch.tensor(seconds, dtype=torch.float64, device="cpu")
        return float(self.ranks.max(time))

    @property
    def record(self) -> dict[str, Any]:
        """A copy of the last epoch's record."""
        return without_batches(self.history[-1])

    @property
    def watched(self) -> float:
        """Explained variance of the last epoch, on held-out rows if there are any."""
        record = self.history[-1]
        key = "explained_variance"
        return record.get(f"validation_{key}", record[key])

    def _explained(self, mean_squared_error: float) -> float:
        if self.variance > 0:
            return 1 - mean_squared_error / self.variance
        return float(mean_squared_error == 0)

    def run_single_epoch(
        self,
        iterator: Pairs | None,
        training: bool,
        prefix: str,
        step_fn: Callable[[Batch], dict[str, Tensor]],
        **fit_params: Any,
    ) -> None:
        if iterator is None:
            return
        self._begin_counts(training)
        batches = self._begin_epoch(iterator) if training else iter(iterator)
        for batch in batches:
            if not len(batch[0]):
                continue
            self.notify("on_batch_begin", batch=batch, training=training)
            step = step_fn(batch)
            self.history.record_batch(f"{prefix}_batch_size", len(batch[0]))
            self._count(step, len(batch[0]), training)
            self.n_batches += training
            self.notify("on_batch_end", batch=batch, training=training, **step)
        self._sum_counts(training)
        if not training:
            n_rows = iterator.n_rows
            self.validation_error /= n_rows
            with torch.no_grad():
                self.module_.watch_(self.fired_held_out, n_rows)
                if self.module_.is_judged_calibrated:
                    self._judge_calibrated()

    def _judge_calibrated(self) -> None:
        """Take the held-out rows' error if the training ended now.

        While training, epochs differ in how many latents they have active, and those
        with more would explain more.
        """
        assert self.validation_rows is not None
        module, rows = self.module_, self._few(self.validation_rows)
        # Each process reads all of them, so that all calibrate alike.
        pairs = list(self.get_iterator(rows, ranks=ALONE))
        before = {name: p.detach().clone() for name, p in module.named_parameters()}
        module.calibrate_([x for x, _ in pairs], len(rows))
        error = torch.zeros_like(self.validation_error)
        for pair in pairs:
            error += self.validation_step(pair)["squared_error"]
        self.validation_error = error / len(rows)
        module.load_state_dict(before, strict=False)

    def _begin_epoch(self, iterator: Pairs) -> Iterator[Batch]:
        """Draw the order of the rows; return the batches that are not done yet."""
        self.epoch_generator = self.generator.get_state()
        self.n_batches = 0
        checkpoint = self.checkpoint
        if not self.resumes_epoch or checkpoint is None or checkpoint.saved_ is None:
            return iterator.batches()
        self.resumes_epoch = False
        self.n_batches = checkpoint.saved_.text["place"]["batches"]
        batches = iterator.batches(self.n_batches)
        restore_epoch(self, checkpoint.saved_)
        checkpoint.saved_ = None  # it may be large
        return batches

    @torch.no_grad()
    def look(self, X: Table) -> None:
        """Count what fires on the rows that are learned from, without learning."""
        dataset, _ = self.get_split_datasets(X)
        self._begin_counts(True)
        for batch in self.get_iterator(dataset):
            if len(batch[0]):
                self._count(self.validation_step(batch), len(batch[0]), True)
        self._sum_counts(True)
        self.fired = self.ranks.sum(self.fired)

    @torch.no_grad()
    def calibrate(self, X: Table) -> bool:
        """Let the model see rows once more; return whether codes may have changed."""
        if self.n_steps is None and len(X) < _LEAST_CALIBRATION_ROWS:
            return False
        learned_from, held_out = self.get_split_datasets(X)
        rows = self._few(learned_from if held_out is None else held_out)
        pairs = list(self.get_iterator(rows, ranks=ALONE))
        self._set_training(False)
        calibrated = self.module_.calibrate_([x for x, _ in pairs], len(rows))
        has_trained = self.clock.n_steps > 0
        return (has_trained and self.module_.unshrink_(pairs)) or calibrated

    def _few(self, rows: Rows) -> Rows:
        """As many of the rows as calibration looks at, in memory."""
        step = -(-len(rows) // _CALIBRATION_ROWS)
        if isinstance(rows.X, StoredRows):
            among = draw_rows(rows.X, _CALIBRATION_ROWS, self.order)
        else:
            among = torch.arange(0, len(rows), step, device="cpu")
        return rows.taken(among)

    def _begin_counts(self, training: bool) -> None:
        if not training:
            self.validation_error = torch.zeros_like(self.validation_error)
            self.fired_held_out = torch.zeros_like(self.fired)
            return
        self.fired.zero_()
        self.squared_error.zero_()
        self.rows_seen = self.n_redrawn = 0

    def _count(self, step: dict[str, Tensor], n_rows: int, training: bool) -> None:
        if not training:
            self.validation_error += step["squared_error"]
            self.fired_held_out += step["fired"]
            return
        self.squared_error += step["squared_error"]
        self.fired += step["fired"]
        self.rows_seen += n_rows
        self.last_error = step["squared_error"] / n_rows
        if self.first_error is None:
            self.first_error = self.last_error

    def _sum_counts(self, training: bool) -> None:
        """Add up what each process has counted; those of a step fired everywhere."""
        if not training:
            self.validation_error = self.ranks.sum(self.validation_error)
            self.fired_held_out = self.ranks.sum(self.fired_held_out)
            return
        self.squared_error = self.ranks.sum(self.squared_error)
        self.rows_seen = self.ranks.total(self.rows_seen)

    @torch.no_grad()
    def validation_step(self, batch: Batch, **fit_params: Any) -> dict[str, Tensor]:
        self._set_training(False)
        x, target = batch
        reconstruction, code = self.module_(x)
        return {
            "y_pred": reconstruction,
            "loss": self.criterion_(reconstruction, target),
            "fired": code.fire_counts(len(self.module_.atoms)),
            "squared_error": (reconstruction - target).square().sum(),
        }

    def train_step(self, batch: Batch, **fit_params: Any) -> dict[str, Tensor]:
        self._set_training(True)
        x, target = batch
        objective = self.module_.step_(x, target, self._descend)
        self.clock.n_steps += 1
        with torch.no_grad():
            self.n_redrawn += self.module_.maintain_(objective, self.clock)
            reconstruction = objective.reconstruction.detach()
            return {
                "y_pred": reconstruction,
                "loss": objective.loss.detach(),
                "fired": objective.fired,
                "squared_error": (reconstruction - target).square().sum(),
            }

    def _descend(self, objective: Objective) -> None:
        """Move the parameters down the gradient of the loss."""
        module = self.module_
        self.optimizer_.zero_grad()
        objective.loss.backward()
        with torch.no_grad():
            if self.ranks.size > 1:
                for parameter in module.parameters():
                    if parameter.grad is not None:
                        parameter.grad = self.ranks.mean(
                            parameter.grad, objective.fraction
                        )
            self.notify(
                "on_grad_computed",
                named_parameters=list(module.named_parameters()),
                training=True,
            )
            module.precondition_(objective)
            self.optimizer_.step()

    @property
    def learning_rate(self) -> LearningRate:
        """The callback that sets the learning rate of each step."""
        return dict(self.callbacks_)["learning_rate"]

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The callback that writes checkpoints, if there is one."""
        return checkpoint_among(callback for _, callback in self.callbacks_)

    @property
    def best_epoch(self) -> BestEpoch:
        """The callback that keeps the parameters of the best epoch."""
        return dict(self.callbacks_)["best_epoch"]


def without_batches(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key != "batches"}
