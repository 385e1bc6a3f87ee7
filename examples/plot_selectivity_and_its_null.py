"""
A high selectivity can be chance
================================

A feature that is active much more often in one class than in the others looks like a
finding. But if a class has only a few images, the best of 640 features also looks like
one with labels that were dealt out at random. Which scores mean something? The
:doc:`user guide </user_guide/selectivity>` has the definitions.
"""

# %%
# Tokens with the label of their image
# ------------------------------------
# An expert called each of 120 electroluminescence images of solar cells functional or
# defective, and added a question mark if unsure;
# :func:`skdict.datasets.load_elpv_tokens` says more. A dictionary of 640 atoms learns
# on 40 tokens of each image, after whitening with the tokens of functional cells as
# controls.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from skdict import ICFL, ControlPCAWhitener
from skdict.datasets import load_elpv_tokens
from skdict.inspection import SelectivityCDFDisplay, SelectivityCurveDisplay
from skdict.metrics import selectivity_counts, selectivity_report

cells = load_elpv_tokens(n_images=120)
label, image, material = cells.target_names[cells.target], cells.groups, cells.batch
whiten = make_pipeline(ControlPCAWhitener(control_label="functional"), Normalizer())
X = whiten.fit_transform(cells.data, label)
codes = ICFL(640, 8, random_state=0).fit_transform(X)

# %%
# The label belongs to the image, not to the token. With ``groups`` the labels of whole
# images are permuted.

report = selectivity_report(
    codes, label, groups=image, n_permutations=999, random_state=0
)
print(report[["class", "n_samples", "best_feature", "score"]].round(3).to_string())

# %%
# The scores are small, because most tokens of a defective cell show intact silicon.
# What matters is whether chance gives as much. Other columns of the same report say so:
# `null_q95` is what the best of all features reaches in one of twenty permutations. It
# is higher if a class has fewer images.

print(report[["class", "score", "null_q95", "p_value"]].round(3).to_string())

# %%
# The whole curve beside its null
# -------------------------------
# :class:`skdict.inspection.SelectivityCurveDisplay` sorts the features by their score
# for a label. The band holds the middle 90 % of what stands at the same place after
# permutation. It is high if there are few images, and low if there are many.

for one in ("defective", "defective?"):
    display = SelectivityCurveDisplay.from_predictions(
        codes,
        label,
        label=one,
        groups=image,
        random_state=0,
        name=f"{len(np.unique(image[label == one]))} images",
    )
    display.ax_.set_ylim(-0.06, 0.22)

# %%
# Tokens of one image are no independent samples
# ----------------------------------------------
# Without ``groups`` the tokens themselves are permuted, as if there were forty times as
# many samples. This breaks up the images, although real labels never do. What does such
# a null find if there is nothing? We choose some images at random and call them "rare",
# as many as the rare class has, and take the p-value of their best feature. About 5 %
# of fifty such p-values should be up to 0.05, give or take 3 %.

rng = np.random.default_rng(0)
images = np.unique(image)
n_rare = len(np.unique(image[label == "defective?"]))
at_random = {"tokens permuted": [], "images permuted": []}
for _ in range(50):
    rare = np.isin(image, rng.choice(images, n_rare, replace=False))
    for name, groups in (("tokens permuted", None), ("images permuted", image)):
        table = selectivity_report(
            codes, rare, groups=groups, n_permutations=99, random_state=0
        )
        at_random[name].append(table["p_value"][1])

figure, ax = plt.subplots(figsize=(3.6, 2.8), layout="constrained")
styles = {"color": "#D55E00", "linestyle": "--"}, {"color": "#0072B2"}
for (name, p_values), style in zip(at_random.items(), styles, strict=True):
    ax.ecdf(p_values, label=name, **style)
    print(f"{name}: {np.mean(np.array(p_values) <= 0.05):.0%} with p up to 0.05")
