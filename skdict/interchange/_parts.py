"""A dictionary as other libraries describe it, and the estimator that equals it.

``pre = (x - b) W + b_enc`` or ``pre = x W + b_enc``, an activation, and
``x_hat = z D + b``. skdict's estimators subtract ``b`` and have atoms of unit norm; the
rest of this module makes both hold without changing what the dictionary computes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from skdict._utils.arrays import row_blocks
from skdict._utils.fitted import check_fitted
from skdict._utils.warn import warn
from skdict.decomposition import (
    SAE,
    BatchTopKSAE,
    GatedSAE,
    JumpReLUSAE,
    MatchingPursuitSAE,
    MatryoshkaSAE,
    TopKSAE,
)
from skdict.interchange._pursuit import check_balance

Activation = Literal["relu", "topk", "abstopk", "batchtopk", "jump", "gated", "pursuit"]

# Norms that differ from one by less than this are one but for the rounding of half
# precision. Such atoms are left as they are, so that codes do not change.
_HALF_PRECISION = 5e-3
# Norms that differ from each other by less, relatively, are equal.
_EQUAL = 1e-6
# How many names of tensors a message lists.
_MOST_NAMES = 20


@dataclass
class Parts:
    """Arrays of a dictionary, and how they are used.

    Attributes
    ----------
    activation : str
        What follows the encoder.
    decoder : ndarray of shape (F, D)
        Atoms, of any norm.
    bias : ndarray of shape (D,)
        What is added after decoding.
    encoder : ndarray of shape (F, D), default=None
        None for a pursuit, whose encoder is the atoms.
    encoder_bias : ndarray of shape (F,), default=None
        For a gated dictionary, that of the gate.
    subtracts_bias : bool, default=True
        Whether ``bias`` is subtracted before encoding.
    k : int, default=None
        Number of latents that are kept, or wanted.
    threshold : ndarray of shape () or (F,), default=None
        Pre-activations above it count.
    log_gain, magnitude_bias : ndarray of shape (F,), default=None
        Of a gated dictionary.
    prefixes : list of int, default=None
        Numbers of atoms that rebuild the rows alone.
    ranks_by_norm : bool, default=False
        Whether pre-activations are multiplied by the norms of their atoms before the
        largest are chosen, and codes divided by them.
    density : ndarray of shape (F,), default=None
        Fraction of the rows on which each feature fires.
    """

    activation: Activation
    decoder: np.ndarray
    bias: np.ndarray
    encoder: np.ndarray | None = None
    encoder_bias: np.ndarray | None = None
    subtracts_bias: bool = True
    k: int | None = None
    threshold: np.ndarray | None = None
    log_gain: np.ndarray | None = None
    magnitude_bias: np.ndarray | None = None
    prefixes: list[int] | None = None
    ranks_by_norm: bool = False
    density: np.ndarray | None = None


def estimator_from(parts: Parts) -> Any:
    """The fitted estimator that computes what the parts say.

    Raises
    ------
    ValueError
        If shapes disagree, an entry is not finite, or no estimator computes the same.
    """
    dtype = _common_dtype(parts)
    parts = checked(parts)
    parts = _with_subtracted_bias(_with_unit_atoms(parts))
    if parts.activation == "pursuit":
        check_balance(parts.decoder)
    if parts.threshold is not None:
        # One below zero lets ReLU decide, as zero does.
        parts.threshold = np.maximum(parts.threshold, 0.0)
    if parts.log_gain is not None and parts.log_gain.max() > np.log(
        np.finfo(dtype).max
    ):
        raise ValueError(
            f"The log gain is as large as {parts.log_gain.max():.4g}: its exponential "
            "is beyond the largest number."
        )
    estimator = _empty_estimator(parts)
    attributes = {
        "components_": parts.decoder,
        "pre_bias_": parts.bias,
        "encoder_components_": parts.encoder,
        "encoder_bias_": parts.encoder_bias,
        "threshold_": parts.threshold,
        "log_gain_": parts.log_gain,
        "magnitude_bias_": parts.magnitude_bias,
    }
    estimator.n_features_in_ = parts.decoder.shape[1]
    for name, value in attributes.items():
        if value is not None:
            with np.errstate(over="ignore"):
                setattr(estimator, name, np.array(value, dtype, order="C"))
    if parts.density is not None:
        estimator._keep_density(parts.density.astype(dtype))
    check_fitted(estimator)
    return estimator


def _common_dtype(parts: Parts) -> np.dtype:
    arrays = {n: v for n, v in vars(parts).items() if isinstance(v, np.ndarray)}
    arrays.pop("density", None)  # it is made from a logarithm
    is_wide = any(array.dtype == np.float64 for array in arrays.values())
    return np.dtype(np.float64 if is_wide else np.float32)


def checked(parts: Parts) -> Parts:
    """The parts, with shapes that agree and finite entries; vectors in float64."""
    if parts.decoder.ndim != 2 or parts.decoder.size == 0:
        raise ValueError(f"The atoms have the shape {parts.decoder.shape}.")
    n_components, n_features = parts.decoder.shape
    shapes = {
        "decoder": (n_components, n_features),
        "bias": (n_features,),
        "encoder": (n_components, n_features),
        "encoder_bias": (n_components,),
        "threshold": () if parts.activation == "batchtopk" else (n_components,),
        "log_gain": (n_components,),
        "magnitude_bias": (n_components,),
        "density": (n_components,),
    }
    new = {}
    for name, shape in shapes.items():
        array = getattr(parts, name)
        if array is None:
            continue
        what = name.replace("_", " ")
        if array.dtype.kind != "f":
            raise ValueError(f"The {what} holds {array.dtype}, no floats.")
        if array.shape != shape:
            raise ValueError(
                f"The {what} has the shape {array.shape}, but {shape} goes with "
                f"{n_components} atoms of {n_features} features."
            )
        if not np.isfinite(array).all():
            raise ValueError(f"The {what} holds NaN or infinity.")
        # Matrices may be as large as the memory; copies of them are made in blocks.
        new[name] = array if array.ndim == 2 else array.astype(np.float64)
    if parts.k is not None and not 1 <= parts.k <= n_components:
        raise ValueError(f"k is {parts.k}, but there are {n_components} latents.")
    return replace(parts, **new)


def _with_unit_atoms(parts: Parts) -> Parts:
    """Move the norms of the atoms into the encoder.

    ReLU and comparisons with a threshold go along with positive factors. A choice of
    the largest does so only if all factors are equal, or if the source had them in its
    ranking already.
    """
    norms = _norms(parts.decoder)
    is_zero = norms == 0
    if parts.ranks_by_norm:
        if is_zero.any():
            raise ValueError(
                f"Atom {is_zero.argmax()} is zero, and codes are divided by the norms "
                "of their atoms."
            )
        return _divided(parts, norms)
    # The codes of a zero atom rebuild nothing, and may stay as they are.
    if np.all(is_zero | (abs(norms - 1) <= _HALF_PRECISION)):
        return parts
    if parts.activation in ("relu", "jump", "gated"):
        return _divided(parts, np.where(is_zero, 1.0, norms))
    least, most = norms[~is_zero].min(), norms.max()
    if most - least <= _EQUAL * most and parts.activation != "pursuit":
        return _divided(parts, np.full_like(norms, most))
    if parts.activation == "batchtopk":
        assert parts.threshold is not None
        each = np.full(len(norms), float(parts.threshold))
        jump = replace(parts, activation="jump", threshold=each, prefixes=None)
        return _divided(jump, np.where(is_zero, 1.0, norms))
    raise ValueError(
        f"The atoms have norms from {least:.4g} to {most:.4g}. Those of skdict have "
        "norm 1, and scaling them would change which latents are the largest: in its "
        "own library, train or save the dictionary with atoms of unit norm."
    )


def _norms(atoms: np.ndarray) -> np.ndarray:
    """Norms of the atoms, in float64."""
    limits = np.finfo(atoms.dtype)
    norms = np.empty(len(atoms))
    for block in row_blocks(atoms):
        wide = atoms[block].astype(np.float64)
        largest = abs(wide).max(axis=1)
        units = wide / np.where(largest > 0, largest, 1.0)[:, None]
        norms[block] = largest * np.linalg.norm(units, axis=1)
    # Beyond these, products with the norms would leave the range of the dtype.
    is_extreme = (norms > limits.max**0.5) | ((norms > 0) & (norms < limits.tiny**0.5))
    if is_extreme.any():
        atom = is_extreme.argmax()
        raise ValueError(f"Atom {atom} has the norm {norms[atom]:.3g}.")
    return norms


def _divided(parts: Parts, norms: np.ndarray) -> Parts:
    """Divide the atoms by their norms, and multiply the codes by them."""
    factors = norms[:, None].astype(parts.decoder.dtype)
    new: dict[str, Any] = {"decoder": parts.decoder / factors}
    if parts.activation == "gated":
        # The gate only opens; the magnitude has the scale.
        assert parts.log_gain is not None
        assert parts.magnitude_bias is not None
        new["log_gain"] = parts.log_gain + np.log(norms)
        new["magnitude_bias"] = parts.magnitude_bias * norms
    else:
        assert parts.encoder is not None
        assert parts.encoder_bias is not None
        new["encoder"] = parts.encoder * factors
        new["encoder_bias"] = parts.encoder_bias * norms
        if parts.threshold is not None:
            is_scalar = parts.threshold.ndim == 0
            new["threshold"] = parts.threshold * (norms[0] if is_scalar else norms)
    return replace(parts, **new, ranks_by_norm=False)


def _with_subtracted_bias(parts: Parts) -> Parts:
    """Subtract the bias before encoding, and make up for it in the encoder's bias."""
    if parts.subtracts_bias or not parts.bias.any():
        return replace(parts, subtracts_bias=True)
    return shifted(replace(parts, subtracts_bias=True), parts.bias)


