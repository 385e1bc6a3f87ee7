"""What a search over k costs, against fitting the largest k once per fold.

Data: 20,000 rows with planted atoms (128 atoms in 64 dimensions, 5 active). There are
five values of k, three folds and a fixed number of epochs. The plain search fits every
value in every fold. The search with `Truncator` and `memory` (in a folder that is empty
at first) fits the largest value in every fold and truncates its codes.
"""

from __future__ import annotations

import tempfile

from _cases import planted
from _timing import Report, arguments, by_turns, ratio
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, KFold

from skdict import ICFL, Truncator

VALUES = [2, 4, 8, 16, 32]


def main() -> None:
    args = arguments(__doc__)
    n, d, m, max_iter = (600, 16, 64, 2) if args.quick else (20_000, 64, 512, 10)
    report = Report(f"GridSearchCV over {len(VALUES)} values of k, M={m}", args)

    X, _ = planted(n, d, m, 5)
    icfl = ICFL(m, max(VALUES), max_iter=max_iter, tol=None, random_state=0)
    folds = KFold(3)
    scores = {}

    def search(model) -> None:
        found = GridSearchCV(model, {"k": VALUES}, cv=folds, refit=False).fit(X)
        scores[type(model)] = found.cv_results_["mean_test_score"]

    def nested() -> None:
        with tempfile.TemporaryDirectory() as folder:
            search(Truncator(icfl, memory=folder))

    def largest_once() -> None:
        for train, _ in folds.split(X):
            clone(icfl).fit(X[train])

    seconds = by_turns(
        {
            "plain search": lambda: search(icfl),
            "nested search": nested,
            "largest k once per fold": largest_once,
        },
        args.repeats,
    )
    report.seconds(seconds)
    for k, plain, truncated in zip(
        VALUES, scores[ICFL], scores[Truncator], strict=True
    ):
        report.note(
            f"k={k}: explained variance {plain:.3f} trained for it, {truncated:.3f} "
            f"truncated from {max(VALUES)}"
        )
    once = seconds["largest k once per fold"]
    report.target(
        "nested search over the largest k once per fold",
        ratio(seconds["nested search"], once),
        at_most=1.6,
    )
    report.target("plain search over the same", ratio(seconds["plain search"], once))


if __name__ == "__main__":
    main()
