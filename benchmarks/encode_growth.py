"""How the time of encoding grows with k, with the number of atoms and of rows.

The script varies one of the three at a time, times `ICFL.transform`, and fits the slope
of the logarithm of the time over the upper half of the values, where fixed costs matter
little: a slope of 1 is linear growth. Growth with the number of atoms M is compared
with that of the two products that grow with it: rows with atoms (linear), atoms with
atoms (quadratic). ``--figure FILE`` draws the curves.
"""

from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np
import torch
from _cases import lone_product, planted, with_atoms
from _timing import Report, arguments, by_turns

from skdict import ICFL


def main() -> None:
    args = arguments(__doc__, figure={"type": Path})
    n, d, m, k = (1024, 64, 512, 10) if args.quick else (4096, 1024, 8192, 100)
    report = Report(f"Growth of ICFL.transform around n={n}, d={d}, M={m}, k={k}", args)

    # All rounds of one curve run its values by turns.
    curves = {
        "k": {value: (n, m, value) for value in powers(k // 5, 5)},
        "M": {value: (n, value, k) for value in powers(m // 8, 5)},
        "rows": {value: (value, m, k) for value in powers(n // 8, 6)},
    }
    times: dict[str, tuple[list[int], list[float]]] = {}
    for name, cases in curves.items():
        functions = {str(value): encoding(d, *case) for value, case in cases.items()}
        if name == "M":
            functions |= {f"products {v}": products(n, d, v) for v in cases}
        seconds = by_turns(functions, args.repeats)
        report.note(f"time by {name}:")
        report.seconds(seconds)
        values = list(cases)
        times[name] = values, [statistics.median(seconds[str(v)]) for v in values]
        if name == "M":
            medians = [statistics.median(seconds[f"products {v}"]) for v in values]
            times["M, products alone"] = values, medians

    slopes = {name: slope(*curve) for name, curve in times.items()}
    # The clock is not exact: 5 % between two doublings are allowed for.
    report.target("log-log slope in rows", slopes["rows"], at_most=1.05, unit="")
    report.target("log-log slope in k", slopes["k"], at_most=1.05, unit="")
    report.target(
        "log-log slope in M",
        slopes["M"],
        at_most=round(slopes["M, products alone"] + 0.05, 2),
        unit="",
    )
    if args.figure is not None:
        draw(times, args.figure)


def powers(smallest: int, count: int) -> list[int]:
    return [smallest * 2**i for i in range(count)]


def encoding(d: int, n: int, m: int, k: int):
    X, atoms = planted(n, d, m, k)
    icfl = with_atoms(ICFL(m, k), atoms)
    return lambda: icfl.transform(X)


def products(n: int, d: int, m: int):
    x, w = torch.randn(n, d), torch.randn(m, d)

    def multiply():
        lone_product(x, w)
        lone_product(w, w)

    return multiply


def slope(values: list[int], seconds: list[float]) -> float:
    half = len(values) // 2
    return float(np.polyfit(np.log(values[half:]), np.log(seconds[half:]), 1)[0])


def draw(times: dict[str, tuple[list[int], list[float]]], path: Path) -> None:
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullLocator

    figure, axes = plt.subplots(1, 3, figsize=(10, 3.2), sharey=True, layout="tight")
    for axis, name in zip(axes, ("k", "M", "rows"), strict=True):
        axis.loglog(*times[name], "o-", label="ICFL.transform")
        if name == "M":
            axis.loglog(*times["M, products alone"], "s--", label="products alone")
        axis.set_xticks(times[name][0], map(str, times[name][0]))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_xlabel(name)
        axis.grid(True, which="both", alpha=0.3)
        axis.legend()
    axes[0].set_ylabel("seconds")
    figure.savefig(path)


if __name__ == "__main__":
    main()
