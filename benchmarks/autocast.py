"""What choosing latents in bfloat16 gains, and what it moves.

For each autoencoder: the time of a training step with ``autocast=True`` over one
without, by turns; and, for a model trained with it, the fraction of the active latents
that products in float32 choose as well (their intersection over their union, on rows
that were not learned from). Products in bfloat16 are faster where the processor has
units for them: accelerators, and server CPUs with AMX or AVX512-BF16. Elsewhere they
are slower.
"""

from __future__ import annotations

import torch
from _cases import planted
from _timing import Report, arguments, by_turns, ratio
from sklearn.base import clone
from train_family import our_step

from skdict import (
    SAE,
    BatchTopKSAE,
    GatedSAE,
    JumpReLUSAE,
    MatryoshkaSAE,
    TopKSAE,
)

KINDS = (TopKSAE, BatchTopKSAE, MatryoshkaSAE, JumpReLUSAE, GatedSAE, SAE)


def main() -> None:
    args = arguments(__doc__)
    n, d, m, k = (512, 64, 512, 8) if args.quick else (4096, 768, 8192, 32)
    report = Report(f"Latents chosen in bfloat16, N={n}, d={d}, M={m}, k={k}", args)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        report.note("No accelerator: what follows says nothing about one.")
    X, atoms = planted(2 * n, d, m, k)
    rows, new = X[:n], X[n:]
    x = torch.from_numpy(rows).to(device)
    for kind in KINDS:
        plain = kind(m, k, init=atoms, random_state=0)
        half = clone(plain).set_params(autocast=True)
        steps = {
            "float32": our_step(plain, rows, x),
            "bfloat16": our_step(half, rows, x),
        }
        seconds = by_turns(steps, args.repeats)
        gain = ratio(seconds["float32"], seconds["bfloat16"])
        report.target(f"{kind.__name__}: float32 over bfloat16", gain)
        half.set_params(max_iter=3).fit(rows)
        chosen = half.transform(new) != 0
        exact = half.set_params(autocast=False).transform(new) != 0
        agreement = chosen.multiply(exact).sum() / (chosen + exact).sum()
        measure = f"{kind.__name__}: active latents that agree"
        report.target(measure, 100 * float(agreement), unit=" %")


if __name__ == "__main__":
    main()
