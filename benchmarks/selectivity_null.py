"""Is the permutation null of selectivity right after whitening with the controls?

The data are pure noise: 600 samples of 48 dimensions. Some are controls, the others
belong to treated classes drawn at random, so that no class differs from another. For
each way of whitening and scoring the table has the fraction of the treated classes with
p <= 0.05 in `selectivity_report`, where 5 % are expected, with its standard error over
the draws.

There are three kinds of codes. "rectified" is max(projection - 1.5, 0) on 96 random
directions, without a dictionary. "ICFL" and "TopKSAE" are trained on the rows that
fitted the whitening, after normalisation of the rows.

Run: python benchmarks/selectivity_null.py
"""

import argparse
import warnings

import numpy as np
from sklearn.preprocessing import normalize

from skdict import ICFL, ControlPCAWhitener, TopKSAE
from skdict.metrics import selectivity_report

N_SAMPLES, N_FEATURES, N_COMPONENTS, N_CLASSES = 600, 48, 96, 4
WAYS = {
    "same rows": "the rows that fitted the whitening are scored",
    "same rows, control=": "the same, and control= keeps the controls' labels apart",
    "all rows": "whitened with all rows instead of the controls",
    "other controls": "whitened with controls that are not scored",
    "held-out rows": "whitening and dictionary from rows that are not scored",
}


def rectified(Z, Z_all, seed):
    """Codes without a dictionary: projections beyond a threshold."""
    directions = np.random.default_rng(seed).normal(size=(N_COMPONENTS, N_FEATURES))
    return np.maximum(Z_all @ normalize(directions).T - 1.5, 0)


def dictionary(estimator):
    """Codes of a dictionary trained on rows of unit length."""

    def encode(Z, Z_all, seed):
        estimator.set_params(random_state=seed)
        return estimator.fit(normalize(Z)).transform(normalize(Z_all))

    return encode


CODES = {
    "rectified": rectified,
    "ICFL": dictionary(ICFL(N_COMPONENTS, 10, max_iter=5, device="cpu")),
    "TopKSAE": dictionary(TopKSAE(N_COMPONENTS, 10, max_iter=5, device="cpu")),
}


def fraction_below(way, encode, n_controls, seed):
    """Fraction of the treated classes with a p-value of at most 0.05."""
    rng = np.random.default_rng(seed)
    # The first half fits, the second half is held out.
    X = rng.normal(size=(2 * N_SAMPLES, N_FEATURES))
    treated = rng.integers(N_CLASSES, size=2 * N_SAMPLES)
    control = np.arange(2 * N_SAMPLES) % N_SAMPLES < n_controls
    y = np.where(control, -1, treated)
    fit = np.arange(2 * N_SAMPLES) < N_SAMPLES

    whitener = ControlPCAWhitener().fit(
        X[fit], control=control[fit] if way != "all rows" else np.ones(N_SAMPLES, bool)
    )
    Z = whitener.transform(X)
    codes = encode(Z[fit], Z, seed)
    scored = {"held-out rows": ~fit, "other controls": fit ^ control}.get(way, fit)
    report = selectivity_report(
        codes[scored],
        y[scored],
        n_permutations=99,
        control=control[scored] if way.endswith("control=") else None,
        random_state=seed,
    )
    return (report["p_value"][1:] <= 0.05).mean()


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--controls", type=int, nargs="+", default=[168, 72])
    parser.add_argument("--codes", nargs="+", choices=CODES, default=[*CODES])
    args = parser.parse_args()
    print("\n".join(f"{way:20} {text}" for way, text in WAYS.items()))
    print(f"{args.draws} draws of {N_CLASSES} classes")
    print(f"{'controls':>8}  {'codes':10}" + "".join(f"{way:>21}" for way in WAYS))
    # The warnings are of few controls and few epochs, which are meant here.
    warnings.simplefilter("ignore")
    for n_controls in args.controls:
        for name in args.codes:
            print(f"{n_controls:>8}  {name:10}", end="")
            for way in WAYS:
                fractions = [
                    fraction_below(way, CODES[name], n_controls, seed)
                    for seed in range(args.draws)
                ]
                error = np.std(fractions) / np.sqrt(len(fractions))
                print(f"{np.mean(fractions):>13.1%} ± {error:4.1%}", end="", flush=True)
            print()


if __name__ == "__main__":
    main()
