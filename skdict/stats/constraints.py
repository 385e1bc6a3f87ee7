"""Constraints on the parameters that functions of codes and labels share."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

from skdict._utils.constraints import Interval
from skdict._utils.sklearn_private import StrOptions

# Of tests of labels, whose null needs no permutations.
LABEL_CONSTRAINTS: dict[str, Any] = {
    "codes": ["array-like", "sparse matrix"],
    "y": ["array-like"],
    "activity_threshold": [Interval(Real, 0, None, closed="left")],
    "batch": ["array-like", None],
    "groups": ["array-like", None],
    "control": ["array-like", None],
    "grid_shape": ["array-like", None],
}
# Of scores beside a null of permuted labels.
SCORE_CONSTRAINTS: dict[str, Any] = {
    **LABEL_CONSTRAINTS,
    "contrast": [StrOptions({"average", "maximum"})],
    "n_permutations": [Interval(Integral, 0, None, closed="left")],
    "random_state": ["random_state"],
}
