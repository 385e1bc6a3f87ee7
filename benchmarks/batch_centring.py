"""What centring by batch and whitening do to batches and to labels.

For each preparation the script prints the balanced accuracy of probes on its output,
mean and standard deviation over five seeds of the folds (and of the simulated batches).
Of five folds, two are for learning the preparation, two others for training the probes
and the last for testing them, by turns. The probes need rows of their own: on the
controls by which it was centred a batch has a mean of exactly zero, so a linear probe
trained on them finds nothing, although it would on new rows.

"batch": a linear probe for the batch on all rows, on controls only, on the others only.
"batch, QDA": the same question on all rows to a probe that sees covariances, too.
"label": a linear probe for the label. "label, other batch": the probe is trained on one
batch and tested on another, while centring knows the controls of both; the mean over
ordered pairs of batches.

ELPV: photovoltaic cells of two materials, which act as batches. Controls are the cells
without a defect for certain. The preparations are learned from tokens. The probes get
one row for each image, the mean over its tokens; for these preparations the mean before
gives the same as the mean after. The label is whether an expert called the cell
defective, sure or not.

Tissue: tokens of one image, in tiles that are dealt out at random to four SIMULATED
batches, each with a random offset and gain of its own in every feature. A second run
has batches in name only, without any effect, to see what centring adds by itself. Folds
keep tiles whole. Stroma takes the place of controls; the label is one of three kinds of
tissue.

Run: python benchmarks/batch_centring.py
The first run takes some minutes longer, for the network to make the tokens of ELPV.
"""

import argparse
import itertools
import time
from pathlib import Path

import numpy as np
from _timing import machine
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline

from skdict import ControlCenterScaler, ControlPCAWhitener
from skdict.datasets import load_elpv_tokens, load_tissue_tokens
from skdict.metrics import make_linear_probe

N_SEEDS = 5
N_FOLDS = 5
TILE = 8  # tokens along one side of a tile of the tissue
CACHE = Path(__file__).parent / "results" / "cache"

COLUMNS = (
    "batch",
    "batch, controls",
    "batch, others",
    "batch, QDA",
    "label",
    "label, other batch",
)

READING = """
Reading. "batch, controls" after centring is mostly the sampling error of the centring;
"batch, others" adds what the batches answer differently to a defect or a stain, which
no statistic of controls can take off. QDA sees covariances, which centring and scaling
leave to the batches. Whitening by the controls of all batches together is a linear map
of all rows: it hides no batch from a linear probe. In the last table nothing sets the
batches apart, so whatever a probe finds there after centring, centring has put in: its
means come from a few tiles of tokens that are alike. Read the table before it by the
difference.
"""


class Preparation:
    """Centring, whitening, both or neither, in this order."""

    def __init__(self, centre, whiten):
        self.centre = ControlCenterScaler() if centre else None
        self.whiten = ControlPCAWhitener() if whiten else None

    def fit(self, X, control, batch):
        """Learn from the controls among the rows."""
        if self.centre:
            X = self.centre.fit_transform(X, control=control, batch=batch)
        if self.whiten:
            self.whiten.fit(X, control=control)
        return self

    def transform(self, X, batch):
        """Prepare rows."""
        if self.centre:
            X = self.centre.transform(X, batch=batch)
        return self.whiten.transform(X) if self.whiten else X


PREPARATIONS = {
    "none": (False, False),
    "ControlCenterScaler": (True, False),
    "ControlPCAWhitener": (False, True),
    "both": (True, True),
}


def accuracy(probe, Z, y, train, test):
    """Balanced accuracy of a probe trained on some rows and tested on others."""
    predicted = clone(probe).fit(Z[train], y[train]).predict(Z[test])
    return balanced_accuracy_score(y[test], predicted)


def figures(Z, label, control, batch, train, test):
    """One figure for each of COLUMNS; train and test are masks."""
    linear = make_linear_probe()
    # QDA needs more rows of a class than dimensions.
    quadratic = make_pipeline(
        PCA(20, whiten=True, random_state=0), QuadraticDiscriminantAnalysis()
    )
    transfer = [
        accuracy(linear, Z, label, train & (batch == a), test & (batch == b))
        for a, b in itertools.permutations(np.unique(batch), 2)
    ]
    return [
        accuracy(linear, Z, batch, train, test),
        accuracy(linear, Z, batch, train & control, test & control),
        accuracy(linear, Z, batch, train & ~control, test & ~control),
        accuracy(quadratic, Z, batch, train, test),
        accuracy(linear, Z, label, train, test),
        np.mean(transfer),
    ]


