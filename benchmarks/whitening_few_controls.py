"""Whitening with few controls: how large do rows become that are not controls?

The tokens of a tissue image have 80 dimensions. A few stroma tokens, drawn at random,
are the controls. For each whitening the script prints the largest standard deviation of
any component over held-out rows, as a range over draws. "same class": all other stroma
tokens, for which it should be near 1. "all": every token that is not a control. PCA is
scikit-learn's with whiten=True. It bounds variances below by the machine epsilon, hence
the two dtypes.

Run: python benchmarks/whitening_few_controls.py
"""

import warnings

import numpy as np
from sklearn.decomposition import PCA

from skdict import ControlPCAWhitener
from skdict.datasets import load_tissue_tokens

N_CONTROLS = (40, 100, 200)
N_DRAWS = 10
METHODS = {
    "default": ControlPCAWhitener(),
    "shrinkage='auto'": ControlPCAWhitener(shrinkage="auto"),
    "PCA, float32": PCA(whiten=True, svd_solver="full"),
    "PCA, float64": PCA(whiten=True, svd_solver="full"),
}


def spread(whitener, controls, held_out):
    """Largest standard deviation of a component over held-out rows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        if isinstance(whitener, ControlPCAWhitener):
            whitener.fit(controls, control=np.ones(len(controls), dtype=bool))
        else:
            whitener.fit(controls)
    return [whitener.transform(X).std(axis=0).max() for X in held_out]


def main():
    """Print the table."""
    data = load_tissue_tokens()
    reference = np.flatnonzero(data.target_names[data.target] == "stroma")
    n_features = data.data.shape[1]
    print(f"{len(data.data)} tokens of {n_features} dimensions, {N_DRAWS} draws")
    print(f"{'controls':>8}  {'whitening':<17}{'same class':>24}{'all':>24}")
    for n_controls in N_CONTROLS:
        for name, whitener in METHODS.items():
            spreads = []
            for seed in range(N_DRAWS):
                rows = np.random.default_rng(seed).choice(
                    reference, n_controls, replace=False
                )
                others = np.setdiff1d(np.arange(len(data.data)), rows)
                same = np.setdiff1d(reference, rows)
                X = data.data.astype("float64" if "64" in name else "float32")
                spreads.append(spread(whitener, X[rows], [X[same], X[others]]))
            low, high = np.min(spreads, axis=0), np.max(spreads, axis=0)
            cells = [f"{a:.3g} to {b:.3g}" for a, b in zip(low, high, strict=True)]
            print(f"{n_controls:>8}  {name:<17}{cells[0]:>24}{cells[1]:>24}")


if __name__ == "__main__":
    main()
