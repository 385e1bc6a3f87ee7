"""What a search over k costs, against fitting the largest k once per fold.

Data: 20,000 rows with planted atoms (128 atoms in 64 dimensions, 5 active). Five
values of k, three folds, a fixed number of passes. The plain search fits every value
in every fold.
"""

from __future__ import annotations

from _cases import planted
from _timing import Report, arguments, by_turns, ratio
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, KFold

from skdict import ICFL

VALUES = [2, 4, 8, 16, 32]


def main() -> None:
    args = arguments(__doc__)
    n, d, m, max_iter = (600, 16, 64, 2) if args.quick else (20_000, 64, 512, 10)
    report = Report(f"GridSearchCV over {len(VALUES)} values of k, M={m}", args)

    X, _ = planted(n, d, m, 5)
    icfl = ICFL(m, max(VALUES), max_iter=max_iter, tol=None, random_state=0)
    folds = KFold(3)

    def plain() -> None:
        GridSearchCV(icfl, {"k": VALUES}, cv=folds, refit=False).fit(X)

    def largest_once() -> None:
        for train, _ in folds.split(X):
            clone(icfl).fit(X[train])

    seconds = by_turns(
        {"plain search": plain, "largest k once per fold": largest_once}, args.repeats
    )
    report.seconds(seconds)
    report.target(
        "plain search over the largest k once per fold",
        ratio(seconds["plain search"], seconds["largest k once per fold"]),
    )
    report.not_measured("nested search over the same", "not offered yet")


if __name__ == "__main__":
    main()
