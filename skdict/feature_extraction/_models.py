"""Borrow a user's model, read one of its layers, and give the model back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from difflib import get_close_matches
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

__all__ = [
    "borrowed",
    "exclusive",
    "find_layer",
    "floating_dtype",
    "layer_output",
    "unwrapped",
]

# Modules of torch whose outputs of four dimensions are (n, d, height, width).
_FEATURE_MAPS = (
    nn.Conv2d,
    nn.BatchNorm2d,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveMaxPool2d,
    nn.AdaptiveAvgPool2d,
    nn.Upsample,
)


def unwrapped(model: nn.Module, layer: str = "") -> tuple[nn.Module, str]:
    """Return the module inside all wrappers, and the name of the layer in it.

    torch.compile and the data-parallel wrappers hold the module that computes. That
    module is called itself, because a compiled graph may ignore hooks and replicas run
    in threads of their own.
    """
    while (inner := _inner_name(model)) is not None:
        model = model.get_submodule(inner)
        layer = "" if layer == inner else layer.removeprefix(f"{inner}.")
    return model, layer


def _inner_name(module: nn.Module) -> str | None:
    """Name of the module inside a wrapper; None for any other module."""
    if "_orig_mod" in module._modules:  # the mark of torch.compile
        return "_orig_mod"
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return "module"
    return None


def find_layer(model: nn.Module, layer: str) -> nn.Module:
    """Find the submodule of that name, on which a hook can be put."""
    module = model
    for name in layer.split(".") if layer else ():
        if isinstance(module, torch.jit.ScriptModule):
            break
        child = getattr(module, name, None)
        if not isinstance(child, nn.Module):
            raise ValueError(_unknown_layer(model, layer))
        module = child
    # A model that is scripted as a whole can be called and needs no hook.
    if layer and isinstance(module, torch.jit.ScriptModule):
        raise ValueError(
            f"layer={layer!r} lies inside of TorchScript (torch.jit.trace, script or "
            "freeze), which runs its layers without Python, so that no hook fires. "
            "Use the model that it was made of; of a model that is TorchScript as a "
            "whole, layer='' gives the output."
        )
    return module


def _unknown_layer(model: nn.Module, layer: str) -> str:
    names = [name for name, _ in model.named_modules() if name]
    if not names:
        return (
            f"layer={layer!r} names no submodule of {type(model).__name__}, which has "
            "none; layer='' is the model itself."
        )
    close = get_close_matches(layer, names, n=5, cutoff=0.4)
    hint = f"close names are {close}" if close else f"it has {names[:10]}"
    return f"layer={layer!r} names no submodule of {type(model).__name__}; {hint}."


def floating_dtype(model: nn.Module) -> torch.dtype:
    """Return the dtype in which the model takes images."""
    for parameter in model.parameters():
        if parameter.is_floating_point():
            return parameter.dtype
    return torch.float32


# For each module, parameter and buffer in use, by its id, the thread that uses it. One
# lock for each model would not do, because two models may share parts, such as a
# backbone. It is not kept in the estimator, which has to be cloned and pickled.
_owners: dict[int, int] = {}
_given_back = threading.Condition()


@contextmanager
def exclusive(model: nn.Module) -> Iterator[None]:
    """Wait until no other thread uses the model or a part of it, then keep it.

    Either all parts are taken at once or none, so two threads cannot wait for each
    other. A thread may take again what it has.
    """
    thread = threading.get_ident()
    parts = list(chain(model.modules(), model.parameters(), model.buffers()))
    ids = {id(part) for part in parts}
    with _given_back:
        _given_back.wait_for(lambda: all(_owners.get(i, thread) == thread for i in ids))
        taken = [i for i in ids if i not in _owners]
        _owners.update(dict.fromkeys(taken, thread))
    try:
        yield
    finally:
        with _given_back:
            for i in taken:
                del _owners[i]
            _given_back.notify_all()


@contextmanager
def borrowed(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Lend this thread a model in evaluation mode on `device`, then restore the model.

    The mode of each submodule is restored, because part of a model may be frozen in
    evaluation mode while the rest is in training mode.
    """
    with exclusive(model):
        homes = {t.device for t in chain(model.parameters(), model.buffers())}
        if len(homes) > 1:
            raise ValueError(
                "The model's parameters and buffers must lie on one device, got "
                f"{sorted(map(str, homes))}."
            )
        if any(home.type == "meta" for home in homes):
            raise ValueError(
                "The model's parameters lie on the meta device, which holds no values: "
                "load its weights first."
            )
        # From "cuda:0" to "cuda" is no move.
        moves = bool(homes) and torch.empty(0, device=device).device not in homes
        # Frozen TorchScript has no mode.
        modes = [
            (module, getattr(module, "training", None)) for module in model.modules()
        ]
        with _called_as_they_are(model):
            try:
                _set_evaluation_mode(model)
                if moves:
                    model.to(device)
                yield
            finally:
                for module, training in modes:
                    if training is None:
                        vars(module).pop("training", None)
                    elif module.training != training:
                        module.training = training
                if moves:
                    model.to(homes.pop())


