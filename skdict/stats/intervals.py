"""Intervals of means."""

from __future__ import annotations

import numpy as np
from scipy.stats import bootstrap
from scipy.stats import t as student_t

_N_RESAMPLES = 2000


def half_width(values: np.ndarray, confidence_level: float) -> float:
    """Half the width of Student's interval of the mean; 0 for a single value."""
    n = len(values)
    if n == 1:
        return 0.0
    quantile = student_t.ppf((1 + confidence_level) / 2, n - 1)
    return float(quantile * values.std(ddof=1) / np.sqrt(n))


def mean_interval(
    values: np.ndarray, confidence_level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean; twice the value of a single one."""
    if len(values) == 1:
        return float(values[0]), float(values[0])
    # Use percentiles: the other methods divide by the spread, which may be zero.
    interval = bootstrap(
        (values,),
        np.mean,
        n_resamples=_N_RESAMPLES,
        confidence_level=confidence_level,
        method="percentile",
        random_state=0,
    ).confidence_interval
    return float(interval.low), float(interval.high)
