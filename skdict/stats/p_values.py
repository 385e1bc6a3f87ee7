"""P-values and q-values."""

from __future__ import annotations

import numpy as np
from scipy.stats import false_discovery_control

# Sums of the same numbers of about one, added in another order, differ by less.
ROUNDING = 1e-12


def at_least(
    null: np.ndarray, observed: np.ndarray | float, rounding: np.ndarray | float
) -> np.ndarray:
    """Mask of the entries of the null that reach the observed statistic.

    Equal values must count, or p-values are too small. Equal scores and counts are
    equal to the bit (see `score_counts`), with a `rounding` of 0. Sums in floating
    point that should be equal may differ, by up to `ROUNDING`.
    """
    return null >= observed - rounding


def permutation_p_value(
    null: np.ndarray, observed: np.ndarray | float, rounding: float
) -> np.ndarray:
    """``(1 + #{null >= observed}) / (1 + n_permutations)``, over the first axis."""
    return (1 + at_least(null, observed, rounding).sum(axis=0)) / (1 + len(null))


def adjust(p_values: np.ndarray, method: str, tested: np.ndarray) -> np.ndarray:
    """Turn a table of p-values into q-values, over the rows that were tested.

    No exchange moves the classes of the other rows: their q-values are 1.
    """
    q_values = np.ones(p_values.shape)
    if tested.any():
        own = p_values[tested]
        adjusted = false_discovery_control(own, axis=None, method=method)
        q_values[tested] = adjusted.reshape(own.shape)
    return q_values
