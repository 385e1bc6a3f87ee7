"""The base of all models: atoms, a pre-bias, and the hooks of a learning step.

A step on a batch calls, in this order, ``objective`` (loss, reconstruction, code), the
backward pass, ``precondition_``, the optimiser and ``maintain_``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skdict._ranks import ALONE, Ranks
from skdict._utils.fitted import Array
from skdict.ops import Code


class Objective(NamedTuple):
    """What :meth:`Dictionary.objective` returns for a batch of n rows.

    Attributes
    ----------
    loss : Tensor
        Number that the optimiser lowers.
    reconstruction : Tensor of shape (n, d)
        The targets as the model rebuilds them.
    code : Code
        Codes of the n rows.
    fired : Tensor of shape (M,), int64
        Number of rows on which each atom fired, those of other processes included.
    n_rows : int or Tensor
        Number of rows of the batch, those of other processes included.
    counters : Mapping of str to Tensor
        New values of counters, computed with the loss. ``maintain_`` writes them to
        the buffers.
    """

    loss: Tensor
    reconstruction: Tensor
    code: Code
    fired: Tensor
    n_rows: int | Tensor
    counters: Mapping[str, Tensor] = MappingProxyType({})

    @property
    def fraction(self) -> float | Tensor:
        """Fraction of the batch's rows that this process has."""
        if isinstance(self.n_rows, Tensor):
            # Read from an accelerator, the number would make the step wait.
            return len(self.code) / self.n_rows.double()
        return len(self.code) / self.n_rows


@dataclass
class Clock:
    """Where a training stands.

    Attributes
    ----------
    n_steps : int
        Number of steps made.
    last_step : int or None
        Step at which training ends; None in a stream.
    generator : torch.Generator
        The only source of randomness, on the CPU.
    """

    n_steps: int
    last_step: int | None
    generator: torch.Generator

    @property
    def steps_left(self) -> int | None:
        """Number of steps until training ends; None in a stream."""
        return None if self.last_step is None else self.last_step - self.n_steps


@dataclass(frozen=True)
class Parameter:
    """Where an estimator keeps a parameter of its model.

    Attributes
    ----------
    attribute : str
        Name of the fitted attribute.
    rule : Array
        What a file may hold there.
    """

    attribute: str
    rule: Array


ATOMS = ("n_components", "n_features")


