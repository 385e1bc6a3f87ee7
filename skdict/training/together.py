"""Trainings that share what is read: each batch goes to all of them in turn."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from typing import TypeAlias, cast

import torch
from sklearn import config_context, get_config
from torch import Tensor

from skdict._ranks import Ranks
from skdict.rows import Batches, Part, Table, epochs

# Like epochs of skdict.rows: what reads the rows of a training.
Reader: TypeAlias = Callable[..., Batches]


def train_together(
    trainings: Sequence[Callable[[Reader], None]], generator: torch.Generator
) -> None:
    """Let trainings run at the same time, on the same batches.

    Parameters
    ----------
    trainings : sequence of callables
        Each trains a net with the reader that it is given. They must ask for epochs
        over the same rows. One of them computes at a time, in the order given.
    generator : torch.Generator
        Shuffles the rows in each epoch, instead of the trainings' own.

    Raises
    ------
    ValueError
        If trainings ask for batches of different sizes.
    Exception
        What the first training to fail raises; the others then stop.
    """
    threads = [_Training(train) for train in trainings]
    try:
        for thread in threads:
            thread.start()
            thread.resume(None)
        while waiting := [t for t in threads if t.asked is not None]:
            # Those that have finished count what fires when all have: in one reading.
            learning = [t for t in waiting if _source(t).generator is not None]
            group = learning or waiting
            sources = [_source(thread) for thread in group]
            _check_same(sources)
            if learning:
                sources[0].generator = generator
            source = cast("Generator[list[Part]]", sources[0].batches())
            with closing(source) as batches:
                for batch in batches:
                    for thread, asked in zip(group, sources, strict=True):
                        if thread.asked is asked:
                            thread.resume(batch)
            for thread, asked in zip(group, sources, strict=True):
                if thread.asked is asked:
                    thread.resume(None)
    finally:
        for thread in threads:
            thread.stop()


def _source(thread: _Training) -> Batches:
    assert thread.asked is not None
    return thread.asked


def _check_same(sources: list[Batches]) -> None:
    sizes = sorted({(source.n_rows, source.batch_size) for source in sources})
    if len(sizes) > 1:
        parts = ", ".join(f"{n} rows in batches of {size}" for n, size in sizes)
        raise ValueError(
            "Dictionaries that are fitted together share their batches, but these ask "
            f"for {parts}. Set the same batch_size and validation_fraction in all."
        )


class _Stop(BaseException):
    """Ends a training whose batches will not come."""


class _Training(threading.Thread):
    """A training that runs only between two batches that it is handed."""

    def __init__(self, train: Callable[[Reader], None]) -> None:
        super().__init__(name="skdict-training", daemon=True)
        self.train = train
        self.config = get_config()
        self.device = torch.cuda.current_device() if torch.cuda.is_available() else None
        self.go, self.back = threading.Semaphore(0), threading.Semaphore(0)
        self.asked: Batches | None = None
        self.handed: list[Part] | None = None
        self.error: BaseException | None = None
        self.stopping = False

    # Called by the thread that hands out batches

    def resume(self, batch: list[Part] | None) -> None:
        """Hand over a batch and wait until the next one is asked for; None: no more."""
        self.handed = batch
        self.go.release()
        self.back.acquire()
        if self.error is not None:
            raise self.error

    def stop(self) -> None:
        if self.is_alive():
            self.stopping = True
            self.go.release()
            self.join()

    # Called by the training

    def run(self) -> None:
        self.go.acquire()
        try:
            if self.stopping:
                return
            # Both are kept for each thread.
            if self.device is not None:
                torch.cuda.set_device(self.device)
            with config_context(**self.config):
                self.train(self.read)
        except _Stop:
            pass
        except BaseException as error:
            self.error = error
        finally:
            self.asked = None
            self.back.release()

    def read(
        self,
        tables: Sequence[Table],
        batch_size: int,
        generator: torch.Generator | None,
        without: Tensor | None,
        ranks: Ranks,
    ) -> Batches:
        return _Handed(self, epochs(tables, batch_size, generator, without, ranks))

    def wait(self) -> list[Part] | None:
        self.back.release()
        self.go.acquire()
        if self.stopping:
            raise _Stop
        return self.handed


class _Handed:
    """Batches that come from the thread that reads."""

    def __init__(self, training: _Training, source: Batches) -> None:
        self.training = training
        self.source = source
        self.batch_size, self.n_rows = source.batch_size, source.n_rows
        self.generator = source.generator

    def __len__(self) -> int:
        return len(self.source)

    @property
    def order(self) -> dict[str, int]:
        return self.source.order

    def batches(self, start: int = 0) -> Iterator[list[Part]]:
        assert start == 0
        return iter(self)

    def __iter__(self) -> Iterator[list[Part]]:
        self.training.asked = self.source
        try:
            while (batch := self.training.wait()) is not None:
                yield batch
        finally:
            self.training.asked = None
