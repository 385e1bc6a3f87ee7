"""Rows larger than memory: how much memory a fit takes, and how fast it is.

For each kind of source (memory map, zarr, zarr with shards, HDF5, Dask):

- `--part memory`: the whole Pipeline, from a table of float16 on disk to codes on
  disk. It is whitened on its controls, normalised, fitted (one epoch) and encoded. The
  largest resident memory above that after the imports; the wanted limit is 1.5 GB.
- `--part speed`: one epoch of `ICFL.fit`, rows a second, beside the same fit from
  memory, by turns in one process; the median of the ratios and their range, by the
  clock and by processor time. The files lie in the system's cache.
- `--part mixing`: explained variance and MCC with the planted atoms after a fit with
  buffers of several sizes, on rows that are mixed and on rows sorted by class, as a
  store of plates is; beside a full shuffle in memory.

The rows are planted, 512 wide, and sorted by class. `--rows 2000000` is the size of the
guide's figures; the files take 2 GB for each kind.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

SOURCES = ("memmap", "zarr", "zarr, shards", "hdf5", "dask")
D = 512
CHUNK = 2000


def write(folder: Path, n_rows: int, kind: str) -> None:
    """Write planted rows of float16, sorted by class, chunk by chunk."""
    import h5py
    import zarr

    rng = np.random.default_rng(0)
    atoms = rng.normal(size=(1024, D)).astype(np.float32)
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    shape, chunks = (n_rows, D), (CHUNK, D)
    if kind == "memmap":
        out = np.memmap(folder / "rows.raw", np.float16, "w+", shape=shape)
    elif kind == "hdf5":
        file = h5py.File(folder / "rows.h5", "w")
        out = file.create_dataset("X", shape, np.float16, chunks=chunks)
    else:
        shards = (10 * CHUNK, D) if kind == "zarr, shards" else None
        out = zarr.create_array(
            store=folder / "rows.zarr",
            shape=shape,
            dtype="float16",
            chunks=chunks,
            shards=shards,
        )
    step = 10 * CHUNK
    for start in range(0, n_rows, step):
        n = min(step, n_rows - start)
        # A class has atoms of its own, besides those that all have.
        own = 512 + 64 * (start * 8 // n_rows)
        chosen = rng.integers(0, 512, (n, 10))
        chosen[:, :3] = own + rng.integers(0, 64, (n, 3))
        rows = 0.05 * rng.standard_normal((n, D), dtype=np.float32)
        for j in range(chosen.shape[1]):
            rows += (
                rng.gamma(4, 0.25, (n, 1)).astype(np.float32) * (atoms[chosen[:, j]])
            )
        out[start : start + n] = rows.astype(np.float16)
    if kind == "memmap":
        out.flush()
    if kind == "hdf5":
        file.close()
    np.save(folder / "atoms.npy", atoms)


def open_rows(folder: Path, n_rows: int, kind: str):
    import dask.array as da
    import h5py
    import zarr

    if kind == "memmap":
        return np.memmap(folder / "rows.raw", np.float16, "r", shape=(n_rows, D))
    if kind == "hdf5":
        return h5py.File(folder / "rows.h5", "r")["X"]
    array = zarr.open_array(folder / "rows.zarr", mode="r")
    return da.from_array(array, chunks=(10 * CHUNK, D)) if kind == "dask" else array


class Resident(threading.Thread):
    """The largest resident memory of this process, in bytes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self.first = self.now()
        self.start()

    @staticmethod
    def now() -> int:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * 4096

    def run(self) -> None:
        while True:
            self.peak = max(self.peak, self.now())
            time.sleep(0.01)


def memory(folder: Path, n_rows: int, kind: str, working_memory: int) -> dict:
    """The whole Pipeline in this process."""
    import dask
    import dask.array as da
    import sklearn
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer

    from skdict import ICFL, ControlPCAWhitener, RowwiseTransformer
    from skdict.io import write_codes

    rows = open_rows(folder, n_rows, kind)
    if kind == "memmap":
        rows = da.from_array(rows, chunks=(10 * CHUNK, D))
    control = np.arange(n_rows) % 20 == 0
    resident = Resident()
    start = time.perf_counter()
    with sklearn.config_context(working_memory=working_memory):
        pipe = make_pipeline(
            ControlPCAWhitener(),
            RowwiseTransformer(Normalizer()),
            ICFL(2048, 32, max_iter=1, random_state=0),
        )
        pipe.fit(rows, controlpcawhitener__control=control)
        fitted = time.perf_counter() - start
        with dask.config.set(scheduler="threads", num_workers=2):
            codes = pipe.transform(rows)
            write_codes(codes, folder / f"codes-{kind}.zarr", overwrite=True)
    return {
        "peak": resident.peak - resident.first,
        "fit": fitted,
        "all": time.perf_counter() - start,
    }


