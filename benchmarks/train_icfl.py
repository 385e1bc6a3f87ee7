"""What one training step of ICFL costs, relative to the product of the encoder alone.

Data: 4096 rows, sums of 32 out of 8192 unit Gaussian atoms in 768 dimensions, with
noise. They are one batch, and training starts from these atoms. A step is timed inside
`ICFL.fit`: the batch is gathered, encoded and decoded, the gradient is taken, the
optimiser steps, the atoms are projected. The product of rows and atoms is timed by
itself after every step.

Redundant atoms are searched every 100 steps, more than this benchmark makes; the time
of one such search is printed by itself.
"""

from __future__ import annotations

import numpy as np
import torch
from _cases import lone_product, lone_product_in_place, planted
from _timing import Report, arguments, ratio, seconds_of, steps_by_turns

from skdict import ICFL
from skdict.ops.atoms import redundant_atoms


def main() -> None:
    args = arguments(__doc__)
    n, d, m, k = (512, 64, 512, 8) if args.quick else (4096, 768, 8192, 32)
    report = Report(f"One training step of ICFL, N={n}, d={d}, M={m}, k={k}", args)

    X, atoms = planted(n, d, m, k)
    x, w = torch.from_numpy(X), torch.from_numpy(atoms)
    seconds = steps_by_turns(
        ICFL(m, k, init=atoms, random_state=0),
        X,
        {
            "product alone": lambda: lone_product(x, w),
            "product alone, memory reused": lambda: lone_product_in_place(x, w),
            "Gram matrix of the atoms": lambda: w @ w.T,
        },
        args.repeats,
    )
    report.seconds(seconds)
    report.note(f"rows/s: {n / np.median(seconds['step']):.0f}")
    search = seconds_of(lambda: redundant_atoms(w, 0.9, torch.arange(m)))
    report.note(f"search for redundant atoms: {search:.2f} s in every 100 steps")
    report.target(
        "time over the product alone",
        ratio(seconds["step"], seconds["product alone"]),
        at_most=5,
    )


if __name__ == "__main__":
    main()
