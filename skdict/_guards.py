"""What the methods of an estimator promise, whatever the caller told torch.

Results do not depend on ``torch.no_grad``, ``torch.inference_mode`` or
``torch.autocast`` around the call, and an interrupted ``fit`` changes nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import torch

__all__ = ["full_precision", "learns", "own_precision", "unchanged_on_error"]

Method = TypeVar("Method", bound=Callable[..., Any])

_DEVICE_TYPES = ("cpu", "cuda", "mps", "xpu")


@contextmanager
def full_precision() -> Iterator[None]:
    """Products in the dtype of their factors, also inside ``torch.autocast``."""
    with ExitStack() as stack:
        for device_type in _DEVICE_TYPES:
            if torch.is_autocast_enabled(device_type):
                stack.enter_context(torch.autocast(device_type, enabled=False))
        yield


def own_precision(method: Method) -> Method:
    """Decorate a method whose result must not depend on the caller's autocast."""

    @functools.wraps(method)
    def run(self, *args, **kwargs):
        with full_precision():
            return method(self, *args, **kwargs)

    return run  # type: ignore[return-value]


def unchanged_on_error(method: Method) -> Method:
    """Decorate a method that changes the estimator as a whole or not at all.

    Where it raises, Ctrl-C included, the estimator keeps the attributes that it had
    before. The method must assign new arrays, not write into those of an earlier fit.
    """

    @functools.wraps(method)
    def run(self, *args, **kwargs):
        before = dict(vars(self))
        try:
            return method(self, *args, **kwargs)
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise

    return run  # type: ignore[return-value]


def learns(method: Method) -> Method:
    """Decorate ``fit`` or ``partial_fit``, which change all or nothing.

    Gradients are recorded and products keep their dtype, whatever the caller told
    torch.
    """

    @functools.wraps(method)
    def run(self, *args, **kwargs):
        with torch.inference_mode(False), torch.enable_grad(), full_precision():
            return method(self, *args, **kwargs)

    return unchanged_on_error(run)  # type: ignore[return-value]
