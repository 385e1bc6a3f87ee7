"""
A confounded batch, caught
==========================

Where most samples of one class were handled in one batch, a feature that tells batches
apart looks like a feature of the class. This page makes such a design out of real
images, finds the feature that it rewards, and shows what gives it away. The guide
explains the :doc:`tests </user_guide/selectivity>` and the :ref:`centring by batch
<batches>`.
"""

# %%
# A design that went wrong
# ------------------------
# An expert called solar cells functional or defective, and put a question mark where
# unsure. Is there a feature of these doubtful cells? The cells are of mono- or
# polycrystalline silicon. That is no batch of handling, but acts like one: it colours
# every image. From 200 images we choose as an unlucky study would have. Nearly all
# doubtful cells are of the one material, nearly all functional ones of the other. The
# cells that were not chosen will be the judge.

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
    """Mask of the images drawn: so many of each kind."""
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
# and of unit length. A feature shall be active in an image where it is active on more
# than five tokens (``activity_threshold=5``), so that the images are the samples of
# the tests.

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
# The best feature for doubtful cells is far beyond what permuted labels give. Nothing
# in this table says that anything is wrong.
#
# Caught
# ------
# :func:`skdict.metrics.describe_features` scores each feature for the material, too,
# and asks whether it still tells the classes apart *inside* the materials. It *follows*
# the material where it is selective for one, and for no class inside.

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
# The same in the report: with ``batch``, labels are permuted inside the materials
# only. What the design gives away by itself is part of that null, and the score is no
# longer beyond it.

within = selectivity_report(
    counts[study], label[study], batch=material[study], **settings
)
print(within.round(3).to_string(index=False))

# %%
# Is the flag right? A flag may also come from a lack of power, where hardly any cell
# can be compared inside its material. The images that were not chosen know: in how many
# of them is the feature active, for each label in each material?

KINDS = ["functional mono", "doubtful mono", "functional poly", "doubtful poly"]


def shares(counts, feature, rows):
    """Share of the images of each kind in which a feature is active."""
    active = counts[:, [feature]].toarray().ravel() > 5
    return [active[rows & (kind == name)].mean() for name in KINDS]


figure, axes = plt.subplots(1, 2, figsize=(7, 2.9), sharey=True, layout="constrained")
for ax, rows, title in zip(
    axes, (study, ~study), ("in the study", "in the other images"), strict=True
):
    ax.bar(KINDS, shares(counts, best, rows), color=["0.6", "#D55E00"] * 2)
    n_images = [f"n = {np.sum(rows & (kind == name))}" for name in KINDS]
    ticks = [[*name.split(), n] for name, n in zip(KINDS, n_images, strict=True)]
    ax.set_xticks(range(4), ["\n".join(lines) for lines in ticks])
    ax.set(title=title, ylim=(0, 1))
axes[0].set_ylabel(f"share of images with feature {best}")

# %%
# The feature is one of polycrystalline cells. Among them it is no more frequent where
# the expert was in doubt.
#
# Remedies
# --------
# - :class:`skdict.ControlCenterScaler` centres and scales each material by its own
#   functional cells. The study has two functional polycrystalline cells to do so.
# - More controls are often there, though not of the study. Here it is every other one
#   of the functional cells that were not chosen; the rest stays for judging.
# - The best remedy is a design with the same share of both materials in each label.

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
    unseen = shares(codes, free["best_feature"][0], ~rows & ~spare)
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
# `p` is that of labels permuted freely, `p inside` that inside the materials. The last
# columns come from images that took no part, and few of them are doubtful: how much
# more frequent the feature is in doubtful than in functional cells of each material,
# and in poly than in mono.
#
# Centring lowers the score. It takes away what the controls of the materials differ in,
# in mean and scale, as well as these controls tell; it does not make the two alike, so
# the test inside the batches remains necessary. In the balanced design, with as many
# images of each label, even the plain null finds nothing beyond chance.
#
# What to remember
# ----------------
# - A low p-value says that labels and codes go together, not why.
# - Always hand the batch to :func:`skdict.metrics.describe_features`, and permute
#   inside the batches. Where a class occurs in one batch only, neither can tell the two
#   apart.
# - Count independent controls in each batch before you trust a centring.
# - Share out the classes over the batches before the experiment. No method repairs it
#   as well afterwards.
