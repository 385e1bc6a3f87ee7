"""What skorch adds to a training step.

The net of TopKSAE trains for epochs, and so does a bare loop with a copy of the module,
the same optimiser and the same work in a step. At the size of the other training
benchmarks the difference is smaller than the noise of the products. So it is also
measured in an epoch of many tiny steps, and compared with the time of a step at the
full size.
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable

import torch
from _cases import planted
from _timing import Report, arguments, by_turns, ratio
from torch import Tensor

from skdict.models import TopKAutoencoder
from skdict.rows import RowBatches
from skdict.training.net import DictionaryNet

_LEARNING_RATE = 1e-4
_TINY_STEPS = 200


def main() -> None:
    args = arguments(__doc__)
    n, d, m, k = (512, 64, 512, 8) if args.quick else (4096, 768, 8192, 32)
    report = Report(f"What skorch adds to a step, N={n}, d={d}, M={m}, k={k}", args)

    full = by_turns(loops(n, d, m, k, n_steps=1), args.repeats)
    report.seconds(full)
    report.target(
        "time over the bare loop",
        ratio(
            [a - b for a, b in zip(full["net"], full["bare loop"], strict=True)],
            full["bare loop"],
            100,
        ),
        at_most=3,
        unit=" % more",
    )

    tiny = by_turns(loops(8, 8, 16, 2, n_steps=_TINY_STEPS), args.repeats)
    added = [
        (a - b) / _TINY_STEPS
        for a, b in zip(tiny["net"], tiny["bare loop"], strict=True)
    ]
    report.seconds({"added to a tiny step": added})
    step = statistics.median(full["bare loop"])
    report.target(
        "the same, from the difference of tiny steps",
        100 * statistics.median(added) / step,
        at_most=3,
        unit=" % more",
    )


def loops(
    batch_size: int, d: int, m: int, k: int, *, n_steps: int
) -> dict[str, Callable[[], object]]:
    """An epoch of ``n_steps`` with the net, and with a bare loop."""
    X, atoms = planted(batch_size * n_steps, d, m, k)
    module = TopKAutoencoder(torch.from_numpy(atoms), k)
    net = DictionaryNet(
        copy.deepcopy(module),
        lr=_LEARNING_RATE,
        batch_size=batch_size,
        generator=torch.Generator().manual_seed(0),
    ).start()
    return {
        "net": lambda: net.train(X, 1),
        "bare loop": bare_loop(module, X, batch_size),
    }


def bare_loop(module: TopKAutoencoder, X, batch_size: int) -> Callable[[], object]:
    """The work of a step, and nothing around it."""
    optimizer = torch.optim.Adam(module.parameters(), lr=_LEARNING_RATE, fused=True)
    n_components = len(module.atoms)
    batches = RowBatches(
        X,
        batch_size,
        module.atoms.device,
        generator=torch.Generator().manual_seed(0),
    )

    def make_pass() -> tuple[Tensor, Tensor]:
        total_fired = torch.zeros(n_components, dtype=torch.int64)
        total_error = torch.zeros(())
        since_fired = torch.zeros(n_components, dtype=torch.int64)
        for batch in batches:
            optimizer.zero_grad()
            x_hat, code = module(batch)
            fired = code.fire_counts(n_components)
            since_fired += len(batch)
            since_fired.masked_fill_(fired > 0, 0)
            ((x_hat - batch).square().sum(1).mean() / 2).backward()
            with torch.no_grad():
                module.precondition_(None)
                optimizer.step()
                module.project_()
                total_error += (x_hat - batch).square().sum()
                total_fired += fired
        return total_error, total_fired

    return make_pass


if __name__ == "__main__":
    main()
