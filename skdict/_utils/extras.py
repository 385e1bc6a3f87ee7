"""Packages of some extras, imported when something needs one."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["optional"]


def optional(module: str, purpose: str, extra: str = "tables") -> Any:
    """Import a module of an extra, or say which extra has it."""
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(
            f"{purpose} needs {package}, which is missing ({error}). Install it with "
            f"`pip install 'skdict[{extra}]'`."
        ) from error
