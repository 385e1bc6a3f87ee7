"""Checks of parameters that scikit-learn lacks."""

from __future__ import annotations

from numbers import Integral, Number
from typing import Any

import numpy as np

from skdict._utils.sklearn_private import HasMethods
from skdict._utils.sklearn_private import Interval as _Interval

__all__ = ["Callbacks", "Interval", "check_name", "check_names", "is_integer"]


class Interval(_Interval):
    """An interval of numbers without booleans: True is not a number of atoms."""

    def is_satisfied_by(self, val: Any) -> bool:
        return not isinstance(val, bool | np.bool_) and super().is_satisfied_by(val)


class Callbacks(HasMethods):
    """A list or tuple of callables and skorch callbacks."""

    def __init__(self) -> None:
        super().__init__("__call__")

    def is_satisfied_by(self, val: Any) -> bool:
        # isinstance would need skorch, which imports torch.
        return isinstance(val, list | tuple) and all(
            callable(callback) or hasattr(callback, "on_epoch_end") for callback in val
        )

    def __str__(self) -> str:
        return "a list or a tuple of callables and skorch callbacks"


def is_integer(value: Any) -> bool:
    """Whether the type of a value is an integer type; bool does not count."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_name(name: Any, what: str = "name") -> None:
    """Raise a ValueError unless a name is a str, a number or None."""
    if not (name is None or _is_name(name)):
        raise ValueError(f"{what} must be a str or None, got {name!r}.")


def check_names(names: Any, what: str, n: int | None = None) -> None:
    """Raise a ValueError unless names are a list of ``n`` names or None."""
    if names is None:
        return
    is_list = np.iterable(names) and not isinstance(names, str | bytes | dict)
    if not is_list or not all(map(_is_name, names)):
        raise ValueError(f"{what} must be a list of str or None, got {names!r}.")
    if n is not None and len(names) != n:
        raise ValueError(f"{what} must have {n} entries, but it has {len(names)}.")


def _is_name(value: Any) -> bool:
    return isinstance(value, str | Number) and not isinstance(value, bool | np.bool_)
