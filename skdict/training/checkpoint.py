"""Checkpoints: a training that was interrupted goes on as if it had not been.

A checkpoint is a file of safetensors. Its header holds a text in JSON: what was to be
learned from which rows, and the numbers that are no tensors.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from skorch.callbacks import Callback
from torch import Tensor

from skdict._ranks import Ranks, ranks
from skdict._utils.checks import as_numpy
from skdict._utils.files import check_destination, locked, write_file
from skdict._utils.fitted import Count, Fitted, Flag, OrNone, Record, Sizes
from skdict._utils.tensors import (
    Tensors,
    parse_json,
    read_described_tensors,
    safetensors_parts,
)
from skdict._utils.version import __version__
from skdict.rows import ScaledRows, StoredRows, Table, epochs, take
from skdict.training.schedule import Schedule
from skdict.training.state import optimizer_state, restore_optimizer

# A DictionaryNet, whose module imports this one.
Net: TypeAlias = Any

# Raise it whenever a file of before would be misunderstood.
_FORMAT = 1
# Largest header: the history has some 300 bytes for each epoch.
_MAX_HEADER = 2**28
# Rows that are compared one by one; of the others, only how far they spread.
_COMPARED_ROWS = 16
# Relative difference up to which numbers count as the same. The spread of the rows
# depends in its last digits on the number of threads.
_SAME = 1e-9
# Parameters that do not change what is learned.
_IRRELEVANT = {"callbacks", "device", "sparse_output", "verbose", "warm_start"}
# Tensors of the net that are no parameters.
_COUNTS = ("fired", "squared_error", "first_error", "last_error")


class Checkpoint(Callback):
    """Writes the state of a training to a file, from which a later fit goes on.

    A ``fit`` that finds the file of an interrupted training with the same parameters
    and the same rows goes on where that one was. On the CPU it ends with the same
    dictionary, to the bit, as if nothing had happened, provided that torch and its
    number of threads are the same. If the file is that of a completed training,
    ``fit`` takes the result from it and learns nothing. Remove the file to start anew.

    The file is written beside its destination and renamed once it is complete on the
    disk. Whatever happens, the last complete checkpoint stays.

    Parameters
    ----------
    path : str or path-like
        The file. Each training needs its own; an existing file is one to go on from.
    every_seconds : float or None, default=300
        Time between two checkpoints. None: it does not matter.
    every_steps : int or None, default=None
        Number of steps between two checkpoints. None: it does not matter. With both,
        each of them causes a checkpoint.

    See Also
    --------
    skdict.save : Saves a fitted estimator, also between calls of ``partial_fit``.

    Notes
    -----
    Pass it in ``callbacks=`` of a dictionary. It serves ``fit`` only, and
    ``partial_fit`` refuses it: save the estimator between the calls instead.

    ``fit`` refuses a file of other parameters, of other rows, of another version of
    skdict or one that is damaged, and says what differs. Of the rows it compares their
    number, type and spread, and a few of them bit by bit. ``device``, ``verbose``,
    ``sparse_output`` and callbacks may differ. With ``random_state=None``, the seed is
    that in the file.

    Ctrl-C takes effect when the current step is done: the checkpoint is written, and
    KeyboardInterrupt is raised. A second Ctrl-C does not wait.

    While a fit runs, a second one on the same path raises BlockingIOError. (Not on
    Windows, and not on file systems without locks.)

    Under ``torchrun`` the first process writes the file, and all of them read it: it
    must be where each of them finds it.

    Other callbacks of the user keep no state. A callable among ``callbacks`` may see
    the record of an epoch a second time, and a callback that sums over the batches of
    an epoch sees only those after the interruption. ``seconds`` in ``history_`` leave
    out the time in which nothing ran.

    Before :func:`skdict.save`, take the callbacks out:
    ``estimator.set_params(callbacks=None)``.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from skdict import ICFL
    >>> from skdict.training import Checkpoint
    >>> X = np.random.default_rng(0).normal(size=(500, 8))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     checkpoint = Checkpoint(Path(folder) / "icfl.checkpoint", every_seconds=60)
    ...     icfl = ICFL(16, k=2, random_state=0, callbacks=[checkpoint])
    ...     atoms = icfl.fit(X).components_
    ...     again = icfl.fit(X).components_  # from the file
    >>> bool((atoms == again).all())
    True
    """

    def __init__(
        self,
        path: str | os.PathLike,
        *,
        every_seconds: float | None = 300,
        every_steps: int | None = None,
    ) -> None:
        self.path = path
        self.every_seconds = every_seconds
        self.every_steps = every_steps

    def open_(self, problem: dict[str, Any], seed: int, ranks: Ranks) -> int:
        """Read the file, if there is one, before the training is set up.

        Parameters
        ----------
        problem : dict
            From :func:`problem_of`.
        seed : int
            Seed of a training that starts anew.
        ranks : Ranks
            The processes that train together. All of them read the file.

        Returns
        -------
        int
            The seed to use.

        Raises
        ------
        ValueError
            If the file is not one to go on from.
        OSError
            If the file could not be written.
        """
        self.check_parameters()
        self.problem_, self.seed_ = problem, seed
        self.saved_: Saved | None = None
        file = check_destination(self.path)
        if file.exists():
            self.saved_ = read_checkpoint(file, os.fspath(self.path), problem)
            if problem["random_state"] is None:
                self.seed_ = self.saved_.text["seed"]
        n_steps = None if self.saved_ is None else self.saved_.text["n_steps"]
        ranks.check_same(n_steps, f"the number of steps in {os.fspath(self.path)!r}")
        return self.seed_

    def check_parameters(self) -> None:
        """Raise ValueError if a parameter is none that it can have."""
        path: Any = self.path
        if not isinstance(path, str | os.PathLike):
            raise ValueError(f"path of a Checkpoint must be a path, got {path!r}.")
        seconds: Any = self.every_seconds
        steps: Any = self.every_steps
        is_number = isinstance(seconds, Real) and not isinstance(seconds, bool)
        if seconds is not None and not (is_number and seconds > 0):
            raise ValueError(
                "every_seconds of a Checkpoint must be a positive number or None, got "
                f"{seconds!r}."
            )
        is_number = isinstance(steps, Integral) and not isinstance(steps, bool)
        if steps is not None and not (is_number and steps > 0):
            raise ValueError(
                "every_steps of a Checkpoint must be a positive integer or None, got "
                f"{steps!r}."
            )
        if seconds is None and steps is None:
            raise ValueError("A Checkpoint needs every_seconds or every_steps.")

    def on_train_begin(self, net: Net, **kwargs: Any) -> None:
        self.written_ = time.monotonic()
        self.interrupted_ = False
        net.resources.enter_context(self._interrupt_after_a_step())

    def on_batch_end(self, net: Net, training: bool = False, **kwargs: Any) -> None:
        alone = net.ranks.size == 1
        if not training and not (alone and self.interrupted_):
            return
        # While rows are validated, the state is still that of the last step.
        interrupted = net.ranks.any(self.interrupted_)
        due = training and self._is_due(net.clock.n_steps)
        # Clocks differ, but processes write together.
        if interrupted or (net.ranks.any(due) if self.every_seconds else due):
            self.write_(net)
        if interrupted:
            raise KeyboardInterrupt

    def _is_due(self, n_steps: int) -> bool:
        if self.every_steps is not None and n_steps % self.every_steps == 0:
            return True
        waited = time.monotonic() - self.written_
        return self.every_seconds is not None and waited >= self.every_seconds

    def write_(self, net: Net, *, finished: bool = False) -> None:
        """Replace the file by the state of a net after a step, or by its result."""
        tensors = _tensors_of(net) if finished else _state_of(net)
        rows_seen = net.rows_seen
        if net.ranks.size > 1 and not finished:
            # Each process has counted its own part of the epoch.
            rows_seen = net.ranks.total(net.rows_seen)
            error = net.ranks.sum(net.squared_error)
            tensors["net.squared_error"] = _as_array(error)
        text = {
            "problem": self.problem_,
            "seed": self.seed_,
            "finished": finished,
            "n_steps": net.clock.n_steps,
            "rows_seen": rows_seen,
            "history": _history(net.history if finished else net.history[:-1]),
            "place": None if finished else _place(net),
        }
        if net.ranks.rank == 0:
            write_file(self.path, checkpoint_parts(tensors, text))
        if finished:  # the next fit of the others finds the file
            net.ranks.any(False)
        self.written_ = time.monotonic()

    @contextmanager
    def _interrupt_after_a_step(self) -> Iterator[None]:
        """Let Ctrl-C wait until a step is done, where Python would raise at once."""
        is_main = threading.current_thread() is threading.main_thread()
        if not is_main or signal.getsignal(signal.SIGINT) is not _RAISES:
            yield
            return
        signal.signal(signal.SIGINT, self._interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, _RAISES)
        if self.interrupted_:
            raise KeyboardInterrupt

    def _interrupt(self, number: int, frame: Any) -> None:
        if self.interrupted_:
            raise KeyboardInterrupt
        self.interrupted_ = True


_RAISES = signal.default_int_handler


def checkpoint_among(callbacks: Iterable[Any] | None) -> Checkpoint | None:
    """The checkpoint among the users' callbacks, if there is one."""
    found = [callback for callback in callbacks or () if _is_checkpoint(callback)]
    if len(found) > 1:
        raise ValueError(f"There are {len(found)} Checkpoints among the callbacks.")
    if found and isinstance(found[0], type):
        raise ValueError("A Checkpoint needs a path: Checkpoint('fit.checkpoint').")
    return found[0] if found else None


