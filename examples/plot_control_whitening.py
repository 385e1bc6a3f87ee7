"""
What control whitening changes
==============================

Controls show how embeddings vary when nothing has been done.
:class:`skdict.ControlPCAWhitener` measures that variation and divides every row by it.
What does this change for controls that the whitener has not seen, for experimental
batches, and for the features of a dictionary? On these data it changes less than one
might hope, and the page shows that, too.
"""

# %%
# Solar cells as an experiment
# ----------------------------
# :func:`skdict.datasets.load_elpv_tokens` gives tokens of images of solar cells. The
# controls are cells in which an expert was sure to see no defect. The two materials,
# mono- and polycrystalline silicon, act like batches: they affect every image. A label
# belongs to a whole image, so whole images go to one half or the other. Everything is
# learned on one half and judged on the other.

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from skdict import ICFL, ControlCenterScaler, ControlPCAWhitener
from skdict.datasets import load_elpv_tokens, load_tissue_tokens
from skdict.evaluation import compare_dictionaries, pursuit_ablations
from skdict.inspection import DirectionHistogramDisplay
from skdict.metrics import make_linear_probe, selectivity_report, selectivity_scores

BLUE, VERMILION, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "0.45"
plt.rcParams.update({"font.size": 8, "legend.frameon": False, "figure.dpi": 200})

cells = load_elpv_tokens(20, n_images=120)
X, control, batch, image = cells.data, cells.control, cells.batch, cells.groups
names = cells.target_names[cells.target]
defect = np.where(np.char.startswith(names, "defective"), "defective", "intact")

kinds = np.char.add(names, batch)
halves = StratifiedGroupKFold(2, shuffle=True, random_state=0).split(X, kinds, image)
(learn, judge), _ = halves = list(halves)

counts = pd.DataFrame({"label": names, "batch": batch, "image": image})
counts = counts.drop_duplicates("image")
print(pd.crosstab(counts["label"], counts["batch"]).to_string())

# %%
# The spectrum, before and after
# ------------------------------
# The eigenvalues of a covariance matrix are the variances along its principal axes. If
# all are 1, the matrix is the identity. Before whitening a few axes carry much of the
# variance, of controls and of defective cells alike. Whitening gives the identity on
# the controls on which it was fitted. On controls of other images it does so only
# roughly, because their images differ and the covariance had to be estimated. The
# covariance of the held-out rows is an estimate, too. White noise with as many rows as
# there are held-out controls (grey) shows how far from flat that alone makes a
# spectrum.

whitener = ControlPCAWhitener().fit(X[learn], control=control[learn])
rows = {
    "controls, fitted on": learn[control[learn]],
    "controls, held out": judge[control[judge]],
    "defective cells, held out": judge[defect[judge] == "defective"],
}


def spectrum(X):
    """Eigenvalues of the covariance matrix, falling."""
    return np.linalg.eigvalsh(np.cov(X.T))[::-1]


figure, (before, after) = plt.subplots(1, 2, figsize=(6.4, 2.6), layout="constrained")
summary = {}
styles = zip((BLUE, VERMILION, GREEN), ("-", "--", "-."), strict=True)
for (name, part), (colour, dashes) in zip(rows.items(), styles, strict=True):
    raw, white = spectrum(X[part]), spectrum(whitener.transform(X[part]))
    before.plot(raw, color=colour, linestyle=dashes, label=name)
    after.plot(white, color=colour, linestyle=dashes)
    summary[name] = {
        "first 5 axes, before": f"{raw[:5].sum() / raw.sum():.0%}",
        "after": f"{white[:5].sum() / white.sum():.0%}",
        "eigenvalues after": f"{white[-1]:.2f} to {white[0]:.2f}",
    }
n_held_out = len(rows["controls, held out"])
noise = spectrum(np.random.default_rng(0).normal(size=(n_held_out, X.shape[1])))
after.plot(noise, color=GREY, linestyle=":", label="white noise")
before.set(title="tokens as they are", yscale="log", ylabel="eigenvalue (variance)")
after.set(title="whitened by the controls", yscale="log")
after.set_yticks([0.2, 0.5, 1, 2, 5], [0.2, 0.5, 1, 2, 5])
after.minorticks_off()
figure.supxlabel("principal axis", fontsize=8)
figure.legend(loc="outside upper center", ncols=4)
plt.show()

print("Fraction of the variance that the first five principal axes hold:\n")
print(pd.DataFrame(summary).T.to_string())

# %%
# Too few controls
# ----------------
# Along axes that the controls barely span, the variance is underestimated, and rows
# that were not in the estimate become too large. With fewer than two controls per
# feature there is a warning. ``shrinkage="auto"`` limits the size of the worst axis.
# How large do held-out controls become along their worst axis? The dotted line is for
# white noise.
#
# Tokens of one image are alike, so the same number of tokens is worth less if it comes
# from few images: count independent controls, not rows.

N_CONTROLS, N_DRAWS = [100, 160, 320, 600], 5
own_controls = rows["controls, fitted on"]
held_out = X[rows["controls, held out"]]


