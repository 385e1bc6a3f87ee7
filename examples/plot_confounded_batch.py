"""
A confounded batch, caught
==========================

If most samples of one class were handled in one batch, a feature that tells batches
apart looks like a feature of the class. This page makes such a design out of real
images, finds the feature that the design favours, and shows how to detect it. The guide
explains the :doc:`tests </user_guide/selectivity>` and the :ref:`centring by batch
<batches>`.
"""

# %%
# A design that went wrong
# ------------------------
# An expert called solar cells functional or defective, and added a question mark if
# unsure. Is there a feature of these doubtful cells? The cells are of mono- or
# polycrystalline silicon. The material is not a batch in which cells were handled, but
# it acts like one, because it affects every image. From 200 images we choose as an
# unlucky study would have: nearly all doubtful cells are of one material, and nearly
# all functional cells are of the other. The cells that were not chosen serve as the
# judge.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.preprocessing import StandardScaler, normalize

from skdict import ICFL, ControlCenterScaler
from skdict.datasets import load_elpv_tokens
from skdict.metrics import describe_features, selectivity_report

cells = load_elpv_tokens(n_images=200)
_, first, image = np.unique(cells.groups, return_index=True, return_inverse=True)
label, material = cells.target_names[cells.target[first]], cells.batch[first]
label[np.char.endswith(label, "?")] = "doubtful"
kind = np.char.add(np.char.add(label, " "), material)


def choose(n_images, seed=0):
    """Mask of the drawn images, with the given number of each kind."""
    rng = np.random.default_rng(seed)
    chosen = np.zeros(len(kind), dtype=bool)
    for name, n in n_images.items():
        chosen[rng.choice(np.flatnonzero(kind == name), n, replace=False)] = True
    return chosen


study = choose(
    {
        "functional mono": 25,
        "functional poly": 2,
        "doubtful mono": 1,
        "doubtful poly": 11,
    }
)
print(pd.crosstab(label[study], material[study], rownames=[""], colnames=[""]))

# %%
# The best feature
# ----------------
# A dictionary of 80 atoms learns on the 40 tokens of each image of the study, centred
# and of unit length. A feature counts as active in an image if it is active on more
# than five tokens (``activity_threshold=5``). So the samples of the tests are images.

member = sparse.csr_array((np.ones(len(image)), (image, np.arange(len(image)))))


def count_tokens(X, learn_on):
    """Tokens of each image on which each feature of a new dictionary is active."""
    X = normalize(X)
    dictionary = ICFL(80, 8, random_state=0).fit(X[learn_on[image]])
    return member @ (sparse.csr_array(dictionary.transform(X)) != 0).astype(float)


centred = StandardScaler(with_std=False).fit(cells.data[study[image]])
counts = count_tokens(centred.transform(cells.data), study)
settings = {"activity_threshold": 5, "n_permutations": 999, "random_state": 0}
report = selectivity_report(counts[study], label[study], **settings)
print(report.round(3).to_string(index=False))

# %%
# The best feature for doubtful cells is far above what permuted labels give. Nothing in
# this table says that anything is wrong.
#
# Caught
# ------
# :func:`skdict.metrics.describe_features` scores each feature for the material, too. It
# also asks whether the feature still tells the classes apart *inside* the materials. A
# feature *follows* the material if it is selective for one material, and for no class
# inside the materials.

features = describe_features(
    counts[study],
    label[study],
    confounds={"material": material[study]},
    activity_threshold=5,
)
best = int(report["best_feature"][0])
columns = ["score", "q_value", "best_material", "material_score", "material_q_value"]
columns += ["q_value_within_material", "follows_material"]
print(features.loc[best, columns].to_string())
print(
    f"{(features['q_value'] <= 0.05).sum()} of 80 features seem selective for a "
    f"class, {features['follows_material'].sum()} follow the material."
)

# %%
# The report shows the same: with ``batch``, labels are permuted inside the materials
# only. The null then contains what the design alone explains, and the score no longer
# exceeds the null.

within = selectivity_report(
    counts[study], label[study], batch=material[study], **settings
)
print(within.round(3).to_string(index=False))

# %%
# Is the flag right? A lack of power may also cause a flag, if hardly any cell can be
# compared inside its material. The images that were not chosen give the answer: in how
# many of them is the feature active, for each label in each material?

