"""How fast selectivity is counted, against one pass over the codes.

Data: 100,000 x 8192 codes in CSR, 100 non-zeros a row spread evenly over the columns,
1000 labels drawn at random. One pass reads every stored entry once and counts the
columns: ``codes.data.sum()`` and ``np.bincount(codes.indices)``. The table of scores
alone has 8.2 million entries, nearly as many as the codes.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from _timing import Report, arguments, by_turns, ratio, seconds_of

from skdict.metrics import (
    auroc_scores,
    selectivity_report,
    selectivity_scores,
    selectivity_tests,
)


def make_codes(n: int, m: int, per_row: int, rng: np.random.Generator) -> sp.csr_matrix:
    """One entry in each of ``per_row`` stretches of the columns: sorted, no repeats."""
    width = m // per_row
    columns = rng.integers(width, size=(n, per_row), dtype=np.int32)
    columns += np.arange(0, per_row * width, width, dtype=np.int32)
    values = rng.uniform(0.5, 1.5, size=n * per_row).astype(np.float32)
    indptr = np.arange(0, n * per_row + 1, per_row, dtype=np.int32)
    return sp.csr_matrix((values, columns.ravel(), indptr), shape=(n, m))


def main() -> None:
    args = arguments(__doc__)
    n, m, per_row, n_labels, n_permutations = 100_000, 8192, 100, 1000, 100
    if args.quick:
        n, m, per_row, n_labels, n_permutations = 2000, 512, 10, 20, 5
    report = Report(
        f"selectivity_scores on {n} x {m} CSR, {per_row} a row, {n_labels} labels", args
    )

    rng = np.random.default_rng(0)
    codes = make_codes(n, m, per_row, rng)
    y = rng.integers(n_labels, size=n)
    seconds = by_turns(
        {
            "selectivity_scores": lambda: selectivity_scores(codes, y),
            'selectivity_scores, contrast="maximum"': lambda: selectivity_scores(
                codes, y, contrast="maximum"
            ),
            "one pass": lambda: (
                codes.data.sum(),
                np.bincount(codes.indices, minlength=m),
            ),
        },
        args.repeats,
    )
    report.seconds(seconds)
    report.target(
        "time over one pass over the CSR",
        ratio(seconds["selectivity_scores"], seconds["one pass"]),
        at_most=5,
    )
    elapsed = seconds_of(
        lambda: selectivity_report(
            codes, y, n_permutations=n_permutations, random_state=0
        )
    )
    report.target(
        f"report with {n_permutations} permutations", elapsed, at_most=60, unit=" s"
    )
    batch = rng.integers(min(272, n_labels), size=n)
    others = {
        "selectivity_tests": lambda: selectivity_tests(codes, y),
        f"selectivity_tests in {batch.max() + 1} groups": lambda: selectivity_tests(
            codes, y, batch=batch
        ),
        "auroc_scores": lambda: auroc_scores(codes, y),
    }
    for name, function in others.items():
        report.target(name, seconds_of(function), unit=" s")


if __name__ == "__main__":
    main()
