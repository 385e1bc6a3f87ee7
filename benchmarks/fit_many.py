"""Many dictionaries from one reading: `fit_many` against one `fit` after the other.

Rows of float32 lie in a zarr store, compressed, larger than the working memory. `--k`
gives the grid. The seconds of each way are printed, and of a bare reading of the rows.
The files lie in the system's cache, so what reading costs is decompression;
`--megabytes` caps the bytes a second, as a disk or a network does.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import sklearn
import zarr

from skdict import ICFL, TopKSAE
from skdict.datasets import make_planted_dictionary
from skdict.decomposition import fit_many

CHUNK = 500


class Slow:
    """A store that gives no more than some bytes a second."""

    def __init__(self, array: zarr.Array, rate: float) -> None:
        self.array, self.rate = array, rate
        self.shape, self.dtype, self.chunks = array.shape, array.dtype, array.chunks

    def __getitem__(self, rows: slice) -> np.ndarray:
        began = time.perf_counter()
        part = self.array[rows]
        time.sleep(max(0.0, part.nbytes / self.rate - time.perf_counter() + began))
        return part


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--atoms", type=int, default=512)
    parser.add_argument("--k", type=int, nargs="+", default=[2, 4, 8, 16])
    parser.add_argument("--model", choices=["ICFL", "TopKSAE"], default="TopKSAE")
    parser.add_argument("--max-iter", type=int, default=2)
    parser.add_argument("--megabytes", type=float, default=None)
    args = parser.parse_args()
    model = {"ICFL": ICFL, "TopKSAE": TopKSAE}[args.model]
    X = make_planted_dictionary(args.rows, args.features, random_state=0).data

    def grid() -> list:
        same = {"max_iter": args.max_iter, "tol": None, "random_state": 0}
        return [model(args.atoms, k=k, **same) for k in args.k]

    with tempfile.TemporaryDirectory() as folder:
        store = zarr.create_array(
            store=Path(folder) / "rows.zarr",
            shape=X.shape,
            dtype=X.dtype,
            chunks=(CHUNK, args.features),
        )
        store[:] = X
        rows = Slow(store, args.megabytes * 1e6) if args.megabytes else store
        megabytes = X.nbytes // 2**20
        del X
        with sklearn.config_context(working_memory=megabytes):
            began = time.perf_counter()
            for start in range(0, args.rows, CHUNK):
                rows[start : start + CHUNK]
            print(f"reading once: {time.perf_counter() - began:.1f} s", flush=True)
            began = time.perf_counter()
            fit_many(grid(), rows, random_state=0)
            together = time.perf_counter() - began
            print(f"fit_many, {len(args.k)} fits: {together:.1f} s", flush=True)
            began = time.perf_counter()
            for estimator in grid():
                estimator.fit(rows)
            apart = time.perf_counter() - began
            print(
                f"one fit after the other: {apart:.1f} s; {apart / together:.2f} times"
            )


if __name__ == "__main__":
    main()
