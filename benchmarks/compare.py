"""ICFL, TopKSAE and the baselines on real tokens, over seeds and folds.

With ``--family``, all dictionaries of the package at the same k take their place; with
``--options``, the options of ICFL for purer atoms.

Two tables, each for rows centred on the controls and for rows whitened by them:

tissue
    4,096 tokens of one stained section, stroma as the reference. Spatial blocks of 16 x
    16 tokens are held out, about a third of the section in each of three folds; for the
    null, label maps are shifted inside blocks. Neighbouring blocks still touch.
elpv
    104,960 tokens of 2,624 images of solar cells. Controls are the tokens of the 1,508
    cells that an expert called functional without a doubt, batches are the two
    materials. Half of the images is held out, once; labels are permuted between images
    of one material. The label belongs to the image, and most tokens of a defective cell
    show intact silicon, so no probe of single tokens can come near 1.

Some settings save time and do not give the best figures: 640 atoms and k = 8 in 80
dimensions, MiniBatchDictionaryLearning with 2 epochs on tissue and 1 on elpv, and on
elpv a third of the default number of epochs of all dictionaries (ICFL 10, TopKSAE 34).
ICA ends after 500 iterations, converged or not.

After each table the script says where ICFL loses, from the differences between runs of
the same seed and fold.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from _cases import FAMILY
from _timing import machine
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GroupShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from skdict import ICFL, ControlCenterScaler, ControlPCAWhitener, TopKSAE
from skdict.evaluation import (
    baseline_dictionaries,
    compare_dictionaries,
    summary_table,
)

HIGHER_IS_BETTER = [
    "cosine",
    "explained_variance",
    "average_selectivity",
    "maximum_selectivity",
    "probe_codes",
    "probe_reconstruction",
]
LOWER_IS_BETTER = ["dead_fraction", "coherence", "fit_seconds", "encode_seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", choices=DATA, nargs="+", default=list(DATA))
    rivals = parser.add_mutually_exclusive_group()
    rivals.add_argument("--family", action="store_true", help="all dictionaries")
    rivals.add_argument("--options", action="store_true", help="options of ICFL")
    parser.add_argument("--only", nargs="+", help="names of dictionaries")
    parser.add_argument("--quick", action="store_true", help="tiny: does it run?")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, help="processes, each with one thread")
    parser.add_argument("--cache", help="folder in which to keep the tokens of elpv")
    parser.add_argument("--to", type=Path, help="folder for the tables as CSV")
    args = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)  # of ICA, see above
    print("\n".join(machine()), flush=True)
    pd.set_option("display.width", 200)
    for name in args.data:
        start = time.perf_counter()
        compare(name, args)
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)


def compare(name: str, args) -> None:
    X, y, options, preprocessing, epochs = DATA[name](args)
    n_components, k = (64, 4) if args.quick else (640, 8)
    make = family if args.family else options_of_icfl if args.options else baselines
    dictionaries = make(n_components, k, 1 / 30 if args.quick else epochs)
    chosen = args.only or dictionaries
    options |= {"n_jobs": args.jobs, "seeds": 2 if args.quick else args.seeds}
    for how, steps in preprocessing.items():
        print(f"\n# {name}, {how}: {len(X)} tokens, M={n_components}, k={k}")
        runs = compare_dictionaries(
            {n: make_pipeline(*steps, dictionaries[n]) for n in chosen},
            X,
            y,
            n_permutations=9 if args.quick else 99,
            **options,
        )
        table = summary_table(runs)
        print(readable(table))
        for line in losses(runs) if "ICFL" in chosen else ():
            print(line)
        print(flush=True)
        if args.to is not None:
            args.to.mkdir(parents=True, exist_ok=True)
            table.to_csv(args.to / f"{name}_{how}.csv", index=False)


def baselines(n_components: int, k: int, epochs: float) -> dict:
    """ICFL, TopKSAE and the baselines, with a fraction of their default epochs."""
    dictionaries = {
        "ICFL": ICFL(n_components, k),
        # Matching pursuit with a joint refit: what the peers' encoder does.
        "ICFL, refit": ICFL(n_components, k, atoms_per_step=1, refit=True),
        "TopKSAE": TopKSAE(n_components, k),
    }
    shorten(dictionaries, epochs)
    others = baseline_dictionaries(n_components, k)
    mini_batch = others.pop("MiniBatchDictionaryLearning")
    mini_batch.set_params(max_iter=2 if epochs == 1 else 1)
    return {**dictionaries, **others, "MiniBatchDL": mini_batch}


def family(n_components: int, k: int, epochs: float) -> dict:
    """All dictionaries of the package, with a fraction of their default epochs."""
    dictionaries = {
        "ICFL": ICFL(n_components, k),
        "ICFL, positive": ICFL(n_components, k, positive_code=True),
        **{
            name: kind(n_components, k=k)
            for name, kind in FAMILY.items()
            if name != "ICFL"
        },
    }
    shorten(dictionaries, epochs)
    return dictionaries


def options_of_icfl(n_components: int, k: int, epochs: float) -> dict:
    """ICFL with what is meant to keep atoms purer."""
    options: dict[str, dict] = {
        "ICFL": {},
        "positive": {"positive_code": True},
        "factor 2": {"training_factor": 2},
        "factor 2, positive": {"training_factor": 2, "positive_code": True},
        "all three": {"training_factor": 2, "positive_code": True, "refit": True},
    }
    dictionaries = {
        name: ICFL(n_components, k, **given) for name, given in options.items()
    }
    shorten(dictionaries, epochs)
    return dictionaries


def shorten(dictionaries: dict, epochs: float) -> None:
    for dictionary in dictionaries.values():
        dictionary.set_params(max_iter=math.ceil(epochs * dictionary.max_iter))


def tissue(args):
    from skdict.datasets import load_tissue_tokens

    data = load_tissue_tokens()
    blocks = data.rows // 16 * 4 + data.columns // 16
    # Block by block, each a grid of 16 x 16 tokens.
    order = np.argsort(blocks, kind="stable")
    y = data.target_names[data.target][order]
    options = {
        "groups": blocks[order],
        "grid_shape": (16, 16),
        "cv": 3,
        "control": y == "stroma",
    }
    centring = StandardScaler(with_std=False).set_fit_request(sample_weight="control")
    preprocessing = {
        "centred": [centring, Normalizer()],
        "whitened": [ControlPCAWhitener(), Normalizer()],
    }
    return data.data[order], y, options, preprocessing, 1


def elpv(args):
    from skdict.datasets import load_elpv_tokens

    data = load_elpv_tokens(memory=args.cache)
    rows = data.groups < 100 if args.quick else np.full(len(data.groups), True)
    options = {
        "groups": data.groups[rows],
        "batch": data.batch[rows],
        "control": data.control[rows],
        "cv": GroupShuffleSplit(1, test_size=0.5, random_state=0),
    }
    y = np.where(data.control, "functional", "defective")[rows]
    preprocessing = {
        "centred": [ControlCenterScaler(with_scaling=False), Normalizer()],
        "whitened": [
            ControlCenterScaler(with_scaling=False),
            ControlPCAWhitener(),
            Normalizer(),
        ],
    }
    return data.data[rows], y, options, preprocessing, 1 / 3


DATA = {"tissue": tissue, "elpv": elpv}


def readable(table: pd.DataFrame) -> str:
    """Measures down, dictionaries across: mean and standard deviation."""
    cells = table.assign(
        cell=[
            f"{row.mean:.3f} ± {row.std:.3f}" for row in table.itertuples(index=False)
        ]
    ).pivot(index="measure", columns="dictionary", values="cell")
    measures, dictionaries = table["measure"].unique(), table["dictionary"].unique()
    return cells.loc[measures, dictionaries].to_string()


def losses(runs: pd.DataFrame, ours: str = "ICFL") -> list[str]:
    """Where another dictionary is better, over runs of the same seed and fold."""
    measures = HIGHER_IS_BETTER + LOWER_IS_BETTER
    figures = runs.set_index(["dictionary", "seed", "fold"])[measures]
    theirs = figures.drop(ours, level="dictionary")
    mine = figures.loc[ours].loc[theirs.index.droplevel("dictionary")]
    mine.index = theirs.index
    gains = mine - theirs
    gains[LOWER_IS_BETTER] *= -1
    my_mean, their_mean = (f.groupby("dictionary").mean() for f in (mine, theirs))
    lines = []
    for gain in summary_table(gains.reset_index()).itertuples():
        if gain.mean >= 0:
            continue
        place = gain.dictionary, gain.measure
        lines.append(
            f"ICFL loses: {gain.measure} {my_mean.loc[place]:.3f}, {gain.dictionary} "
            f"{their_mean.loc[place]:.3f}"
            + (" (within the spread over runs)" if gain.high >= 0 else "")
        )
    return lines or ["ICFL loses nowhere"]


if __name__ == "__main__":
    from sklearn import set_config

    set_config(enable_metadata_routing=True)  # for set_fit_request
    main()
