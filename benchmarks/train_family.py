"""What a training step of each dictionary costs, beside TopKSAE's and SAELens'.

Data: 4096 rows, sums of 32 out of 8192 unit Gaussian atoms in 768 dimensions, and
noise; they are one batch, and training starts from these atoms, so that about 32
latents of a row are active. A step encodes, decodes, takes the gradient, moves the
parameters and keeps the atoms' norms. All steps take turns.
"""

from __future__ import annotations

from collections.abc import Callable

import _peers
import torch
from _cases import lone_product, planted
from _timing import Report, arguments, by_turns, ratio
from torch import Tensor

from skdict import (
    SAE,
    ArchetypalSAE,
    BatchTopKSAE,
    GatedSAE,
    JumpReLUSAE,
    MatchingPursuitSAE,
    MatryoshkaSAE,
    TopKSAE,
)
from skdict.training.net import DictionaryNet

FAMILY = {
    "TopKSAE": TopKSAE,
    "BatchTopKSAE": BatchTopKSAE,
    "MatryoshkaSAE, 4 prefixes": MatryoshkaSAE,
    "JumpReLUSAE": JumpReLUSAE,
    "GatedSAE": GatedSAE,
    "SAE": SAE,
    "ArchetypalSAE": ArchetypalSAE,
    "MatchingPursuitSAE": MatchingPursuitSAE,
}
# Limits of the time over TopKSAE's step, and over two products of rows with atoms.
OVER_TOPK = {"BatchTopKSAE": 1.5, "MatryoshkaSAE, 4 prefixes": 2.0}
OVER_PRODUCTS = {"JumpReLUSAE": 3.0, "GatedSAE": 3.0, "SAE": 3.0}
SAELENS = {
    "TopKSAE": ("TopK", {}),
    "BatchTopKSAE": ("BatchTopK", {}),
    "MatryoshkaSAE, 4 prefixes": ("MatryoshkaBatchTopK", {"matryoshka_widths": True}),
    "JumpReLUSAE": ("JumpReLU", {}),
    "GatedSAE": ("Gated", {}),
    "SAE": ("Standard", {}),
}


def main() -> None:
    args = arguments(__doc__)
    n, d, m, k = (512, 64, 512, 8) if args.quick else (4096, 768, 8192, 32)
    report = Report(f"A training step of each, N={n}, d={d}, M={m}, k={k}", args)
    X, atoms = planted(n, d, m, k)
    x, w = torch.from_numpy(X), torch.from_numpy(atoms)
    steps: dict[str, Callable[[], object]] = {
        name: our_step(cls(m, k, init=atoms, random_state=0), X, x)
        for name, cls in FAMILY.items()
    }
    steps["two products"] = lambda: (lone_product(x, w), lone_product(x, w))
    for name, (kind, options) in SAELENS.items():
        try:
            steps[f"SAELens {kind}"] = saelens_step(kind, options, x, m, k)
        except ImportError as error:
            report.not_measured(f"SAELens over {name}", str(error))
    seconds = by_turns(steps, args.repeats)
    report.seconds(seconds)
    for name, at_most in OVER_TOPK.items():
        over = ratio(seconds[name], seconds["TopKSAE"])
        report.target(f"{name} over TopKSAE", over, at_most=at_most)
    for name, at_most in OVER_PRODUCTS.items():
        over = ratio(seconds[name], seconds["two products"])
        report.target(f"{name} over two products", over, at_most=at_most)
    for name, (kind, _) in SAELENS.items():
        if f"SAELens {kind}" in seconds:
            over = ratio(seconds[f"SAELens {kind}"], seconds[name])
            report.target(f"SAELens {kind} over {name}", over, at_least=1)


def our_step(estimator, X, x: Tensor) -> Callable[[], object]:
    """A training step on the device of ``x``, waited for."""
    model = estimator.set_params(max_iter=0).fit(X)._fitted_model(len(X)).to(x)
    net = DictionaryNet(
        model,
        lr=1e-4,
        generator=torch.Generator().manual_seed(0),
        batch_size=len(X),
        n_steps=1000,
    ).start()

    def step() -> None:
        net.train_step((x, x))
        if x.is_cuda:
            torch.cuda.synchronize()

    return step


def saelens_step(
    kind: str, options: dict, x: Tensor, m: int, k: int
) -> Callable[[], None]:
    sae_lens = _peers.sae_lens()
    from sae_lens.saes.sae import TrainStepInput

    options = dict(options)
    if "matryoshka_widths" in options:
        options["matryoshka_widths"] = [m // 32, m // 8, m // 2, m]
    if "TopK" in kind:
        options["k"] = k
    config = getattr(sae_lens, f"{kind}TrainingSAEConfig")
    torch.manual_seed(0)
    sae = getattr(sae_lens, f"{kind}TrainingSAE")(
        config(d_in=x.shape[1], d_sae=m, **options)
    )
    optimizer = torch.optim.Adam(sae.parameters(), lr=1e-4, fused=True)
    coefficients = dict.fromkeys(sae.get_coefficients(), 1.0)

    def step() -> None:
        optimizer.zero_grad()
        sae.training_forward_pass(
            TrainStepInput(
                sae_in=x,
                coefficients=coefficients,
                dead_neuron_mask=None,
                n_training_steps=1,
                is_logging_step=False,
            )
        ).loss.backward()
        optimizer.step()

    return step


if __name__ == "__main__":
    main()
