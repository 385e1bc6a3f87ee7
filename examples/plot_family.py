"""
All dictionaries at the same sparsity
=====================================

The package has a dictionary for each idea of the field. They differ in how they encode
a row, and in what they let rows differ. This page compares all of them on one data set,
with the same number of features and the same number of active ones. No penalty is tuned
by hand: each dictionary takes ``k``.
"""

# %%
# Equal sparsity
# --------------
# The data are the tokens of a stained tissue section. Neighbouring tokens are alike, so
# the folds hold whole quarters of the image. Every dictionary comes after the same
# whitening with stroma as the control. It has 160 features, of which 8 are active in a
# row, and learns for at most 30 epochs.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from skdict import (
    ICFL,
    KSVD,
    SAE,
    ArchetypalSAE,
    BatchTopKSAE,
    Codebook,
    ControlPCAWhitener,
    GatedSAE,
    JumpReLUSAE,
    MatchingPursuitSAE,
    MatryoshkaSAE,
    TopKSAE,
)
from skdict.datasets import load_tissue_tokens
from skdict.evaluation import (
    baseline_dictionaries,
    compare_dictionaries,
    summary_table,
)

tissue = load_tissue_tokens()
# Quarter by quarter, each a grid of 32 x 32 tokens.
quarter = tissue.rows // 32 * 2 + tissue.columns // 32
order = np.argsort(quarter, kind="stable")
X, y = tissue.data[order], tissue.target_names[tissue.target][order]

kinds = [
    ICFL,
    KSVD,
    MatchingPursuitSAE,
    TopKSAE,
    BatchTopKSAE,
    MatryoshkaSAE,
    ArchetypalSAE,
    JumpReLUSAE,
    GatedSAE,
    SAE,
    Codebook,
]
dictionaries = {kind.__name__: kind(160, k=8, max_iter=30) for kind in kinds}
dictionaries["data atoms"] = baseline_dictionaries(160, 8)["data atoms"]

steps = make_pipeline(ControlPCAWhitener(), Normalizer())
runs = compare_dictionaries(
    {name: make_pipeline(steps, last) for name, last in dictionaries.items()},
    X,
    y,
    groups=quarter[order],
    control=y == "stroma",
    cv=StratifiedGroupKFold(2),
    seeds=1,
    n_permutations=20,
    grid_shape=(32, 32),
)

MEASURES = {
    "l0": "active",
    "explained_variance": "explained",
    "average_selectivity": "selectivity",
    "average_selectivity_null": "its null",
    "probe_codes": "probe",
    "dead_fraction": "dead",
    "fit_seconds": "seconds",
}
table = summary_table(runs).pivot(index="dictionary", columns="measure", values="mean")
table = table.loc[list(dictionaries), list(MEASURES)].rename(columns=MEASURES)
print(table.rename_axis(None).rename_axis(None, axis=1).round(3).to_string())
print(f"\nProbe on the rows themselves: {runs['probe_x'].mean():.3f}")

# %%
# Explaining is not selecting
# ---------------------------
# Each dot is a fold, judged on rows that were not learned from. A dictionary may
# rebuild the rows well with features that no label needs, and the other way round.

COLOURS = ["#0072B2", "#56B4E9", "#009E73", "#D55E00", "#E69F00", "#CC79A7"]
plt.rcParams.update({"font.size": 8, "figure.dpi": 200})
figure, ax = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
for i, (name, own) in enumerate(runs.groupby("dictionary", sort=False)):
    beyond = own["average_selectivity"] - own["average_selectivity_null"]
    marker = "o" if i < len(COLOURS) else "^"
    colour = COLOURS[i % len(COLOURS)] if name in table.index[:-1] else "black"
    ax.plot(own["explained_variance"], beyond, marker, color=colour, label=name, ms=4)
ax.axhline(0, color="0.7", linewidth=0.8)
ax.set(xlabel="explained variance", ylabel="selectivity beyond its null")
figure.legend(loc="outside right center", frameon=False)
plt.show()

# %%
# What to remember
# ----------------
# - :class:`skdict.KSVD`, which rebuilds best, is the least selective: a pursuit of one
#   atom after the other spends its last atoms on what the first ones left over.
# - :class:`skdict.MatryoshkaSAE` is the most selective here. Its first features have to
#   rebuild the rows by themselves, so they are broad and agree with broad labels.
# - Some dictionaries let rows differ in their number of active features and have ``k``
#   in the mean of rows like those that they learned from. The other quarters of the
#   image are a little different, and so is the mean.
# - :class:`skdict.Codebook` has no coefficients. What it loses is reconstruction.
# - Two runs on one image do not make a ranking. ``benchmarks/compare.py --family`` has
#   more seeds, more folds, and the tokens of solar cells; :ref:`family` describes what
#   each dictionary does.
