"""Do coefficients of ICFL cancel, and what prevents it?

Where a dictionary has more atoms than the rows have causes, two atoms can become nearly
equal. The least squares on the five atoms of a step then gives them large coefficients
of opposite signs, whose difference stands for a direction of its own. By default,
``span_distance`` keeps such atoms out of one step. The script prints, for tissue tokens
and for a planted screen with fewer causes than atoms: explained variance, the 99 %
quantile of the coefficients over the mean norm of the rows, the largest cosine of two
atoms. Mean over the seeds.

Run: python benchmarks/cancelling.py
"""

from __future__ import annotations

import argparse

import numpy as np
from sklearn.preprocessing import Normalizer

from skdict import ICFL, ControlCenterScaler, ControlPCAWhitener, TopKSAE
from skdict.datasets import load_tissue_tokens, make_planted_screen
from skdict.metrics import mutual_coherence

VARIANTS = {
    "ICFL": ICFL(),
    "ICFL, distance 0 (paper)": ICFL(span_distance=0),
    "ICFL, distance 0.1": ICFL(span_distance=0.1),
    "ICFL, distance 0.5": ICFL(span_distance=0.5),
    "ICFL, one atom a step": ICFL(atoms_per_step=1),
    "ICFL, refit": ICFL(refit=True),
    "ICFL, 0, refit": ICFL(span_distance=0, refit=True),
    "ICFL, positive": ICFL(positive_code=True),
    "ICFL, 0, positive": ICFL(span_distance=0, positive_code=True),
    "ICFL, 0, resets at 0.7": ICFL(span_distance=0, reset_similarity=0.7),
    "TopKSAE": TopKSAE(),
}


def tables(seed: int, quick: bool) -> dict[str, tuple[np.ndarray, int, int]]:
    """Rows, number of atoms, k."""
    screen = make_planted_screen(n_cells=2 if quick else 10, random_state=seed)
    cells = screen.metadata
    X = ControlCenterScaler().fit_transform(
        screen.data, control=cells["control"], batch=cells["plate"]
    )
    made = {
        "screen": (Normalizer().transform(X), 96, 6),
        "screen, a third of the atoms": (Normalizer().transform(X), 32, 6),
    }
    tissue = load_tissue_tokens()
    control = tissue.target_names[tissue.target] == "stroma"
    X = ControlPCAWhitener().fit(tissue.data, control=control).transform(tissue.data)
    made["tissue, whitened"] = Normalizer().transform(X), 640, 8
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="does it run at all?")
    args = parser.parse_args()
    seeds = 1 if args.quick else args.seeds
    rows = [tables(seed, args.quick) for seed in range(seeds)]
    print(f"{'':29}{'':26}{'EV':>8}{'99 % of |z|':>14}{'cosine':>8}")
    for data in rows[0]:
        for name, variant in VARIANTS.items():
            figures = []
            for seed in range(seeds):
                X, m, k = rows[seed][data]
                model = variant.set_params(n_components=m, k=k, random_state=seed)
                if args.quick:
                    model.set_params(max_iter=2)
                codes = model.fit(X).transform(X)
                norm = np.linalg.norm(X, axis=1).mean()
                figures.append(
                    (
                        model.score(X),
                        np.quantile(np.abs(codes.data), 0.99) / norm,
                        mutual_coherence(model.components_),
                    )
                )
            ev, size, cosine = np.mean(figures, axis=0)
            print(f"{data:29}{name:26}{ev:8.3f}{size:14.2f}{cosine:8.3f}", flush=True)


if __name__ == "__main__":
    main()
