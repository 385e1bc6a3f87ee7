"""Statistics of counts: labels and what exchanges them, nulls, tails, p-values.

Internal: what the subpackages above have in common, without torch. Users reach it
through `skdict.metrics`, `skdict.images` and `skdict.report`.
"""

from .activity import check_codes, count_active, find_active, indicator
from .exact_tests import count_and_test
from .exchange import (
    Exchange,
    are_neighbours_alike,
    check_grid_shape,
    correlate_all_shifts,
    is_of_images,
    number_images,
    permutations,
    plan_exchange,
    shifts,
)
from .group_tests import LabelTester, Tests
from .labels import (
    can_permute,
    cross,
    encode_classes,
    encode_groups,
    encode_units,
    named_columns,
)
from .p_values import ROUNDING, adjust, at_least, permutation_p_value
from .ranks import centred_ranks
from .scores import null_statistics, score_counts, score_features

__all__ = [
    "ROUNDING",
    "Exchange",
    "LabelTester",
    "Tests",
    "adjust",
    "are_neighbours_alike",
    "at_least",
    "can_permute",
    "centred_ranks",
    "check_codes",
    "check_grid_shape",
    "correlate_all_shifts",
    "count_active",
    "count_and_test",
    "cross",
    "encode_classes",
    "encode_groups",
    "encode_units",
    "find_active",
    "indicator",
    "is_of_images",
    "named_columns",
    "null_statistics",
    "number_images",
    "permutation_p_value",
    "permutations",
    "plan_exchange",
    "score_counts",
    "score_features",
    "shifts",
]
