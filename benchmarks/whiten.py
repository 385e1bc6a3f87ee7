"""How fast ControlPCAWhitener fits and transforms, against scikit-learn's PCA.

Many controls: Gaussian rows in 1024 dimensions with a mean, and standard deviations
along random orthogonal axes that fall from 1 to 0.01; every row is a control. The
whitener accumulates in float64 for rows of any dtype, while PCA computes in their
dtype, so float32 rows favour PCA; float64 rows are timed, too. `transform` is compared
with the product of the rows with a whitening matrix of the same dtype.

Few controls in many dimensions: Gaussian rows, fewer than features, against PCA with
the full solver, which works in their span.
"""

from __future__ import annotations

import warnings
from functools import partial

import numpy as np
from _timing import Report, arguments, by_turns, ratio
from sklearn.decomposition import PCA

from skdict import ControlPCAWhitener


def make_rows(n: int, d: int, dtype: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    axes, _ = np.linalg.qr(rng.standard_normal((d, d)))
    axes = (np.geomspace(1, 0.01, d)[:, None] * axes).astype(dtype)
    X = rng.standard_normal((n, d), dtype=np.dtype(dtype)) @ axes
    X += rng.standard_normal(d, dtype=np.dtype(dtype))
    return X


def main() -> None:
    args = arguments(__doc__)
    n, d = (5000, 64) if args.quick else (200_000, 1024)
    report = Report(f"ControlPCAWhitener on {n} x {d} controls", args)
    for dtype in ("float32", "float64"):
        compare(make_rows(n, d, dtype), report)
    for n, d in [(10, 200)] if args.quick else [(60, 2000), (158, 6400)]:
        compare_few(n, d, report)


def compare_few(n: int, d: int, report: Report) -> None:
    X = np.random.default_rng(0).standard_normal((n, d))
    control = np.ones(n, dtype=bool)
    pca = PCA(svd_solver="full", whiten=True)
    whiteners = {
        "all axes": ControlPCAWhitener(),
        "zca": ControlPCAWhitener(method="zca"),
        "8 axes, shrinkage=0.3": ControlPCAWhitener(8, shrinkage=0.3),
        "8 axes, shrinkage='auto'": ControlPCAWhitener(8, shrinkage="auto"),
        "all axes, shrinkage=0.3": ControlPCAWhitener(shrinkage=0.3),
    }
    fits = {name: partial(w.fit, X, control=control) for name, w in whiteners.items()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*fewer than 2 per feature")
        seconds = by_turns({"PCA": lambda: pca.fit(X)} | fits, report.args.repeats)
    report.note(f"{n} controls of {d} features:")
    report.seconds(seconds)
    for name in whiteners:
        report.target(
            f"fit over PCA's, {n} x {d}, {name}", ratio(seconds[name], seconds["PCA"])
        )


def compare(X: np.ndarray, report: Report) -> None:
    control = np.ones(len(X), dtype=bool)
    whitener = ControlPCAWhitener()
    pca = PCA(svd_solver="covariance_eigh", whiten=True)
    seconds = by_turns(
        {
            "ControlPCAWhitener.fit": lambda: whitener.fit(X, control=control),
            "PCA.fit": lambda: pca.fit(X),
        },
        report.args.repeats,
    )
    matrix = whitener.components_.T / whitener.explained_variance_**0.5
    matrix = matrix.astype(X.dtype)
    seconds |= by_turns(
        {
            "ControlPCAWhitener.transform": lambda: whitener.transform(X),
            "PCA.transform": lambda: pca.transform(X),
            "one product": lambda: X @ matrix,
        },
        report.args.repeats,
    )
    report.note(f"{X.dtype}:")
    report.seconds(seconds)
    headline = X.dtype == np.float32
    report.target(
        f"fit over PCA's, {X.dtype}",
        ratio(seconds["ControlPCAWhitener.fit"], seconds["PCA.fit"]),
        at_most=None if headline else 1.1,
    )
    report.target(
        f"transform over one product, {X.dtype}",
        ratio(seconds["ControlPCAWhitener.transform"], seconds["one product"]),
        # The checks and the mean may take a quarter of the time.
        at_most=1.25 if headline else None,
    )


if __name__ == "__main__":
    main()
