"""One part is read by another thread while the one before is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

__all__ = ["read_ahead"]


def read_ahead(read: Callable[[Any], Any], parts: Sequence[Any]) -> Iterator[Any]:
    """Yield ``read(part)`` of each part, while another thread reads the next one.

    Errors of ``read`` are raised here. The thread ends with the iteration, also where
    the iterator is closed early.
    """
    if not len(parts):
        return
    with ThreadPoolExecutor(1, "skdict-reader") as thread:
        pending = thread.submit(read, parts[0])
        for part in parts[1:]:
            done = pending.result()
            pending = thread.submit(read, part)
            yield done
        yield pending.result()
