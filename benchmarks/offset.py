"""Does the length of the mean over the spread of the rows predict dead features?

In 454 layers of published models it does (arXiv:2605.31518): autoencoders that do not
subtract the mean lose most latents where the mean is many times as long as the spread.
All dictionaries of skdict subtract it: the pre-bias starts at the mean, or is the mean.
The script moves planted rows away from zero by a multiple of their spread and prints
the fraction of dead features and the explained variance of held-out rows, as the
dictionaries are and with a pre-bias that is held at zero.

Run: python benchmarks/offset.py
"""

from __future__ import annotations

import argparse
import warnings
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split
from skorch.callbacks import Callback

from skdict import (
    ICFL,
    SAE,
    BatchTopKSAE,
    GatedSAE,
    JumpReLUSAE,
    MatryoshkaSAE,
    TopKSAE,
)
from skdict.datasets import make_planted_dictionary
from skdict.metrics import offset_ratio


class WithoutPreBias(Callback):
    """Holds the pre-bias at zero."""

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        net.module_.pre_bias.data.zero_()
        net.module_.pre_bias.requires_grad_(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="does it run at all?")
    args = parser.parse_args()
    n_samples = 1000 if args.quick else 8000
    kinds = [ICFL, TopKSAE, BatchTopKSAE, MatryoshkaSAE, JumpReLUSAE, GatedSAE, SAE]
    print(
        f"{n_samples} rows of 64, 256 atoms, k = 5; dead fraction, explained variance"
    )
    print(f"{'':16}{'ratio':>8}{'as it is':>28}{'without a pre-bias':>28}")
    for kind in kinds:
        for factor in (0, 3, 10, 30, 100):
            rows: dict[str, list[tuple[float, float]]] = {"as is": [], "without": []}
            for seed in range(1 if args.quick else args.seeds):
                X = make_planted_dictionary(
                    n_samples, 64, n_components=256, n_active=5, random_state=seed
                ).data
                X = X - X.mean(axis=0)
                away = np.random.default_rng(seed).standard_normal(64)
                away *= factor * np.sqrt((X**2).sum(1).mean()) / np.linalg.norm(away)
                train, test = train_test_split(
                    (X + away).astype(np.float32), random_state=seed
                )
                for name, callbacks in (("as is", []), ("without", [WithoutPreBias()])):
                    model = kind(
                        256,
                        5,
                        max_iter=2 if args.quick else 15,
                        batch_size=256,
                        callbacks=callbacks,
                        random_state=seed,
                    )
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        try:
                            model.fit(train)
                        except ValueError:  # training diverged
                            rows[name].append((np.nan, np.nan))
                            continue
                    rows[name].append((model.dead_features_.mean(), model.score(test)))
            cells = []
            for runs in rows.values():
                mean = np.mean(runs, axis=0)
                half = np.ptp(runs, axis=0) / 2
                cells.append(
                    f"{mean[0]:.2f} +- {half[0]:.2f}, {mean[1]:.2f} +- {half[1]:.2f}"
                )
            ratio = offset_ratio(train)
            print(
                f"{kind.__name__:16}{ratio:8.1f}" + "".join(f"{c:>28}" for c in cells),
                flush=True,
            )


if __name__ == "__main__":
    main()
