"""From indices and values to CSR: its fraction of the time, and the peak of memory.

The time of `SlotCode.to_csr` on the codes of every batch, and of joining them, is
compared with that of the whole `ICFL.transform`. For the peak of memory, a process of
its own loads the rows and the atoms and encodes 100,000 rows; what its resident memory
gains during the encoding is counted. A dense array of the codes would take 3.3 GB; the
CSR matrix takes 80 MB, and the Gram matrix of the atoms 268 MB.
"""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import torch
from _cases import planted, with_atoms
from _timing import Report, arguments, by_turns, ratio

from skdict import ICFL
from skdict.ops import batched_omp

# Rows of one batch in `transform`.
_BATCH = 8192


def main() -> None:
    args = arguments(
        __doc__,
        **{"peak-of": {"type": int, "nargs": 4, "metavar": ("N", "D", "M", "K")}},
    )
    if args.peak_of:
        print(bytes_above_input(*args.peak_of))
        return
    n, n_memory, d, m, k = 16_384, 100_000, 1024, 8192, 100
    if args.quick:
        n, n_memory, d, m, k = 1024, 5000, 64, 512, 10
    report = Report(f"Indices and values to CSR, d={d}, M={m}, k={k}", args)

    X, atoms = planted(n, d, m, k)
    x, w = torch.from_numpy(X), torch.from_numpy(atoms)
    icfl = with_atoms(ICFL(m, k), atoms)
    codes = [batched_omp(rows, w, k) for rows in x.split(_BATCH)]
    seconds = by_turns(
        {
            "to CSR": lambda: sp.vstack([code.to_csr(m) for code in codes], "csr"),
            "ICFL.transform": lambda: icfl.transform(X),
        },
        args.repeats,
    )
    report.seconds(seconds)
    report.target(
        "fraction of the encode time",
        ratio(seconds["to CSR"], seconds["ICFL.transform"], 100),
        at_most=10,
        unit=" %",
    )

    command = [sys.executable, __file__, "--peak-of", *map(str, (n_memory, d, m, k))]
    peak = int(subprocess.run(command, check=True, capture_output=True).stdout)
    report.target(
        f"peak above the input, {n_memory} x {m} codes",
        peak / 1e6,
        at_most=600,
        unit=" MB",
    )


def bytes_above_input(n: int, d: int, m: int, k: int) -> int:
    """Peak of the resident memory during `transform` over what came before."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, d), dtype=np.float32)
    atoms = rng.standard_normal((m, d), dtype=np.float32)
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    icfl = with_atoms(ICFL(m, k), atoms)
    before, peak_before = _memory("VmRSS"), _memory("VmHWM")
    codes = icfl.transform(X)
    assert codes.shape == (n, m)
    peak = _memory("VmHWM")
    assert peak > peak_before, "the peak came before the encoding"
    return peak - before


def _memory(key: str) -> int:
    """Resident bytes of this process, now (VmRSS) or at most (VmHWM)."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss, which starts at the peak of the process that forked this one.
        return 1024 * int(re.search(rf"{key}:\s+(\d+) kB", status.read_text())[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


if __name__ == "__main__":
    main()
