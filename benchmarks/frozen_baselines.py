"""Does learning pay? Dictionaries beside their twins of which a part stays random.

For each dictionary, all baselines of ``baseline_dictionaries`` are compared with it,
among them its frozen decoder, soft-frozen decoder and frozen encoder. The data are
centred on the controls: tissue (spatial blocks held out) and, if asked for, elpv (half
of the images held out), both as in ``compare.py``, and the planted screen (wells held
out; the labels are the perturbations).

A row of the table is a measure; the columns are the differences to each baseline, with
a plus where the 95 % interval over the seeds is above zero and a minus where it is
below. The last column says whether all baselines are beaten.

Run: python benchmarks/frozen_baselines.py
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from typing import Any

import compare
import pandas as pd
from _cases import FAMILY
from _timing import machine
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from skdict import ControlCenterScaler
from skdict.datasets import make_planted_screen
from skdict.evaluation import (
    baseline_dictionaries,
    beats_baselines,
    compare_dictionaries,
)

MEASURES = ["cosine", "explained_variance", "average_selectivity", "probe_codes"]
# They take much longer than all others, and are far below them in compare.py.
LEFT_OUT = ("ICA", "MiniBatchDictionaryLearning")


def screen(args: argparse.Namespace) -> tuple:
    made = make_planted_screen(n_cells=2 if args.quick else 10, random_state=0)
    cells = made.metadata
    options = {
        "groups": cells["well"].to_numpy(),
        "batch": cells["plate"].to_numpy(),
        "control": cells["control"].to_numpy(),
        "cv": 3,
    }
    centring = ControlCenterScaler(with_scaling=False)
    preprocessing = {"centred": [centring, Normalizer()]}
    return made.data, cells["perturbation"].to_numpy(), options, preprocessing, 1


DATA = {**compare.DATA, "screen": screen}
# Atoms and k.
SIZES = {"screen": (96, 6)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", choices=DATA, nargs="+", default=["tissue"])
    parser.add_argument("--dictionaries", choices=FAMILY, nargs="+", default=[*FAMILY])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=float, default=1.0, help="of the default")
    parser.add_argument("--jobs", type=int, help="processes, each with one thread")
    parser.add_argument("--cache", help="folder in which to keep the tokens of elpv")
    parser.add_argument("--quick", action="store_true", help="tiny: does it run?")
    args = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    print("\n".join(machine()), flush=True)
    for data in args.data:
        X, y, options, preprocessing, epochs = DATA[data](args)
        n_components, k = (64, 4) if args.quick else SIZES.get(data, (640, 8))
        epochs *= 1 / 30 if args.quick else args.epochs

        def runs(
            dictionaries: dict[str, Any],
            X=X,
            y=y,
            options=options,
            steps=preprocessing["centred"],
        ) -> pd.DataFrame:
            return compare_dictionaries(
                {
                    name: make_pipeline(*map(clone, steps), one)
                    for name, one in dictionaries.items()
                },
                X,
                y,
                n_permutations=0,
                n_jobs=args.jobs,
                seeds=2 if args.quick else args.seeds,
                **options,
            )

        # Those that have nothing of the dictionary are the same for all of them.
        common = baseline_dictionaries(n_components, k)
        beside = runs({n: one for n, one in common.items() if n not in LEFT_OUT})
        for name in args.dictionaries:
            start = time.perf_counter()
            dictionary = FAMILY[name](n_components, k)
            dictionary.set_params(max_iter=math.ceil(epochs * dictionary.max_iter))
            twins = baseline_dictionaries(n_components, k, dictionary=dictionary)
            own = {n: one for n, one in twins.items() if n not in common}
            table = pd.concat([runs({name: dictionary} | own), beside])
            print(f"\n# {data}, {name}: {n_components} atoms, k = {k}")
            print(readable(beats_baselines(table, measures=MEASURES)))
            print(f"{time.perf_counter() - start:.0f} s", flush=True)


def readable(table: pd.DataFrame) -> str:
    signs = (table["low"] > 0).map({True: "+", False: ""})
    signs = signs.where(table["high"] >= 0, "-")
    cells = table.assign(cell=table["difference"].map("{:.3f}".format) + signs)
    wide = cells.pivot(index="measure", columns="baseline", values="cell")
    wide = wide[[*dict.fromkeys(table["baseline"])]]
    of_measures = table.groupby("measure")
    wide.insert(0, "mean", of_measures["mean"].first().round(3))
    wide["beats all"] = of_measures["beats_all"].first().map({True: "yes", False: "no"})
    return wide.loc[MEASURES].to_string()


if __name__ == "__main__":
    with config_context(enable_metadata_routing=True):
        main()
