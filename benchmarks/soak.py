"""A million rows several times over: do memory, threads or open files grow?

Rows of float16 in zarr, 64 wide, which do not fit into the working memory. In one
process, one after the other, each several times over all rows:

- `partial_fit` of slices of the store, as they come from a stream;
- one `fit` of the store, of as many epochs;
- `transform` in blocks, the codes written to a zarr store.

After each pass the script prints the resident memory, the threads and the open files
of the process, and at the end of each part how much they have grown since its third
pass, when caches and allocators are warm. Linux only, because the figures come from
`/proc`. Not part of `run`.
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import sklearn
import zarr

from skdict import ICFL
from skdict.io import write_codes

D = 64
CHUNK = 5000
SLICE = 20_000
_WARM_UP = 2  # passes


def write(path: Path, n_rows: int) -> zarr.Array:
    rng = np.random.default_rng(0)
    atoms = rng.standard_normal((128, D), dtype=np.float32)
    out = zarr.create_array(
        store=path, shape=(n_rows, D), chunks=(CHUNK, D), dtype="float16"
    )
    for start in range(0, n_rows, SLICE):
        n = min(SLICE, n_rows - start)
        rows = 0.1 * rng.standard_normal((n, D), dtype=np.float32)
        for _ in range(4):
            rows += atoms[rng.integers(0, len(atoms), n)]
        out[start : start + n] = rows.astype(np.float16)
    return zarr.open_array(path, mode="r")


class Figures:
    """Prints what the process holds after each pass, and what it has gained."""

    names = ("MB", "threads", "open files")

    def __init__(self) -> None:
        self.found: list[tuple[float, int, int]] = []
        self.start = time.perf_counter()

    def begin(self, part: str) -> None:
        print(part, flush=True)
        self.found = []

    def take(self, *_: object) -> None:
        gc.collect()
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6
        files = len(os.listdir("/proc/self/fd"))
        self.found.append((resident, threads(), files))
        print(
            f"  {len(self.found):3}  {resident:7.1f} MB  {threads():3} threads  "
            f"{files:3} open files  {time.perf_counter() - self.start:6.0f} s",
            flush=True,
        )

    def end(self) -> None:
        warm = min(_WARM_UP, len(self.found) - 1)
        first, last = np.array(self.found[warm]), np.array(self.found[-1])
        gained = [
            f"{gain:+.1f} {name}"
            for gain, name in zip(last - first, self.names, strict=True)
        ]
        print(f"  since pass {warm + 1}: {', '.join(gained)}", flush=True)


def threads() -> int:
    """Threads of the process, those of libraries too."""
    return len(os.listdir("/proc/self/task"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--working-memory", type=int, default=64, help="MiB")
    parts = ("stream", "fit", "codes")
    parser.add_argument("--part", nargs="+", choices=parts, default=parts)
    parser.add_argument("--quick", action="store_true", help="does it run at all?")
    args = parser.parse_args()
    if args.quick:
        args.rows, args.passes, args.working_memory = 60_000, 2, 4
    figures = Figures()
    new = ICFL(128, 4, atoms_per_step=2, tol=None, random_state=0)
    with (
        tempfile.TemporaryDirectory() as folder,
        sklearn.config_context(working_memory=args.working_memory),
    ):
        rows = write(Path(folder) / "rows.zarr", args.rows)
        print(f"{args.rows} rows x {D}, float16, {args.passes} passes over each part")

        if "stream" in args.part:
            figures.begin("partial_fit of a stream")
            stream = sklearn.clone(new).set_params(batch_size=4096)
            for _ in range(args.passes):
                for start in range(0, args.rows, SLICE):
                    stream.partial_fit(rows[start : start + SLICE])
                figures.take()
            figures.end()
        if "fit" in args.part:
            figures.begin("fit of stored rows")
            sklearn.clone(new).set_params(
                max_iter=args.passes, batch_size=4096, callbacks=[figures.take]
            ).fit(rows)
            figures.end()
        if "codes" in args.part:
            figures.begin("codes to disk")
            icfl = sklearn.clone(new).set_params(max_iter=1).fit(rows[:SLICE])
            for _ in range(args.passes):
                codes = icfl.transform(rows)
                write_codes(codes, Path(folder) / "codes.zarr", overwrite=True)
                figures.take()
            figures.end()
    left = [t.name for t in threading.enumerate() if t.name.startswith("skdict")]
    print(f"threads of skdict that are left: {left or 'none'}")


if __name__ == "__main__":
    main()
