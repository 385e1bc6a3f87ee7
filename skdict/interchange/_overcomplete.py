"""State dicts of overcomplete, which hold neither the class nor ``k``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from skdict._utils.tensors import Tensors
from skdict.decomposition import SAE, JumpReLUSAE, TopKSAE
from skdict.interchange._files import read_torch
from skdict.interchange._parts import Activation, Parts, count, take

MARK = "dictionary."

_ENCODER = {
    "encoder.final_block.0.weight": "encoder",
    "encoder.final_block.0.bias": "encoder_bias",
}
_TOLERANCE = 1e-4


def read(path: Path, estimator: Any) -> Parts:
    """Read a state dict; the estimator says what follows the encoder."""
    tensors = read_torch(path)
    arrays = _decoder(tensors)
    names = dict(_ENCODER)
    activation, k = _activation(estimator, "thresholds" in tensors)
    if activation == "jump":
        with np.errstate(over="ignore"):
            tensors["thresholds"] = np.exp(tensors["thresholds"])
        names["thresholds"] = "threshold"
    arrays |= take(tensors, names)
    n_features = arrays["decoder"].shape[-1]
    return Parts(activation, bias=np.zeros(n_features, np.float32), k=k, **arrays)


def _activation(estimator: Any, has_thresholds: bool) -> tuple[Activation, int | None]:
    if has_thresholds:
        if estimator is not None and type(estimator) is not JumpReLUSAE:
            raise ValueError(
                "The file has thresholds, so it is a JumpSAE: leave out estimator, or "
                "pass JumpReLUSAE()."
            )
        return "jump", None
    if type(estimator) is SAE:
        return "relu", None
    if type(estimator) is TopKSAE and estimator.selection == "positive":
        return "topk", count(estimator.k, "k")
    raise ValueError(
        "A state dict of overcomplete does not tell the class of its dictionary: pass "
        "estimator=SAE() for an SAE, or estimator=TopKSAE(k=top_k) for a TopKSAE. The "
        "threshold of a BatchTopKSAE is not in the file, and the pursuits have other "
        "codes."
    )


def _decoder(tensors: Tensors) -> dict[str, Any]:
    """Take the dictionary layer out of the tensors."""
    multiplier = tensors.pop("dictionary.multiplier", np.zeros(()))
    if multiplier.shape != () or multiplier.dtype.kind != "f":
        raise ValueError("dictionary.multiplier is no number.")
    with np.errstate(over="ignore"):
        factor = np.exp(multiplier.astype(np.float64))
    layer = {
        name.removeprefix(MARK): tensors.pop(name)
        for name in list(tensors)
        if name.startswith(MARK)
    }
    if any(array.ndim != 2 or array.dtype.kind != "f" for array in layer.values()):
        raise ValueError("The dictionary layer holds something else than matrices.")
    dtype = np.result_type(np.float32, *layer.values())
    if layer.keys() == {"C", "W", "Relax"}:
        return {"decoder": (_relaxed_archetypes(**layer) * factor).astype(dtype)}
    if layer.keys() != {"_weights"}:
        raise ValueError(
            f"The dictionary layer has {', '.join(sorted(layer)) or 'no tensors'}, "
            "neither _weights nor C, W and Relax."
        )
    weights = layer["_weights"].astype(np.float64)
    norms = np.linalg.norm(weights, axis=1)
    if not (abs(norms - 1) <= _TOLERANCE).all():  # NaN is not, either
        raise ValueError(
            "The atoms have not norm 1: either they were saved before "
            "model.get_dictionary() normalised them, or they are normalised in a way "
            "that the file does not tell."
        )
    return {"decoder": (weights * factor).astype(dtype)}


def _relaxed_archetypes(C: np.ndarray, W: np.ndarray, Relax: np.ndarray) -> np.ndarray:
    if W.shape[1] != C.shape[0] or Relax.shape != (W.shape[0], C.shape[1]):
        raise ValueError("C, W and Relax of the dictionary layer do not fit together.")
    C, W = C.astype(np.float64), W.astype(np.float64)
    if not ((W >= 0).all() and (abs(W.sum(1) - 1) <= _TOLERANCE).all()):
        raise ValueError(
            "The rows of W are no weights that add up to one: call "
            "model.get_dictionary() in training mode before saving."
        )
    return W @ C + Relax
