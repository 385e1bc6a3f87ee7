"""
Dictionary features beside hand-crafted ones
============================================

Biologists describe cells by measurements that somebody thought of: area, roundness,
texture. A dictionary finds its features by itself. Do the two single out the same
nuclei? Here CellProfiler's measurements are made binary, so that they can be compared
with the codes of a dictionary at an equal number of active features.

Run it with ``python examples/handcrafted_features.py``, after
``pip install -c constraints-cells.txt '.[cells]'``. The figure goes to
``examples/figures``.
"""

# %%
# Nuclei
# ------
# One image of 125 fluorescent nuclei with a mask. Each nucleus is described twice: by
# the mean of its image tokens from EfficientNet-lite0, and by CellProfiler's
# measurements, which cp_measure computes from the image and the mask. The Zernike
# moments are left out, because they are 90 numbers for shape and intensity, more than
# all other measurements that are used below.

import argparse
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from cp_measure.featurizer import featurize, make_featurizer_config
from matplotlib.colors import to_rgb
from scipy.spatial import KDTree
from scipy.stats import PermutationMethod, pearsonr
from skimage.measure import regionprops_table
from skimage.segmentation import find_boundaries
from sklearn.preprocessing import StandardScaler

from skdict import ICFL
from skdict.datasets import load_nuclei
from skdict.metrics import binarize_at_quantiles, selectivity_report

parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
parser.add_argument(
    "--figures", type=Path, default=Path("examples", "figures"), help="folder to fill"
)
options = parser.parse_args()
options.figures.mkdir(parents=True, exist_ok=True)

nuclei = load_nuclei()
image = nuclei.image / np.percentile(nuclei.image, 99.5)
n_nuclei = len(nuclei.data)

config = make_featurizer_config(["DNA"], zernike=False, radial_zernikes=False)
with warnings.catch_warnings():
    # One channel has no correlations, and the smallest nuclei have no texture.
    warnings.simplefilter("ignore")
    measured, names, _ = featurize(
        nuclei.image[None, None] / nuclei.image.max(), nuclei.mask[None, None], config
    )
measured = pd.DataFrame(
    measured, columns=[name.removesuffix("__DNA") for name in names]
)

# %%
# Which measurements take part
# ----------------------------
# As is usual with such profiles, some measurements are left out: those that are
# undefined, constant, or a place in the image, and the later one of every two that are
# nearly the same (absolute correlation above 0.9). So the size of a nucleus is in the
# table once, as its area, and not under nine other names, too.

LOCATION = "Location|Center_|BoundingBoxM|SpatialMoment"


def drop_correlated(table, limit=0.9):
    """Drop every column that correlates with an earlier one that is kept."""
    correlation = table.corr().abs().to_numpy()
    kept = []
    for column in range(len(correlation)):
        if not (correlation[column, kept] > limit).any():
            kept.append(column)
    return table.iloc[:, kept]


handcrafted = measured.loc[:, ~measured.columns.str.contains(LOCATION)]
handcrafted = handcrafted.dropna(axis="columns", thresh=n_nuclei - 5)
handcrafted = handcrafted.fillna(handcrafted.median())
handcrafted = drop_correlated(handcrafted.loc[:, handcrafted.std() > 1e-12])
print(f"{measured.shape[1]} measurements, {handcrafted.shape[1]} of them take part.")

# %%
# Codes of both
# -------------
# The dictionary learns on the tokens of the nuclei, and then writes the mean token of
# each nucleus as a sum of a few atoms. It gets as many atoms as there are binary
# measurements, two for each measurement ("low" and "high"). The binary measurements get
# as many active features per nucleus as the dictionary has. Then the number of features
# and the L0 are equal on both sides, and so is the mean fraction of the nuclei on which
# a feature is active.

N_ACTIVE = 16
centre = StandardScaler(with_std=False).fit(nuclei.tokens[nuclei.groups > 0])
dictionary = ICFL(2 * handcrafted.shape[1], N_ACTIVE, random_state=0)
dictionary.fit(centre.transform(nuclei.tokens[nuclei.groups > 0]))
learned_codes = dictionary.transform(centre.transform(nuclei.data))
n_active = learned_codes.nnz / n_nuclei
measured_codes, measured_names = binarize_at_quantiles(handcrafted, n_active)

