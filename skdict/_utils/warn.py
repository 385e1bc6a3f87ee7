"""Warnings that point at the line of the user who called."""

from __future__ import annotations

import sys
import warnings
from types import FrameType

__all__ = ["warn"]

# Packages whose frames lie between the user's line and ours.
_BETWEEN = {"skdict", "sklearn", "torch", "joblib", "contextlib"}


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the first line outside this library and the packages below it.

    A fixed ``stacklevel`` would have to know how many decorators and helpers lie
    between a public function and its warning.

    Parameters
    ----------
    message : str
        The text.
    category : type of warning, default=UserWarning
        The class.
    """
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and _is_between(frame):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def _is_between(frame: FrameType) -> bool:
    return frame.f_globals.get("__name__", "").partition(".")[0] in _BETWEEN
