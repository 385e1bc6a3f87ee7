"""The private names of scikit-learn that this library uses, all of them.

They may move or change in any release of scikit-learn. What breaks then is repaired
here; all other modules import from here under a public name.
"""

from sklearn.base import _fit_context as fit_context
from sklearn.utils import _safe_indexing as safe_indexing
from sklearn.utils._array_api import (
    _max_precision_float_dtype as max_precision_float_dtype,
)
from sklearn.utils._array_api import (
    check_same_namespace,
    get_namespace,
    get_namespace_and_device,
    move_to,
)
from sklearn.utils._metadata_requests import _raise_for_params as raise_for_params
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    RealNotInt,
    StrOptions,
    make_constraint,
    validate_parameter_constraints,
    validate_params,
)
from sklearn.utils._plotting import _check_param_lengths as check_param_lengths
from sklearn.utils._plotting import _validate_style_kwargs as validate_style_kwargs
from sklearn.utils._sparse import _align_api_if_sparse as align_api_if_sparse
from sklearn.utils.validation import _num_samples as num_samples

__all__ = [
    "HasMethods",
    "Interval",
    "RealNotInt",
    "StrOptions",
    "align_api_if_sparse",
    "check_matplotlib_support",
    "check_param_lengths",
    "check_same_namespace",
    "fit_context",
    "get_namespace",
    "get_namespace_and_device",
    "make_constraint",
    "max_precision_float_dtype",
    "move_to",
    "num_samples",
    "raise_for_params",
    "safe_indexing",
    "validate_parameter_constraints",
    "validate_params",
    "validate_style_kwargs",
]
