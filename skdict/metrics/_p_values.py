"""From a statistic and its null to a p-value, with ties counted as ties."""

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
