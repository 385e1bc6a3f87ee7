"""
Heatmaps and galleries of a direction
=====================================

Where in an image does a feature respond, what does it follow, and how much of that is
chance? Heatmaps of embeddings are smooth whatever the direction, and smooth maps
correlate with anything that is smooth. This page sets a null beside each number, on a
stained tissue section and on images of solar cells.
"""

# %%
# A feature over one image
# ------------------------
# The tokens of :func:`skdict.datasets.load_tissue_tokens` lie on a grid of 64 x 64, a
# token for every 8 x 8 pixels. We take the feature of a dictionary that best singles
# out tokens with much DAB, the brown stain. The figure is the cosine of its direction
# with each token, over the image, over each channel, and by itself.

import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.color import rgb2hed
from skimage.filters import threshold_otsu
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from skdict import ICFL
from skdict.datasets import load_elpv_tokens, load_tissue_tokens
from skdict.images import (
    heatmap_by_region,
    heatmap_channel_correlations,
    morans_i,
    strongest_patches,
    token_heatmaps,
)
from skdict.inspection import GalleryDisplay, HeatmapDisplay
from skdict.metrics import auroc_scores, direction_cosines, selectivity_scores

tissue = load_tissue_tokens()
pipe = make_pipeline(
    StandardScaler(), Normalizer(), ICFL(256, 8, max_iter=10, random_state=0)
)
codes = pipe.fit_transform(tissue.data)
is_dab = np.where(tissue.target_names[tissue.target] == "DAB+", "DAB+", "other")
feature = selectivity_scores(codes, is_dab)[:, 0].argmax()

HeatmapDisplay.from_estimator(
    pipe, tissue.data, tissue.image, tissue.grid_shape, feature=feature
)

# %%
# Which channel does it follow?
# -----------------------------
# The channels can be those of any array with the channels last. Colour deconvolution
# splits the image into its stains, haematoxylin and DAB. If there is no red, green and
# blue, each channel is given a colour, here cyan and magenta.

stains = rgb2hed(tissue.image)[..., [0, 2]]
HeatmapDisplay.from_estimator(
    pipe,
    tissue.data,
    stains,
    tissue.grid_shape,
    feature=feature,
    channel_names=["haematoxylin", "DAB"],
    views=["image", "haematoxylin", "DAB"],
)

# %%
# :func:`skdict.images.heatmap_channel_correlations` gives Pearson's r with each
# channel. Neighbouring tokens are alike, so the usual p-value would be far too small.
# ``p_shift`` instead compares with the heatmap shifted to every other place on its
# grid.

rows = pipe[:-1].transform(tissue.data)
atoms = pipe[-1].components_
heatmap = token_heatmaps(direction_cosines(rows, atoms[feature]), tissue.grid_shape)
channels = np.dstack([tissue.image / 255, stains])
names = ["red", "green", "blue", "haematoxylin", "DAB"]
correlations = heatmap_channel_correlations(heatmap, channels, channel_names=names)
print(correlations.to_string(index=False, float_format="{:.2g}".format))

# %%
# A region, and two p-values
# --------------------------
# The mask holds the pixels with much DAB. :func:`skdict.images.heatmap_by_region` gives
# two p-values, and both say that the feature goes with the mask. That of the
# Mann-Whitney U test is too small for the digits shown.

dab = gaussian_filter(stains[..., 1], 4)
mask = np.where(dab > threshold_otsu(dab), "brown", "other")
region = heatmap_by_region(heatmap, mask, reference="other")
columns = ["region", "n_tokens", "n_compared", "auroc", "p_mannwhitney", "p_shift"]
print(region[columns].to_string(index=False, float_format="{:.2g}".format))

# %%
# Only one of them can be trusted. Smooth noise has nothing to do with the mask, so a
# valid p-value for it is below 0.05 in 5 % of the cases. The U test treats the tokens
# as independent, and finds something in noise far more often.

rng = np.random.default_rng(0)
noise = gaussian_filter(rng.normal(size=(200, 64, 64)), (0, 4, 4))
table = [heatmap_by_region(z, mask, reference="other") for z in noise]

figure, ax = plt.subplots(figsize=(4.2, 3.2), layout="constrained")
for name, label, colour, line in (
    ("p_mannwhitney", "Mann-Whitney U", "#D55E00", "--"),
    ("p_shift", "shift on the grid", "#0072B2", "-"),
):
    p_values = [row[name][0] for row in table]
    ax.ecdf(p_values, label=label, color=colour, linestyle=line)
    print(
        f"{label}: p < 0.05 on {np.mean(np.less(p_values, 0.05)):.0%} of smooth noise"
    )
ax.plot([0, 1], [0, 1], ":", color="black", label="as it should be")
ax.set(xlabel="p-value", ylabel="fraction of the noise maps at most p")
ax.legend(frameon=False)

# %%
# Is it more than any direction would give?
# -----------------------------------------
# A small p-value says that the values go with the region. But this may hold for a
# *random* direction, too, because the embeddings of the two regions differ in many
# ways. So here the feature is compared with 200 random directions, by its AUROC for the
# region and by Moran's I, the similarity of neighbouring tokens. Shuffled tokens are
# the usual null of Moran's I, but every direction is far above them: a smooth heatmap
# says little.

