"""What a stream carries from call to call: counters, optimiser, generator."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from torch import Tensor

from skdict._utils.fitted import Array, Count, Fitted, IfThere, OrNone, Record, Sizes
from skdict.models import Dictionary

# What each optimiser keeps for a parameter: an array of the parameter's shape unless
# a different shape is given.
_SLOTS: dict[type[torch.optim.Optimizer], dict[str, dict[str, Any]]] = {
    torch.optim.SGD: {},
    torch.optim.Adam: {
        "step": {"shape": (), "low": 0},
        "exp_avg": {},
        "exp_avg_sq": {"low": 0},
    },
}


def state_of(net: NeuralNet) -> dict[str, Any]:
    """Return, as arrays, the state from which another net goes on as this one would."""
    module = net.module_
    return {
        "model": {name: _as_array(module.get_buffer(name)) for name in module.counters},
        "optimizer": optimizer_state(net),
        "generator": net.generator.get_state().numpy(),
        "n_steps": net.clock.n_steps,
    }


def restore(net: NeuralNet, state: dict[str, Any]) -> None:
    """Put a started net into the state that :func:`state_of` gave of another."""
    module = net.module_
    for name, value in state["model"].items():
        module.get_buffer(name).copy_(_as_tensor(value))
    _load_slots(net, state["optimizer"])
    net.generator.set_state(_as_tensor(state["generator"]))
    net.clock.n_steps = state["n_steps"]


Slots = dict[str, dict[str, np.ndarray]]


def optimizer_state(net: NeuralNet) -> Slots:
    """What the optimiser keeps for each parameter."""
    names = [name for name, _ in net.module_.named_parameters()]
    slots = net.optimizer_.state_dict()["state"]
    return {
        names[i]: {slot: _as_array(torch.as_tensor(v)) for slot, v in kept.items()}
        for i, kept in slots.items()
        if any(value is not None for value in kept.values())
    }


def restore_optimizer(net: NeuralNet, state: Slots) -> None:
    """Give the optimiser what :func:`optimizer_state` gave of another.

    Raises
    ------
    ValueError
        If it does not fit the parameters.
    """
    slots = _SLOTS[type(net.optimizer_)]
    parameters = dict(net.module_.named_parameters())
    for name, kept in state.items():
        if name not in parameters or kept.keys() != slots.keys():
            raise ValueError(f"the optimiser has something else than {name!r:.80}")
        for slot, value in kept.items():
            shape = slots[slot].get("shape", tuple(parameters[name].shape))
            like = parameters[name] if shape else torch.tensor(0.0)
            if value.shape != shape or _as_tensor(value).dtype != like.dtype:
                raise ValueError(
                    f"{slot} of {name} has the shape {value.shape} and the dtype "
                    f"{value.dtype}"
                )
    _load_slots(net, state)


def _load_slots(net: NeuralNet, state: Slots) -> None:
    names = [name for name, _ in net.module_.named_parameters()]
    slots = {
        names.index(name): {slot: _as_tensor(value) for slot, value in kept.items()}
        for name, kept in state.items()
    }
    net.optimizer_.load_state_dict({**net.optimizer_.state_dict(), "state": slots})


def stream_rule(model: type[Dictionary]) -> Fitted:
    """Return what a file may hold as the state of a stream of this model.

    Names, shapes and ranges; ``skdict.load`` checks the file with it.
    """
    slots = _SLOTS[model.optimizer]
    # Parameters that have no gradient are missing, for instance a running threshold.
    optimizer = {
        name: IfThere(
            Record(
                {
                    slot: Array(**{"shape": parameter.rule.shape, **options})
                    for slot, options in slots.items()
                }
            )
        )
        for name, parameter in model.fitted.items()
        if slots
    }
    return OrNone(
        Record(
            {
                "model": Record(model.counters),
                "optimizer": Record(optimizer),
                "generator": _GeneratorState(),
                "n_steps": Count(),
            }
        )
    )


class _GeneratorState(Fitted):
    """The state of a generator of torch."""

    def check(self, value: Any, name: str, sizes: Sizes) -> None:
        Array(("n_bytes",), kind="u").check(value, name, {})
        try:
            torch.Generator("cpu").set_state(_as_tensor(value))
        except (RuntimeError, TypeError) as error:
            raise ValueError(
                f"{name} is not the state of a generator: {error}"
            ) from error


def _as_array(tensor: Tensor) -> np.ndarray:
    return tensor.cpu().numpy().copy()


def _as_tensor(array: np.ndarray) -> Tensor:
    return torch.tensor(array, device="cpu")
