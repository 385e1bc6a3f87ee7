"""Kernels and training steps on an accelerator: what our choices there gain.

Each kernel is timed in the form that the CPU takes and in the form that the accelerator
takes: gathers in small and in large parts, sums per atom by bags and by a sparse
product, two triangular solves in place of ``cholesky_solve``. Then a training step and
the encoding of each dictionary, with rows that lie on the device. Without an
accelerator the CPU stands in, and the ratios mean nothing.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from unittest.mock import patch

os.environ.setdefault("SCIPY_ARRAY_API", "1")  # read at scipy's first import

import torch
import torch.nn.functional as F
from sklearn import config_context

from skdict import (
    ICFL,
    SAE,
    BatchTopKSAE,
    GatedSAE,
    JumpReLUSAE,
    MatryoshkaSAE,
    TopKSAE,
)
from skdict.ops import products, slots
from skdict.ops.products import sum_rows_per_atom
from skdict.rows import resolve_device


def milliseconds(run: Callable[[], object], device: torch.device, n: int = 10) -> float:
    """Of one call, with the device's queue drained at both ends."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    run()
    wait()
    start = time.perf_counter()
    for _ in range(n):
        run()
    wait()
    return (time.perf_counter() - start) / n * 1e3


def kernels(device: torch.device, n: int, d: int, m: int, k: int) -> None:
    """Time both forms of each kernel; some atoms are active far more often."""
    torch.manual_seed(0)
    often = 1 / torch.arange(1, m + 1, device=device) ** 0.7
    indices = torch.multinomial(often, n * k, replacement=True).view(n, k)
    values = torch.rand(n, k, device=device)
    x = torch.randn(n, d, device=device)
    W = F.normalize(torch.randn(m, d, device=device))
    rows = torch.arange(n, device=device).repeat_interleave(k)

    def gather(elements: int) -> float:
        names = "GATHER_ELEMENTS", "ACCELERATOR_GATHER_ELEMENTS"
        with patch.multiple(products, **dict.fromkeys(names, elements)):
            return milliseconds(lambda: slots.active_products(x, W, indices), device, 3)

    def sums(by_csr: bool) -> float:
        entries = indices.flatten(), rows, values.flatten()
        with patch.object(products, "sums_by_csr", lambda device_type: by_csr):
            return milliseconds(lambda: sum_rows_per_atom(*entries, x, m), device)

    atoms = W[indices[:, :5]]
    gram = atoms @ atoms.mT + torch.eye(5, device=device)
    c = torch.randn(n, 5, 1, device=device)
    factor = torch.linalg.cholesky(gram)

    def triangular() -> torch.Tensor:
        half = torch.linalg.solve_triangular(factor, c, upper=False)
        return torch.linalg.solve_triangular(factor.mT, half, upper=True)

    print(f"\n{n} rows of {d}, {m} atoms, k = {k}; ms as on the CPU, and as on CUDA")
    print(
        f"  products with active atoms  {gather(1 << 20):8.3f} {gather(1 << 24):8.3f}"
    )
    print(f"  sums of rows per atom       {sums(False):8.3f} {sums(True):8.3f}")
    print(
        "  least squares on 5 atoms   "
        f" {milliseconds(lambda: torch.cholesky_solve(c, factor), device):8.3f}"
        f" {milliseconds(triangular, device):8.3f}"
    )


def steps(device: torch.device, n: int, d: int, m: int, k: int, batch: int) -> None:
    """Time training steps and encoding."""
    torch.manual_seed(0)
    X = torch.randn(n, d, device=device) @ torch.randn(d, d, device=device) / d**0.5
    print(f"\n{m} atoms, k = {k}, rows of {d}, batches of {batch}")
    kinds = [ICFL, TopKSAE, BatchTopKSAE, MatryoshkaSAE, JumpReLUSAE, GatedSAE]
    for kind in [*kinds, SAE]:
        model = kind(n_components=m, k=k, batch_size=batch, random_state=0)
        model.set_params(device=str(device), tol=None)
        with config_context(array_api_dispatch=True):
            seconds = []
            for epochs in (1, 1, 3):  # the first one warms up
                model.set_params(max_iter=epochs)
                start = time.perf_counter()
                model.fit(X)
                seconds.append(time.perf_counter() - start)
            step = (seconds[2] - seconds[1]) / (2 * n / batch) * 1e3
            encoding = milliseconds(lambda model=model: model.transform(X), device, 1)
        print(
            f"  {kind.__name__:16} {step:8.3f} ms a step,"
            f" {n / encoding * 1e3:12,.0f} rows encoded a second",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="does it run at all?")
    args = parser.parse_args()
    device = resolve_device("auto")
    if device.type == "cpu":
        print("No accelerator: what follows says nothing about one.")
    elif device.type == "cuda":
        print(torch.cuda.get_device_name(device))
    if args.quick:
        kernels(device, 200, 32, 128, 8)
        steps(device, 1000, 16, 32, 4, 200)
        return
    kernels(device, 1024, 768, 4096, 25)
    kernels(device, 8192, 1024, 8192, 100)
    for batch in (1024, 8192):
        steps(device, 98_304, 768, 4096, 25, batch)


if __name__ == "__main__":
    main()
