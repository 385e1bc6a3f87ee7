"""How much each default of ICFL and TopKSAE matters: one parameter at a time.

Run ``python benchmarks/sensitivity.py`` (about twenty minutes on 2 cores; ``--seeds 1``
for a first look, ``--only max_iter`` for one parameter). For each data set and each
value of each parameter, the script prints the held-out explained variance (mean and
standard deviation over seeds), the fraction of features that are dead on the training
rows and the seconds of the fit. A star marks the default.

The data sets are

- the tissue tokens, whitened on the reference class, and only centred (left half
  trains, right half tests);
- scikit-learn's digits as they are (the last 597 test);
- the digits whitened and normalised (40 % drawn at random test, 384 atoms, k = 8);
- data with planted atoms, for which the fraction of recovered atoms (cosine above 0.9)
  is printed, too.
"""

import argparse
import statistics
import time
from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from skdict import ICFL, ControlPCAWhitener, TopKSAE
from skdict.datasets import load_tissue_tokens, make_planted_dictionary


class Task(NamedTuple):
    train: np.ndarray
    test: np.ndarray
    n_components: int | None = None
    k: int | None = None
    atoms: np.ndarray | None = None


def tasks() -> dict[str, Task]:
    tissue = load_tissue_tokens()
    left = tissue.columns < 32
    X, y = tissue.data[left], tissue.target_names[tissue.target[left]]
    whiten = make_pipeline(ControlPCAWhitener(control_label="stroma"), Normalizer())
    centre = make_pipeline(StandardScaler(with_std=False), Normalizer())
    digits = load_digits().data.astype(np.float32)
    drawn = np.random.default_rng(0).permutation(len(digits))
    train, test = digits[drawn[:1078]], digits[drawn[1078:]]
    whiten_all = make_pipeline(PCA(whiten=True, n_components=0.999), Normalizer())
    planted = make_planted_dictionary(25_000, random_state=0)
    return {
        "tissue, whitened": Task(
            whiten.fit(X, y).transform(X), whiten.transform(tissue.data[~left])
        ),
        "tissue, centred": Task(
            centre.fit(X).transform(X), centre.transform(tissue.data[~left])
        ),
        "digits": Task(digits[:1200], digits[1200:]),
        "digits, whitened": Task(
            whiten_all.fit(train).transform(train), whiten_all.transform(test), 384, 8
        ),
        "planted atoms": Task(
            planted.data[:20_000], planted.data[20_000:], 128, 5, planted.components
        ),
    }


VARIATIONS = {
    ICFL: {
        "learning_rate": [0.1, 0.3, 0.5, 1.0],
        "max_iter": [10, 30, 100, 300],
        "batch_size": [64, "auto", 1024],
        "init": ["random", "samples"],
        "atoms_per_step": [1, 2, 5, 10],
        "reset_every": [25, 100, 10**9],
        "selection": ["positive", "absolute"],
        "refit": [False, True],
    },
    TopKSAE: {
        "learning_rate": [1e-3, 3e-3, 1e-2, 3e-2],
        "max_iter": [10, 30, 100, 300],
        "validation_fraction": [None, 0.1, 0.2],
        "batch_size": [64, "auto", 1024],
        "init": ["random", "samples"],
        "auxiliary_weight": [0, 1 / 32, 1 / 4],
        "dead_after": [0.25, 1.0, 5.0],
    },
}


def measure(estimator, task: Task, seeds: int) -> str:
    columns = {"explained variance": [], "dead": [], "seconds": []}
    if task.atoms is not None:
        columns["recovered"] = []
    for seed in range(seeds):
        start = time.perf_counter()
        estimator.set_params(random_state=seed).fit(task.train)
        columns["seconds"].append(time.perf_counter() - start)
        columns["explained variance"].append(estimator.score(task.test))
        columns["dead"].append(estimator.dead_features_.mean())
        if task.atoms is not None:
            best = (task.atoms @ estimator.components_.T).max(1)
            columns["recovered"].append((best > 0.9).mean())
    return "  ".join(
        f"{name} {statistics.mean(values):.3f} ± {statistics.pstdev(values):.3f}"
        for name, values in columns.items()
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", help="these parameters")
    arguments = parser.parse_args()
    for name, task in tasks().items():
        for model, variations in VARIATIONS.items():
            for parameter, values in variations.items():
                if arguments.only and parameter not in arguments.only:
                    continue
                print(f"\n{name}: {model.__name__}, {parameter}", flush=True)
                for value in values:
                    estimator = model(task.n_components, task.k)
                    star = "*" if estimator.get_params()[parameter] == value else " "
                    estimator.set_params(**{parameter: value})
                    label = f"{value:.4g}" if isinstance(value, float) else value
                    figures = measure(estimator, task, arguments.seeds)
                    print(f"{star} {label!s:>10}  {figures}", flush=True)


if __name__ == "__main__":
    main()