random = rng.normal(size=(200, rows.shape[1]))
maps = {
    "features": token_heatmaps(direction_cosines(rows, atoms).T.ravel(), (64, 64)),
    "random directions": token_heatmaps(
        direction_cosines(rows, random).T.ravel(), (64, 64)
    ),
}
is_brown = mask[4::8, 4::8].ravel()
figure, axes = plt.subplots(1, 2, figsize=(7, 2.8), layout="constrained")
for (name, stack), colour, line in zip(
    maps.items(), ("#0072B2", "0.45"), ("-", "--"), strict=True
):
    auroc = auroc_scores(stack.reshape(len(stack), -1).T, is_brown)[:, 0]
    moran = [morans_i(z, n_permutations=0).statistic for z in stack]
    axes[0].ecdf(auroc, label=name, color=colour, linestyle=line)
    axes[1].ecdf(moran, label=name, color=colour, linestyle=line)
shuffled = morans_i(heatmap, n_permutations=999, random_state=0)
axes[1].ecdf(shuffled.null, label="shuffled tokens", color="#D55E00", linestyle=":")
for ax, value in zip(axes, (region["auroc"][0], shuffled.statistic), strict=True):
    ax.axvline(value, color="black", linewidth=1, label="the feature")
axes[0].set(xlabel="AUROC for the brown region", ylabel="fraction of the maps")
axes[1].set(xlabel="Moran's I")
axes[1].legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
axes[0].set_ylim(0, 1)

# %%
# Many grey images
# ----------------
# The solar cells (:func:`skdict.datasets.load_elpv_tokens`, 18 x 18 tokens an image)
# are divided: two thirds of them to learn from and one third to look at. An expert has
# called some images defective, but has not marked where. A defect can be small, so the
# score of an image is its largest cosine. On the two thirds we choose the feature that
# best tells the defective images in *both* materials, by the worse of the two AUROCs.
# It is judged on the other images, beside random directions.

cells = load_elpv_tokens(None, n_images=150, return_images=True)
n_images = len(cells.images)
tokens = cells.data.reshape(n_images, -1, cells.data.shape[1])
labels = cells.target_names[cells.target].reshape(n_images, -1)[:, 0]
materials = cells.batch.reshape(n_images, -1)[:, 0]
sure = np.isin(labels, ["defective", "functional"])
learn = np.arange(n_images) % 3 != 0

cell_pipe = clone(pipe).fit(np.concatenate(tokens[learn]))
atoms = cell_pipe[-1].components_


def image_heatmaps(images, directions):
    rows = cell_pipe[:-1].transform(np.concatenate(tokens[images]))
    cosines = direction_cosines(rows, directions).T
    return cosines.reshape(len(directions), -1, *cells.grid_shape)


def worse_auroc(images, directions):
    aurocs = []
    for material in ("mono", "poly"):
        some = images & sure & (materials == material)
        largest = image_heatmaps(some, directions).max(axis=(2, 3)).T
        aurocs.append(auroc_scores(largest, labels[some])[:, 0])
    return np.min(aurocs, axis=0)


feature = worse_auroc(learn, atoms).argmax()
for name, images in (("learned from", learn), ("held out", ~learn)):
    auroc, *null = worse_auroc(images, np.vstack([atoms[feature], random]))
    print(
        f"AUROC for defective, {np.sum(images & sure)} images {name}: {auroc:.2f}; "
        f"95 % of the random directions below {np.quantile(null, 0.95):.2f}"
    )

# %%
# The best of many features is worse on other images: there it does not exceed the 95 %
# of the random directions any more. With a few dozen images chance has a large effect.
# The pictures may show what the label cannot tell.
# :class:`skdict.inspection.GalleryDisplay` shows the held-out images that are most and
# least aligned with the feature, by their largest cosine. The least aligned images say
# as much as the most aligned ones.

maps = image_heatmaps(~learn, np.vstack([atoms[feature], random[0]]))
shown = cells.images[~learn]
GalleryDisplay.from_predictions(
    maps[0], shown, image_score="max", n_items=5, overlay=True, feature=feature
)

# %%
# The strongest patches show what the feature responds to most: here one token, framed,
# with three tokens around it on every side.

GalleryDisplay.from_predictions(
    maps[0], shown, of="patches", n_items=5, max_per_image=1, feature=feature
)

# %%
# The same for the first random direction. Its patches look alike, too.

GalleryDisplay.from_predictions(
    maps[1], shown, of="patches", n_items=5, max_per_image=1
)

# %%
# The same places as a table, and the heatmaps of these images:

patches = strongest_patches(maps[0], n_patches=3, max_per_image=1)
print(patches.to_string(index=False, float_format="{:.2f}".format))
best = patches["image"].to_numpy()
HeatmapDisplay.from_predictions(
    maps[0, best],
    shown[best],
    feature=feature,
    image_names=[f"image {i}" for i in best],
)

# %%
# What to remember
# ----------------
# - A smooth heatmap is no sign of a concept, and a U test over tokens finds something
#   in smooth noise. Shift the heatmap instead: both tables have ``p_shift``.
# - Random directions are the null of a *direction*. A feature that goes with a region
#   is of interest if it exceeds them.
# - Look at both ends of a gallery, and choose a feature on other images than those on
#   which it is shown.
