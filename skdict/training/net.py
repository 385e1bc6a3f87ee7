"""skorch nets: what one optimisation step does.

Rows arrive divided by one scale so that they spread about 1 around their centre:
learning rates then mean the same for any data.
"""

from __future__ import annotations

import numpy as np
import torch
from skorch import NeuralNet
from torch import Tensor

from skdict.modules import DictionaryModule
from skdict.ops.sparse_code import SparseCode
from skdict.ops.usage import fire_counts
from skdict.rows import RowBatches


def half_squared_error(y_pred: tuple[Tensor, SparseCode], x: Tensor) -> Tensor:
    """Half the squared error of a row, mean over the batch."""
    return (y_pred[0] - x).square().sum(1).mean() / 2


class DictionaryNet(NeuralNet):
    """A skorch net that trains a dictionary module on whole batches.

    Parameters
    ----------
    module : DictionaryModule
        From :mod:`skdict.modules`, on the device.
    generator : torch.Generator
        The only source of randomness.
    batch_size : int
        Rows per step.
    scale : float
        What the rows are divided by.
    steps_left : int, default=None
        Steps until the learning rate is zero, falling linearly. None: a stream
        without end, whose rate falls with the square root of the steps.
    held_out : Tensor of int64, default=None
        Rows on which each pass is validated, and from which nothing is learned.
    """

    def __init__(
        self,
        module: DictionaryModule,
        *,
        generator: torch.Generator,
        scale: float = 1.0,
        steps_left: int | None = None,
        held_out: Tensor | None = None,
        criterion=half_squared_error,
        **kwargs,
    ):
        super().__init__(
            module,
            criterion=criterion,
            iterator_train=RowBatches,
            train_split=None,
            callbacks="disable",
            verbose=0,
            device=None,
            **kwargs,
        )
        self.generator = generator
        self.scale = scale
        self.steps_left = steps_left
        self.held_out = held_out

    def start(self) -> DictionaryNet:
        """Initialise, and zero what is counted over the steps."""
        self.initialize()
        atoms = self.module_.atoms
        self.learning_rate = self.lr
        self.n_steps = 0
        self.fired = torch.zeros(len(atoms), dtype=torch.int64, device=atoms.device)
        self.squared_error = atoms.new_zeros(())
        self.rows_seen = 0
        self.n_resets: int | Tensor = 0  # a tensor where reading it would wait
        # Mean squared errors of a row: first and last batch, held-out rows.
        self.first_error: Tensor | None = None
        self.last_error = atoms.new_zeros(())
        self.validation_error = atoms.new_zeros(())
        return self

    # What the seams of skorch are filled with: rows stay one array, a pass is a
    # sequence of whole batches, and nothing is read back from the device before
    # the pass is over.

    def initialize_criterion(self):
        self.criterion_ = self.criterion
        return self

    def check_data(self, X, y=None):
        pass

    def get_split_datasets(self, X, y=None, **fit_params):
        if self.held_out is None:
            return (X, None), None
        learned_from = torch.ones(len(X), dtype=torch.bool, device="cpu")
        learned_from[self.held_out] = False
        return (X, learned_from.nonzero()[:, 0]), (X, self.held_out)

    def get_iterator(self, dataset, training=False):
        X, among = dataset
        return RowBatches(
            X,
            self.batch_size,
            self.module_.atoms.device,
            scale=self.scale,
            generator=self.generator if training else None,
            among=among,
        )

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        if iterator is None:
            return
        if prefix == "valid":
            errors = [step_fn(batch)["squared_error"] for batch in iterator]
            self.validation_error = torch.stack(errors).sum() / iterator.n_rows
            return
        self.fired.zero_()
        self.squared_error.zero_()
        self.rows_seen = self.n_resets = 0
        for batch in iterator:
            step = step_fn(batch)
            self.squared_error += step["squared_error"]
            self.fired += step["fired"]
            self.rows_seen += len(batch)
            self.last_error = step["squared_error"] / len(batch)
            if self.first_error is None:
                self.first_error = self.last_error
            self.notify("on_batch_end", batch=batch, training=training)

    @torch.no_grad()
    def look(self, X) -> None:
        """A pass that counts what fires, and learns nothing."""
        learned_from, _ = self.get_split_datasets(X)
        iterator = self.get_iterator(learned_from)
        self.run_single_epoch(iterator, False, "train", self.validation_step)

    @torch.no_grad()
    def validation_step(self, batch, **fit_params):
        x_hat, code = self.infer(batch)
        fired = fire_counts(code, len(self.module_.atoms))
        return {"squared_error": (x_hat - batch).square().sum(), "fired": fired}

    def train_step(self, batch, **fit_params):
        self._set_training(True)
        self.optimizer_.zero_grad()
        x_hat, code = self.infer(batch)
        fired = fire_counts(code, len(self.module_.atoms))
        loss = self.get_loss((x_hat, code), batch, fired=fired)
        loss.backward()
        with torch.no_grad():
            self.adjust_gradients(batch, code)
            rate = self._next_learning_rate()
            for group in self.optimizer_.param_groups:
                group["lr"] = rate
            self.optimizer_.step()
            self.module_.project_()
            self.n_steps += 1
            self.after_step(fired)
            squared_error = (x_hat - batch).square().sum()
        return {"squared_error": squared_error, "fired": fired}

    def get_loss(self, y_pred, y_true, fired=None, **kwargs):
        return self.criterion_(y_pred, y_true)

    def adjust_gradients(self, batch: Tensor, code: SparseCode) -> None:
        """Change the gradients before the optimiser sees them."""

    def after_step(self, fired: Tensor) -> None:
        """Look after the dictionary once the parameters have moved."""

    def _next_learning_rate(self) -> float:
        if self.steps_left is None:
            age = self.n_steps / self._stream_steps
            self.learning_rate = self.lr / (1 + age) ** 0.5
            return self.learning_rate
        # Linear to zero from wherever it stands, also when `steps_left` is cut.
        rate = self.learning_rate
        self.learning_rate -= rate / self.steps_left
        self.steps_left -= 1
        return rate

    # A stream goes on in the next `partial_fit`, with another net.

    def state(self) -> dict[str, np.ndarray]:
        """What the next net needs to go on as if there had been one."""
        state = {
            f"optimizer.{i}.{name}": torch.as_tensor(value)
            for i, slots in self.optimizer_.state_dict()["state"].items()
            for name, value in slots.items()
            if value is not None
        }
        state |= {f"net.{name}": getattr(self, name) for name in self._carried}
        return {
            "generator": self.generator.get_state().numpy(),
            "n_steps": np.array(self.n_steps),
            **{name: tensor.cpu().numpy().copy() for name, tensor in state.items()},
        }

    def restore(self, state: dict[str, np.ndarray]) -> DictionaryNet:
        """Take up the :meth:`state` of another net."""
        self.generator.set_state(torch.tensor(state["generator"], device="cpu"))
        self.n_steps = int(state["n_steps"])
        slots: dict[int, dict[str, Tensor]] = {}
        for key, value in state.items():
            owner, *path = key.split(".")
            if owner == "optimizer":
                slots.setdefault(int(path[0]), {})[path[1]] = torch.tensor(
                    value, device="cpu"
                )
            elif owner == "net":
                here = getattr(self, path[0])
                setattr(self, path[0], torch.tensor(value, device="cpu").to(here))
        optimizer_state = self.optimizer_.state_dict()
        self.optimizer_.load_state_dict({**optimizer_state, "state": slots})
        return self

    _carried: tuple[str, ...] = ()
    # Steps after which the learning rate of an endless stream starts to fall.
    _stream_steps = 500
