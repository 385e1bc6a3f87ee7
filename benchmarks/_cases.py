"""Data and dictionaries that several benchmarks use."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from skdict import (
    ICFL,
    KSVD,
    SAE,
    ArchetypalSAE,
    BatchTopKSAE,
    Codebook,
    GatedSAE,
    JumpReLUSAE,
    MatchingPursuitSAE,
    MatryoshkaSAE,
    TopKSAE,
)
from skdict.datasets import make_planted_dictionary

FAMILY = {
    kind.__name__: kind
    for kind in (
        ICFL,
        TopKSAE,
        BatchTopKSAE,
        MatryoshkaSAE,
        JumpReLUSAE,
        GatedSAE,
        SAE,
        ArchetypalSAE,
        MatchingPursuitSAE,
        KSVD,
        Codebook,
    )
}


def planted(
    n_samples: int, n_features: int, n_components: int, n_active: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows that are sparse sums of unit Gaussian atoms, and the atoms.

    Coefficients are uniform in [0.5, 1.5]; the noise has 15 % of the standard
    deviation of the signal. All is float32.
    """
    data = make_planted_dictionary(
        n_samples,
        n_features,
        n_components=n_components,
        n_active=n_active,
        noise=0.15,
        random_state=0,
    )
    return data.data, data.components


def with_atoms(estimator, atoms: np.ndarray):
    """The dictionary estimator as if a fit had found these atoms."""
    estimator.components_ = atoms
    estimator.pre_bias_ = np.zeros(atoms.shape[1], atoms.dtype)
    estimator.n_features_in_ = atoms.shape[1]
    return estimator


# Rows of the product at a time: a training batch.
_PRODUCT_ROWS = 4096


def lone_product(x: Tensor, atoms: Tensor) -> None:
    """``x @ atoms.T`` in batches of rows: an exact encoder takes no less."""
    for rows in x.split(_PRODUCT_ROWS):
        rows @ atoms.T


def lone_product_in_place(x: Tensor, atoms: Tensor) -> None:
    """The same, written into memory that is allocated already."""
    out = _buffer(len(x[:_PRODUCT_ROWS]), len(atoms))
    for rows in x.split(_PRODUCT_ROWS):
        torch.mm(rows, atoms.T, out=out[: len(rows)])


_buffers: dict[tuple[int, int], Tensor] = {}


def _buffer(*shape: int) -> Tensor:
    if shape not in _buffers:
        _buffers[shape] = torch.empty(shape)
    return _buffers[shape]


def relative_residual(X: np.ndarray, X_hat: np.ndarray) -> float:
    """``||X - X_hat|| / ||X||`` over all entries."""
    return float(np.linalg.norm(X - X_hat) / np.linalg.norm(X))