def parts(label, batch, groups, seed):
    """Masks of the rows to prepare by, to train on and to test on."""
    strata = np.char.add(batch.astype(str), label)
    splitter = StratifiedGroupKFold(N_FOLDS, shuffle=True, random_state=seed)
    fold = np.empty(len(strata), dtype=int)
    for i, (_, rows) in enumerate(splitter.split(strata, strata, groups)):
        fold[rows] = i
    for i in range(N_FOLDS):
        turn = (fold - i) % N_FOLDS
        yield turn <= 1, (turn == 2) | (turn == 3), turn == 4


def elpv(data, seed):
    """Figures of each preparation, by fold: (n_folds, n_preparations, n_columns)."""
    first = np.unique(data.groups, return_index=True)[1]
    per_image = len(data.data) // len(first)
    images = data.data.reshape(len(first), per_image, -1).mean(axis=1)
    control, batch = data.control[first], data.batch[first]
    names = data.target_names[data.target[first]]
    label = np.where(np.char.startswith(names, "defective"), "yes", "no")
    result = []
    for known, train, test in parts(label, batch, np.arange(len(first)), seed):
        rows = known[data.groups]
        result.append([])
        for steps in PREPARATIONS.values():
            preparation = Preparation(*steps).fit(
                data.data[rows], data.control[rows], data.batch[rows]
            )
            Z = preparation.transform(images, batch)
            result[-1].append(figures(Z, label, control, batch, train, test))
    return result


def tissue(data, seed, strength):
    """The same on the tissue, with simulated batches."""
    rng = np.random.default_rng(seed)
    tiles_across = data.grid_shape[1] // TILE
    tiles = data.rows // TILE * tiles_across + data.columns // TILE
    batch = (rng.permutation(tiles.max() + 1) % 4)[tiles]
    label = data.target_names[data.target]
    control = label == "stroma"
    n_features = data.data.shape[1]
    gain = np.exp(rng.normal(scale=0.2 * strength, size=(4, n_features)))
    offset = rng.normal(scale=0.5 * strength, size=(4, n_features)) * data.data.std(
        axis=0
    )
    X = (data.data * gain[batch] + offset[batch]).astype(np.float32)
    result = []
    for known, train, test in parts(label, batch, tiles, seed):
        result.append([])
        for steps in PREPARATIONS.values():
            preparation = Preparation(*steps)
            preparation.fit(X[known], control[known], batch[known])
            Z = preparation.transform(X, batch)
            result[-1].append(figures(Z, label, control, batch, train, test))
    return result


def print_table(title, results):
    """Mean and standard deviation over the seeds."""
    by_seed = np.mean(results, axis=1)  # over the folds
    mean, spread = by_seed.mean(axis=0), by_seed.std(axis=0, ddof=1)
    print(f"\n{title}\n")
    print("| | " + " | ".join(COLUMNS) + " |")
    print("|---" * (len(COLUMNS) + 1) + "|")
    for name, row, deviation in zip(PREPARATIONS, mean, spread, strict=True):
        cells = [f"{m:.3f} ± {s:.3f}" for m, s in zip(row, deviation, strict=True)]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=N_SEEDS)
    parser.add_argument("--memory", default=str(CACHE), help="folder for the tokens")
    args = parser.parse_args()
    print("\n".join(machine()))
    data = load_elpv_tokens(memory=args.memory)
    start = time.perf_counter()
    results = [elpv(data, seed) for seed in range(args.seeds)]
    print_table("ELPV, 2 batches: chance 0.5 for the batch and for the label", results)
    data = load_tissue_tokens()
    for strength, what in ((1.0, "SIMULATED batches"), (0.0, "batches WITHOUT effect")):
        results = [tissue(data, seed, strength) for seed in range(args.seeds)]
        print_table(
            f"Tissue, 4 {what}: chance 0.25 for the batch, 0.333 for the label",
            results,
        )
    print(READING)
    print(f"{time.perf_counter() - start:.0f} s beside the network")


if __name__ == "__main__":
    main()