def worst_axis(chosen, shrinkage):
    """Standard deviation of held-out controls along their worst axis."""
    mask = np.zeros(len(X), dtype=bool)
    mask[chosen] = True
    whitener = ControlPCAWhitener(shrinkage=shrinkage).fit(X, control=mask)
    return np.sqrt(spectrum(whitener.transform(held_out))[0])


def draw(n, few_images, rng):
    """Draw n controls, from as few images as possible or from all of them."""
    if not few_images:
        return rng.choice(own_controls, n, replace=False)
    images = rng.permutation(np.unique(image[own_controls]))
    order = np.argsort([np.flatnonzero(images == i)[0] for i in image[own_controls]])
    return own_controls[order[:n]]


figure, ax = plt.subplots(figsize=(3.4, 2.8), layout="constrained")
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for shrinkage, colour in ((None, VERMILION), ("auto", BLUE)):
        for few_images, dashes in ((True, "--o"), (False, "-s")):
            rng = np.random.default_rng(0)
            spread = [
                [worst_axis(draw(n, few_images, rng), shrinkage) for n in N_CONTROLS]
                for _ in range(N_DRAWS)
            ]
            ax.plot(
                N_CONTROLS,
                np.mean(spread, axis=0),
                dashes,
                color=colour,
                markersize=4,
                label=f"{shrinkage}, {'few' if few_images else 'all'} images",
            )
            ax.fill_between(
                N_CONTROLS,
                np.min(spread, axis=0),
                np.max(spread, axis=0),
                color=colour,
                alpha=0.15,
                linewidth=0,
            )
print(f"{caught[0].category.__name__}: {caught[0].message}")
ax.axhline(np.sqrt(noise[0]), color=GREY, linestyle=":")
ax.set(xscale="log", yscale="log", xlabel="control tokens", ylim=(1, None))
ax.set_ylabel("std along the worst axis")
ax.set_xticks(N_CONTROLS, N_CONTROLS)
ax.set_yticks([1, 2, 5, 10], [1, 2, 5, 10])
ax.minorticks_off()
ax.legend(title="shrinkage", fontsize=7)
plt.show()

# %%
# Batches and labels, to a linear probe
# -------------------------------------
# Whitening is one linear map for all rows, so a linear probe finds in the result what
# it found before: the defect, and the material as well. To remove the batches, first
# centre each batch on its own controls, with :class:`skdict.ControlCenterScaler`. This
# removes a part of the difference.
#
# Preparations are learned on one half of the images, and probes are cross-validated on
# the other half, by image. The same rows must not serve both purposes: a batch has mean
# zero on the controls by which it was centred, but not on new rows. Then the halves
# change places, so there are two dots for each figure.

prepared = {}
for half, (learn, _) in enumerate(halves):
    by_batch = ControlCenterScaler()
    by_batch.fit(X[learn], control=control[learn], batch=batch[learn])
    X_by_batch = by_batch.transform(X, batch=batch)
    for suffix, Z in (("", X), (" by batch", X_by_batch)):
        own_controls = Z[learn[control[learn]]]
        centred = StandardScaler(with_std=False).fit(own_controls)
        whitened = ControlPCAWhitener().fit(Z[learn], control=control[learn])
        prepared[f"centred{suffix}", half] = centred.transform(Z)
        prepared["whitened" + suffix.replace(" by", ", centred by"), half] = (
            whitened.transform(Z)
        )

labels = {"defect": defect, "material": batch}
probed = pd.DataFrame(
    {
        "preparation": name,
        "label": label,
        "score": cross_val_score(
            make_linear_probe(),
            Z[halves[half][1]],
            y[halves[half][1]],
            groups=image[halves[half][1]],
            cv=StratifiedGroupKFold(3, shuffle=True, random_state=0),
            scoring="balanced_accuracy",
        ).mean(),
        "chance": 1 / 2,
    }
    for (name, half), Z in prepared.items()
    for label, y in labels.items()
)


def draw_dots(table, xlabel):
    """The scores of both halves, one above the other, with chance as grey ticks."""
    names = table["preparation"].unique()
    figure, axes = plt.subplots(
        1, 2, figsize=(6.4, 1.9), sharey=True, sharex=True, layout="constrained"
    )
    for ax, (label, part) in zip(axes, table.groupby("label"), strict=True):
        # The rows of a preparation are its two halves.
        place = part["preparation"].map(list(names).index)
        place += 0.3 * part.groupby("preparation").cumcount() - 0.15
        ax.plot(part["chance"], place, "|", color=GREY, markersize=7)
        ax.plot(part["score"], place, "o", color=BLUE, markersize=4)
        ax.set_title(label)
        ax.grid(axis="x", color="0.9")
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    axes[0].margins(y=0.1)
    figure.supxlabel(xlabel, fontsize=8)
    plt.show()


draw_dots(probed, "balanced accuracy of a linear probe (grey: chance)")

