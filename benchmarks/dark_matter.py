"""How much of a dictionary's error is linear in the data, and what a refit gains.

The data are the tokens of a tissue image, raw and prepared as in the paper (whitened
with the stroma tokens as controls, rows of unit length). Dictionaries of 640 atoms with
8 non-zeros a token are fitted on the left half of the image and judged on the right
half; the linear map from a token to its error is tested on horizontal bands that it was
not fitted on. "refit" is the same ICFL with the codes solved again by least squares on
the support. The table has mean and standard deviation over seeds.

The second table has the agreement of the seeds with each other, beside random atoms
that are isotropic and random atoms with the mean and covariance of the real ones. Both
models start from rows of the data, and with 640 out of 2048 tokens two seeds partly
start from the same ones. The column "untrained" shows what that alone gives; in the
columns "random" the first atoms are uniform on the sphere instead.

Run: python benchmarks/dark_matter.py [--seeds 5]
"""

import argparse
from time import perf_counter

import pandas as pd
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer

from skdict import ICFL, ControlPCAWhitener, TopKSAE
from skdict.datasets import load_tissue_tokens
from skdict.metrics import decompose_error, stability_report

N_COMPONENTS = 640
K = 8
MODELS = {
    "ICFL": ICFL(N_COMPONENTS, K),
    "TopKSAE": TopKSAE(N_COMPONENTS, K),
    "untrained": ICFL(N_COMPONENTS, K, max_iter=0),
    "ICFL, random": ICFL(N_COMPONENTS, K, init="random"),
    "TopKSAE, random": TopKSAE(N_COMPONENTS, K, init="random"),
}
DECOMPOSED = ("ICFL", "TopKSAE")


def halves():
    """Train and test tokens by the name of their preparation."""
    data = load_tissue_tokens()
    left = data.columns < 32
    prepared = {
        "raw": FunctionTransformer(),
        "whitened": make_pipeline(
            ControlPCAWhitener(control_label="stroma"), Normalizer()
        ),
    }
    for name, steps in prepared.items():
        train = steps.fit_transform(
            data.data[left], data.target_names[data.target[left]]
        )
        yield name, train, steps.transform(data.data[~left])


def decompose(dictionary, X):
    """The report on rows that the fitted dictionary has not seen."""
    X_hat = dictionary.inverse_transform(dictionary.transform(X))
    X_refit = None
    if isinstance(dictionary, ICFL):
        codes = dictionary.set_params(refit=True).transform(X)
        X_refit = dictionary.inverse_transform(codes)
    return decompose_error(X, X_hat, X_refit=X_refit)


def spread(table, by):
    """Mean and standard deviation of the columns, as text."""
    groups = table.groupby(by, sort=False)
    mean, std = groups.mean(numeric_only=True), groups.std(numeric_only=True)
    return mean.map("{:.3f}".format) + " ± " + std.map("{:.3f}".format)


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    n_seeds = parser.parse_args().seeds
    start = perf_counter()
    errors, agreements = [], []
    for data, train, test in halves():
        for name, model in MODELS.items():
            atoms = []
            for seed in range(n_seeds):
                dictionary = clone(model).set_params(random_state=seed).fit(train)
                atoms.append(dictionary.components_)
                if name in DECOMPOSED:
                    report = decompose(dictionary, test)
                    errors.append(report.assign(data=data, model=name))
            report = stability_report(atoms, random_state=0).drop(columns=["a", "b"])
            agreements.append(report.assign(data=data, model=name))
    print(f"{n_seeds} seeds, {N_COMPONENTS} atoms, k = {K}, {len(test)} test tokens")
    with pd.option_context("display.width", None, "display.max_columns", None):
        by = ["data", "model", "reconstruction"]
        print(spread(pd.concat(errors), by).T.to_string())
        print()
        print(spread(pd.concat(agreements), ["data", "model"]).T.to_string())
    print(f"{perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