for name, codes in (("dictionary", learned_codes), ("measurements", measured_codes)):
    fraction = np.bincount(codes.indices, minlength=codes.shape[1]) / n_nuclei
    print(
        f"{name}: {codes.shape[1]} features, {codes.nnz / n_nuclei:.1f} active per "
        f"nucleus; a feature is active on {100 * fraction.mean():.0f} % of the nuclei, "
        f"the most frequent one on {100 * fraction.max():.0f} %."
    )

# %%
# Labels
# ------
# Nobody has labelled these nuclei. The labels are computed from the image and the mask:
# the lowest and the highest fifth of six properties, 25 nuclei each. Some properties
# *are* a measurement, which then tells their labels by definition. This says nothing
# about how good hand-crafted features are, so the table calls a property trivial if its
# absolute rank correlation with any measurement exceeds 0.9. Crowding cannot be
# measured on one nucleus alone, while the network also sees its surroundings. The place
# in the image was left out, so it can be found only if the two sides of the image
# differ. They differ a little: the background is brighter on the left, and granularity,
# for which the whole image is opened, follows the background.

properties = regionprops_table(
    nuclei.mask,
    nuclei.image,
    properties=("area", "intensity_mean", "intensity_std", "eccentricity", "centroid"),
)
centres = np.column_stack([properties["centroid-0"], properties["centroid-1"]])
third_nearest = KDTree(centres).query(centres, 4)[0][:, 3]
PROPERTIES = {
    # lowest fifth, highest fifth: the values
    ("small", "large"): properties["area"],
    ("dim", "bright"): properties["intensity_mean"],
    ("even", "uneven"): properties["intensity_std"] / properties["intensity_mean"],
    ("round", "long"): properties["eccentricity"],
    ("crowded", "lone"): third_nearest,
    ("left", "right"): properties["centroid-1"],
}


def fifths(values, low, high):
    """Label of each nucleus: the lowest fifth, the highest fifth, the rest."""
    at_low, at_high = np.quantile(values, [0.2, 0.8])
    return np.select([values <= at_low, values >= at_high], [low, high], "rest")


# %%
# The best feature for each label
# -------------------------------
# Among hundreds of features some fit any label. So the best score of each label stands
# beside the best scores after its fifths were dealt out at random (95 % quantile of
# 1000 times). This null does not take into account that neighbouring nuclei are alike.


def best_features(codes):
    """Best feature of every label but "rest", with its null."""
    reports = [
        selectivity_report(
            codes, fifths(values, *ends), n_permutations=1000, random_state=0
        )
        for ends, values in PROPERTIES.items()
    ]
    report = pd.concat(reports).set_index("class").drop(index="rest")
    order = [label for ends in PROPERTIES for label in ends]
    return report.loc[order, ["best_feature", "score", "null_q95", "p_value"]]


learned, by_hand = best_features(learned_codes), best_features(measured_codes)
by_hand["measurement"] = measured_names[by_hand["best_feature"]]

ranks = handcrafted.rank()
largest_rho = {
    ends: ranks.corrwith(pd.Series(values).rank()).abs()
    for ends, values in PROPERTIES.items()
}
trivial = pd.Series(
    {label: rho.max() > 0.9 for ends, rho in largest_rho.items() for label in ends}
)
print(f"\nLabels of {n_nuclei // 5} nuclei each; the dictionary's best feature:\n")
print(learned.to_string(float_format="{:.3f}".format))
print("\nThe best measurement:\n")
shown = by_hand.drop(columns="best_feature")
shown["trivial"] = trivial.map({True: "yes", False: ""})
print(shown.to_string(float_format="{:.3f}".format))
for ends, rho in largest_rho.items():
    print(
        f"{' and '.join(ends)}: the nearest measurement is {rho.idxmax()}, "
        f"rank correlation {rho.max():.2f} in size"
    )

# %%
# What the equal L0 costs
# -----------------------
# Quantiles make every measurement active equally often, and no feature can be more
# selective than the fraction of a label's nuclei on which it may be active at all. So
# even the measurement that is the property cannot exceed this bound, while features of
# the dictionary differ in how often they are active. With quantiles of one fifth, the
# size of the labels, there is no such bound, but then the L0 is not equal, either.

