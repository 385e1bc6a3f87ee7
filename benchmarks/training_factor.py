"""More active latents in training than in the codes, and random atoms at the start.

Run ``python benchmarks/training_factor.py`` (about a quarter of an hour on one thread).
Data and columns are those of ``batch_size.py``, with the dictionaries' own numbers of
epochs. On rows not learned from: explained variance, what is found of the known
features (planted: the fraction of atoms matched with a cosine above 0.9; tissue: the
mean over classes of the best selectivity), mean number of non-zeros; and dead latents.
Mean over the seeds, and half of the range. ``ground_truth.py`` has the same variants on
features that exclude each other and correlate.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from _cases import FAMILY
from batch_size import DATA

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *(("JumpReLUSAE", {"training_factor": factor}) for factor in (1, 1.5, 2)),
    *(
        (name, {"training_factor": factor})
        for name in ("TopKSAE", "BatchTopKSAE", "MatryoshkaSAE", "GatedSAE")
        for factor in (1, 1.5)
    ),
    *(("SAE", {"training_factor": factor}) for factor in (1, 1.4, 2)),
    *(
        (name, {"init": init})
        for name in ("SAE", "MatchingPursuitSAE")
        for init in ("samples", "random")
    ),
]
TASKS = ("planted, 20,000 rows", "tissue, centred", "tissue, whitened")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=FAMILY, help="dictionaries")
    parser.add_argument("--quick", action="store_true", help="two epochs, one seed")
    args = parser.parse_args()
    columns = ("explained var.", "found", "non-zeros", "dead")
    print(f"{'':56}" + "".join(f"{column:>17}" for column in columns))
    for task_name in TASKS:
        seeds = range(1 if args.quick else args.seeds)
        tasks = [DATA[task_name][0](seed) for seed in seeds]
        for name, params in VARIANTS:
            if args.only and name not in args.only:
                continue
            runs = []
            for seed, task in enumerate(tasks):
                model = FAMILY[name](task.n_components, task.k, random_state=seed)
                model.set_params(**params, **({"max_iter": 2} if args.quick else {}))
                codes = model.fit(task.train).transform(task.test)
                runs.append(
                    (
                        model.score(task.test),
                        task.found(model),
                        codes.nnz / codes.shape[0],
                        model.dead_features_.mean(),
                    )
                )
            ((key, value),) = params.items()
            print(f"{task_name:22}{f'{name}, {key}={value}':34}", end="")
            for values in zip(*runs, strict=True):
                cell = f"{np.mean(values):.3f} +- {np.ptp(values) / 2:.3f}"
                print(f"{cell:>17}", end="")
            print(flush=True)


if __name__ == "__main__":
    main()
