"""What is left of batch and label when features that follow the batch are taken out?

Codes of ICFL, TopKSAE and BatchTopKSAE, on the planted screen (batch: plate; labels:
the phenotype that a cell shows, and its perturbation, which is on half of the plates
only) and, with ``--elpv``, on solar cells (batch: the material; label: a defect). The
features, at most 40 % of all, are found in the training rows of each fold, inside the
classes, and judged on the others, beside random features that are used as often and as
strongly. Printed: balanced accuracies of linear probes on held-out rows, mean over the
folds and seeds.

Run: python benchmarks/suppression.py
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from skdict import (
    ICFL,
    BatchTopKSAE,
    ControlCenterScaler,
    ControlPCAWhitener,
    FeatureSuppressor,
    TopKSAE,
)
from skdict.concepts import suppression_report
from skdict.datasets import load_elpv_tokens, make_planted_screen
from skdict.metrics import make_linear_probe

KINDS = {kind.__name__: kind for kind in (ICFL, TopKSAE, BatchTopKSAE)}


def tables(args: argparse.Namespace, seed: int) -> Iterator[tuple[str, Any, dict, Any]]:
    """Rows, labels and metadata."""
    screen = make_planted_screen(n_cells=2 if args.quick else 10, random_state=seed)
    cells = screen.metadata
    labels = {
        "phenotype": np.where(
            screen.phenotype < 0, "none", np.char.mod("%d", screen.phenotype)
        ),
        "perturbation": cells["perturbation"].to_numpy(),
    }
    meta = {name: cells[name].to_numpy() for name in ("control", "plate", "well")}
    yield "planted screen", screen.data, labels, meta
    if args.elpv and seed == 0:
        elpv = load_elpv_tokens(memory=args.cache)
        rng = np.random.default_rng(0)
        some = np.sort(rng.choice(len(elpv.data), min(20_000, len(elpv.data)), False))
        meta = {"control": elpv.control, "plate": elpv.batch, "well": elpv.groups}
        meta = {name: np.asarray(values)[some] for name, values in meta.items()}
        labels = {"defect": np.where(meta["control"], "functional", "defective")}
        yield "elpv", elpv.data[some], labels, meta


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--elpv", action="store_true", help="solar cells as well")
    parser.add_argument("--cache", help="folder in which to keep the tokens of elpv")
    parser.add_argument("--quick", action="store_true", help="does it run at all?")
    args = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    parts = []
    for seed in range(1 if args.quick else args.seeds):
        for data, X, labels, meta in tables(args, seed):
            preparations = {
                "centred": [ControlCenterScaler()],
                "centred, whitened": [ControlCenterScaler(), ControlPCAWhitener()],
                "raw": [],
            }
            for how, steps in preparations.items():
                with config_context(enable_metadata_routing=True):
                    rows = X
                    if steps:
                        rows = make_pipeline(*steps, Normalizer()).fit_transform(
                            X, control=meta["control"], batch=meta["plate"]
                        )
                for name, kind in KINDS.items():
                    model = kind(96 if data == "planted screen" else 640, 6)
                    model.set_params(random_state=seed)
                    if args.quick:
                        model.set_params(max_iter=2)
                    codes = model.fit(rows).transform(rows)
                    for label, y in labels.items():
                        runs = suppression_report(
                            codes,
                            y,
                            batch=meta["plate"],
                            groups=meta["well"],
                            suppressor=FeatureSuppressor(max_features=0.4),
                            cv=2,
                            n_random=2,
                            probe=make_linear_probe(max_iter=200, tol=1e-2),
                            random_state=seed,
                        )
                        runs = runs.assign(data=data, rows=how, codes=name, label=label)
                        parts.append(runs)
    runs = pd.concat(parts)
    keys = ["data", "rows", "codes", "label"]
    measures = ["n_removed", "energy_removed", "probe_batch", "probe_y"]
    table = runs.groupby([*keys, "removed"], sort=False)[measures].mean()
    chance = runs.groupby(keys, sort=False)[["chance_batch", "chance_y"]].mean()
    pd.set_option("display.width", 200)
    print(table.round(3).to_string())
    print(f"\nchance\n{chance.round(3).to_string()}")


if __name__ == "__main__":
    main()
