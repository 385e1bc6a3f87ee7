"""How many planted phenotypes each dictionary finds in a screen, and at what price.

The cells come from ``make_planted_screen``: plates and plate edges leave marks,
perturbations are on half of the plates only, some do nothing, some phenotypes show in
few cells. Each dictionary learns after each preparation:

- none: the rows as they are;
- centred: by the controls of each plate (``ControlCenterScaler``);
- whitened: by all controls (``ControlPCAWhitener``);
- both: centred, then whitened;
- both, suppressed: and features that follow the plate inside the perturbations are
  taken out of the codes (``FeatureSuppressor``).

Then ``selectivity_tests`` looks for pairs of feature and perturbation, wells exchanged
as a whole inside plates, controls apart, at a false discovery rate of 5 %. A feature
stands for the planted atom with whose coefficients its own correlate most. A discovery
is right if that atom is the phenotype of the perturbation. Columns, mean and half of
the range over the seeds:

- found: phenotypes with at least one right discovery; rare: those of the rare ones;
- false: fraction of the discovered features that are right for none of their
  perturbations, most of which stand for a state of the cells and hold some of a
  phenotype as well; of plate: fraction that stands for a plate or the edge;
- of nothing: of the pairs with a perturbation, the fraction whose perturbation does
  nothing. It is no error of the tests: such cells differ from the others by what they
  lack, and with k atoms a row another atom takes the place of the phenotype's;
- plate features: fraction of all features in use that stand for a plate or the edge;
- related: of the pairs of perturbations with the same phenotype, the fraction among the
  5 % most similar pairs by mean code (0.05 by chance).

Run: python benchmarks/planted_screen.py
"""

from __future__ import annotations

import argparse
import itertools
import time
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from _cases import FAMILY
from sklearn.decomposition import PCA
from sklearn.utils import Bunch

from skdict import (
    ICFL,
    ControlCenterScaler,
    ControlPCAWhitener,
    MatchingPursuitSAE,
    Truncator,
)
from skdict.concepts import FeatureSuppressor
from skdict.datasets import make_planted_screen
from skdict.evaluation import aggregate, relationship_recall
from skdict.metrics import association_scores, selectivity_tests

DICTIONARIES = {
    "ICFL": ICFL,
    "ICFL, distance 0": lambda *a, **p: ICFL(*a, span_distance=0, **p),
    "ICFL, one atom a step": lambda *a, **p: ICFL(*a, atoms_per_step=1, **p),
    "ICFL, factor 2, positive": lambda *a, **p: ICFL(
        *a, training_factor=2, positive_code=True, **p
    ),
    **{name: kind for name, kind in FAMILY.items() if name != "ICFL"},
    "MatchingPursuitSAE, samples": lambda *a, **p: MatchingPursuitSAE(
        *a, init="samples", **p
    ),
    "random atoms": lambda *a, **p: ICFL(*a, init="random", max_iter=0, **p),
    "PCA": lambda m, k, random_state: Truncator(PCA(random_state=random_state), k),
}
PREPARATIONS = ("none", "centred", "whitened", "both", "both, suppressed")
COLUMNS = (
    "found",
    "rare",
    "false",
    "of plate",
    "of nothing",
    "plate features",
    "related",
    "seconds",
)


def prepare(screen: Bunch, name: str) -> np.ndarray:
    """Rows as the dictionary gets them."""
    control, plate = screen.metadata["control"], screen.metadata["plate"]
    X = screen.data
    if name in ("centred", "both"):
        X = ControlCenterScaler().fit_transform(X, control=control, batch=plate)
    if name in ("whitened", "both"):
        X = ControlPCAWhitener().fit_transform(X, control=control)
    return X


