"""Rules for the fitted attributes of an estimator, and the check against them.

Each estimator has one table, ``_fitted``, a tuple of stages. A stage is a dict of
attributes that are set together: a streaming estimator has moments first, and later
the attributes that follow from them. Shapes are written with symbols; the first array
with a symbol sets its size, and the others must agree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np

__all__ = [
    "Array",
    "Count",
    "Fitted",
    "Flag",
    "History",
    "IfThere",
    "Labels",
    "Names",
    "Number",
    "OrNone",
    "Record",
    "Text",
    "Transformer",
    "check_fitted",
]

Sizes = dict[str, int]


class Fitted:
    """A rule for one attribute."""

    def check(self, value: Any, name: str, sizes: Sizes) -> None:
        """Raise a ValueError that names the attribute if the value breaks the rule."""
        raise NotImplementedError


@dataclass(frozen=True)
class Array(Fitted):
    """A plain, non-empty numpy array without NaN and infinity.

    Attributes
    ----------
    shape : tuple of str and int
        Symbols and sizes.
    kind : {"f", "i", "b", "u"}
        float32 or float64, a signed integer, bool, or uint8.
    low, high : float
        Bounds of the entries, which they may reach.
    above : float
        Bound that all entries exceed.
    """

    shape: tuple[str | int, ...]
    kind: str = "f"
    low: float = -math.inf
    high: float = math.inf
    above: float = -math.inf

    def check(self, value: Any, name: str, sizes: Sizes) -> None:
        if type(value) is not np.ndarray:
            raise ValueError(f"{name} is a {type(value).__name__}, not an ndarray")
        if not _is_of_kind(value.dtype, self.kind):
            raise ValueError(f"{name} has the dtype {value.dtype}")
        if value.ndim != len(self.shape):
            raise ValueError(f"{name} has {value.ndim} dimensions")
        if value.size == 0:
            raise ValueError(f"{name} has the shape {value.shape}")
        for size, symbol in zip(value.shape, self.shape, strict=True):
            _agree(size, symbol, f"the shape {value.shape} of {name}", sizes)
        if not np.isfinite(value).all():
            raise ValueError(f"{name} holds NaN or infinity")
        least, most = value.min(), value.max()
        if not (least >= self.low and least > self.above and most <= self.high):
            raise ValueError(f"{name} has values from {least} to {most}")


_DTYPES = {"f": ("f4", "f8"), "i": ("i4", "i8"), "b": ("?",), "u": ("u1",)}


def _is_of_kind(dtype: np.dtype, kind: str) -> bool:
    return dtype.isnative and dtype in [np.dtype(name) for name in _DTYPES[kind]]


def _agree(size: int, symbol: str | int, what: str, sizes: Sizes) -> None:
    expected = sizes.setdefault(symbol, size) if isinstance(symbol, str) else symbol
    if size != expected:
        raise ValueError(f"{symbol} is {expected}, but {size} in {what}")


@dataclass(frozen=True)
class Count(Fitted):
    """An integer of at most 63 bits; ``size`` is the symbol whose value it is."""

    size: str | None = None
    low: int = 0

    def check(self, value: Any, name: str, sizes: Sizes) -> None:
        is_integer = isinstance(value, Integral) and not isinstance(value, bool)
        if not is_integer or not self.low <= value < 2**63:
            raise ValueError(f"{name} is {_short(value)}, no count from {self.low} on")
        if self.size is not None:
            _agree(int(value), self.size, name, sizes)


@dataclass(frozen=True)
class Number(Fitted):
    """A finite number."""

    low: float = -math.inf

    def check(self, value: Any, name: str, sizes: Sizes) -> None:
        if not _is_number(value) or not (math.isfinite(value) and value >= self.low):
            raise ValueError(f"{name} is {_short(value)}, no number from {self.low} on")


@dataclass(frozen=True)
class Flag(Fitted):
    """True or False."""

    def check(self, value: Any, name: str, sizes: Sizes) -> None:
        if not isinstance(value, bool):
            raise ValueError(f"{name} is {_short(value)}, neither True nor False")


@dataclass(frozen=True)
class Names(Fitted):
    """An array of strings, as scikit-learn keeps the names of features."""

    size: str

    def check(self, value: Any, name: str, sizes: Sizes) -> None:
        if type(value) is not np.ndarray or value.dtype != object or value.ndim != 1:
            raise ValueError(f"{name} is no array of objects")
        if not all(isinstance(entry, str) for entry in value):
            raise ValueError(f"{name} holds something else than strings")
        _agree(len(value), self.size, name, sizes)


@dataclass(frozen=True)
class Labels(Fitted):
    """Labels in strictly ascending order: strings, bytes, numbers, dates or spans."""

    size: str

    def check(self, value: Any, name: str, sizes: Sizes) -> None:
        if type(value) is not np.ndarray or value.dtype.kind not in "USbiufMm":
            raise ValueError(f"{name} is no array of labels")
        if not value.dtype.isnative or value.ndim != 1 or len(value) == 0:
            raise ValueError(f"{name} is no array of labels")
        if not (value[1:] > value[:-1]).all() or (value != value).any():
            raise ValueError(f"{name} is not in ascending order")
        _agree(len(value), self.size, name, sizes)


@dataclass(frozen=True)
class Record(Fitted):
    """A dict with these keys and no others; one with `IfThere` may be missing."""

    fields: Mapping[str, Fitted]

    def check(self, value: Any, name: str, sizes: Sizes) -> None:
        optional = {k for k, rule in self.fields.items() if isinstance(rule, IfThere)}
        if type(value) is not dict or not (
            self.fields.keys() - optional <= value.keys() <= self.fields.keys()
        ):
            raise ValueError(f"{name} has not the keys {', '.join(self.fields)}")
        for key in value:
            self.fields[key].check(value[key], f"{name}[{key!r}]", sizes)


@dataclass(frozen=True)
class History(Fitted):
    """A list of records of numbers, with these keys and perhaps more."""

    keys: tuple[str, ...]

    def check(self, value: Any, name: str, sizes: Sizes) -> None:
        if type(value) is not list:
            raise ValueError(f"{name} is a {type(value).__name__}, not a list")
        for record in value:
            if type(record) is not dict or not record.keys() >= set(self.keys):
                raise ValueError(f"{name} has a record without {', '.join(self.keys)}")
            for key, entry in record.items():
                if not isinstance(key, str) or not _is_number(entry):
                    raise ValueError(f"{name} has a record with {key!r}: no number")


@dataclass(frozen=True)
class Text(Fitted):
    """A string."""

    def check(self, value: Any, name: str, sizes: Sizes) -> None:
        if type(value) is not str:
            raise ValueError(f"{name} is a {type(value).__name__}, not a str")


@dataclass(frozen=True)
class Transformer(Fitted):
    """An object with these methods."""

    methods: tuple[str, ...]

    def check(self, value: Any, name: str, sizes: Sizes) -> None:
        if isinstance(value, type) or not all(
            callable(getattr(value, method, None)) for method in self.methods
        ):
            raise ValueError(
                f"{name} is a {type(value).__name__}, which lacks one of "
                f"{', '.join(self.methods)}"
            )


class _OutputConfig(Fitted):
    """What `set_output` leaves."""

    def check(self, value: Any, name: str, sizes: Sizes) -> None:
        if type(value) is not dict or not all(
            isinstance(text, str) for item in value.items() for text in item
        ):
            raise ValueError(f"{name} is no dict of strings")


@dataclass(frozen=True)
class OrNone(Fitted):
    """None, or a value that keeps the rule."""

    rule: Fitted

    def check(self, value: Any, name: str, sizes: Sizes) -> None:
        if value is not None:
            self.rule.check(value, name, sizes)


@dataclass(frozen=True)
class IfThere(Fitted):
    """A missing attribute, or a value that keeps the rule."""

    rule: Fitted

    def check(self, value: Any, name: str, sizes: Sizes) -> None:
        self.rule.check(value, name, sizes)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, Integral):
        return abs(int(value)) < 2**63
    return isinstance(value, Real)


def _short(value: Any) -> str:
    return repr(value) if _is_number(value) else f"a {type(value).__name__}"


_OF_SCIKIT_LEARN = {"_sklearn_output_config": IfThere(_OutputConfig())}


def check_fitted(estimator: Any) -> None:
    """Check the parameters of an estimator and its fitted attributes.

    Parameters
    ----------
    estimator : object
        It may be unfitted. Its class needs no table ``_fitted`` if fitted ones are
        never saved. If the class has a method ``_inconsistency``, that method checks
        what the table cannot, and returns a text or None.

    Raises
    ------
    ValueError
        If an attribute breaks a rule. The message names the first one.
    """
    state, cls = vars(estimator), type(estimator)
    name = cls.__name__
    parameters = cls._get_param_names()
    try:
        for key in state:
            # A class may hold the default of a parameter.
            if key not in parameters and hasattr(cls, key):
                raise ValueError(f"{key} hides what the class defines")
        for key in parameters:
            if key not in state:
                raise ValueError(f"the parameter {key} is missing")
            _check_parameter(state[key], key, cls._parameter_constraints[key])
        estimator._validate_params()
        # The table may depend on the parameters.
        stages = (_OF_SCIKIT_LEARN, *getattr(estimator, "_fitted", ()))
        sizes: Sizes = {}
        unfinished = ""
        for stage in stages:
            required = [k for k, rule in stage.items() if not isinstance(rule, IfThere)]
            # A fit that fails may leave the number of features behind.
            begun = any(k in state for k in required if k != "n_features_in_")
            missing = [k for k in required if k not in state]
            if begun and (missing or unfinished):
                raise ValueError(f"{(missing or [unfinished])[0]} is missing")
            if missing:
                unfinished = missing[0]
            for key, rule in stage.items():
                if key in state:
                    rule.check(state[key], key, sizes)
        if hasattr(cls, "_inconsistency"):
            problem = estimator._inconsistency()
            if problem is not None:
                raise ValueError(problem)
    except ValueError as error:
        raise ValueError(f"{name} is inconsistent: {error}.") from error


def _check_parameter(value: Any, name: str, constraints: list) -> None:
    """Refuse what passes scikit-learn's validation but would break the numerics."""
    if isinstance(value, Integral) and not -(2**63) <= int(value) < 2**63:
        raise ValueError(f"{name} has more than 64 bits")
    # True is an integer, and a dict is "array-like".
    if isinstance(value, bool) and not {"boolean", "verbose"} & {
        c for c in constraints if isinstance(c, str)
    }:
        raise ValueError(f"{name} is {value}")
    if isinstance(value, dict | set | bytes):
        raise ValueError(f"{name} is a {type(value).__name__}")