def shifted(parts: Parts, by: np.ndarray) -> Parts:
    """Add to the pre-activations what rows that are larger by ``by`` would add."""
    if parts.encoder is None or parts.encoder_bias is None:
        raise ValueError(
            "The bias of a matching pursuit is subtracted as well as added, or zero."
        )
    shift = np.empty(len(parts.encoder))
    for block in row_blocks(parts.encoder):
        shift[block] = parts.encoder[block].astype(np.float64) @ by
    new: dict[str, Any] = {"encoder_bias": parts.encoder_bias + shift}
    if parts.activation == "gated":
        assert parts.log_gain is not None
        assert parts.magnitude_bias is not None
        new["magnitude_bias"] = parts.magnitude_bias + np.exp(parts.log_gain) * shift
    return replace(parts, **new)


def _empty_estimator(parts: Parts) -> Any:
    n = len(parts.decoder)
    if parts.activation == "relu":
        return SAE(n)
    if parts.activation == "topk":
        return TopKSAE(n, parts.k)
    if parts.activation == "abstopk":
        return TopKSAE(n, parts.k, selection="absolute")
    if parts.activation == "jump":
        return JumpReLUSAE(n, parts.k)
    if parts.activation == "gated":
        return GatedSAE(n)
    if parts.activation == "pursuit":
        return MatchingPursuitSAE(n, parts.k)
    if parts.prefixes is None:
        return BatchTopKSAE(n, parts.k)
    return MatryoshkaSAE(n, parts.k, prefixes=parts.prefixes)


