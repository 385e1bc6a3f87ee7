"""
A high selectivity can be chance
================================

A feature that is active on a third of the samples of one class and on hardly any other
looks like a finding. But the best of 640 features over a class of a few samples looks
like that with labels dealt out by lot, too. Which scores mean something? The
:doc:`user guide </user_guide/selectivity>` has the definitions.
"""

# %%
# One row for each image
# ----------------------
# Of 120 electroluminescence images of solar cells, an expert called each functional or
# defective, with a question mark where unsure; :func:`skdict.datasets.load_elpv_tokens`
# tells more. A dictionary of 640 atoms learns on 40 tokens of each image, after
# whitening with the tokens of functional cells as controls.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from skdict import ICFL, ControlPCAWhitener
from skdict.datasets import load_elpv_tokens
from skdict.inspection import SelectivityCDFDisplay, SelectivityCurveDisplay
from skdict.metrics import (
    selectivity_counts,
    selectivity_report,
    selectivity_scores,
)

cells = load_elpv_tokens(n_images=120)
whiten = make_pipeline(ControlPCAWhitener(control_label="functional"), Normalizer())
X = whiten.fit_transform(cells.tokens, cells.labels)
token_codes = ICFL(640, 8, random_state=0).fit_transform(X)

# %%
# The label belongs to the image, not to the token, so we count the tokens of an image
# on which a feature is active. It shall be active *in an image* where there are more
# than two of them: ``threshold=2``.

images, first, image_of_token = np.unique(
    cells.groups, return_index=True, return_inverse=True
)
label, material = cells.labels[first], cells.batch[first]
member = sparse.csr_array(
    (np.ones(len(X)), (image_of_token, np.arange(len(X)))), shape=(len(images), len(X))
)


def count_tokens(codes):
    """Tokens of each image on which each feature is active."""
    return member @ (sparse.csr_array(codes) != 0).astype(float)


codes = count_tokens(token_codes)
report = selectivity_report(
    codes, label, threshold=2, n_permutations=999, random_state=0
)
print(report[["class", "n_samples", "best_feature", "score"]].round(3).to_string())

# %%
# By the scores alone, the rare class "defective?" has features about as good as those
# of "defective". The other columns of the same report tell another story: `null_q95` is
# what the best of all features reaches in one of twenty permutations of the labels.

print(report[["class", "score", "null_q95", "p_value"]].round(3).to_string())

# %%
# The whole curve beside its null
# -------------------------------
# :class:`skdict.inspection.SelectivityCurveDisplay` sorts the features by their score
# for a label. The band holds the middle 90 % of what stands at the same place after
# permutation. It is high for few samples, and low for many.

for one in ("defective", "defective?"):
    display = SelectivityCurveDisplay.from_predictions(
        codes,
        label,
        label=one,
        threshold=2,
        random_state=0,
        name=f"{(label == one).sum()} images",
    )
    display.ax_.set_ylim(-0.25, 0.75)

# %%
# Tokens of one image are no independent samples
# ----------------------------------------------
# With 40 tokens for each image it is tempting to score tokens instead, and get forty
# times the samples. Permuting them breaks up the images, which no label does. To see
# what that null makes of nothing, we call some images "rare" by lot, as many as there
# are in the rare class, and take the p-value of the best feature for them. Of fifty
# such p-values about 5 % should be up to 0.05, give or take 3 %.

rng = np.random.default_rng(0)
n_rare = (label == "defective?").sum()
by_lot = {"tokens permuted": [], "images permuted": []}
for _ in range(50):
    rare = np.isin(np.arange(len(images)), rng.choice(len(images), n_rare, False))
    for name, rows, y, threshold in (
        ("tokens permuted", token_codes, rare[image_of_token], 0),
        ("images permuted", codes, rare, 2),
    ):
        table = selectivity_report(
            rows, y, threshold=threshold, n_permutations=99, random_state=0
        )
        by_lot[name].append(table["p_value"][1])