class Dictionary(nn.Module):
    """Atoms and a pre-bias; the subclass says how a row is encoded.

    The atoms have unit norm, which ``maintain_`` restores after each step.

    Parameters
    ----------
    atoms : Tensor of shape (M, d)
        The dictionary.

    Attributes
    ----------
    fitted : Mapping of str to Parameter
        Each parameter and the attribute of the estimator that holds it.
    counters : Mapping of str to Array
        Buffers that start at zero and change with each step. A stream carries them from
        call to call.
    """

    fitted: ClassVar[Mapping[str, Parameter]] = {
        "atoms": Parameter("components_", Array(ATOMS)),
        "pre_bias": Parameter("pre_bias_", Array(ATOMS[1:])),
    }
    counters: ClassVar[Mapping[str, Array]] = {}
    optimizer: ClassVar[type[torch.optim.Optimizer]] = torch.optim.Adam
    # The processes that train it together, each on a part of every batch.
    ranks: Ranks = ALONE
    # Steps that a fit should have if nobody sets its batches, as many as 100 epochs of
    # 16: Adam moves a parameter by about the learning rate in each, however many rows
    # it has seen. 0: any number.
    least_steps: ClassVar[int] = 1600
    # Whether it learns from a stream, after each part of which it is calibrated.
    in_stream: bool = False
    # Steps after which the learning rate of an endless stream starts to fall.
    stream_steps: ClassVar[int] = 500

    def __init__(self, atoms: Tensor) -> None:
        super().__init__()
        self.atoms = nn.Parameter(atoms)
        self.pre_bias = nn.Parameter(atoms.new_zeros(atoms.shape[1]))
        for name, rule in self.counters.items():
            dtype = torch.int64 if rule.kind == "i" else atoms.dtype
            shape = [len(atoms) for _ in rule.shape]  # one number per atom, or a scalar
            self.register_buffer(name, atoms.new_zeros(shape, dtype=dtype))

    # Rows to codes and back

    def encode(self, x: Tensor) -> Code:
        """Encode rows of shape (n, d)."""
        raise NotImplementedError

    def decode(self, code: Code) -> Tensor:
        """Rebuild the rows."""
        return code.decode(self.atoms) + self.pre_bias

    def rebuild(self, x: Tensor, code: Code) -> Tensor:
        """The target of rows whose code is known."""
        return code.decode(self.atoms) + self.offset(x)

    def offset(self, x: Tensor) -> Tensor:
        """What is rebuilt of rows of which no atom is active."""
        return self.pre_bias

    def forward(self, x: Tensor) -> tuple[Tensor, Code]:
        """Reconstruction and code."""
        code = self.encode(x)
        return self.rebuild(x, code), code

    def prepare_(self, n_rows: int) -> None:
        """Precompute what encoding ``n_rows`` rows with fixed parameters can use."""

    # A learning step

    def objective(self, x: Tensor, target: Tensor) -> Objective:
        """Compute what a step lowers, without side effects.

        Parameters
        ----------
        x : Tensor of shape (n, d)
            Rows to encode.
        target : Tensor of shape (n, d)
            Rows to rebuild.
        """
        return self.objective_of(x, self.encode(x), target)

    def objective_of(self, x: Tensor, code: Code, target: Tensor) -> Objective:
        """The objective of rows whose code is known, without what a subclass adds."""
        reconstruction = self.rebuild(x, code)
        loss = self.loss(code, reconstruction, target)
        fired = code.fire_counts(len(self.atoms))
        fired, n_rows = self.ranks.count(fired, len(code))
        return Objective(loss, reconstruction, code, fired, n_rows)

    def loss(self, code: Code, reconstruction: Tensor, target: Tensor) -> Tensor:
        """Half the squared error of a row, mean over the batch."""
        return half_squared_error(reconstruction, target)

    def step_(
        self, x: Tensor, target: Tensor, descend: Callable[[Objective], None]
    ) -> Objective:
        """Learn from a batch.

        Parameters
        ----------
        x, target : Tensor of shape (n, d)
            The rows, and what is to be rebuilt from them.
        descend : callable
            Computes the gradients of an objective, calls :meth:`precondition_` and
            moves the parameters. A model without gradients does not call it.
        """
        objective = self.objective(x, target)
        descend(objective)
        return objective

    def precondition_(self, objective: Objective) -> None:
        """Change the gradients before the optimiser sees them.

        The part along each atom goes, because the projection would undo it.
        """
        gradient = self.atoms.grad
        if gradient is not None:
            with torch.no_grad():
                gradient -= (gradient * self.atoms).sum(1, keepdim=True) * self.atoms

    def maintain_(self, objective: Objective, clock: Clock) -> int | Tensor:
        """Do what follows the optimiser's move; return the number of redrawn atoms."""
        for name, value in objective.counters.items():
            self.get_buffer(name).copy_(value)
        self.project_()
        return 0

    def watch_(self, fired: Tensor, n_rows: int) -> None:
        """Adapt, after an epoch, to how often atoms fired on the held-out rows."""

    @property
    def keeps_best_epoch(self) -> bool:
        """Whether the epoch that explains most of the held-out rows is the best one."""
        return True

    @property
    def constant_rate(self) -> float:
        """Fraction of the steps before the learning rate falls, if rows are held out.

        A constant rate overfits small tables, unless the best epoch is kept or the code
        is penalised as far as ``k`` asks for.
        """
        return 0.0

    @property
    def is_settling(self) -> bool:
        """Whether its loss is not yet the one that it will have."""
        return False

    @property
    def is_judged_calibrated(self) -> bool:
        """Whether an epoch explains what it would if the training ended with it."""
        return False

    def calibrate_(
        self, batches: Iterable[Tensor], n_rows: int, *, wanted: float | None = None
    ) -> bool:
        """Set, when training ends, what ``k`` active atoms a row ask for.

        Parameters
        ----------
        batches : iterable of Tensor of shape (n, d)
            Held-out rows, or where there are none, those that were learned from.
        n_rows : int
            Rows of all batches.
        wanted : float, default=None
            Active atoms of a row to ask for instead of ``k``.

        Returns
        -------
        bool
            Whether codes may have changed.
        """
        return False

    def unshrink_(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> bool:
        """Undo, when training ends, what a penalty did to the size of the codes.

        Parameters
        ----------
        pairs : iterable of pairs of Tensor of shape (n, d)
            Batches of the rows that calibrate, with their targets.

        Returns
        -------
        bool
            Whether codes may have changed.
        """
        return False

    @property
    def trains_with_other_codes(self) -> bool:
        """Whether a row's code in training is not the one that it gets later."""
        return False

    @torch.no_grad()
    def project_(self) -> None:
        """Put the atoms back on the unit sphere."""
        self.atoms.copy_(F.normalize(self.atoms))

    # Atoms that stay near their start

    def atoms_state(self) -> dict[str, Tensor]:
        """Copy the parameters from which the atoms are made."""
        return {"atoms": self.atoms.detach().clone()}

    @torch.no_grad()
    def hold_atoms_(self, start: Mapping[str, Tensor], min_cosine: float) -> None:
        """Turn atoms back to where their cosine with the first ones is large enough.

        Parameters
        ----------
        start : Mapping of str to Tensor
            What :meth:`atoms_state` gave.
        min_cosine : float
            Atoms keep their norms, but for 1, which restores the first atoms.
        """
        if min_cosine == 1:
            self.atoms.copy_(start["atoms"])
            return
        axes = F.normalize(start["atoms"])
        norms = self.atoms.norm(dim=1, keepdim=True)
        along = (self.atoms * axes).sum(1, keepdim=True)
        across = F.normalize(self.atoms - along * axes)
        sine = (1 - min_cosine**2) ** 0.5
        nearest = norms * F.normalize(min_cosine * axes + sine * across)
        self.atoms.copy_(torch.where(along < min_cosine * norms, nearest, self.atoms))

    # A start, and a change of the rows

    @torch.no_grad()
    def start_(self, rows: Tensor, mean: Tensor) -> None:
        """Set what depends on a sample of the first rows and on the mean of all."""
        self.pre_bias.copy_(mean)

    def start_pairs_(
        self, x: Tensor, x_mean: Tensor, target: Tensor, mean: Tensor
    ) -> None:
        """Start from rows and their targets, which are the rows unless a model says."""
        self.start_(target, mean)

    def follow_(self, mean: Tensor) -> None:
        """Set the pre-bias to the mean of all rows seen, unless it is learned."""

    @torch.no_grad()
    def rescale_(self, factor: float) -> None:
        """Adapt to rows multiplied by ``factor``, so that codes are multiplied, too."""
        self.pre_bias.mul_(factor)

    def rescale_pairs_(self, x_factor: float, factor: float) -> None:
        """Adapt to rows and targets that are each multiplied by a factor."""
        self.rescale_(factor)

    def optimizer_options(self) -> dict[str, Any]:
        """Return the optimiser's options, without parameters and learning rate."""
        # Fused Adam takes a sixth of the time.
        return {"fused": self.atoms.device.type in ("cpu", "cuda")}

    @torch.no_grad()
    def load_(self, attributes: Mapping[str, Tensor]) -> None:
        """Take the parameters from the fitted attributes of an estimator."""
        for name, parameter in self.fitted.items():
            self.get_parameter(name).data = attributes[parameter.attribute]


def half_squared_error(reconstruction: Tensor, target: Tensor) -> Tensor:
    """Half the squared error of a row, mean over the batch."""
    return (reconstruction - target).square().sum(1).mean() / 2
