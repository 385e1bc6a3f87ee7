"""Documentation that several classes share is written once."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import TypeVar

__all__ = ["shares_docs"]

Class = TypeVar("Class", bound=type)

_LINE = re.compile(r"^( *)(\w+) : shared( \(\w+\))?$", re.MULTILINE)


def shares_docs(texts: Mapping[str, str]) -> Callable[[Class], Class]:
    """Decorate a class whose docstring has lines such as ``device : shared``.

    ``tol : shared (judged)`` takes the text that is named ``"tol (judged)"``.

    Parameters
    ----------
    texts : mapping of str to str
        For each name the text after its colon: the type, and the description on the
        next lines. ``{default}`` in the type becomes the default of the parameter.

    Returns
    -------
    decorator : callable
        Raises a KeyError for a name without a text.

    Examples
    --------
    >>> @shares_docs({"seed": "int, default={default}\\n    Of the generator."})
    ... class Model:
    ...     '''A model.
    ...
    ...     seed : shared
    ...     '''
    ...
    ...     def __init__(self, seed=3):
    ...         self.seed = seed
    >>> print(inspect.getdoc(Model))
    A model.
    <BLANKLINE>
    seed : int, default=3
        Of the generator.
    """

    def decorate(cls: Class) -> Class:
        if cls.__doc__ is None:  # python -OO
            return cls
        parameters = inspect.signature(cls).parameters

        def text(match: re.Match[str]) -> str:
            indent, name, variant = match.groups()
            first, *rest = texts[name + (variant or "")].split("\n")
            if name in parameters:
                default = parameters[name].default
                shown = f'"{default}"' if isinstance(default, str) else repr(default)
                first = first.replace("{default}", shown.replace("0.001", "1e-3"))
            return "\n".join([f"{indent}{name} : {first}", *(indent + r for r in rest)])

        cls.__doc__ = _LINE.sub(text, cls.__doc__)
        return cls

    return decorate