def take(tensors: Mapping[str, np.ndarray], names: Mapping[str, str]) -> dict[str, Any]:
    """Tensors under other names, all of them known and there.

    Parameters
    ----------
    tensors : Mapping of str to ndarray
        From a file.
    names : Mapping of str to str
        What each is in :class:`Parts`; a name that ends in ".T" is transposed.

    Raises
    ------
    ValueError
        If one is missing, or there are others.
    """
    missing = [name for name in names if name.removesuffix(".T") not in tensors]
    if missing:
        there = sorted(tensors)
        names_there = ", ".join(ascii(name)[1:-1] for name in there[:_MOST_NAMES])
        more = ", ..." if len(there) > _MOST_NAMES else ""
        raise ValueError(
            f"The tensor {missing[0].removesuffix('.T')} is missing: there are "
            f"{names_there or 'none'}{more}."
        )
    known = {name.removesuffix(".T") for name in names}
    unknown = sorted(tensors.keys() - known)
    if unknown:
        raise ValueError(
            f"The tensor {ascii(unknown[0])[1:-1]:.60} has no place in this kind of "
            "dictionary."
        )
    return {
        part: tensors[name.removesuffix(".T")].T
        if name.endswith(".T")
        else tensors[name]
        for name, part in names.items()
    }


def check_settings(
    settings: Mapping[str, Any], allowed: Mapping[str, tuple[Any, ...]]
) -> None:
    """Raise a ValueError for a setting that is there with a value not allowed."""
    for name, values in allowed.items():
        if name in settings and not any(
            settings[name] is v or settings[name] == v for v in values
        ):
            raise ValueError(
                f"{name} is {settings[name]!r:.60}, which no estimator of skdict "
                "computes."
            )


def count(value: Any, name: str) -> int:
    """A positive integer from a file."""
    if isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind == "i":
        value = value.item()
    if type(value) is not int or not 1 <= value < 2**31:
        raise ValueError(f"{name} is {value!r:.60}, no number of latents.")
    return value


def threshold_of_batches(tensors: Mapping[str, np.ndarray]) -> np.ndarray:
    """The threshold of a BatchTopK dictionary; warn where none was learned."""
    threshold = tensors.get("threshold")
    if threshold is None or threshold.shape != () or threshold.dtype.kind != "f":
        raise ValueError("The threshold is no number.")
    if threshold <= 0:
        warn(
            f"The threshold is {float(threshold):.3g}: it was never learned, so all "
            "positive activations count, as in the library that wrote the file."
        )
    return threshold