n_active_fifth = 0.2 * measured_codes.shape[1]
fifth_codes, _ = binarize_at_quantiles(handcrafted, n_active_fifth)
by_hand_fifth = best_features(fifth_codes)
most_active = np.bincount(measured_codes.indices).max()
bound = np.bincount(measured_codes.indices).max() / (n_nuclei // 5)
print(f"\nBest possible score of a measurement at equal L0: {bound:.2f}.")
print(
    f"By quantiles of one fifth, {fifth_codes.nnz / n_nuclei:.0f} active per nucleus:\n"
)
shown = by_hand_fifth.drop(columns="best_feature")
print(shown.to_string(float_format="{:.3f}".format))

# %%
# Do they agree?
# --------------
# Over the labels, the best scores of one side are correlated with those of the other.
# The permutation test deals the labels out anew. Twelve labels are few, and the two
# ends of one property are not independent of each other, so the p-value is a rough one.


def agreement(some):
    return pearsonr(
        learned["score"][some],
        by_hand["score"][some],
        method=PermutationMethod(n_resamples=9999, rng=np.random.default_rng(0)),
    )


print()
for name, some in (("all labels", trivial | True), ("not trivial", ~trivial)):
    r = agreement(some)
    print(
        f"Pearson r of the best scores, {name} ({some.sum()}): "
        f"{r.statistic:.2f}, p = {r.pvalue:.3f}"
    )

# %%
# Where they are active
# ---------------------
# The figure shows the label without a trivial measurement that the dictionary tells
# best. White outlines mark the nuclei of the label, colour marks those on which the
# feature is active.

COLOURS = {"dictionary": "#0072B2", "measurement": "#D55E00"}
label = learned["score"][~trivial].idxmax()
ends, values = next(item for item in PROPERTIES.items() if label in item[0])
in_label = fifths(values, *ends) == label
outlines = find_boundaries(np.where(np.append(False, in_label)[nuclei.mask], 1, 0))
plt.rcParams.update({"font.size": 10, "axes.titlesize": 10})


def draw_nuclei(ax, codes, feature, name, colour):
    """The image, with the nuclei of the label and those of the feature."""
    active = codes[:, [feature]].toarray().ravel() != 0
    picture = np.repeat(0.8 * image.clip(0, 1)[..., None], 3, axis=2)
    tint = np.append(False, active)[nuclei.mask]
    picture[tint] = 0.3 * picture[tint] + 0.7 * np.array(to_rgb(colour))
    picture[outlines] = 1
    ax.imshow(picture)
    ax.set_title(
        f"{name}\nactive on {np.sum(active & in_label)} of {in_label.sum()} "
        f"{label} nuclei, {np.sum(active & ~in_label)} others"
    )
    ax.set(xticks=[], yticks=[])


def draw_scores(ax):
    """Best score of each label on either side, with the 95 % null as a grey bar."""
    places = np.arange(len(learned))[::-1]
    for (name, report), shift in zip(
        (("dictionary", learned), ("measurement", by_hand)), (0.17, -0.17), strict=True
    ):
        ax.barh(places + shift, report["null_q95"], 0.3, color="0.85")
        ax.plot(report["score"], places + shift, "o", color=COLOURS[name], label=name)
    ax.plot(
        by_hand_fifth["score"],
        places - 0.17,
        "o",
        color=COLOURS["measurement"],
        markerfacecolor="none",
        label="measurement, not at equal L0",
    )
    names = [f"{c} *" if t else c for c, t in trivial.items()]
    ax.set_yticks(places, names)
    ax.tick_params(axis="y", length=0)
    ax.set(xlim=(0, 1.02), xlabel="best selectivity; grey: by luck (95 %)")
    ax.set_title("Best feature for each label\n* a measurement nearly is the property")
    ax.spines[["top", "right", "left"]].set_visible(False)


figure, axes = plt.subplots(1, 3, figsize=(13, 4.9), layout="constrained")
feature = learned["best_feature"][label]
draw_nuclei(
    axes[0], learned_codes, feature, f"Feature {feature}", COLOURS["dictionary"]
)
draw_nuclei(
    axes[1],
    measured_codes,
    by_hand["best_feature"][label],
    by_hand["measurement"][label],
    COLOURS["measurement"],
)
draw_scores(axes[2])
figure.legend(
    *axes[2].get_legend_handles_labels(),
    loc="outside lower center",
    ncols=3,
    frameon=False,
)
figure.savefig(options.figures / "handcrafted_features.png", dpi=160)
print(f"\nThe figure is in {options.figures}.")
