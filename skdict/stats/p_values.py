"""From a statistic and its null to a p-value, with ties counted as ties."""

import numpy as np
from scipy.stats import false_discovery_control

# Sums of numbers of about one, in another order, differ by less.
ROUNDING = 1e-12


def at_least(null, observed, rounding):
    """Where the null reaches the observed statistic, up to what rounding changes.

    Equal values must count, or p-values are too small: those of scores and counts are
    equal to the bit (see `score_counts`) and take a `rounding` of 0, sums in floating
    point are not.
    """
    return null >= observed - rounding


def permutation_p_value(null, observed, rounding):
    """``(1 + #{null >= observed}) / (1 + n_permutations)``, over the first axis."""
    return (1 + at_least(null, observed, rounding).sum(axis=0)) / (1 + len(null))


def adjust(p_values, method, tested):
    """The q-values of a table of p-values, over the rows that were tested.

    Rows of classes that no exchange moves are no tests; their q-values are 1.
    """
    q_values = np.ones(p_values.shape)
    if tested.any():
        own = p_values[tested]
        adjusted = false_discovery_control(own, axis=None, method=method)
        q_values[tested] = adjusted.reshape(own.shape)
    return q_values