# %%
# What the features respond to
# ----------------------------
# A dictionary is not linear: it places its atoms where the rows vary, and whitening
# changes where that is. The score is the selectivity of the best feature of each class,
# as a mean over both classes. Chance is the 95 % quantile of the score when labels are
# permuted between images. Tokens of an image share its label, so permuting tokens would
# make any feature of a single odd image look significant; ``groups`` prevents this.
#
# A dot that is not to the right of its grey tick has found nothing. This is to be
# expected for the defect, because most tokens of a defective cell show intact silicon
# and there are few images. The material is in every token.

dictionaries, selectivity = {}, []
for (name, half), Z in prepared.items():
    learn, judge = halves[half]
    dictionary = make_pipeline(Normalizer(), ICFL(160, 8, random_state=0))
    dictionaries[name, half] = dictionary.fit(Z[learn])
    codes = dictionary.transform(Z[judge])
    for label, y in labels.items():
        report = selectivity_report(
            codes, y[judge], groups=image[judge], n_permutations=200, random_state=0
        )
        score, chance = report.loc[0, ["mean_score", "null_mean_q95"]]
        row = {"preparation": name, "label": label, "score": score, "chance": chance}
        selectivity.append(row)
selectivity = pd.DataFrame(selectivity)
draw_dots(selectivity, "selectivity of the best feature (grey: chance)")
for title, table in (("probe", probed), ("selectivity", selectivity)):
    means = table.groupby(["preparation", "label"], sort=False)[["score", "chance"]]
    print(f"\n{title}, mean of both halves:\n")
    print(means.mean().unstack().round(3).to_string())

# %%
# The direction of a batch
# ------------------------
# This is the feature that is most selective for the material on the half that trained
# the dictionary. The histograms are its cosines with the tokens of the other half. If
# the two histograms lie apart, the feature follows the batch.

learn, judge = halves[0]
figure, axes = plt.subplots(
    1, 3, figsize=(6.4, 2.3), sharex=True, sharey=True, layout="constrained"
)
names = ("centred", "whitened", "whitened, centred by batch")
corner = {"ha": "right", "va": "top", "fontsize": 7}
for ax, name in zip(axes, names, strict=True):
    Z, dictionary = prepared[name, 0], dictionaries[name, 0]
    scores = selectivity_scores(dictionary.transform(Z[learn]), batch[learn])
    feature, material = np.unravel_index(scores.argmax(), scores.shape)
    DirectionHistogramDisplay.from_estimator(
        dictionary,
        Z[judge],
        batch[judge],
        feature=int(feature),
        label=str(np.unique(batch)[material]),
        ax=ax,
        bins=25,
    )
    ax.set_xlabel(f"cosine with direction {feature}")
    ax.label_outer()
    ax.text(0.98, 0.97, name.replace(", ", ",\n"), transform=ax.transAxes, **corner)
for ax in axes[1:]:
    ax.get_legend().remove()
plt.show()

# %%
# Labels that every token shows
# -----------------------------
# In :func:`skdict.datasets.load_tissue_tokens` each token has a label of its own, and
# stroma takes the place of controls. :func:`skdict.evaluation.pursuit_ablations` makes
# two pipelines, one with whitening and one with plain centring instead.
# :func:`skdict.evaluation.compare_dictionaries` judges both on held-out tiles of the
# image. Labels are permuted inside the tiles.

tissue = load_tissue_tokens()
y = tissue.target_names[tissue.target]
tile = tissue.rows // 8 * 8 + tissue.columns // 8
pipeline = make_pipeline(ControlPCAWhitener(), Normalizer(), ICFL(160, 8))
runs = compare_dictionaries(
    pursuit_ablations(pipeline)["whitening"],
    tissue.data,
    y,
    groups=tile,
    control=y == "stroma",
    batch=tile,
    cv=2,
    seeds=1,
    n_permutations=50,
)
measures = [
    "average_selectivity",
    "average_selectivity_null",
    "probe_x",
    "probe_codes",
    "explained_variance",
    "coherence",
]
print(runs.groupby("dictionary")[measures].mean().T.round(3).to_string())

# %%
# ``average_selectivity_null`` is what chance gives, and ``probe_x`` is the probe on the
# rows before the dictionary. The two explained variances cannot be compared, because
# they are of different rows: whitened rows have no few strong axes and are harder to
# rebuild. ``coherence`` is the largest cosine of two atoms.

# %%
# What to remember
# ----------------
# - Whitening gives the identity on the controls on which it is fitted. On new controls
#   it does so only if there were enough controls, and independent ones.
# - ``shrinkage="auto"`` is the safe choice if controls are few; with many it changes
#   little.
# - Whitening removes no batch. Centring by batch removes what a batch adds to all its
#   rows, as far as the controls of the batch show it.
# - Whitening does not make labels easier for a linear probe. Whether it makes features
#   more selective has to be measured. The figures above hold for these cells and this
#   tissue; other data can give another answer. Compare with plain centring before you
#   decide.
