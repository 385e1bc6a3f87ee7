"""Intervals of means."""

from __future__ import annotations

import numpy as np
from scipy.stats import t as student_t


def half_width(values: np.ndarray, confidence_level: float) -> float:
    """Half the width of Student's interval of the mean; 0 for a single value."""
    n = len(values)
    if n == 1:
        return 0.0
    quantile = student_t.ppf((1 + confidence_level) / 2, n - 1)
    return float(quantile * values.std(ddof=1) / np.sqrt(n))
