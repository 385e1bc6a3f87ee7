"""How long explanations, clusters of features and the protocols take.

Data: 100,000 x 8192 codes in CSR, 32 non-zeros a row (`make_codes` of selectivity.py),
drawn at random, as are the metadata: 23 cell types, 1,138 drugs, 272 plates, three
doses, an area and the edge of the plate. Profiles are the mean codes of 2,000 wells, of
400 perturbations and of 5,000 groups. Each call runs once in one process with one
thread, whatever `--repeats` says.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from _timing import Report, arguments, seconds_of
from selectivity import make_codes

from skdict.concepts import choose_examples, cluster_features, explain_features
from skdict.evaluation import aggregate, relationship_recall, replicate_retrieval
from skdict.metrics import selectivity_counts


def main() -> None:
    args = arguments(__doc__)
    n, m = (2000, 256) if args.quick else (100_000, 8192)
    n_wells, n_groups = (40, 60) if args.quick else (2000, 5000)
    rng = np.random.default_rng(0)
    codes = make_codes(n, m, 32, rng)

    def drawn(name: str, number: int) -> np.ndarray:
        return np.char.add(name, rng.integers(number, size=n).astype(str))

    metadata = pd.DataFrame(
        {
            "cell type": drawn("t", 23),
            "drug": drawn("d", 1138),
            "plate": drawn("p", 272),
            "dose": rng.choice([1.0, 3.0, 10.0], n),
            "area": rng.normal(size=n),
            "edge": rng.random(n) < 0.1,
        }
    )
    well = rng.integers(n_wells, size=n)
    # All columns are the same for the cells of a well.
    of_wells = metadata.iloc[well].reset_index(drop=True)
    wells = aggregate(codes, well)
    drug = np.arange(len(wells.metadata)) % (n_wells // 5)
    drugs = aggregate(wells.X, drug)
    groups = aggregate(codes, np.arange(n) % n_groups)
    tasks = {name: metadata[name] for name in ("cell type", "drug", "plate")}

    def recall(profiles: object, number: int) -> None:
        pairs = rng.integers(number, size=(number, 2))
        relationship_recall(profiles, np.arange(number), pairs, random_state=0)

    calls = {
        "explain_features, 6 columns": lambda: explain_features(
            codes, metadata, random_state=0
        ),
        "explain_features, groups": lambda: explain_features(
            codes, of_wells, groups=well, random_state=0
        ),
        "choose_examples, 100 features": lambda: choose_examples(
            codes, features=np.arange(100), random_state=0
        ),
        "cluster_features": lambda: cluster_features(codes),
        "cluster_features, 23 classes": lambda: cluster_features(
            codes, metadata["cell type"]
        ),
        "selectivity_counts, 3 tasks": lambda: selectivity_counts(codes, tasks),
        **{
            f"aggregate, {statistic}": lambda statistic=statistic: aggregate(
                codes, well, statistic=statistic
            )
            for statistic in ("mean", "median", "max")
        },
        f"relationship_recall, {len(drugs.metadata)} perturbations": lambda: recall(
            drugs.X, len(drugs.metadata)
        ),
        f"relationship_recall, {n_groups} perturbations": lambda: recall(
            groups.X, n_groups
        ),
        f"replicate_retrieval, {len(drug)} wells": lambda: replicate_retrieval(
            wells.X, drug, random_state=0
        ),
    }
    report = Report("Run time of explanations, clusters and protocols", args)
    for name, call in calls.items():
        report.target(f"{name}: {n} x {m} codes", seconds_of(call), unit=" s")


if __name__ == "__main__":
    main()
