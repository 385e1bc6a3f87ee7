"""The folders of dictionary_learning: ``config.json`` and ``ae.pt``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from skdict._utils.tensors import Tensors, read_json
from skdict.interchange._files import read_torch
from skdict.interchange._parts import Parts, count, take, threshold_of_batches

SETTINGS = "config.json"
WEIGHTS = "ae.pt"

# Linear layers of torch have a row for each output: the encoder's are the latents, the
# decoder's the features. The classes with W_enc and W_dec have the other orientation.
_LINEAR = {
    "encoder.weight": "encoder",
    "encoder.bias": "encoder_bias",
    "decoder.weight.T": "decoder",
}
_PLAIN = {
    "W_enc.T": "encoder",
    "b_enc": "encoder_bias",
    "W_dec": "decoder",
    "b_dec": "bias",
}


def read(path: Path) -> Parts:
    """Read the weights, whose settings lie beside them or one folder above."""
    folders = [path.parent, path.parent.parent]
    found = [f / SETTINGS for f in folders if (f / SETTINGS).exists()]
    if not found:
        raise ValueError(
            f"There is no {SETTINGS} beside {path} or above it, and the weights alone "
            "do not tell which kind of dictionary they belong to."
        )
    trainer = read_json(found[0]).get("trainer")
    name = trainer.get("dict_class") if isinstance(trainer, dict) else None
    if not isinstance(name, str) or name not in _READERS:
        raise ValueError(
            f"The class {name!r:.40} has no estimator in skdict. There are: "
            f"{', '.join(_READERS)}."
        )
    return _READERS[name](read_torch(path))


def _read_standard(tensors: Tensors) -> Parts:
    # The trainers after the April update name this class, too, and save the other.
    if "decoder.bias" in tensors:
        return _read_new(tensors)
    return Parts("relu", **take(tensors, {**_LINEAR, "bias": "bias"}))


def _read_new(tensors: Tensors) -> Parts:
    names = {**_LINEAR, "decoder.bias": "bias"}
    return Parts("relu", **take(tensors, names), subtracts_bias=False)


def _read_gated(tensors: Tensors) -> Parts:
    names = {
        "encoder.weight": "encoder",
        "decoder.weight.T": "decoder",
        "decoder_bias": "bias",
        "gate_bias": "encoder_bias",
        "r_mag": "log_gain",
        "mag_bias": "magnitude_bias",
    }
    return Parts("gated", **take(tensors, names))


def _read_topk(tensors: Tensors) -> Parts:
    k = _pop_k(tensors)
    tensors.pop("threshold", None)  # its encoder does not use it unless it is asked
    return Parts("topk", **take(tensors, {**_LINEAR, "b_dec": "bias"}), k=k)


def _read_batch_topk(tensors: Tensors) -> Parts:
    k, names = _pop_k(tensors), {**_LINEAR, "b_dec": "bias"}
    threshold = threshold_of_batches(tensors)
    names["threshold"] = "threshold"
    return Parts("batchtopk", **{**take(tensors, names), "threshold": threshold}, k=k)


def _read_jump(tensors: Tensors) -> Parts:
    names = {**_PLAIN, "threshold": "threshold"}
    return Parts("jump", **take(tensors, names), subtracts_bias=False)


def _read_matryoshka(tensors: Tensors) -> Parts:
    k, sizes = _pop_k(tensors), tensors.pop("group_sizes", None)
    if sizes is None or sizes.ndim != 1 or sizes.dtype.kind != "i":
        raise ValueError("The tensor group_sizes is missing, or holds no numbers.")
    w_dec = tensors.get("W_dec")
    n_components = len(w_dec) if w_dec is not None and w_dec.ndim else 0
    if not ((sizes >= 1) & (sizes <= n_components)).all() or (
        sum(sizes.tolist()) != n_components
    ):
        raise ValueError(f"group_sizes do not add up to {n_components} latents.")
    threshold = threshold_of_batches(tensors)
    arrays = take(tensors, {**_PLAIN, "threshold": "threshold"})
    arrays |= {"threshold": threshold, "prefixes": np.cumsum(sizes)[:-1].tolist()}
    return Parts("batchtopk", **arrays, k=k)


def _pop_k(tensors: Tensors) -> int:
    return count(tensors.pop("k", None), "k")


_READERS: dict[str, Any] = {
    "AutoEncoder": _read_standard,
    "AutoEncoderNew": _read_new,
    "GatedAutoEncoder": _read_gated,
    "AutoEncoderTopK": _read_topk,
    "BatchTopKSAE": _read_batch_topk,
    "JumpReluAutoEncoder": _read_jump,
    "MatryoshkaBatchTopKSAE": _read_matryoshka,
}