figure, ax = plt.subplots(figsize=(3.6, 2.8), layout="constrained")
styles = {"color": "#D55E00", "linestyle": "--"}, {"color": "#0072B2"}
for (name, p_values), style in zip(by_lot.items(), styles, strict=True):
    ax.ecdf(p_values, label=name, **style)
    print(f"{name}: {np.mean(np.array(p_values) <= 0.05):.0%} with p up to 0.05")
ax.plot([0, 1], [0, 1], color="0.45", linestyle=":", label="as it should be")
ax.set(xlabel="p-value of labels given by lot", ylabel="share of the draws")
ax.legend()

# %%
# Breaking up the images makes far too many findings out of nothing. Permuting whole
# images does not, and it is enough to score one row for each image.
#
# What else may not be exchanged
# ------------------------------
# A permutation is a fair draw only among samples whose labels could have been
# exchanged.
#
# - The cells are of two materials. With ``groups``, labels are permuted among the
#   images of the same material only, so that what the material explains is part of the
#   null.
# - The whitening was fitted on the functional cells, which are scored here, too. In the
#   whitened space they have unit covariance and all others, by chance, a little more,
#   so that features fire on the others more often whatever their label. With
#   ``control``, labels are exchanged among the others only. Then nothing is said about
#   the controls as a class: they get no p-value.

nulls = {
    "any two images": {},
    "within the material": {"groups": material},
    "and not with controls": {"groups": material, "control": label == "functional"},
}
p_values = {
    name: selectivity_report(
        codes, label, threshold=2, n_permutations=999, random_state=0, **kwargs
    ).set_index("class")["p_value"]
    for name, kwargs in nulls.items()
}
print(pd.DataFrame(p_values).round(3).to_string())

# %%
# Random atoms, the sobering baseline
# -----------------------------------
# A selective feature need not have been learned. ``max_iter=0`` with ``init="random"``
# encodes the same tokens with atoms that know nothing of the data.
# :class:`skdict.inspection.SelectivityCDFDisplay` draws the share of the features above
# each score for "defective", here with one permutation of the labels beside it.

random_atoms = ICFL(640, 8, init="random", max_iter=0, random_state=0)
random_codes = count_tokens(random_atoms.fit_transform(X))

scores = {
    "learned": selectivity_scores(codes, label, threshold=2),
    "random atoms": selectivity_scores(random_codes, label, threshold=2),
    "labels permuted": selectivity_scores(codes, rng.permutation(label), threshold=2),
}
defective = [of_all[:, 0] for of_all in scores.values()]  # classes in their order
display = SelectivityCDFDisplay(scores=defective, name=[*scores])
display.plot(complementary=True).ax_.set_xlim(left=0)

for name, rows in (("learned", codes), ("random atoms", random_codes)):
    counts = selectivity_counts(
        rows,
        label == "defective",
        score_thresholds=[0.1, 0.15, 0.2],
        threshold=2,
        n_permutations=999,
        groups=material,
        random_state=0,
    )
    print(name, counts.round(3).to_string(index=False), sep="\n")

# %%
# :func:`skdict.metrics.selectivity_counts` gives the same for a few scores, with the
# null. Directions drawn at random respond to defects as well: what speaks for the
# dictionary is not that it exceeds permuted labels, but that it exceeds random atoms.
#
# Against all others, or against the nearest
# ------------------------------------------
# ``kind="average"``, used so far, compares a class with all other images pooled.
# ``kind="maximum"`` compares it with that other class in which the feature is active
# most often. It is never the larger of the two, and its null is lower as well.

kinds = [
    selectivity_report(
        codes, label, kind=kind, threshold=2, n_permutations=999, random_state=0
    ).set_index("class")[["score", "null_q95", "p_value"]]
    for kind in ("average", "maximum")
]
print(pd.concat(kinds, axis=1, keys=["average", "maximum"]).round(3).to_string())

# %%
# What to remember
# ----------------
# - Never read a best score without what the best of as many features reaches by chance,
#   least of all for a rare class.
# - Permute what is independent: images and not tokens, wells and not cells. Exchange
#   labels only inside the batches, and not with the controls that fitted the whitening.
# - Set random atoms beside the dictionary.