KINDS = ["functional mono", "doubtful mono", "functional poly", "doubtful poly"]


def fractions(counts, feature, rows):
    """Fraction of the images of each kind in which a feature is active."""
    active = counts[:, [feature]].toarray().ravel() > 5
    return [active[rows & (kind == name)].mean() for name in KINDS]


figure, axes = plt.subplots(1, 2, figsize=(7, 2.9), sharey=True, layout="constrained")
for ax, rows, title in zip(
    axes, (study, ~study), ("in the study", "in the other images"), strict=True
):
    ax.bar(KINDS, fractions(counts, best, rows), color=["0.6", "#D55E00"] * 2)
    n_images = [f"n = {np.sum(rows & (kind == name))}" for name in KINDS]
    ticks = [[*name.split(), n] for name, n in zip(KINDS, n_images, strict=True)]
    ax.set_xticks(range(4), ["\n".join(lines) for lines in ticks])
    ax.set(title=title, ylim=(0, 1))
axes[0].set_ylabel(f"fraction of images with feature {best}")

# %%
# The feature is one of polycrystalline cells: no monocrystalline cell has it. Among the
# other polycrystalline images all 7 doubtful ones have it, and 53 of the 68 functional
# ones. That is no evidence of a feature of doubt: if 60 of 75 images have a feature,
# seven drawn at random all have it in one of five draws.
#
# Remedies
# --------
# - :class:`skdict.ControlCenterScaler` centres and scales each material by its own
#   functional cells. The study has only two functional polycrystalline cells for this.
# - Often there are more controls outside the study. Here they are every other one of
#   the functional cells that were not chosen; the rest is kept for judging.
# - The best remedy is a design with the same fraction of both materials in each label.

spare = ~study & (label == "functional") & (np.arange(len(label)) % 2 == 0)
balanced = choose(
    {
        "functional mono": 13,
        "functional poly": 14,
        "doubtful mono": 6,
        "doubtful poly": 6,
    }
)


def centre_by_material(rows):
    """Tokens after centring each material by the functional cells among the rows."""
    tokens = rows[image]
    scaler = ControlCenterScaler().fit(
        cells.data[tokens],
        control=cells.control[tokens],
        batch=cells.batch[tokens],
    )
    return scaler.transform(cells.data, batch=cells.batch)


ways = {
    "confounded": (counts, study),
    "centred, 2 controls": (count_tokens(centre_by_material(study), study), study),
    "centred, more": (count_tokens(centre_by_material(study | spare), study), study),
    "balanced": (count_tokens(centred.transform(cells.data), balanced), balanced),
}
table = {}
for name, (codes, rows) in ways.items():
    free = selectivity_report(codes[rows], label[rows], **settings)
    inside = selectivity_report(
        codes[rows], label[rows], batch=material[rows], **settings
    )
    unseen = fractions(codes, free["best_feature"][0], ~rows & ~spare)
    table[name] = {
        "score": free["score"][0],
        "p": free["p_value"][0],
        "p inside": inside["p_value"][0],
        "mono, unseen": unseen[1] - unseen[0],
        "poly, unseen": unseen[3] - unseen[2],
        "material, unseen": np.mean(unseen[2:]) - np.mean(unseen[:2]),
    }
print(pd.DataFrame(table).T.round(3).to_string())

# %%
# `p` is the p-value with labels permuted freely, `p inside` that with labels permuted
# inside the materials. The last columns come from images that took no part; few of
# these are doubtful. They show how much more frequent the feature is in doubtful than
# in functional cells of each material, and in poly than in mono.
#
# Centring lowers the score. It removes the difference in mean and scale between the
# controls of the materials, as well as these controls show it. It does not make the
# materials alike, so the test inside the batches remains necessary. In the balanced
# design, with as many images of each label, even the plain null finds nothing beyond
# chance.
#
# What to remember
# ----------------
# - A low p-value says that labels and codes go together, not why.
# - Always pass the batch to :func:`skdict.metrics.describe_features`, and permute
#   inside the batches. If a class occurs in only one batch, neither can tell the two
#   apart.
# - Count independent controls in each batch before you trust a centring.
# - Spread the classes over the batches before the experiment. No method repairs this as
#   well afterwards.
