"""The folders of SAELens: ``cfg.json`` and ``sae_weights.safetensors``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from skdict._utils.tensors import Tensors, read_json, read_safetensors
from skdict.interchange._parts import Activation, Parts, check_settings, count, take

SETTINGS = "cfg.json"
WEIGHTS = "sae_weights.safetensors"
DENSITIES = "sparsity.safetensors"

# SAELens adds this to a frequency before it takes the logarithm.
_LEAST_DENSITY = 1e-10

_LINEAR = {"W_enc.T": "encoder", "b_enc": "encoder_bias"}
_TENSORS: dict[str, dict[str, str]] = {
    "standard": _LINEAR,
    "topk": _LINEAR,
    "abstopk": _LINEAR,
    "jumprelu": {**_LINEAR, "threshold": "threshold"},
    "gated": {
        "W_enc.T": "encoder",
        "b_gate": "encoder_bias",
        "r_mag": "log_gain",
        "b_mag": "magnitude_bias",
    },
    "matching_pursuit": {},
}
_ACTIVATIONS: dict[str, Activation] = {
    "standard": "relu",
    "topk": "topk",
    "abstopk": "abstopk",
    "jumprelu": "jump",
    "gated": "gated",
    "matching_pursuit": "pursuit",
}
# Settings that change what is computed, with the values that leave it as it is.
_PLAIN = {
    "normalize_activations": ("none", None),
    "reshape_activations": ("none", "hook_z", None),
    "finetuning_scaling_factor": (False, None),
    "apply_b_dec_to_input": (True, False),
    "rescale_acts_by_decoder_norm": (True, False),
}
_NORMALIZED = {
    "expected_average_only_in": "the factor by which rows were multiplied is not in "
    "the file: fold it with fold_activation_norm_scaling_factor, and save again",
    "covariance_whitening": "the whitening is not in the file: fold it with "
    "fold_activation_whitening, and save again",
}
_PER_ROW = (
    "every row is scaled by its own norm, which no estimator of skdict undoes after "
    "decoding"
)


def read(folder: Path) -> Parts:
    """Read what SAELens saved in a folder."""
    settings = _current(read_json(folder / SETTINGS))
    architecture = settings.get("architecture")
    if architecture not in list(_TENSORS):
        raise ValueError(
            f"The architecture {architecture!r:.40} is not read. There are: "
            f"{', '.join(_TENSORS)}."
        )
    _check_normalization(settings)
    check_settings(settings, _PLAIN)
    tensors = read_safetensors(folder / WEIGHTS)
    _rename(tensors, architecture)
    names = {"W_dec": "decoder", "b_dec": "bias", **_TENSORS[architecture]}
    parts = Parts(
        _ACTIVATIONS[architecture],
        **take(tensors, names),
        subtracts_bias=settings.get("apply_b_dec_to_input", True),
    )
    _check_sizes(settings, parts.decoder.shape)
    if architecture in ("topk", "abstopk"):
        parts.k = count(settings.get("k", 100), "k")
        parts.ranks_by_norm = settings.get("rescale_acts_by_decoder_norm", False)
    if architecture == "matching_pursuit":
        _read_pursuit(parts, settings)
    if (folder / DENSITIES).exists():
        parts.density = _read_density(folder / DENSITIES)
    return parts


def _current(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings under the names of version 6."""
    settings = dict(settings)
    metadata = settings.get("metadata")
    version = settings.get("sae_lens_version")
    if not version and isinstance(metadata, dict):
        version = metadata.get("sae_lens_version")
    major = re.match(r"\d{1,6}", version) if isinstance(version, str) else None
    if major and int(major[0]) >= 6:
        return settings
    settings.setdefault("architecture", "standard")
    activation = settings.get("activation_fn", settings.get("activation_fn_str"))
    if activation == "topk" and settings["architecture"] in ("standard", "topk"):
        options = settings.get("activation_fn_kwargs")
        settings["architecture"] = "topk"
        settings["k"] = options.get("k") if isinstance(options, dict) else None
    elif activation not in (None, "relu"):
        raise ValueError(f"The activation {activation!r:.40} is not known here.")
    if isinstance(settings.get("normalize_activations"), bool):
        is_normalized = settings["normalize_activations"]
        settings["normalize_activations"] = (
            "expected_average_only_in" if is_normalized else "none"
        )
    return settings


