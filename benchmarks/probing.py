"""How long probes on few features, yields and supervised yardsticks take.

Data: 100,000 x 8192 codes in CSR, 32 non-zeros a row (`make_codes` of selectivity.py),
10 labels drawn at random, rows of 256 dimensions. `sparse_probing` has two folds and
all numbers of features by default; almost all of its time without permutations goes to
the probe on all features. Each call runs once in one process with one thread, whatever
`--repeats` says.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from _timing import Report, arguments, seconds_of
from selectivity import make_codes

from skdict.evaluation import compare_with_supervised, discovery_yield, sparse_probing


def main() -> None:
    args = arguments(__doc__)
    n, m, d = (1000, 256, 16) if args.quick else (100_000, 8192, 256)
    rng = np.random.default_rng(0)
    codes = make_codes(n, m, 32, rng)
    y, other = rng.integers(10, size=(2, n))
    atoms = rng.normal(size=(m, d))
    dictionary = SimpleNamespace(
        transform=lambda X: codes, inverse_transform=lambda given: given @ atoms
    )
    X = codes @ atoms
    calls = {
        "sparse_probing, no permutations": lambda: sparse_probing(
            codes, y, cv=2, n_permutations=0
        ),
        "sparse_probing, 5 permutations": lambda: sparse_probing(
            codes, y, cv=2, n_permutations=5, random_state=0
        ),
        "discovery_yield, 100 permutations": lambda: discovery_yield(
            codes, y, n_permutations=100, random_state=0
        ),
        "compare_with_supervised, 2 attributes": lambda: compare_with_supervised(
            {"dictionary": dictionary},
            X,
            {"y": y, "other": other},
            cv=2,
            random_state=0,
        ),
    }
    report = Report("Run time of probes, yields and yardsticks", args)
    for name, call in calls.items():
        report.target(f"{name}: {n} x {m} codes", seconds_of(call), unit=" s")


if __name__ == "__main__":
    main()
