"""Shared by the benchmarks of speed: timings by turns, ratios, the report."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

# The first steps of training are not counted: they allocate, and fill the caches.
_WARM_UP_STEPS = 2


def arguments(description: str | None, **options: dict) -> argparse.Namespace:
    """Read the command line that all benchmarks understand."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes: does it run at all?"
    )
    parser.add_argument("--repeats", type=int, default=5, help="timings of each")
    parser.add_argument("--rows-to", type=Path, help="append the table's rows, as JSON")
    for name, option in options.items():
        parser.add_argument(f"--{name}", **option)
    return parser.parse_args()


# Timing


class Seconds(float):
    """What a function returns that has measured its time itself."""


def seconds_of(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    result = function()
    elapsed = time.perf_counter() - start
    return float(result) if isinstance(result, Seconds) else elapsed


def by_turns(
    functions: dict[str, Callable[[], object]], repeats: int, *, warm_up: bool = True
) -> dict[str, list[float]]:
    """Seconds of each function, in ``repeats`` rounds that run all of them.

    Other load on the machine then slows all of them alike. The order rotates, so that
    no function always runs in the cache that the same other one has filled. With
    ``warm_up``, a first round is not counted.
    """
    names = list(functions)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for i in range(-1 if warm_up else 0, repeats):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            elapsed = seconds_of(functions[name])
            if i >= 0:
                seconds[name].append(elapsed)
    return seconds


def steps_by_turns(
    estimator, X, others: dict[str, Callable[[], object]], repeats: int
) -> dict[str, list[float]]:
    """Seconds of a step of ``estimator.fit`` and, after each, of the others.

    All rows are one batch, so that an epoch is one step; the other functions run in the
    callback after it.
    """
    seconds: dict[str, list[float]] = {name: [] for name in others}

    def run_others(record):
        for name, function in others.items():
            seconds[name].append(seconds_of(function))

    estimator.set_params(
        batch_size=len(X),
        max_iter=repeats + _WARM_UP_STEPS,
        tol=None,
        callbacks=[run_others],
    ).fit(X)
    seconds = {"step": [record["seconds"] for record in estimator.history_]} | seconds
    return {name: values[_WARM_UP_STEPS:] for name, values in seconds.items()}


class Ratio(NamedTuple):
    """Median of the ratios within the rounds, and the range over them."""

    median: float
    low: float
    high: float


def ratio(over: list[float], under: list[float], factor: float = 1.0) -> Ratio:
    """``factor * over / under``, round by round."""
    ratios = [factor * a / b for a, b in zip(over, under, strict=True)]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


# Reporting


class Report:
    """Collects and prints the results of one benchmark.

    Parameters
    ----------
    work : str
        What was done: the name of the row in the table.
    args : Namespace
        From :func:`arguments`.
    """

    def __init__(self, work: str, args: argparse.Namespace):
        self.work, self.args = work, args
        self.rows: list[dict[str, str]] = []
        print(f"# {work}" + (" (quick: sizes are too small to judge)" * args.quick))
        print("\n".join(machine()), flush=True)

    def note(self, text: str) -> None:
        print(text, flush=True)

    def seconds(self, seconds: dict[str, list[float]]) -> None:
        """Print medians and ranges."""
        for name, values in seconds.items():
            middle = statistics.median(values)
            self.note(
                f"{name:44}{_time(middle):>10}  ({_time(min(values))} to "
                f"{_time(max(values))}, {len(values)} times)"
            )

    def target(
        self,
        measure: str,
        measured: Ratio | float,
        *,
        at_least: float | None = None,
        at_most: float | None = None,
        unit: str = "x",
    ) -> None:
        """Compare a measured figure with its target, or only record it without one.

        Parameters
        ----------
        measure : str
            What the figure is.
        measured : Ratio or float
            The figure.
        at_least, at_most : float, default=None
            The target.
        unit : str, default="x"
            Of the figure.
        """
        middle = measured.median if isinstance(measured, Ratio) else measured
        shown = f"{_number(middle)}{unit}"
        if isinstance(measured, Ratio):
            shown += f" ({_number(measured.low)} to {_number(measured.high)})"
        target, met = "-", "-"
        if at_least is not None:
            target = f">= {at_least:g}{unit}"
            met = "yes" if middle >= at_least else "NO"
        if at_most is not None:
            target = f"<= {at_most:g}{unit}"
            met = "yes" if middle <= at_most else "NO"
        if self.args.quick and target != "-":
            met = "(quick)"
        self._row(measure, target, shown, met)

    def not_measured(self, measure: str, reason: str) -> None:
        """Say what could not be measured, and why."""
        self._row(measure, "-", f"not measured: {reason}", "-")

    def _row(self, measure: str, target: str, measured: str, met: str) -> None:
        row = {
            "work": self.work,
            "measure": measure,
            "target": target,
            "measured": measured,
            "met": met,
        }
        self.note(f"-> {measure}: {measured}, target {target}, met: {met}")
        self.rows.append(row)
        if self.args.rows_to is not None:
            with self.args.rows_to.open("a") as file:
                file.write(json.dumps(row) + "\n")


def table(rows: list[dict[str, str]]) -> str:
    """The rows of all benchmarks as one Markdown table."""
    columns = ["work", "measure", "target", "measured", "met"]
    lines = [[row[column] for column in columns] for row in rows]
    for before, after in zip(lines[-2::-1], lines[:0:-1], strict=True):
        if before[0] == after[0]:
            after[0] = ""
    widths = [max(map(len, column)) for column in zip(columns, *lines, strict=True)]
    lines = [columns, ["-" * width for width in widths], *lines]
    return "\n".join(
        "| "
        + " | ".join(f"{cell:{w}}" for cell, w in zip(line, widths, strict=True))
        + " |"
        for line in lines
    )


def machine() -> list[str]:
    """Processor, threads and versions, on which the figures depend."""
    names = ["numpy", "scipy", "scikit-learn", "torch", "skorch"]
    versions = [f"{name} {importlib.metadata.version(name)}" for name in names]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return [
        f"{_processor()}: {cores or os.cpu_count()} cores, "
        f"{torch.get_num_threads()} torch threads{load}",
        f"Python {platform.python_version()}, {', '.join(versions)}",
    ]


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _time(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{1e6 * seconds:.3g} us"
    if seconds < 1:
        return f"{1e3 * seconds:.3g} ms"
    return f"{seconds:.3g} s"


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
