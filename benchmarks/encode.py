"""How fast ICFL encodes: rows per second, against SPAMS and against one product.

Data: rows that are sums of 100 out of 8192 unit Gaussian atoms in 1024 dimensions, with
noise. The time of the pursuits does not depend on the data, since all of them pick 100
atoms for every row. The relative residual does. It is also printed for Gaussian noise,
the worst case, in which no sparse code is good.

`ICFL.transform` is timed as users call it: numpy in, CSR out, with the checks and the
Gram matrix of the atoms, which is computed once in a call. SPAMS and the residual form
get fewer rows, because they are slow; SPAMS still uses its Gram matrix with these. "The
product alone" is ``X @ atoms.T``, in batches of 4096 rows.
"""

from __future__ import annotations

import numpy as np
import torch
from _cases import (
    lone_product,
    lone_product_in_place,
    planted,
    relative_residual,
    with_atoms,
)
from _peers import MissingPeerError, SpamsOmp
from _timing import Report, arguments, by_turns, ratio

from skdict import ICFL
from skdict.ops import batched_omp


def main() -> None:
    args = arguments(__doc__)
    n, n_slow, d, m, k = 16_384, 4096, 1024, 8192, 100
    if args.quick:
        n, n_slow, d, m, k = 1024, 512, 64, 512, 10
    report = Report(f"ICFL.transform of {n} rows, d={d}, M={m}, k={k}, L=5", args)

    X, atoms = planted(n, d, m, k)
    x, w = torch.from_numpy(X), torch.from_numpy(atoms)
    icfl = with_atoms(ICFL(m, k, atoms_per_step=5), atoms)
    functions = {
        "ICFL.transform": lambda: icfl.transform(X),
        "residual form": lambda: batched_omp(x[:n_slow], w, k, form="residual"),
        "product alone": lambda: lone_product(x, w),
        "product alone, memory reused": lambda: lone_product_in_place(x, w),
        "Gram matrix of the atoms": lambda: w @ w.T,
    }
    try:
        functions["SPAMS omp"] = SpamsOmp(X[:n_slow], atoms, k).time
    except MissingPeerError as error:
        report.not_measured("rows/s over SPAMS omp(L=k)", str(error))

    seconds = by_turns(functions, args.repeats)
    report.seconds(seconds)
    ours, per_row = seconds["ICFL.transform"], n / n_slow
    report.note(f"rows/s: {n / np.median(ours):.0f}")
    if "SPAMS omp" in seconds:
        report.note(f"rows/s of SPAMS: {n_slow / np.median(seconds['SPAMS omp']):.0f}")
        report.target(
            "rows/s over SPAMS omp(L=k)",
            ratio(seconds["SPAMS omp"], ours, per_row),
            at_least=12,
        )
    report.target(
        "rows/s over the residual form",
        ratio(seconds["residual form"], ours, per_row),
        at_least=3,
    )
    report.target(
        "time over the product alone", ratio(ours, seconds["product alone"]), at_most=4
    )

    noise = np.random.default_rng(0).standard_normal((n_slow, d), dtype=np.float32)
    for name, rows in {"these": X[:n_slow], "Gaussian noise": noise}.items():
        left = relative_residual(rows, icfl.transform(rows) @ atoms)
        report.note(f"relative residual of {name} rows: {left:.3f}")


if __name__ == "__main__":
    main()
