"""How many rows a step should have: the rule of ``batch_size="auto"`` beside others.

Run ``python benchmarks/batch_size.py`` (about ten minutes on one thread; the ground
truth needs ``sae-lens``, as in ``ground_truth.py``). Rules are "16th", a 16th of the
rows, at least 256 and at most 4096, which was the default of all dictionaries and is
still that of ICFL; "auto", what the dictionary has now; and numbers of rows, with
``--rules``. ``max_iter`` sets how many passes over the rows there are, and so how many
steps a rule leaves.

Columns, on rows not learned from: explained variance; what is found of the known
features (planted: the fraction of atoms matched with a cosine above 0.9; tissue: the
mean over classes of the best selectivity; ground truth: MCC); dead latents; steps; and
seconds of the processor. Mean over the seeds, and half of the range.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from _cases import FAMILY
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from skdict import ControlPCAWhitener
from skdict.datasets import load_tissue_tokens, make_planted_dictionary
from skdict.metrics import selectivity_scores


class Task(NamedTuple):
    """Rows of one seed, and how many atoms learn from them."""

    train: np.ndarray
    test: np.ndarray
    n_components: int
    k: int
    found: Callable


def planted(n: int, seed: int) -> Task:
    data = make_planted_dictionary(n + 5000, random_state=seed)

    def found(model) -> float:
        cosines = data.components @ model.components_.T
        return float((cosines.max(axis=1) > 0.9).mean())

    return Task(data.data[:n], data.data[n:], 128, 5, found)


def tissue(whitened: bool, seed: int) -> Task:
    data = load_tissue_tokens()
    y = data.target_names[data.target]
    # Blocks of 16 x 16 tokens; each seed holds another third of them out.
    held_out = (data.rows // 16 * 4 + data.columns // 16) % 3 == seed % 3
    control = data.data[~held_out & (y == "stroma")]
    first = ControlPCAWhitener() if whitened else StandardScaler(with_std=False)
    steps = make_pipeline(first.fit(control), Normalizer())
    test = steps.transform(data.data[held_out])

    def found(model) -> float:
        scores = selectivity_scores(model.transform(test), y[held_out])
        return float(np.nanmax(scores, axis=0).mean())

    return Task(steps.transform(data.data[~held_out]), test, 640, 8, found)


def ground_truth(n: int, seed: int) -> Task:
    from ground_truth import SIZES, make_data
    from scipy.optimize import linear_sum_assignment

    size = SIZES["scaled"]
    data = make_data(size, n, 20_000, seed, "cpu")

    def found(model) -> float:
        cosines = np.abs(model.components_ @ data.features.T)
        return float(cosines[linear_sum_assignment(-cosines)].mean())

    return Task(data.train.numpy(), data.test, size.latents, size.k, found)


DATA: dict[str, tuple[Callable[[int], Task], tuple[int, ...]]] = {
    "planted, 20,000 rows": (lambda seed: planted(20_000, seed), (3, 30)),
    "planted, 60,000 rows": (lambda seed: planted(60_000, seed), (3, 10)),
    "tissue, centred": (lambda seed: tissue(False, seed), (3, 100)),
    "tissue, whitened": (lambda seed: tissue(True, seed), (3, 100)),
    "ground truth, 50,000 rows": (lambda seed: ground_truth(50_000, seed), (3, 10)),
}


def rows_of(rule: str, model, n: int) -> int | str:
    """What the rule passes as ``batch_size``."""
    if rule != "16th":
        return rule if rule == "auto" else int(rule)
    n -= int((model.validation_fraction or 0) * n)
    return min(max(n // 16, 256), 4096)


def lines(args: argparse.Namespace) -> Iterator[str]:
    for name, (make, lengths) in DATA.items():
        if args.data and name.split(",")[0] not in args.data:
            continue
        tasks = [make(seed) for seed in range(args.seeds)]
        for model_name in args.models:
            for max_iter in lengths[:1] if args.short else lengths:
                for rule in args.rules:
                    runs = []
                    for seed, task in enumerate(tasks):
                        model = FAMILY[model_name](task.n_components, task.k)
                        rows = rows_of(rule, model, len(task.train))
                        model.set_params(
                            max_iter=max_iter, batch_size=rows, random_state=seed
                        )
                        start = time.process_time()
                        model.fit(task.train)
                        seconds = time.process_time() - start
                        dead = float(model.dead_features_.mean())
                        score = model.score(task.test)
                        found = task.found(model)
                        runs.append((score, found, dead, model.n_steps_, seconds))
                    low, high = np.min(runs, axis=0), np.max(runs, axis=0)
                    cells = [
                        f"{mean:.3f} +- {half:.3f}" if i < 3 else f"{mean:.4g}"
                        for i, (mean, half) in enumerate(
                            zip(np.mean(runs, axis=0), (high - low) / 2, strict=True)
                        )
                    ]
                    yield (
                        f"{name:26}{model_name:20}{max_iter:>9}{rule:>6}"
                        + "".join(f"{cell:>17}" for cell in cells[:3])
                        + "".join(f"{cell:>9}" for cell in cells[3:])
                    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rules", nargs="+", default=["16th", "auto"])
    parser.add_argument("--models", nargs="+", choices=FAMILY, default=["TopKSAE"])
    kinds = sorted({name.split(",")[0] for name in DATA})
    parser.add_argument("--data", nargs="+", choices=kinds)
    parser.add_argument("--short", action="store_true", help="the smaller max_iter")
    args = parser.parse_args()
    print(
        f"{'data':26}{'dictionary':20}{'max_iter':>9}{'rows':>6}"
        + "".join(f"{c:>17}" for c in ("explained var.", "found", "dead"))
        + "".join(f"{c:>9}" for c in ("steps", "seconds"))
    )
    for line in lines(args):
        print(line, flush=True)


if __name__ == "__main__":
    main()