ax.plot([0, 1], [0, 1], color="0.45", linestyle=":", label="as it should be")
ax.set(xlabel="p-value of labels given at random", ylabel="fraction of the draws")
ax.legend()

# %%
# If the images are broken up, there are far too many findings, although there is
# nothing to find. Permuting whole images gives no more than it should. With ``groups``,
# :func:`skdict.metrics.selectivity_tests` also exchanges whole images, for all pairs of
# feature and class at once.
#
# What else may not be exchanged
# ------------------------------
# A permutation is a fair draw only among samples whose labels could have been
# exchanged.
#
# - The cells are of two materials. With ``batch``, labels are permuted only among
#   images of the same material, so the null contains what the material explains.
# - The whitening was fitted on the functional cells, which are scored here, too. In the
#   whitened space these have unit covariance, and all others, by chance, have a little
#   more. So features fire on the others more often, whatever their label. With
#   ``control``, labels are exchanged only among the others. Then nothing is said about
#   the controls as a class: they get no p-value, and fewer images remain to tell the
#   other classes apart.

control = label == "functional"
nulls = {
    "any two images": {},
    "within the material": {"batch": material},
    "and not with controls": {"batch": material, "control": control},
}
p_values = {
    name: selectivity_report(
        codes, label, groups=image, n_permutations=999, random_state=0, **kwargs
    ).set_index("class")["p_value"]
    for name, kwargs in nulls.items()
}
print(pd.DataFrame(p_values).round(3).to_string())

# %%
# Random atoms, a baseline
# ------------------------
# A selective feature need not have been learned. ``max_iter=0`` with ``init="random"``
# encodes the same tokens with atoms that do not depend on the data.
# :class:`skdict.inspection.SelectivityCDFDisplay` draws the fraction of the features
# above each score for "defective", and the band of both dictionaries after permutation
# of the images.

random_atoms = ICFL(640, 8, init="random", max_iter=0, random_state=0)
random_codes = random_atoms.fit_transform(X)
dictionaries = {"learned": codes, "random atoms": random_codes}
null = {"groups": image, "batch": material, "random_state": 0}

ax = None
for name, of_tokens in dictionaries.items():
    display = SelectivityCDFDisplay.from_predictions(
        of_tokens,
        label,
        labels=["defective"],
        name=name,
        complementary=True,
        ax=ax,
        **null,
    )
    ax = display.ax_
ax.set_xlim(left=0)

for name, of_tokens in dictionaries.items():
    counts = selectivity_counts(
        of_tokens,
        label == "defective",
        score_thresholds=[0.03, 0.04, 0.05],
        n_permutations=999,
        **null,
    )
    print(name, counts.round(3).to_string(index=False), sep="\n")

# %%
# :func:`skdict.metrics.selectivity_counts` gives the same for a few scores, with the
# null. Random directions can exceed permuted labels, too. So evidence for the
# dictionary is not that it exceeds permuted labels, but that it exceeds random atoms.
#
# Against all others, or against the nearest
# ------------------------------------------
# ``contrast="average"``, used so far, compares a class with all other tokens pooled.
# ``contrast="maximum"`` compares it with the other class in which the feature is active
# most often. It is never larger than the average contrast, and its null is lower, too.

kinds = [
    selectivity_report(
        codes, label, contrast=kind, groups=image, n_permutations=999, random_state=0
    ).set_index("class")[["score", "null_q95", "p_value"]]
    for kind in ("average", "maximum")
]
print(pd.concat(kinds, axis=1, keys=["average", "maximum"]).round(3).to_string())

# %%
# What to remember
# ----------------
# - Never read a best score without what the best of as many features reaches by chance.
#   This matters most for a rare class.
# - Permute what is independent: images and not tokens, wells and not cells
#   (``groups``). Exchange labels only inside the batches (``batch``), and not with the
#   controls that fitted the whitening (``control``).
# - Compare with random atoms.
