"""Affine steps before a dictionary, and the dictionary of the rows before them.

With ``y = x A + c`` before a dictionary, and ``x_hat = y_hat B + d`` after it, the
dictionary of the rows ``x`` has the atoms ``D B``, the bias ``b B + d`` and the encoder
``A W``. Its encoder's bias makes up for what the subtraction of the new bias changes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.preprocessing import Normalizer, StandardScaler

from skdict._utils.checks import as_numpy
from skdict._utils.steps import unfrozen
from skdict.interchange._parts import Parts, shifted
from skdict.preprocessing import ControlCenterScaler, ControlPCAWhitener

# Relative to the largest entry, what rounding leaves where two matrices are equal.
_EQUAL = 1e-6
# Beyond this ratio of the most to the least stretched direction, float32 loses digits
# that the steps by themselves keep; as in ControlPCAWhitener.
_FLOAT32_CONDITION = 1e3
# And beyond this one, what is in the least direction is the rounding of float64.
_FLOAT64_CONDITION = 1e12


@dataclass
class Affine:
    """``x -> x @ forward + offset``, and back by ``y -> y @ back + origin``."""

    forward: np.ndarray
    offset: np.ndarray
    back: np.ndarray
    origin: np.ndarray

    def then(self, other: Affine) -> Affine:
        """This step, and the other one on its output."""
        return Affine(
            self.forward @ other.forward,
            self.offset @ other.forward + other.offset,
            other.back @ self.back,
            other.origin @ self.back + self.origin,
        )


def affine(step: Any) -> Affine:
    """What a fitted step of a pipeline does to all rows alike.

    Raises
    ------
    ValueError
        If it is none of the steps that are known to be affine.
    """
    step = unfrozen(step)
    if type(step) is ControlPCAWhitener:
        step._check_whitening()
        # What transform multiplies by; the parameters may have changed since the fit.
        forward = _wide(step._whitening)
        components, variances = _wide(step.components_), _wide(step.explained_variance_)
        back = forward.T @ (components.T * variances) @ components
        return _centred(_wide(step.mean_), forward, back)
    if type(step) is StandardScaler:
        n_features = step.n_features_in_
        # with_std may have changed since the fit; transform goes by it.
        scale = _wide(step.scale_) if step.with_std else np.ones(n_features)
        mean = _wide(step.mean_) if step.with_mean else np.zeros(n_features)
        return _centred(mean, np.diag(1 / scale), np.diag(scale))
    if type(step) is PCA:
        components, forward = _wide(step.components_), _wide(step.components_).T
        back = components
        if step.whiten:
            deviations = np.sqrt(_wide(step.explained_variance_))
            least = np.finfo(step.explained_variance_.dtype).eps
            forward = forward / deviations.clip(least)
            back = deviations[:, None] * components
        return _centred(_wide(step.mean_), forward, back)
    name = type(step).__name__
    if type(step) is Normalizer:
        reason = "it divides every row by its own norm, which no file holds"
    elif type(step) is ControlCenterScaler:
        reason = "it centres each batch by itself, and a file knows no batches"
    else:
        reason = (
            "only ControlPCAWhitener, StandardScaler and PCA are known to treat all "
            "rows alike"
        )
    raise ValueError(
        f"{name} cannot be folded into the dictionary: {reason}. Write the dictionary "
        "alone, and apply the steps before it to the rows that it gets."
    )


def _wide(array: Any) -> np.ndarray:
    return as_numpy(array).astype(np.float64)


def _centred(mean: np.ndarray, forward: np.ndarray, back: np.ndarray) -> Affine:
    return Affine(forward, -(mean @ forward), back, mean)


def dtype_for(step: Affine, dtype: np.dtype) -> np.dtype:
    """The dtype in which the folded dictionary keeps the digits of its codes.

    Raises
    ------
    ValueError
        If there is none.
    """
    stretches = np.linalg.svd(step.forward, compute_uv=False)
    positive = stretches[stretches > stretches[0] * np.finfo(np.float64).eps]
    condition = positive[0] / positive[-1]
    if condition > _FLOAT64_CONDITION:
        raise ValueError(
            f"The steps before the dictionary stretch one direction {condition:.1g} "
            "times as much as another, which leaves only rounding there. Keep fewer "
            "components, for instance PCA(n_components=...)."
        )
    return np.dtype(np.float64) if condition > _FLOAT32_CONDITION else dtype


def folded(parts: Parts, step: Affine, dtype: np.dtype) -> Parts:
    """The dictionary of the rows before a step.

    Parameters
    ----------
    parts : Parts
        With a bias that is subtracted.
    step : Affine
        What is done to rows before they are encoded.
    dtype : dtype
        Of the file. The bias is rounded to it here, so that the encoder's bias makes
        up for the rounding, too.
    """
    bias = (parts.bias @ step.back + step.origin).astype(dtype).astype(np.float64)
    decoder = parts.decoder.astype(np.float64) @ step.back
    new = replace(parts, decoder=decoder, bias=bias)
    left = bias @ step.forward + step.offset - parts.bias
    if parts.encoder is None:
        difference = abs(step.forward - step.back.T).max()
        if difference > _EQUAL * abs(step.forward).max():
            raise ValueError(
                "A matching pursuit encodes with its atoms, so only a step that keeps "
                "lengths and angles can be folded into it, such as PCA without "
                "whitening. Write the dictionary alone (pipeline[-1]), and give the "
                "other library the rows that the earlier steps make (pipeline[:-1])."
            )
        return new
    moved = shifted(parts, left)
    return replace(
        new,
        encoder=parts.encoder.astype(np.float64) @ step.forward.T,
        encoder_bias=moved.encoder_bias,
        magnitude_bias=moved.magnitude_bias,
    )
