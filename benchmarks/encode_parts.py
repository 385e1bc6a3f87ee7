"""Where the time of an encoding goes: torch's own operations, in microseconds a row.

The two operations that matter most have a lower bound printed beside them. For `mm`,
which includes the Gram matrix of the atoms, it is the product of rows and atoms alone.
For `addmm`, the update of the correlations, it is the time to read the bytes of the
Gram matrix at the bandwidth with which this machine sums an array of that size.
"""

from __future__ import annotations

import torch
from _cases import lone_product_in_place, planted, with_atoms
from _timing import Report, arguments, seconds_of
from torch.profiler import ProfilerActivity, profile

from skdict import ICFL

_SHOWN = 12


def main() -> None:
    args = arguments(__doc__)
    n, d, m, k = (1024, 64, 512, 10) if args.quick else (8192, 1024, 8192, 100)
    report = Report(f"Parts of ICFL.transform of {n} rows, d={d}, M={m}, k={k}", args)
    X, atoms = planted(n, d, m, k)
    x, w = torch.from_numpy(X), torch.from_numpy(atoms)
    for refit in (False, True):
        icfl = with_atoms(ICFL(m, k, refit=refit), atoms)
        icfl.transform(X)  # warm
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            icfl.transform(X)
        operations = sorted(
            profiler.key_averages(), key=lambda e: e.self_cpu_time_total, reverse=True
        )
        report.note(f"refit={refit}:")
        for operation in operations[:_SHOWN]:
            per_row = operation.self_cpu_time_total / n
            report.note(f"  {operation.key:36}{per_row:8.1f} us ({operation.count})")

    gram = w @ w.T
    lone_product_in_place(x, w)
    product = min(seconds_of(lambda: lone_product_in_place(x, w)) for _ in range(5))
    reading = min(seconds_of(gram.sum) for _ in range(5))
    bandwidth = gram.nbytes / reading
    update = k * m * gram.element_size() / bandwidth
    report.note(
        f"lower bounds: product alone {1e6 * product / n:.1f} us, update "
        f"{1e6 * update:.1f} us (reading at {bandwidth / 1e9:.1f} GB/s)"
    )


if __name__ == "__main__":
    main()
