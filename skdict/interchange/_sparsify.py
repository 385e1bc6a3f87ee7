"""The folders of sparsify: ``cfg.json`` and ``sae.safetensors``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from skdict._utils.tensors import read_json, read_safetensors
from skdict.interchange._parts import Parts, check_settings, count, take

SETTINGS = "cfg.json"
WEIGHTS = "sae.safetensors"

# Both matrices have a row for each latent.
_TENSORS = {
    "encoder.weight": "encoder",
    "encoder.bias": "encoder_bias",
    "W_dec": "decoder",
    "b_dec": "bias",
}


def read(folder: Path) -> Parts:
    """Read a sparse coder of sparsify."""
    settings = read_json(folder / SETTINGS)
    if settings.get("transcode", False) is not False:
        raise ValueError(
            "This is a transcoder, which rebuilds other rows than it encodes. skdict "
            "reads dictionaries that rebuild the rows themselves."
        )
    if settings.get("skip_connection", False) is not False:
        raise ValueError(
            "This has a skip connection: its reconstruction is not made from the code "
            "alone, as that of skdict's dictionaries is."
        )
    check_settings(settings, {"activation": ("topk",), "signed": (False,)})
    tensors = read_safetensors(folder / WEIGHTS)
    k = count(settings.get("k"), "k")
    return Parts("topk", **take(tensors, _TENSORS), k=k)


def contents(parts: Parts, dtype: np.dtype) -> Iterator[tuple[str, Any]]:
    """Names of the files, and what is in each: settings or tensors."""
    if parts.activation != "topk":
        raise ValueError(
            "sparsify has dictionaries with the k largest positive activations only: "
            "write a TopKSAE, or another format."
        )
    n_components, n_features = parts.decoder.shape
    norms = np.linalg.norm(parts.decoder, axis=1)
    yield WEIGHTS, {name: getattr(parts, part) for name, part in _TENSORS.items()}
    yield (
        SETTINGS,
        {
            "activation": "topk",
            "expansion_factor": max(1, n_components // n_features),
            # For training only; after whitening, the atoms have other norms.
            "normalize_decoder": bool(np.allclose(norms, 1)),
            "num_latents": n_components,
            "k": parts.k,
            "multi_topk": False,
            "skip_connection": False,
            "transcode": False,
            "d_in": n_features,
        },
    )