def judge(codes: sp.csr_matrix, screen: Bunch) -> dict[str, float]:
    """Compare what is discovered with what was planted."""
    cells = screen.metadata
    related = association_scores(codes, screen.codes.toarray())
    stands_for = np.abs(related).argmax(axis=1)
    kind = screen.kinds[stands_for]
    pairs = selectivity_tests(
        codes,
        cells["perturbation"],
        batch=cells["plate"],
        groups=cells["well"],
        control=cells["control"],
        alpha=0.05,
    )
    pairs = pairs[pairs["class"] != "control"]
    table = screen.perturbations.set_index("perturbation")["phenotype"]
    wanted = table[pairs["class"]].to_numpy()
    feature = pairs["feature"].to_numpy()
    right = (wanted >= 0) & (stands_for[feature] == wanted)
    discovered = np.unique(feature)
    false = np.setdiff1d(discovered, feature[right])
    found = np.unique(wanted[right])
    rare = np.unique(
        screen.perturbations.loc[screen.perturbations["rare"], "phenotype"]
    )
    used = np.flatnonzero(np.diff(codes.tocsc().indptr))
    marks = np.isin(kind, ["plate", "edge"])
    treated = ~cells["control"].to_numpy()
    profiles = aggregate(codes[treated], cells["perturbation"][treated])
    recall = relationship_recall(
        profiles.X, profiles.metadata["groups"], screen.pairs, n_permutations=0
    )
    return {
        "found": len(found),
        "rare": int(np.isin(rare, found).sum()),
        "false": len(false) / max(len(discovered), 1),
        "of plate": marks[discovered].mean() if len(discovered) else 0.0,
        "of nothing": float((wanted < 0).mean()) if len(wanted) else 0.0,
        "plate features": marks[used].mean() if len(used) else 0.0,
        "related": recall["recall_high"].iloc[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--atoms", type=int, default=96)
    parser.add_argument("--k", type=int, default=6)
    parser.add_argument("--only", nargs="+", help="names of dictionaries")
    parser.add_argument("--quick", action="store_true", help="does it run at all?")
    args = parser.parse_args()
    runs: list[dict[str, Any]] = []
    for seed in range(1 if args.quick else args.seeds):
        screen = make_planted_screen(n_cells=2 if args.quick else 10, random_state=seed)
        plate = screen.metadata["plate"]
        for preparation in PREPARATIONS:
            if preparation == "both, suppressed":
                continue
            X = prepare(screen, preparation)
            for name, make in DICTIONARIES.items():
                if args.only and name not in args.only:
                    continue
                start = time.perf_counter()
                model = make(args.atoms, args.k, random_state=seed)
                codes = sp.csr_matrix(model.fit(X).transform(X))
                seconds = time.perf_counter() - start
                ways = {preparation: codes}
                if preparation == "both":
                    suppressor = FeatureSuppressor(random_state=seed)
                    suppressor.fit(
                        codes,
                        screen.metadata["perturbation"],
                        batch=plate,
                        groups=screen.metadata["well"],
                    )
                    ways["both, suppressed"] = sp.csr_matrix(
                        suppressor.transform(codes)
                    )
                for way, made in ways.items():
                    judged = judge(made, screen)
                    runs.append(
                        {"dictionary": name, "rows": way, **judged, "seconds": seconds}
                    )
    table = pd.DataFrame(runs)
    n_phenotypes = int((screen.kinds == "phenotype").sum())
    n_rare = screen.perturbations.loc[screen.perturbations["rare"], "phenotype"]
    print(
        f"{len(screen.data)} cells, {args.atoms} atoms, k = {args.k}; {n_phenotypes} "
        f"phenotypes, {n_rare.nunique()} of them rare"
    )
    print(f"{'rows':18}{'dictionary':26}" + "".join(f"{c:>16}" for c in COLUMNS))
    for way, name in itertools.product(PREPARATIONS, DICTIONARIES):
        rows = table[(table["rows"] == way) & (table["dictionary"] == name)]
        if rows.empty:
            continue
        print(f"{way:18}{name:26}", end="")
        for column in COLUMNS:
            half = (rows[column].max() - rows[column].min()) / 2
            digits = 1 if column in ("found", "rare", "seconds") else 2
            print(
                f"{f'{rows[column].mean():.{digits}f} +- {half:.{digits}f}':>16}",
                end="",
            )
        print(flush=True)


if __name__ == "__main__":
    main()
