"""How long every function of skdict.concepts takes on codes of a real size.

Data: 100,000 x 8192 codes in CSR, 32 non-zeros a row (`make_codes` of selectivity.py),
of which 40 features follow one of 8 batches; 10 classes drawn at random; rows of 384
features, which the codes decode to with noise. The heads are a logistic regression and
a network of 384, 64 and 10 units. Sobol indices get 200 rows, and `suppression_report`
two folds and one random set: 12 probes.

Each function runs once, whatever `--repeats` says. No other library has these
functions, so the figures have no comparison and no target.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import scipy.sparse as sp
import torch
from _timing import Report, arguments, seconds_of
from selectivity import make_codes
from sklearn.linear_model import LogisticRegression

from skdict import ICFL, FeatureSuppressor, concepts


def main() -> None:
    args = arguments(
        __doc__, only={"nargs": "+", "metavar": "NAME", "help": "of functions"}
    )
    sizes = {"n": 100_000, "m": 8192, "per_row": 32, "d": 384, "n_rows": 200}
    if args.quick:
        sizes = {"n": 1000, "m": 256, "per_row": 8, "d": 16, "n_rows": 10}
    report = Report("Run time of interventions and importances", args)
    to_time = cases(**sizes)
    timed = {name for name, *_ in to_time}
    for name in sorted({*concepts.__all__} - timed):
        report.not_measured(name, "no case in this file yet")
    for name, detail, call in to_time:
        if args.only and name not in args.only:
            continue
        report.target(f"{name}: {detail}", seconds_of(call), unit=" s")


def cases(
    *, n: int, m: int, per_row: int, d: int, n_rows: int
) -> list[tuple[str, str, Callable[[], object]]]:
    """Function, what it is given, and the call."""
    rng = np.random.default_rng(0)
    batch, y = rng.integers(8, size=n), rng.integers(10, size=n)
    own = batch * 5 + rng.integers(5, size=n)  # of the batch's five features
    marks = sp.csr_matrix(
        (np.ones(n, np.float32), (np.arange(n), own)), shape=(n, m)
    ).multiply((rng.random(n) < 0.5)[:, None])
    codes = sp.csr_matrix(make_codes(n, m, per_row, rng) + marks)
    dictionary = ICFL(m, per_row, max_iter=0, random_state=0)
    dictionary.fit(rng.normal(size=(m, d)).astype(np.float32))
    X = dictionary.inverse_transform(codes)
    X += rng.normal(scale=0.1, size=X.shape).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # five iterations are enough for a head
        head = LogisticRegression(max_iter=5).fit(X[:5000], y[:5000])
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Linear(d, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10)
    )
    features = np.arange(min(100, m // 2))
    ablated = concepts.ablate(codes, features)
    attributions = codes.multiply(rng.normal(size=(1, m))).tocsr()
    table = f"{n:,} x {m}"

    def case(name, detail, *given, **options):
        return name, detail, partial(getattr(concepts, name), *given, **options)

    explain = partial(case, "concept_importance")
    return [
        case("ablate", f"{table}, {len(features)} features", codes, features),
        case("steer", f"{table}, {len(features)} features", codes, features, 1.0),
        case("decode", table, dictionary, ablated),
        (
            "FeatureSuppressor",
            f"fit, {table}, 8 batches in 10 classes, 100 permutations",
            partial(FeatureSuppressor(random_state=0).fit, codes, y, batch=batch),
        ),
        case(
            "suppression_report",
            f"{table}, 2 folds, 12 probes",
            codes,
            y,
            batch=batch,
            cv=2,
            n_random=1,
            random_state=0,
        ),
        case(
            "steering_curve",
            f"{table}, 5 folds, 20 random sets",
            codes,
            y,
            1,
            control_label=0,
            random_state=0,
        ),
        explain(f"{table}, linear head", head, dictionary, codes, X),
        *(
            explain(
                f"{table}, network, {method}",
                network,
                dictionary,
                codes,
                X,
                method=method,
                n_random=0,
            )
            for method in ("occlusion", "gradient_input")
        ),
        explain(
            f"{n_rows} x {m}, network, sobol",
            network,
            dictionary,
            codes[:n_rows],
            X[:n_rows],
            method="sobol",
            n_random=0,
        ),
        case(
            "insertion_deletion",
            f"{table}, linear head, 11 points, 1 random order",
            head,
            dictionary,
            codes,
            X,
            attributions=attributions,
            n_random=1,
        ),
        case("fidelity", f"{table}, linear head", head, dictionary, codes, X, y),
        case("important_rows", table, attributions, 3),
        case("compare_probe_sets", f"{table}, 8 sets", attributions, batch),
        case(
            "learnability",
            f"{n:,} x {d}, 4 concepts and 10 classes, 2 folds",
            X,
            codes,
            y,
            features=[0, 1, 2, 3],
            cv=2,
        ),
    ]


if __name__ == "__main__":
    main()