@contextmanager
def checkpoint_locked(callbacks: Iterable[Any] | None) -> Iterator[None]:
    """Keep other fits from the file of the checkpoint among the users' callbacks.

    Raises
    ------
    BlockingIOError
        If another fit has it, in each of the processes that train together.
    """
    checkpoint = checkpoint_among(callbacks)
    if checkpoint is None:
        yield
        return
    checkpoint.check_parameters()
    together = ranks()
    with ExitStack() as stack:
        error = None
        if together.rank == 0:
            try:
                stack.enter_context(
                    locked(checkpoint.path, "another fit, which writes checkpoints")
                )
            except OSError as found:
                error = found
        if together.any(error is not None):
            raise error or OSError(
                f"{os.fspath(checkpoint.path)} is not free on the first process."
            )
        yield


def _is_checkpoint(callback: Any) -> bool:
    is_class = isinstance(callback, type)
    return issubclass(callback if is_class else type(callback), Checkpoint)


# What is learned from what


def problem_of(
    estimator: Any,
    seed: int,
    start: Mapping[str, Any],
    rows: Mapping[str, ScaledRows],
    batch_size: int,
    n_held_out: int,
) -> dict[str, Any]:
    """Describe a training; two that differ in nothing of it end with the same atoms.

    Parameters
    ----------
    estimator : estimator
        It has the parameters.
    seed : int
        Drawn from its ``random_state``.
    start : mapping of array
        Attributes from which a warm start goes on.
    rows : mapping of ScaledRows
        X, and y if the targets are not the rows themselves.
    batch_size, n_held_out : int
        Rows of a batch, and rows for validation.
    """
    problem: dict[str, Any] = {"estimator": type(estimator).__name__}
    for name, value in estimator.get_params(deep=False).items():
        if name == "random_state" and isinstance(value, np.random.RandomState):
            problem[name] = f"a RandomState that gives the seed {seed}"
        elif name not in _IRRELEVANT:
            problem[name] = _described(value)
    for name, value in start.items():
        problem[f"{name} of the warm start"] = _described(value)
    for name, table in rows.items():
        n_rows, width = len(table.rows), table.rows.shape[1]
        some = np.linspace(0, n_rows - 1, min(n_rows, _COMPARED_ROWS)).astype(np.int64)
        sample = as_numpy(take(table.rows, torch.from_numpy(some)))
        problem[f"number of rows of {name}"] = n_rows
        problem[f"number of columns of {name}"] = width
        problem[f"dtype of {name}"] = str(sample.dtype)
        problem[f"spread of {name}"] = table.spread
        problem[f"digest of some rows of {name}"] = _digest(sample)
    tables: list[Table] = [table.rows for table in rows.values()]
    kind = "stored" if any(isinstance(t, StoredRows) for t in tables) else "in memory"
    problem["rows are read"] = kind
    problem.update(epochs(tables, batch_size).order)
    problem["rows held out"] = n_held_out
    return problem


