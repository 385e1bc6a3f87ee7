"""The files of saev: a line of JSON, then what ``torch.save`` writes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from skdict._utils.tensors import open_file, parse_json
from skdict.interchange._files import state_dict
from skdict.interchange._parts import Parts, count, take, threshold_of_batches

WEIGHTS = "sae.pt"

_MAX_LINE = 2**16
_SCHEMAS = range(2, 6)
_TENSORS = {
    "W_enc.T": "encoder",
    "b_enc": "encoder_bias",
    "W_dec": "decoder",
    "b_dec": "bias",
}


def read(path: Path) -> Parts:
    """Read a sparse autoencoder of saev."""
    with open_file(path) as file:
        header = parse_json(file.readline(_MAX_LINE), f"The first line of {path}")
        tensors = state_dict(io.BytesIO(file.read()), path)
    schema = header.get("schema")
    if schema is None:  # release 0.1, which subtracts the bias
        return Parts("relu", **take(tensors, _TENSORS))
    if type(schema) is int and schema == 1:
        raise ValueError(
            "The schema 1 stands for several versions of saev, which compute different "
            "codes: load the file in saev, and dump it again."
        )
    if type(schema) is not int or schema not in _SCHEMAS:
        raise ValueError(
            f"The schema {schema!r:.20} is not known. There are {_SCHEMAS[0]} to "
            f"{_SCHEMAS[-1]}."
        )
    name, options = _activation(header.get("cfg"))
    if name == "Relu":
        return Parts("relu", **take(tensors, _TENSORS), subtracts_bias=False)
    if name == "BatchTopK" and "activation.threshold" in tensors:
        tensors["threshold"] = tensors.pop("activation.threshold")
        threshold = threshold_of_batches(tensors)
        arrays = take(tensors, {**_TENSORS, "threshold": "threshold"})
        return Parts(
            "batchtopk",
            **arrays | {"threshold": threshold},
            k=count(options.get("top_k"), "top_k"),
            subtracts_bias=False,
        )
    if name in ("TopK", "BatchTopK"):
        raise ValueError(
            f"{name} of saev keeps the largest pre-activations of a row even where "
            "they are negative. skdict's TopKSAE keeps the largest positive ones, or "
            "with selection='absolute' those largest in absolute value."
        )
    raise ValueError(f"The activation {name!r:.40} has no estimator in skdict.")


def _activation(settings: Any) -> tuple[Any, dict[str, Any]]:
    """Name and options of the activation."""
    activation = settings.get("activation") if isinstance(settings, dict) else None
    if not isinstance(activation, dict):
        return None, {}
    options = activation.get("params")
    return activation.get("cls"), options if isinstance(options, dict) else {}
