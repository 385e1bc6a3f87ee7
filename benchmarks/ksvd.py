"""KSVD beside the K-SVD of dictlearn: explained variance and time at equal epochs.

Data, orthogonal matching pursuit and k as in ``fit_to_target.py``. Both sides start
from the same rows as atoms and make the same number of epochs over all rows, by
approximate K-SVD and by MOD. dictlearn's exact K-SVD (a singular value decomposition
for each atom) is a third rival, of the approximate one. Everything else is each
library's default. The fits take turns; the explained variance is that of the rows that
were fitted, and may differ by rounding.
"""

from __future__ import annotations

import numpy as np
from _peers import MissingPeerError, dictlearn
from _timing import Report, arguments, by_turns, ratio
from fit_to_target import K, centred, explains, fit
from sklearn.datasets import load_digits

from skdict import KSVD
from skdict.datasets import load_tissue_tokens

# Our update, and the name of dictlearn's.
PAIRS = [("ksvd", "aksvd"), ("ksvd", "ksvd"), ("mod", "mod")]


def main() -> None:
    args = arguments(__doc__)
    report = Report(f"KSVD, k={K}", args)
    try:
        package = dictlearn()
    except MissingPeerError as error:
        report.not_measured("dictlearn over KSVD", str(error))
        return
    digits = centred(load_digits().data)
    if args.quick:
        compare("digits", digits[:300], 32, [2], package, report)
        return
    compare("digits", digits, 128, [5, 20], package, report)
    compare("tissue", centred(load_tissue_tokens().data), 320, [5, 20], package, report)


def compare(name, X: np.ndarray, m: int, numbers: list[int], package, report) -> None:
    start = X[np.random.default_rng(0).choice(len(X), m, replace=False)]
    start = start / np.linalg.norm(start, axis=1, keepdims=True)
    for epochs in numbers:
        for our_update, their_update in PAIRS:
            ours = KSVD(
                m,
                K,
                update=our_update,
                init=start,
                max_iter=epochs,
                tol=None,
                random_state=0,
            )
            theirs = package.DictionaryLearning(
                m,
                fit_algorithm=their_update,
                n_nonzero_coefs=K,
                dict_init=start,
                max_iter=epochs,
                random_state=0,
            )
            case = f"{their_update}, {name}, {epochs} epochs"
            functions = {
                f"dictlearn {case}": lambda theirs=theirs: fit(theirs, X),
                f"KSVD(update={our_update!r})": lambda ours=ours: fit(ours, X),
            }
            seconds = by_turns(functions, report.args.repeats, warm_up=False)
            report.seconds(seconds)
            report.target(
                f"dictlearn over KSVD, {case}", ratio(*seconds.values()), at_least=1
            )
            mine, other = explains(ours, X), explains(theirs, X)
            report.note(f"explained: KSVD {mine:.4f}, dictlearn {other:.4f}")
            report.target(
                f"explained by KSVD less by dictlearn, {case}",
                mine - other,
                at_least=-1e-3,
                unit="",
            )


if __name__ == "__main__":
    main()