def _check_normalization(settings: Mapping[str, Any]) -> None:
    how = settings.get("normalize_activations")
    if how in ("constant_norm_rescale", "layer_norm"):
        raise ValueError(f"normalize_activations is {how!r}: {_PER_ROW}.")
    if isinstance(how, str) and how in _NORMALIZED:
        raise ValueError(f"normalize_activations is {how!r}: {_NORMALIZED[how]}.")


def _check_sizes(settings: Mapping[str, Any], shape: tuple[int, ...]) -> None:
    """The settings belong to these weights."""
    for name, size in zip(("d_sae", "d_in"), shape, strict=False):
        if name not in settings or settings[name] != size:
            raise ValueError(
                f"{SETTINGS} belongs to other weights: {name} is "
                f"{settings.get(name)!r:.40}, and W_dec has the shape {shape}."
            )


def _rename(tensors: Tensors, architecture: str) -> None:
    """Give tensors of earlier versions their names of today."""
    factor = tensors.get("scaling_factor")
    if factor is not None and np.all(factor == 1):
        del tensors["scaling_factor"]
    if architecture == "jumprelu" and "log_threshold" in tensors:
        with np.errstate(over="ignore"):
            tensors["threshold"] = np.exp(tensors.pop("log_threshold"))
    if architecture == "matching_pursuit":
        tensors.pop("W_enc", None)  # it is tied


def _read_pursuit(parts: Parts, settings: Mapping[str, Any]) -> None:
    threshold = settings.get("residual_threshold", 1e-2)
    if not (type(threshold) in (int, float) and threshold <= 0):
        raise ValueError(
            f"residual_threshold is {threshold!r:.40}: the pursuit of a row ends once "
            "its residual is that short. skdict's MatchingPursuitSAE always makes k "
            "steps."
        )
    if settings.get("stop_on_duplicate_support", True) is not False:
        raise ValueError(
            "stop_on_duplicate_support is set: the pursuit of a row ends once an atom "
            "is taken again. skdict's MatchingPursuitSAE always makes k steps."
        )
    steps = settings.get("max_iterations")
    n_features = parts.bias.size
    parts.k = count(n_features if steps is None else steps, "max_iterations")
    if not parts.subtracts_bias:  # then it is not added either
        parts.bias, parts.subtracts_bias = np.zeros_like(parts.bias), True


def _read_density(path: Path) -> np.ndarray:
    logarithms = read_safetensors(path).get("sparsity")
    if logarithms is None or logarithms.dtype.kind != "f":
        raise ValueError(f"{path} holds no sparsity.")
    if not (logarithms <= 1e-6).all():  # NaN is not, either
        raise ValueError(f"{path} holds logarithms of fractions beyond 1.")
    fractions = 10.0 ** logarithms.astype(np.float64) - _LEAST_DENSITY
    # What is left of a frequency of zero is rounding.
    return np.where(fractions < 0.1 * _LEAST_DENSITY, 0.0, fractions.clip(0, 1))


def contents(parts: Parts, dtype: np.dtype) -> Iterator[tuple[str, Any]]:
    """Names of the files, and what is in each: settings or tensors."""
    names_of = {activation: name for name, activation in _ACTIVATIONS.items()}
    architecture = names_of.get(parts.activation, "jumprelu")
    n_components, n_features = parts.decoder.shape
    settings = {
        "architecture": architecture,
        "d_in": n_features,
        "d_sae": n_components,
        "dtype": str(dtype),
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        # The first version with these names.
        "metadata": {"sae_lens_version": "6.0.0", "written_by": "skdict"},
    }
    if architecture in ("topk", "abstopk"):
        settings |= {"k": parts.k, "rescale_acts_by_decoder_norm": False}
    if architecture == "matching_pursuit":
        settings |= {
            "residual_threshold": 0.0,
            "max_iterations": parts.k,
            "stop_on_duplicate_support": False,
        }
    names = {"W_dec": "decoder", "b_dec": "bias", **_TENSORS[architecture]}
    tensors = {}
    for name, part in names.items():
        array = getattr(parts, part)
        if part == "threshold":
            array = np.broadcast_to(array, n_components)
        key = name.removesuffix(".T")
        tensors[key] = array.T if name.endswith(".T") else array
    yield WEIGHTS, tensors
    if parts.density is not None:
        logarithms = np.log10(parts.density + _LEAST_DENSITY)
        yield DENSITIES, {"sparsity": logarithms.astype(np.float32)}
    yield SETTINGS, settings
