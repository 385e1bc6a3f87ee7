"""What the methods of an estimator promise, whatever modes of torch the caller set.

Results do not depend on ``torch.no_grad``, ``torch.inference_mode`` or
``torch.autocast`` around the call, and an interrupted ``fit`` changes nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar, cast

import torch

__all__ = ["full_precision", "learns", "own_precision", "unchanged_on_error"]

Method = TypeVar("Method", bound=Callable[..., Any])

_DEVICE_TYPES = ("cpu", "cuda", "mps", "xpu")


@contextmanager
def full_precision() -> Iterator[None]:
    """Keep products in the dtype of their factors, also inside ``torch.autocast``."""
    with ExitStack() as stack:
        for device_type in _DEVICE_TYPES:
            if torch.is_autocast_enabled(device_type):
                stack.enter_context(torch.autocast(device_type, enabled=False))
        yield


def own_precision(method: Method) -> Method:
    """Decorate a method whose result must not depend on the caller's autocast."""

    @functools.wraps(method)
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        with full_precision():
            return method(self, *args, **kwargs)

    return cast("Method", run)


def unchanged_on_error(method: Method) -> Method:
    """Decorate a method that either completes or leaves the estimator unchanged.

    If it raises, Ctrl-C included, the estimator keeps the attributes that it had
    before. The method must assign new arrays, not write into those of an earlier fit.
    """

    @functools.wraps(method)
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        before = dict(vars(self))
        try:
            return method(self, *args, **kwargs)
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise

    return cast("Method", run)


def learns(method: Method) -> Method:
    """Decorate ``fit`` or ``partial_fit``.

    They complete or leave the estimator unchanged. Gradients are recorded and products
    keep their dtype, whatever modes of torch the caller set.
    """

    @functools.wraps(method)
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        with torch.inference_mode(False), torch.enable_grad(), full_precision():
            return method(self, *args, **kwargs)

    return cast("Method", unchanged_on_error(run))