def _described(value: Any) -> Any:
    """A value of JSON that tells a parameter from others."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Integral | Real):
        return float(value)
    try:
        array = np.asarray(as_numpy(value))
    except (TypeError, ValueError):
        return repr(value)
    if array.dtype.kind not in "fiub":
        return repr(value)
    return f"an array of shape {array.shape} with the digest {_digest(array)}"


def _digest(array: np.ndarray) -> str:
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return hashlib.sha256(little.data).hexdigest()[:16]


def _differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[str]:
    for name in dict.fromkeys([*there, *here]):
        if name not in there:
            yield f"{name} is {here[name]!r} and was not there"
        elif name not in here:
            yield f"{name} was {there[name]!r:.80} and is not there"
        elif not _are_same(there[name], here[name]):
            yield f"{name} was {there[name]!r:.80} and is {here[name]!r}"


def _are_same(a: Any, b: Any) -> bool:
    if type(a) is float and type(b) is float:
        return math.isclose(a, b, rel_tol=_SAME)
    # True == 1, but True is no number of atoms.
    return (type(a) is bool) == (type(b) is bool) and a == b


# The file


def checkpoint_parts(tensors: Tensors, text: dict[str, Any]) -> Iterator[bytes]:
    """The bytes of a checkpoint."""
    written = json.dumps(text)
    about = {
        "format": f"skdict checkpoint {_FORMAT}",
        "skdict": __version__,
        "torch": torch.__version__,
        "checkpoint": written,
        "sha256": _checksum(tensors, written),
    }
    return safetensors_parts(tensors, about)


def _checksum(tensors: Tensors, text: str) -> str:
    whole = hashlib.sha256(text.encode())
    for name, array in tensors.items():
        little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        whole.update(f"{name} {array.dtype.name} {array.shape}".encode())
        whole.update(little.reshape(-1).view(np.uint8).data)
    return whole.hexdigest()


@dataclass
class Saved:
    """What a checkpoint holds.

    Attributes
    ----------
    name : str
        The user's name of the file.
    text : dict
        The numbers that are no tensors; their types are checked.
    tensors : dict of ndarray
        Not checked yet, because only the net knows their shapes.
    """

    name: str
    text: dict[str, Any]
    tensors: Tensors

    @property
    def finished(self) -> bool:
        """Whether the training had ended."""
        return self.text["finished"]


def read_checkpoint(file: Path, name: str, problem: dict[str, Any]) -> Saved:
    """Read a checkpoint, if it is one of the same problem and version.

    Raises
    ------
    ValueError
        Names what differs, or says what is wrong with the file.
    """
    what_to_do = "Give another path, or remove the file to start anew."
    try:
        tensors, about = read_described_tensors(file, _MAX_HEADER)
        format_, version = about.get("format"), about.get("skdict")
        if not (isinstance(format_, str) and format_.startswith("skdict checkpoint ")):
            raise ValueError("it was not written by a Checkpoint")
        if (format_, version) == (f"skdict checkpoint {_FORMAT}", __version__):
            written = about.get("checkpoint")
            if not isinstance(written, str):
                raise ValueError("it has no text")
            if about.get("sha256") != _checksum(tensors, written):
                raise ValueError("its checksum is not that of its content")
            text = parse_json(written.encode(), "its text", _MAX_HEADER)
            _TEXT.check(text, "the text", {})
    # A text may hold lone surrogates, and numbers too large to be converted.
    except (ValueError, OverflowError) as error:
        reason = str(error).rstrip(".")
        raise ValueError(
            f"{name!r} is no checkpoint that can be read: {reason}. {what_to_do}"
        ) from error
    if (format_, version) != (f"skdict checkpoint {_FORMAT}", __version__):
        raise ValueError(
            f"The checkpoint {name!r} was written by skdict {version!r:.20} as "
            f"{format_!r:.40}. This is skdict {__version__!r}, which writes "
            f"'skdict checkpoint {_FORMAT}'. {what_to_do}"
        )
    differences = list(_differences(text["problem"], problem))
    if differences:
        raise ValueError(
            f"The checkpoint {name!r} is one of another training: "
            f"{'; '.join(differences[:6])}. {what_to_do}"
        )
    return Saved(name, text, tensors)


class _Float(Fitted):
    """A number, perhaps infinite."""

    def check(self, value: Any, name: str, sizes: Sizes) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{name} is no number")
        float(value)


class _Text(Fitted):
    """A dict whose values are plain, or with ``many`` a list of such dicts."""

    def __init__(self, many: bool = False, numbers: tuple[str, ...] = ()) -> None:
        self.many = many
        self.numbers = numbers

    def check(self, value: Any, name: str, sizes: Sizes) -> None:
        if self.many and not isinstance(value, list):
            raise ValueError(f"{name} is no list")
        for record in value if self.many else [value]:
            if not isinstance(record, dict) or any(
                isinstance(entry, dict | list) for entry in record.values()
            ):
                raise ValueError(f"{name} is not made of plain values")
            for key in self.numbers:
                _Float().check(record.get(key), f"{key} in {name}", sizes)


# Keys that every record of a history has.
RECORD_KEYS = (
    "epoch",
    "loss",
    "explained_variance",
    "dead_fraction",
    "resets",
    "learning_rate",
    "seconds",
)

_TEXT = Record(
    {
        "problem": _Text(),
        "seed": Count(),
        "finished": Flag(),
        "n_steps": Count(),
        "rows_seen": Count(low=1),
        "history": _Text(many=True, numbers=RECORD_KEYS),
        "place": OrNone(
            Record(
                {
                    "batches": Count(low=1),
                    "n_redrawn": Count(),
                    "seconds": _Float(),
                    "stopped": Flag(),
                    "codes_changed": Flag(),
                    "largest_error": _Float(),
                    "best_epoch": _Float(),
                    "schedule": Record(
                        {
                            "initial": _Float(),
                            "first_step": Count(),
                            "last_step": Count(),
                            "stream_steps": Count(),
                            "warmup_steps": Count(),
                        }
                    ),
                    "early_end": Record(
                        {"best_": _Float(), "n_flat_": Count(), "winding_down_": Flag()}
                    ),
                }
            )
        ),
    }
)


# From a net to a file and back


def _tensors_of(net: Net) -> Tensors:
    """The model, and what is counted."""
    found = {f"model.{name}": t for name, t in net.module_.state_dict().items()}
    found.update({f"net.{name}": getattr(net, name) for name in _COUNTS})
    return {name: _as_array(t) for name, t in found.items() if t is not None}


def _state_of(net: Net) -> Tensors:
    """All tensors on which the rest of a training depends."""
    state = _tensors_of(net)
    for name, slots in optimizer_state(net).items():
        state.update({f"optimizer.{name}.{slot}": v for slot, v in slots.items()})
    for name, parameter in net.best_epoch.parameters_.items():
        state[f"best.{name}"] = _as_array(parameter)
    state["generator.at_the_epoch"] = _as_array(net.epoch_generator)
    state["generator.now"] = _as_array(net.generator.get_state())
    return state


def _place(net: Net) -> dict[str, Any]:
    """Where in its last epoch a training is, and what its callbacks have seen."""
    callbacks = dict(net.callbacks_)
    early_end = callbacks["early_end"]
    return {
        "batches": net.n_batches,
        "n_redrawn": int(net.n_redrawn),
        "seconds": time.perf_counter() - net.epoch_began,
        "stopped": net.stopped,
        "codes_changed": net.codes_changed,
        "largest_error": callbacks["divergence"].largest_error_,
        "best_epoch": float(net.best_epoch.best_),
        "schedule": asdict(net.learning_rate.schedule_),
        "early_end": {
            "best_": float(early_end.best_),
            "n_flat_": early_end.n_flat_,
            "winding_down_": early_end.winding_down_,
        },
    }


def _history(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    history = []
    for record in records:
        plain = {}
        for key, value in record.items():
            if key == "batches":
                continue
            value = _item(value)
            if not (value is None or isinstance(value, str | bool | int | float)):
                raise ValueError(
                    f"A checkpoint cannot hold what a callback has recorded in the "
                    f"history as {key!r}: a {type(value).__name__}."
                )
            plain[key] = value
        history.append(plain)
    return history


def _item(value: Any) -> Any:
    """The number in a scalar of numpy or torch; anything else as it is."""
    is_scalar = hasattr(value, "item") and getattr(value, "shape", None) == ()
    return value.item() if is_scalar else value


def restore_result(net: Net, saved: Saved) -> None:
    """Put a started net at the end of a training that has ended."""
    with _naming(saved):
        _restore_tensors(net, saved)
        _restore_history(net, saved)
        net.clock.n_steps = saved.text["n_steps"]
        net.rows_seen = saved.text["rows_seen"]


def restore_place(net: Net, saved: Saved) -> int:
    """Put a net whose training begins into the epoch where another one was.

    The generator is as it was when that epoch began; see :func:`restore_epoch`.

    Returns
    -------
    int
        Number of epochs that were complete.
    """
    text, place = saved.text, saved.text["place"]
    callbacks = dict(net.callbacks_)
    with _naming(saved):
        if place is None:
            raise ValueError("it does not say how far the training was")
        _restore_tensors(net, saved)
        _restore_history(net, saved)
        restore_optimizer(net, _slots(saved))
        net.clock.n_steps = text["n_steps"]
        net.clock.last_step = place["schedule"]["last_step"]
        net.stopped, net.codes_changed = place["stopped"], place["codes_changed"]
        net.learning_rate.schedule_ = Schedule(**place["schedule"])
        for attribute, value in place["early_end"].items():
            setattr(callbacks["early_end"], attribute, value)
        callbacks["divergence"].largest_error_ = float(place["largest_error"])
        net.best_epoch.best_ = float(place["best_epoch"])
        net.best_epoch.parameters_ = _best_parameters(net, saved)
        _set_generator(net, saved, "generator.at_the_epoch")
        callbacks["progress"].bar_.update(text["n_steps"])
    return len(text["history"])


def restore_epoch(net: Net, saved: Saved) -> None:
    """Put a net that has drawn the order of its rows where another one was."""
    place = saved.text["place"]
    with _naming(saved):
        net.fired.copy_(_tensor(saved, "net.fired", net.fired))
        name = "net.squared_error"
        net.squared_error.copy_(_tensor(saved, name, net.squared_error))
        _set_generator(net, saved, "generator.now")
    net.rows_seen, net.n_redrawn = saved.text["rows_seen"], place["n_redrawn"]
    if net.ranks.rank > 0:  # what was counted before counts once
        net.squared_error.zero_()
        net.rows_seen = 0
    net.epoch_began -= place["seconds"]


@contextmanager
def _naming(saved: Saved) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(
            f"The checkpoint {saved.name!r} is damaged: {error}. Remove the file to "
            "start anew."
        ) from error


def _restore_tensors(net: Net, saved: Saved) -> None:
    model = {
        name: _tensor(saved, f"model.{name}", tensor)
        for name, tensor in net.module_.state_dict().items()
    }
    net.module_.load_state_dict(model)
    net.fired = _tensor(saved, "net.fired", net.fired)
    for name in ("squared_error", "last_error"):
        setattr(net, name, _tensor(saved, f"net.{name}", getattr(net, name)))
    # A training without epochs has none.
    if "net.first_error" in saved.tensors:
        net.first_error = _tensor(saved, "net.first_error", net.last_error)


def _restore_history(net: Net, saved: Saved) -> None:
    for record in saved.text["history"]:
        net.history.new_epoch()
        for key, value in record.items():
            net.history.record(key, value)


def _slots(saved: Saved) -> dict[str, dict[str, np.ndarray]]:
    slots: dict[str, dict[str, np.ndarray]] = {}
    for name, array in saved.tensors.items():
        if name.startswith("optimizer."):
            parameter, _, slot = name.removeprefix("optimizer.").rpartition(".")
            slots.setdefault(parameter, {})[slot] = array
    return slots


def _best_parameters(net: Net, saved: Saved) -> dict[str, Tensor]:
    if not any(name.startswith("best.") for name in saved.tensors):
        return {}
    return {
        name: _tensor(saved, f"best.{name}", parameter)
        for name, parameter in net.module_.named_parameters()
    }


def _set_generator(net: Net, saved: Saved, name: str) -> None:
    state = _tensor(saved, name, net.generator.get_state())
    try:
        net.generator.set_state(state)
    except RuntimeError as error:
        raise ValueError(f"{name} is not the state of a generator") from error


def _tensor(saved: Saved, name: str, like: Tensor) -> Tensor:
    """A tensor of the file, of the shape and the dtype of another one."""
    if name not in saved.tensors:
        raise ValueError(f"{name} is missing")
    tensor = torch.tensor(saved.tensors[name], device="cpu")
    if tensor.shape != like.shape or tensor.dtype != like.dtype:
        raise ValueError(
            f"{name} has the shape {tuple(tensor.shape)} and the dtype {tensor.dtype}, "
            f"not {tuple(like.shape)} and {like.dtype}"
        )
    return tensor.to(like.device)


def _as_array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()