def _set_evaluation_mode(model: nn.Module) -> None:
    try:
        model.eval()
    except NotImplementedError as error:  # a program of torch.export
        raise ValueError(
            f"The model cannot be put in evaluation mode ({error}) Use the model that "
            "it was made of."
        ) from error


@contextmanager
def _called_as_they_are(model: nn.Module) -> Iterator[None]:
    """Disable compiled graphs and replicas of submodules, which may miss hooks."""
    changed: list[tuple[dict, dict]] = []
    try:
        for module in model.modules():
            own = vars(module)
            new: dict[str, Any] = {}
            if own.get("_compiled_call_impl") is not None:  # module.compile()
                new["_compiled_call_impl"] = None
            if (inner := _inner_name(module)) is not None:
                new["forward"] = getattr(module, inner).__call__
            if new:
                changed.append((own, {name: own.get(name) for name in new}))
                own.update(new)
        yield
    finally:
        for own, old in changed:
            for name, value in old.items():
                if value is None:
                    del own[name]
                else:
                    own[name] = value


class _StopForward(BaseException):
    """Ends a forward pass once the layer's output is known.

    Not an Exception, so that no handler in the model's own code can catch it.
    """


def layer_output(
    model: nn.Module,
    layer: str,
    batch: Tensor,
    feature_maps: set[tuple[int, int]] | None = None,
) -> Any:
    """Run `model` on `batch` and return the output of the layer's first call.

    The height and width of each feature map on the way are added to `feature_maps`.
    """
    submodule = find_layer(model, layer)
    thread = threading.get_ident()
    outputs: list = []
    # Cleared at the end, because a copy of the model that another thread has made
    # meanwhile keeps the hooks.
    is_running = [True]

    def keep_and_stop(module: nn.Module, args: Any, output: Any) -> None:
        # The user may run the model in another thread.
        if is_running and threading.get_ident() == thread:
            outputs.append(output)
            raise _StopForward

    def keep_size(module: nn.Module, args: Any, output: Any) -> None:
        if (
            feature_maps is not None
            and is_running
            and threading.get_ident() == thread
            and isinstance(output, Tensor)
            and output.ndim == 4
            and len(output) == len(batch)
        ):
            height, width = output.shape[2:]
            feature_maps.add((height, width))

    with ExitStack() as hooks:
        hooks.callback(is_running.clear)
        if feature_maps is not None:
            for module in model.modules():
                if isinstance(module, _FEATURE_MAPS):
                    hooks.callback(module.register_forward_hook(keep_size).remove)
        if submodule is not model:
            handle = submodule.register_forward_hook(keep_and_stop)
            hooks.callback(handle.remove)
        try:
            # Not inference_mode: a tensor that the model caches during the pass, or
            # a lazy parameter that it creates, would be unusable in training later.
            with torch.no_grad():
                result = model(batch)
        except _StopForward:
            pass
        except Exception as error:
            # A model that catches even _StopForward goes on and may fail later. The
            # output is known by then.
            if not outputs:
                if batch.shape[-1] in (1, 3, 4) and batch.shape[1] > 4:
                    error.add_note(
                        f"The images have shape {tuple(batch.shape[1:])}: channels "
                        "last? They must come first, as in np.moveaxis(images, -1, 1)."
                    )
                raise
        else:
            if submodule is model:
                return result
    if outputs:
        return outputs.pop()
    raise ValueError(_did_not_run(model, layer))


def _did_not_run(model: nn.Module, layer: str) -> str:
    message = (
        f"layer={layer!r} did not run in the model's forward pass, so it has no "
        "output. The model may skip it in evaluation mode, read its weights without "
        "calling it (as nn.MultiheadAttention does with out_proj), or call it in a "
        "compiled function or another thread."
    )
    parent = layer.rpartition(".")[0]
    return message + (
        f" Take a layer that runs, for instance {parent!r} around it."
        if parent
        else " Take a layer that runs."
    )
