"""How fast and how well ICFL encodes with a joint least squares at the end.

As `encode.py`, with ``refit=True``, and the relative residual beside that of orthogonal
matching pursuit. This is that of SPAMS or, if SPAMS is not installed, skdict's own OMP,
which picks one atom a step and solves least squares after each. Rows of Gaussian noise
are the worst case for the residual.
"""

from __future__ import annotations

import numpy as np
import torch
from _cases import planted, relative_residual, with_atoms
from _peers import MissingPeerError, SpamsOmp
from _timing import Report, arguments, by_turns, ratio

from skdict import ICFL
from skdict.ops import batched_omp


def main() -> None:
    args = arguments(__doc__)
    n, n_slow, d, m, k = 16_384, 4096, 1024, 8192, 100
    if args.quick:
        n, n_slow, d, m, k = 1024, 512, 64, 512, 10
    report = Report(f"ICFL.transform, refit=True, d={d}, M={m}, k={k}, L=5", args)

    X, atoms = planted(n, d, m, k)
    icfl = with_atoms(ICFL(m, k, atoms_per_step=5, refit=True), atoms)
    plain = with_atoms(ICFL(m, k, atoms_per_step=5), atoms)
    functions = {
        "ICFL.transform, refit=True": lambda: icfl.transform(X),
        "ICFL.transform": lambda: plain.transform(X),
    }
    try:
        spams = SpamsOmp(X[:n_slow], atoms, k)
        functions["SPAMS omp"] = spams.time
    except MissingPeerError as error:
        report.not_measured("rows/s over SPAMS omp(L=k)", str(error))

    seconds = by_turns(functions, args.repeats)
    report.seconds(seconds)
    ours = seconds["ICFL.transform, refit=True"]
    report.note(f"rows/s: {n / np.median(ours):.0f}")
    if "SPAMS omp" in seconds:
        report.target(
            "rows/s over SPAMS omp(L=k)",
            ratio(seconds["SPAMS omp"], ours, n / n_slow),
            at_least=7,
        )

    def reconstruct_omp(rows: np.ndarray) -> np.ndarray:
        if "SPAMS omp" in functions:
            return spams.encode(rows) @ atoms
        code = batched_omp(
            torch.from_numpy(rows),
            torch.from_numpy(atoms),
            k,
            atoms_per_step=1,
            selection="absolute",
            refit="every_step",
        )
        return code.to_csr(m) @ atoms

    n_judged = n_slow // 4
    noise = np.random.default_rng(0).standard_normal((n_judged, d), dtype=np.float32)
    for name, rows in {"these": X[:n_judged], "Gaussian noise": noise}.items():
        with_refit = relative_residual(rows, icfl.transform(rows) @ atoms)
        without = relative_residual(rows, plain.transform(rows) @ atoms)
        omp = relative_residual(rows, reconstruct_omp(rows))
        report.note(
            f"relative residual of {name} rows: {with_refit:.4f} "
            f"(without refit {without:.4f}, OMP {omp:.4f})"
        )
        report.target(
            f"relative residual over OMP's, {name} rows",
            with_refit / omp,
            # There is no target for noise.
            at_most=1.10 if name == "these" else None,
        )


if __name__ == "__main__":
    main()
