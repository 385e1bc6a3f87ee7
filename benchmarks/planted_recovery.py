"""Are the planted atoms found again?

Run ``python benchmarks/planted_recovery.py`` (about five minutes on 2 cores). Data: 128
unit Gaussian atoms in 64 dimensions, 5 active per row with coefficients uniform in
[0.5, 1.5], 20,000 rows, noise of 10 % of the signal's standard deviation. The script
prints, for each method, the fraction of atoms that some component matches with a cosine
above 0.9, the explained variance and the seconds of the fit: mean, and range over five
seeds of data and method. All methods keep 5 non-zeros, some of them in the mean,
and have their defaults otherwise.
"""

import argparse
import time

import numpy as np
from sklearn.decomposition import MiniBatchDictionaryLearning

from skdict import (
    ICFL,
    KSVD,
    SAE,
    BatchTopKSAE,
    GatedSAE,
    JumpReLUSAE,
    MatchingPursuitSAE,
    TopKSAE,
)
from skdict.datasets import make_planted_dictionary
from skdict.metrics import explained_variance

METHODS = {
    "ICFL": lambda seed: ICFL(128, 5, random_state=seed),
    "ICFL, refit": lambda seed: ICFL(128, 5, refit=True, random_state=seed),
    "matching pursuit (one atom a step)": lambda seed: ICFL(
        128, 5, atoms_per_step=1, random_state=seed
    ),
    "MatchingPursuitSAE": lambda seed: MatchingPursuitSAE(128, 5, random_state=seed),
    "KSVD": lambda seed: KSVD(128, 5, random_state=seed),
    "TopKSAE": lambda seed: TopKSAE(128, 5, random_state=seed),
    "BatchTopKSAE": lambda seed: BatchTopKSAE(128, 5, random_state=seed),
    "JumpReLUSAE": lambda seed: JumpReLUSAE(128, 5, random_state=seed),
    "GatedSAE": lambda seed: GatedSAE(128, 5, random_state=seed),
    "SAE": lambda seed: SAE(128, 5, random_state=seed),
    "scikit-learn MiniBatchDictionaryLearning": lambda seed: (
        MiniBatchDictionaryLearning(
            128,
            fit_algorithm="lars",
            transform_algorithm="omp",
            transform_n_nonzero_coefs=5,
            max_iter=10,
            random_state=seed,
        )
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=METHODS, default=[*METHODS])
    args = parser.parse_args()
    print(f"{'method':42}{'recovered':>26}{'explained variance':>26}{'seconds':>8}")
    for name in args.only:
        make = METHODS[name]
        recovered, explained, seconds = [], [], []
        for seed in range(5):
            data = make_planted_dictionary(random_state=seed)
            model = make(seed)
            start = time.perf_counter()
            model.fit(data.data)
            seconds.append(time.perf_counter() - start)
            X_hat = model.inverse_transform(model.transform(data.data))
            explained.append(explained_variance(data.data, X_hat))
            learned = model.components_.T / np.linalg.norm(model.components_, axis=1)
            recovered.append(((data.components @ learned).max(axis=1) > 0.9).mean())
        print(f"{name:42}", end="")
        for values in (recovered, explained):
            low, mean, high = np.min(values), np.mean(values), np.max(values)
            print(f"{f'{mean:.3f} ({low:.3f} to {high:.3f})':>26}", end="")
        print(f"{np.mean(seconds):8.1f}", flush=True)


if __name__ == "__main__":
    main()
