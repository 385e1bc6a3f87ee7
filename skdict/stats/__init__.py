"""Counts of active samples, exchanges of labels, null distributions and p-values.

Internal, and without torch. Users reach these functions through `skdict.metrics`,
`skdict.images` and `skdict.report`.
"""

from .activity import (
    Activity,
    check_block,
    check_codes,
    count_active,
    find_active,
    indicator,
    take_rows,
    total_active,
)
from .constraints import LABEL_CONSTRAINTS, SCORE_CONSTRAINTS
from .curves import selectivity_curves
from .exact_tests import hypergeometric_tail
from .exchange import (
    Exchange,
    are_neighbours_alike,
    check_grid_shape,
    choose_exchange,
    correlate_all_shifts,
    exchange_of_labels,
    is_of_images,
    number_images,
    permutations,
    plan_exchange,
    shifts,
)
from .group_tests import own_label_tests
from .intervals import half_width, mean_interval
from .label_tests import LabelTests, run_label_tests
from .labels import (
    can_permute,
    cross,
    encode_batch,
    encode_classes,
    encode_groups,
    named_columns,
)
from .levels import largest_differences, largest_values, squares_between
from .p_values import ROUNDING, adjust, at_least, permutation_p_value
from .precision import average_precisions
from .ranks import centred_ranks
from .recall import balanced_accuracy
from .scores import (
    null_of_best,
    null_statistics,
    score_counts,
    score_features,
)
from .variance import VarianceInside, scale_codes

__all__ = [
    "LABEL_CONSTRAINTS",
    "ROUNDING",
    "SCORE_CONSTRAINTS",
    "Activity",
    "Exchange",
    "LabelTests",
    "VarianceInside",
    "adjust",
    "are_neighbours_alike",
    "at_least",
    "average_precisions",
    "balanced_accuracy",
    "can_permute",
    "centred_ranks",
    "check_block",
    "check_codes",
    "check_grid_shape",
    "choose_exchange",
    "correlate_all_shifts",
    "count_active",
    "cross",
    "encode_batch",
    "encode_classes",
    "encode_groups",
    "exchange_of_labels",
    "find_active",
    "half_width",
    "hypergeometric_tail",
    "indicator",
    "is_of_images",
    "largest_differences",
    "largest_values",
    "mean_interval",
    "named_columns",
    "null_of_best",
    "null_statistics",
    "number_images",
    "own_label_tests",
    "permutation_p_value",
    "permutations",
    "plan_exchange",
    "run_label_tests",
    "scale_codes",
    "score_counts",
    "score_features",
    "selectivity_curves",
    "shifts",
    "squares_between",
    "take_rows",
    "total_active",
]
