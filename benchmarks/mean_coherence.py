"""Is the mean cosine of the atoms least at the right k?

Dictionaries are trained for each k on planted rows: with five independent atoms active
in each row, and on the cells of ``make_planted_screen``, in which about five are and
some occur together. Each has as many atoms as were planted, or half. Printed: the mean
absolute cosine of two atoms, mean over the seeds, and the k at which it is least.

Run: python benchmarks/mean_coherence.py
"""

from __future__ import annotations

import argparse

import numpy as np

from skdict import ICFL, BatchTopKSAE, JumpReLUSAE, TopKSAE
from skdict.datasets import make_planted_dictionary, make_planted_screen
from skdict.metrics import mean_coherence

KS = (1, 2, 3, 4, 5, 6, 8, 10, 14)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="does it run at all?")
    args = parser.parse_args()
    seeds = range(1 if args.quick else args.seeds)
    n = 500 if args.quick else 8000
    planted = {
        "independent": [
            make_planted_dictionary(
                n, 64, n_components=64, n_active=5, noise=0.2, random_state=seed
            )
            for seed in seeds
        ],
        "screen": [
            make_planted_screen(n_cells=1 if args.quick else 10, random_state=seed)
            for seed in seeds
        ],
    }
    for rows, screens in planted.items():
        active = screens[0].codes.nnz / len(screens[0].data)
        n_atoms = len(screens[0].components)
        print(f"\n{rows}: {n_atoms} atoms, {active:.1f} active in a row")
        print(f"{'':14}{'atoms':>7}" + "".join(f"{k:>8}" for k in KS) + "   least at")
        for kind in (ICFL, TopKSAE, BatchTopKSAE, JumpReLUSAE):
            for m in (n_atoms, n_atoms // 2):
                curve = np.mean(
                    [
                        [
                            mean_coherence(
                                kind(m, k, batch_size=256, random_state=seed)
                                .set_params(max_iter=2 if args.quick else 30)
                                .fit(screens[seed].data)
                                .components_
                            )
                            for k in KS
                        ]
                        for seed in seeds
                    ],
                    axis=0,
                )
                print(
                    f"{kind.__name__:14}{m:7}"
                    + "".join(f"{c:8.4f}" for c in curve)
                    + f"{KS[int(curve.argmin())]:>11}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
