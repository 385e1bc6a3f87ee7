"""All private names of scikit-learn that this library uses.

They may move or change in any release of scikit-learn. What breaks then is repaired
here; all other modules import them from here, under a public name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from sklearn.base import _fit_context
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
)
from sklearn.utils._param_validation import validate_params as _validate_params
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

Call = TypeVar("Call", bound=Callable[..., Any])


# scikit-learn carries no types. These two decorators would take away those of the
# functions that they decorate.


def fit_context(*, prefer_skip_nested_validation: bool) -> Callable[[Call], Call]:
    """Decorate a method that checks the parameters of its estimator first."""
    return _fit_context(prefer_skip_nested_validation=prefer_skip_nested_validation)


def validate_params(
    constraints: dict[str, Any], *, prefer_skip_nested_validation: bool
) -> Callable[[Call], Call]:
    """Decorate a function that checks its parameters first."""
    return _validate_params(
        constraints, prefer_skip_nested_validation=prefer_skip_nested_validation
    )