def fits(
    folder: Path, n_rows: int, kind: str, working_memory: int, repeats: int
) -> dict[str, list[float]]:
    """One epoch from the source and one from memory, by turns."""
    import sklearn

    from skdict import ICFL

    rows = open_rows(folder, n_rows, kind)
    whole = np.asarray(rows[:]).astype(np.float32)
    # The first fit of a process imports a part of torch, and numba where it is there,
    # and its memory is new to it.
    ICFL(2048, 32, max_iter=1, batch_size=4096, random_state=0).fit(whole)
    tables = {"source": rows, "memory": whole}
    seconds: dict[str, list[float]] = {
        f"{name}{what}": [] for name in tables for what in ("", ", processor")
    }
    with sklearn.config_context(working_memory=working_memory):
        for i in range(repeats):
            for name in sorted(tables, reverse=i % 2 == 0):
                model = ICFL(2048, 32, max_iter=1, batch_size=4096, random_state=0)
                start, processor = time.perf_counter(), time.process_time()
                model.fit(tables[name])
                seconds[name].append(time.perf_counter() - start)
                seconds[f"{name}, processor"].append(time.process_time() - processor)
    return seconds


def run_apart(*arguments: object) -> dict:
    """Run a part of this script in a process of its own."""
    command = [sys.executable, __file__, "--worker", *map(str, arguments)]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(out.stdout.splitlines()[-1])


def mixing(folder: Path, n_rows: int, seeds: int) -> None:
    import sklearn
    from scipy.optimize import linear_sum_assignment

    from skdict import ICFL, TopKSAE

    sorted_rows = np.array(open_rows(folder, n_rows, "memmap"))
    atoms = np.load(folder / "atoms.npy")
    rng = np.random.default_rng(0)
    mixed = np.memmap(folder / "mixed.raw", np.float16, "w+", shape=sorted_rows.shape)
    mixed[:] = sorted_rows[rng.permutation(n_rows)]
    held_out = sorted_rows[rng.permutation(n_rows)[:20_000]].astype(np.float32)
    sources = {"mixed": mixed, "sorted": open_rows(folder, n_rows, "memmap")}
    table_bytes = sorted_rows.size * 4
    print(f"\n{n_rows} rows, three epochs: explained variance, MCC (range over seeds)")
    for kind in (ICFL, TopKSAE):
        for fraction in (1.0, 0.2, 0.05, 0.01):
            for order, rows in sources.items():
                if fraction == 1 and order == "sorted":
                    continue
                found = []
                for seed in range(seeds):
                    # A buffer is an eighth of the working memory.
                    limit = 8 * fraction * table_bytes / 2**20
                    limit = 1e6 if fraction == 1 else limit
                    with sklearn.config_context(working_memory=max(1, round(limit))):
                        # "auto" would make smaller batches from smaller buffers.
                        model = kind(
                            1024, 10, max_iter=3, batch_size=512, random_state=seed
                        )
                        model.fit(np.asarray(sorted_rows) if fraction == 1 else rows)
                    cosines = np.abs(model.components_ @ atoms.T)
                    pairs = linear_sum_assignment(-cosines)
                    found.append((model.score(held_out), cosines[pairs].mean()))
                means, spans = np.mean(found, axis=0), np.ptp(found, axis=0)
                name = "full shuffle" if fraction == 1 else f"{order}, {fraction:.0%}"
                print(
                    f"  {kind.__name__:8} {name:14}",
                    *(f"{m:.4f} ({s:.4f})" for m, s in zip(means, spans, strict=True)),
                    flush=True,
                )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--working-memory", type=int, default=512, help="MiB")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--part", choices=["memory", "speed", "mixing"], nargs="+", default=None
    )
    parser.add_argument("--only", nargs="+", choices=SOURCES, default=SOURCES)
    parser.add_argument("--quick", action="store_true", help="does it run at all?")
    parser.add_argument("--folder", help="keep the files here, for another run")
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.quick:
        args.rows, args.repeats, args.seeds, args.working_memory = 20_000, 1, 1, 16
    if args.worker:
        part, folder, kind, memory_limit = args.worker
        options = Path(folder), args.rows, kind, int(memory_limit)
        if part == "memory":
            print(json.dumps(memory(*options)))
        else:
            print(json.dumps(fits(*options, args.repeats)))
        return
    parts = args.part or ["memory", "speed", "mixing"]
    print(f"{args.rows} rows x {D}, float16; working_memory {args.working_memory} MiB")
    for kind in args.only if set(parts) & {"memory", "speed"} else ():
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(args.folder or temporary)
            write(folder, args.rows, kind)
            line = [f"{kind:14}"]
            common = (folder, kind, args.working_memory, "--rows", args.rows)
            if "memory" in parts:
                found = run_apart("memory", *common)
                line.append(
                    f"peak {found['peak'] / 1e9:.2f} GB, fit {found['fit']:.0f} s, "
                    f"with codes on disk {found['all']:.0f} s"
                )
            if "speed" in parts:
                run = run_apart("speed", *common, "--repeats", args.repeats)
                rate = args.rows / np.median(run["source"])
                line.append(f"{rate:,.0f} rows/s")
                for what in ("", ", processor"):
                    ratios = np.divide(run[f"memory{what}"], run[f"source{what}"])
                    line.append(
                        f"{np.median(ratios):.2f} of memory's ({min(ratios):.2f} to "
                        f"{max(ratios):.2f}){what}"
                    )
            print("; ".join(line), flush=True)
    if "mixing" in parts:
        with tempfile.TemporaryDirectory() as temporary:
            write(Path(temporary), args.rows, "memmap")
            mixing(Path(temporary), args.rows, args.seeds)


if __name__ == "__main__":
    main()
