"""What rows cost on a laptop and on a cluster: a model, beside measured points.

The model counts bytes and floating-point operations of each stage, and divides them by
rates that are measured first, each by itself: matrix products in float32 and float64,
copying of memory, counting of entries by class, blocks that Dask hands out, labels
permuted and scores computed. The last two are the work of the client, which more
workers do not speed up. Then the stages run on
Dask arrays of several shapes, one block at a time on one core, and the table has the
measured seconds beside the predicted ones. Their ratio says how far the model can be
trusted. All are seconds of processor time, which other load on the machine changes
less than the time on the wall.

`--sizes` prints the predicted minutes of larger tables instead, for a number of cores
and a storage bandwidth:

    python benchmarks/cost_model.py
    python benchmarks/cost_model.py --sizes --cores 64 --storage 2e9
"""

from __future__ import annotations

import argparse
import operator
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import dask
import dask.array as da
import numpy as np
import scipy.sparse as sp
import torch
from sklearn import config_context
from threadpoolctl import threadpool_limits

from skdict import ICFL, ControlPCAWhitener
from skdict._utils.dask_blocks import reduce_blocks
from skdict.metrics import feature_density, selectivity_report
from skdict.stats import count_active, score_counts

OF_CLIENT = ("labels", "scores")
STEP = 5  # atoms that ICFL picks in a step by default


