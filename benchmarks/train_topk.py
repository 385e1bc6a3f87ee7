"""What one training step of TopKSAE costs, and what it costs in other libraries.

Data: 4096 rows, sums of 32 out of 8192 unit Gaussian atoms in 768 dimensions, with
noise. They are one batch, and training starts from these atoms. A step is timed inside
`TopKSAE.fit`, optimiser and projection included. After every step the other libraries
make a step on the same rows, with torch's Adam: sparsify's `SparseCoder` as its trainer
does it (decoder rows kept on the sphere, gradient projected), overcomplete's `TopKSAE`
as its training loop does it (gradient clipped). None of them has an auxiliary loss
here, and no latent of `TopKSAE` counts as dead. The time that the auxiliary loss adds
when a tenth of the latents are dead is printed by itself.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from _cases import lone_product, lone_product_in_place, planted
from _peers import MissingPeerError, overcomplete_sae, sparsify
from _timing import Report, arguments, ratio, steps_by_turns
from torch import Tensor

from skdict import TopKSAE

TARGETS = {"sparsify SparseCoder": 1.4, "overcomplete TopKSAE": 3.3}


def main() -> None:
    args = arguments(__doc__)
    n, d, m, k = (512, 64, 512, 8) if args.quick else (4096, 768, 8192, 32)
    report = Report(f"One training step of TopKSAE, N={n}, d={d}, M={m}, k={k}", args)

    X, atoms = planted(n, d, m, k)
    x, w = torch.from_numpy(X), torch.from_numpy(atoms)
    others: dict[str, Callable[[], None]] = {
        "product alone": lambda: lone_product(x, w),
        "product alone, memory reused": lambda: lone_product_in_place(x, w),
    }
    for name, make_step in {
        "sparsify SparseCoder": sparsify_step,
        "overcomplete TopKSAE": overcomplete_step,
    }.items():
        try:
            others[name] = make_step(x, m, k)
        except MissingPeerError as error:
            report.not_measured(f"rows/s over {name}", str(error))

    sae = TopKSAE(m, k, init=atoms, dead_after=1e9, random_state=0)
    seconds = steps_by_turns(sae, X, others, args.repeats)
    report.seconds(seconds)
    report.note(f"rows/s: {n / np.median(seconds['step']):.0f}")

    # A latent whose direction is far from all rows, beside a tenth of such.
    away = atoms.copy()
    away[: m // 10] = -X.mean(axis=0)
    dead = TopKSAE(m, k, init=away, dead_after=0.5, random_state=0)
    with_dead = steps_by_turns(dead, X, {}, args.repeats)["step"]
    fraction = dead.history_[-1]["dead_fraction"]
    report.seconds({f"step with {fraction:.0%} dead, auxiliary loss": with_dead})

    report.target(
        "time over the product alone",
        ratio(seconds["step"], seconds["product alone"]),
        at_most=2.5,
    )
    for name, at_least in TARGETS.items():
        if name in seconds:
            report.target(
                f"rows/s over {name}",
                ratio(seconds[name], seconds["step"]),
                at_least=at_least,
            )


def sparsify_step(x: Tensor, m: int, k: int) -> Callable[[], None]:
    package = sparsify()
    torch.manual_seed(0)
    coder = package.SparseCoder(
        x.shape[1], package.SparseCoderConfig(num_latents=m, k=k)
    )
    optimizer = torch.optim.Adam(coder.parameters(), lr=1e-4)

    def step() -> None:
        coder.set_decoder_norm_to_unit_norm()
        coder(x).fvu.backward()
        coder.remove_gradient_parallel_to_decoder_directions()
        optimizer.step()
        optimizer.zero_grad()

    return step


def overcomplete_step(x: Tensor, m: int, k: int) -> Callable[[], None]:
    torch.manual_seed(0)
    sae = overcomplete_sae().TopKSAE(x.shape[1], m, top_k=k).train()
    optimizer = torch.optim.Adam(sae.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        _, _, x_hat = sae(x)
        (x - x_hat).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(sae.parameters(), 1.0)
        optimizer.step()

    return step


if __name__ == "__main__":
    main()
