"""Where skdict's matching pursuit and that of other libraries are the same.

skdict takes the atom that correlates most with the residual even where this is
negative; SAELens then takes none. They differ on no row at all if every residual has a
positive correlation with some atom. This holds if positive multiples of the atoms add
up to zero: ``sum_j w_j d_j = 0`` with all ``w_j > 0``. If then no ``<d_j, r>`` is
positive, their weighted sum, which is ``<0, r>``, forces all of them to be zero.
"""

from __future__ import annotations

import numpy as np

_MAX_STEPS = 50
# What rounding leaves of the sum, and weights that it does not make negative; relative
# to the sum of the weights and to the largest.
_TOLERANCE = 1e-12
_LEAST_WEIGHT = 1e-8


def balance(atoms: np.ndarray) -> bool:
    """Whether positive weights were found with which the atoms add up to zero.

    The atoms have norms near 1. From equal weights, each step goes towards the nearest
    weights with which they do, measured relative to the present ones, and stops short
    of the first that would become negative. False says that none were found, which is
    no proof that there are none.
    """
    weights = np.ones(len(atoms))
    for _ in range(_MAX_STEPS):
        excess = weights @ atoms
        if (atoms @ excess > 0).all():  # they all lie on one side
            return False
        scaled = weights[:, None] * atoms
        solution = np.linalg.lstsq(scaled.T @ scaled, excess, rcond=1e-13)[0]
        step = -(weights**2) * (atoms @ solution)
        ratio = (step / weights).min()
        if ratio > -1:
            weights = weights + step
            left = abs(weights @ atoms).max()
            return bool(
                weights.min() > _LEAST_WEIGHT * weights.max()
                and left <= _TOLERANCE * weights.sum()
            )
        weights = weights + 0.9 * step / -ratio
        weights /= weights.max()
    return False


def check_balance(atoms: np.ndarray) -> None:
    """Raise a ValueError unless both kinds of matching pursuit agree on all rows."""
    if not balance(atoms.astype(np.float64)):
        raise ValueError(
            "No positive multiples of the atoms were found that add up to zero. There "
            "may be rows whose residual has no positive correlation with any atom: "
            "skdict then takes the least negative one, and SAELens takes none. Centred "
            "rows and more training spread the atoms to all sides."
        )