@dataclass(frozen=True)
class Work:
    """A table of rows, and what is done with it."""

    rows: float
    dims: int
    atoms: int
    k: int
    classes: int = 10
    permutations: int = 0
    blocks: float = 8
    row_bytes: int = 2  # of an entry of the stored rows: float16

    def stages(self) -> dict[str, dict[str, float]]:
        """For each stage, units of work of each kind."""
        n, d, p, k = self.rows, self.dims, self.atoms, self.k
        read = n * d * self.row_bytes
        picks = k * p * 4  # bytes of the Gram matrix that a row reads
        scores = self.classes * p * (1 + self.permutations)
        # As many permutations share a pass as a sixteenth of the working memory holds.
        label = np.min_scalar_type(self.classes).itemsize * n  # bytes of a permutation
        together = max(1, 2**26 // int(self.classes * p * 4 + label))
        passes = 1 + -(-self.permutations // together)
        largest = -(-k // STEP) * p * 4 * 2  # reading correlations, and writing them
        return {
            "moments": {"double": 2 * n * d * d, "storage": read},
            # Conversion, check, centring, product, offset and copy.
            "whiten": {"single": 2 * n * d * d, "copy": 42 * n * d, "storage": read},
            "encode": {
                "single": 2 * n * d * p,
                "copy": n * (picks + largest),
                "storage": read + n * k * 8,
            },
            # Active entries are found, which is as much work as to count them.
            "density": {
                "entries": 2 * n * k,
                "storage": n * k * 8,
                "blocks": self.blocks,
            },
            # The labels of every permutation travel to the workers.
            "report": {
                "entries": n * k * (passes + 1 + self.permutations),
                "storage": passes * n * k * 8 + label * self.permutations,
                "blocks": passes * self.blocks,
                "labels": n * self.permutations,
                "scores": scores,
            },
            # Whole groups exchange their labels: they are counted once.
            "report, groups": {
                "entries": 4 * n * k,
                "storage": 2 * n * k * 8,
                "blocks": 2 * self.blocks,
                "scores": scores,
            },
        }


# Rates


def per_second(units: float, function: Callable[[], object], repeats: int = 5) -> float:
    """Units a second; the median of some runs, after one that does not count."""
    function()
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        seconds.append(time.process_time() - start)
    return units / statistics.median(seconds)


def measure_rates() -> dict[str, float]:
    """Operations, bytes and entries a second on one core."""
    rng = np.random.default_rng(0)
    n, d = 2048, 768
    A = rng.standard_normal((n, d), dtype=np.float32)
    B = rng.standard_normal((d, n), dtype=np.float32)
    big = np.ones(2**24, np.float32)
    target = np.empty_like(big)
    codes = random_codes(20_000, 2048, 32)
    activity = sp.csr_array(
        (np.ones(codes.nnz, np.int8), codes.indices, codes.indptr), codes.shape
    )
    y = rng.integers(0, 10, 20_000)
    tiny = da.zeros((64, 1), chunks=(1, 1))
    counts, sizes = count_active(activity, y, 10), np.bincount(y)
    A64, B64 = A.astype(np.float64), B.astype(np.float64)
    return {
        "single": per_second(2 * n * n * d, lambda: A @ B),
        "double": per_second(2 * n * n * d, lambda: A64 @ B64),
        "copy": per_second(2 * big.nbytes, lambda: np.copyto(target, big)),
        "entries": per_second(codes.nnz, lambda: count_active(activity, y, 10)),
        "blocks": per_second(64, lambda: reduce_blocks(tiny, first, operator.add)),
        "labels": per_second(len(y), lambda: np.random.RandomState(0).permutation(y)),
        "scores": per_second(
            counts.size, lambda: score_counts(counts, sizes, "average")
        ),
    }


def first(rows: np.ndarray, start: int) -> float:
    return float(rows[0, 0])


def random_codes(n_rows: int, n_atoms: int, k: int) -> sp.csr_array:
    rng = np.random.default_rng(0)
    indices = rng.integers(0, n_atoms, (n_rows, k)).astype(np.int32)
    indices.sort(axis=1)
    codes = sp.csr_array(
        (
            np.ones(n_rows * k, np.float32),
            indices.ravel(),
            np.arange(0, n_rows * k + 1, k),
        ),
        (n_rows, n_atoms),
    )
    codes.sum_duplicates()
    return codes


def seconds(work: dict[str, float], rates: dict[str, float], cores: float = 1) -> float:
    """Time of a stage: arithmetic on all cores, but not before the rows are read."""
    busy = sum(
        units / rates[kind]
        for kind, units in work.items()
        if kind not in ("storage", *OF_CLIENT)
    )
    alone = sum(work.get(kind, 0) / rates[kind] for kind in OF_CLIENT)
    reading = work["storage"] / rates["storage"] if "storage" in rates else 0.0
    return max(busy / cores, reading) + alone


# Measured points


def measure(work: Work, n_blocks: int = 8) -> dict[str, float]:
    """Seconds of every stage on a Dask array in memory, block by block."""
    rng = np.random.default_rng(0)
    n = int(work.rows)
    X = rng.standard_normal((n, work.dims), dtype=np.float32)
    rows = da.from_array(X.astype(np.float16), chunks=(n // n_blocks, -1))
    y = rng.integers(0, work.classes, n)
    whitener, icfl = ControlPCAWhitener(), ICFL(work.atoms, k=work.k, random_state=0)
    found = {}

    def timed(name: str, function: Callable[[], object]) -> object:
        start = time.process_time()
        result = function()
        found[name] = time.process_time() - start
        return result

    with warnings.catch_warnings(), dask.config.set(scheduler="sync"):
        warnings.simplefilter("ignore")  # all rows are controls, and one epoch is few
        # Too little for the rows as a whole, so that the moments go block by block.
        with config_context(working_memory=rows.nbytes / 2**20):
            timed("moments", lambda: whitener.fit(rows, control=np.ones(n, bool)))
        white = whitener.transform(rows)
        timed("whiten", lambda: [block.compute() for block in white.blocks])
        icfl.set_params(max_iter=1, batch_size=512).fit(X[:2048])
        icfl.transform(X[:256])
        encoded = icfl.transform(rows)
        parts = timed("encode", lambda: [block.compute() for block in encoded.blocks])
        codes = da.concatenate(
            [
                da.from_delayed(dask.delayed(part), part.shape, meta=part[:0])
                for part in parts
            ]
        )
        timed("density", lambda: feature_density(codes))
        null = {"n_permutations": work.permutations, "random_state": 0}
        timed("report", lambda: selectivity_report(codes, y, **null))
        groups = np.arange(n) // 100
        timed(
            "report, groups",
            lambda: selectivity_report(codes, y[groups], groups=groups, **null),
        )
    return found


POINTS = [
    Work(20_000, 256, 1024, 20, permutations=10),
    Work(40_000, 256, 1024, 20, permutations=10),
    Work(20_000, 512, 1024, 20, permutations=10),
    Work(20_000, 512, 2048, 20, permutations=10),
    Work(20_000, 512, 2048, 40, permutations=10),
    Work(20_000, 1024, 4096, 40, permutations=10),
]
LARGE = {
    "1e6 profiles, 512": Work(1e6, 512, 2048, 32, 1000, 100, 100),
    "the paper: 4e7 tokens, 1664": Work(4e7, 1664, 8192, 100, 1000, 100, 4000),
    "1e9 cells, 384": Work(1e9, 384, 4096, 32, 1000, 100, 2e4),
    "1e10 tokens, 1664": Work(1e10, 1664, 8192, 100, 1000, 100, 1e6),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", action="store_true", help="predict large tables")
    parser.add_argument("--cores", type=float, default=2)
    parser.add_argument("--storage", type=float, default=1e9, help="bytes a second")
    parser.add_argument("--quick", action="store_true", help="the first shape only")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        run(given)


def run(given: argparse.Namespace) -> None:
    rates = measure_rates()
    units = {"single": "FLOP", "double": "FLOP", "copy": "bytes"}
    print(", ".join(f"{k}: {v:.3g} {units.get(k, k)}/s" for k, v in rates.items()))
    if given.sizes:
        for name, work in LARGE.items():
            print(f"\n{name}: rows {work.rows * work.dims * 2 / 1e9:,.0f} GB, ", end="")
            print(f"codes {work.rows * work.k * 8 / 1e9:,.0f} GB")
            for stage, parts in work.stages().items():
                taken = seconds(parts, rates | {"storage": given.storage}, given.cores)
                flop = parts.get("single", 0) + parts.get("double", 0)
                print(f"  {stage:14} {taken / 60:10,.2f} min  {flop:9.2g} FLOP", end="")
                print(f"  {parts['storage'] / 1e9:10,.0f} GB read and written")
        return
    print("\nrows    dims  atoms   k  stage           measured  predicted  ratio")
    for work in POINTS[:1] if given.quick else POINTS:
        predicted = work.stages()
        for stage, taken in measure(work).items():
            expected = seconds(predicted[stage], rates)
            print(
                f"{work.rows:6,.0f} {work.dims:5} {work.atoms:6} {work.k:3}  {stage:14}"
                f"  {taken:8.3f}  {expected:9.3f}  {taken / expected:5.2f}"
            )


if __name__ == "__main__":
    main()
