"""
Concepts in a stained tissue section
====================================

A network trained on photographs has never seen a stained tissue section. Which
directions of its embedding space nevertheless respond to the white lumen of a gland,
to the brown DAB stain or to the stroma between the glands? This example learns sparse
dictionaries on the left half of one real image and judges them on the right half.

Run it with ``make demo``, or ``python examples/tissue_concepts.py``; the option
``--quick`` takes one seed, fewer values of k and a quarter of the epochs. The figures
and the table of all runs go to ``examples/figures``.
"""

# %%
# Tokens and labels
# -----------------
# The image of 512 x 512 pixels goes through EfficientNet-lite0, and
# ``TokenExtractor(model, "_blocks.7", pool=None)`` keeps one vector of 80 numbers for
# each place of a 64 x 64 grid: a token, which stands for 8 x 8 pixels. Each token's
# label is computed from the brightness and the stain of its own pixels.
#
# Stroma takes the place of controls: tokens are centred, and optionally whitened, by
# the mean and covariance of stroma. A screen has untreated control wells for this.

import argparse
from pathlib import Path
from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch
from sklearn import set_config
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.utils.parallel import Parallel, delayed
from tqdm import tqdm

from skdict import ICFL, ControlPCAWhitener, Reconstructor, TopKSAE
from skdict.datasets import load_tissue_tokens
from skdict.metrics import (
    dead_feature_fraction,
    explained_variance,
    make_linear_probe,
    make_selectivity_scorer,
    mutual_coherence,
    reconstruction_cosine,
    selectivity_report,
    selectivity_scores,
)

parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
parser.add_argument(
    "--quick", action="store_true", help="one seed, fewer k, fewer epochs"
)
parser.add_argument(
    "--figures", type=Path, default=Path("examples", "figures"), help="folder to fill"
)
options = parser.parse_args()
options.figures.mkdir(parents=True, exist_ok=True)
start = perf_counter()

tissue = load_tissue_tokens()
X, y, columns = tissue.data, tissue.target_names[tissue.target], tissue.columns
classes = np.unique(y)
reference = y == "stroma"
train, test = columns < 32, columns >= 32
TEST_GRID = (64, 32)  # the tokens of the right half, row by row

print(f"{len(X)} tokens of {X.shape[1]} features, a grid of {tissue.grid_shape}.")
counts = pd.crosstab(y, np.where(train, "left half: trains", "right half: tests"))
print(counts.rename_axis(index=None, columns=None).to_string())
print(
    "Stroma is the reference class for centring and whitening. It is a reference,\n"
    "not an experimental control: no treatment was withheld from it."
)

# %%
# From tokens to codes
# --------------------
# A pipeline has three steps: centre or whiten by the reference, scale every token to
# unit length, learn a dictionary. The mask of reference tokens is passed as metadata
# under the name ``control``, so it is split into folds together with the rows.
# ``ControlPCAWhitener`` requests it by itself. ``StandardScaler`` knows only weights; a
# weight of 1 for reference tokens and 0 for others centres on the mean of the
# reference.

set_config(enable_metadata_routing=True)

SCALERS = {
    "centred": StandardScaler(with_std=False).set_fit_request(sample_weight="control"),
    "whitened": ControlPCAWhitener(),
}
DICTIONARIES = {"TopKSAE": TopKSAE(), "ICFL": ICFL()}
if options.quick:
    for dictionary in DICTIONARIES.values():
        dictionary.set_params(max_iter=dictionary.max_iter // 4)
CONFIGURATIONS = [(s, d) for s in SCALERS for d in DICTIONARIES]
K = X.shape[1] // 10  # the default of both: 8 active features among 640


def make_concepts(scaler, dictionary, k, seed):
    """Pipeline from tokens to sparse codes."""
    return Pipeline(
        [
            ("scale", clone(SCALERS[scaler])),
            ("normalise", Normalizer()),
            (
                "dictionary",
                clone(DICTIONARIES[dictionary]).set_params(k=k, random_state=seed),
            ),
        ]
    )


# %%
# What is measured
# ----------------
# Everything is measured on the right half, except dead features, which are those that
# never fire on the tokens that trained them. The selectivity of a feature for a label
# is the fraction of the label's tokens on which it fires, minus that fraction among all
# other tokens. With 640 features some score well by luck, so the best ones are compared
# with the best ones under labels that mean nothing: the map of the labels, shifted over
# the right half by a random number of rows and columns. Labels and features are alike
# for neighbouring tokens. If labels were permuted token by token, they would no longer
# be, and any feature would look better than luck.
#
# The probes are linear classifiers of the three labels. With ``FrozenEstimator`` they
# reuse the fitted dictionary, also inside ``Reconstructor``.

N_PERMUTATIONS = 100


def balanced_accuracies(concepts):
    """Probes on the tokens, their codes and their reconstruction."""
    rows = FrozenEstimator(concepts[:-1])
    dictionary = FrozenEstimator(concepts[-1])
    probes = {
        "probe on x": make_pipeline(rows, make_linear_probe()),
        "probe on codes": make_pipeline(rows, dictionary, make_linear_probe()),
        "probe on reconstruction": make_pipeline(
            rows, Reconstructor(dictionary), make_linear_probe()
        ),
    }
    return {
        name: balanced_accuracy(probe.fit(X[train], y[train]))
        for name, probe in probes.items()
    }


def balanced_accuracy(classifier):
    return balanced_accuracy_score(y[test], classifier.predict(X[test]))


def measure(concepts):
    """Fit the pipeline on the left half; return it and all figures of the right."""
    began = perf_counter()
    concepts.fit(X[train], control=reference[train])
    seconds = perf_counter() - began
    dictionary = concepts[-1]
    rows = concepts[:-1].transform(X[test])
    codes = dictionary.transform(rows)
    rebuilt = dictionary.inverse_transform(codes)
    report = selectivity_report(
        codes,
        y[test],
        n_permutations=N_PERMUTATIONS,
        grid_shape=TEST_GRID,
        random_state=0,
    )
    n_components = len(dictionary.components_)
    dead = dead_feature_fraction(concepts.transform(X[train])) * n_components
    figures = {
        "cosine": reconstruction_cosine(rows, rebuilt),
        "explained variance": explained_variance(rows, rebuilt),
        "active features (L0)": codes.nnz / len(rows),
        f"dead features of {n_components}": dead,
        "coherence": mutual_coherence(dictionary.components_),
        "mean best selectivity": report["mean_score"][0],
        "selectivity, null 95 %": report["null_mean_q95"][0],
        **{
            f"selectivity for {label}": score
            for label, score in zip(report["class"], report["score"], strict=True)
        },
        **balanced_accuracies(concepts),
        "fit seconds": seconds,
    }
    return concepts, figures


# %%
# All runs: five seeds at k = 8, two seeds at the other k, two runs at a time with one
# thread each. ``--quick`` stays in one process, because it would end before a second
# one has started.

SEEDS = range(1) if options.quick else range(5)
SEEDS_OF_OTHER_K = SEEDS[:2]
JOBS = 1 if options.quick else 2
SIZES = (4, K) if options.quick else (2, 4, K, 16, 32)

runs = [
    (scaler, dictionary, k, seed)
    for k in SIZES
    for scaler, dictionary in CONFIGURATIONS
    for seed in (SEEDS if k == K else SEEDS_OF_OTHER_K)
]
jobs = (delayed(measure)(make_concepts(*run)) for run in runs)
outcomes = Parallel(n_jobs=JOBS, return_as="generator")(jobs)
bar = tqdm(outcomes, total=len(runs), desc="dictionaries", unit="fit", mininterval=1)
fitted, figures = zip(*bar, strict=True)
fitted = dict(zip(runs, fitted, strict=True))
results = pd.concat(
    [
        pd.DataFrame(runs, columns=["scaler", "dictionary", "k", "seed"]),
        pd.DataFrame(figures),
    ],
    axis=1,
)
results.to_csv(options.figures / "all_runs.csv", index=False)
MEASURES = list(results.columns[4:])

# %%
# The table
# ---------
# Mean and standard deviation over the seeds. Cosine and explained variance are those of
# the rows that the dictionary sees. So they compare the dictionaries within one
# preprocessing, but not the two preprocessings: whitened rows have no few strong
# directions and are harder to rebuild.


def with_spread(values):
    """Mean and standard deviation over the seeds, as text."""
    digits = 3 if 0 < values.mean() <= 1 else 1
    spread = f" ± {values.std():.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{spread}"


at_default = results[results["k"] == K]
table = at_default.groupby(["scaler", "dictionary"], sort=False)[MEASURES]
table = table.agg(with_spread).T
print(
    f"\nRight half of the image, k = {K}, mean ± deviation of {len(SEEDS)} seed(s):\n"
)
print(table.rename_axis(columns=[None, None]).to_string())
raw_probe = make_linear_probe().fit(X[train], y[train])
print(
    f"\nThe probe on the raw tokens, for comparison: {balanced_accuracy(raw_probe):.3f}"
)
print(
    "Cosine and explained variance compare dictionaries within a preprocessing only.\n"
    "The null shifts the map of the labels over the right half: labels stay as smooth\n"
    "in space as they are. Permuted token by token they would be too easy to beat."
)

# %%
# Who is ahead, and where
# -----------------------
# The tables are computed from all runs. They list every figure in which the named side
# has the better mean. "In every seed" says that its worst seed beats the best seed of
# the other side.

LOWER_IS_BETTER = {"coherence", "fit seconds", *(m for m in MEASURES if "dead" in m)}
NOT_COMPARED = {"active features (L0)", "selectivity, null 95 %", "probe on x"}
COMPARED = [measure for measure in MEASURES if measure not in NOT_COMPARED]


def leads(runs, column, ahead, behind, measures):
    """Table of the measures in which one value of a column has the better mean."""
    by = ["k", "scaler" if column == "dictionary" else "dictionary"]
    rows = []
    for names, frame in runs.groupby(by, sort=False):
        sides = [frame[frame[column] == side] for side in (ahead, behind)]
        for measure_name in measures:
            a, b = (side[measure_name] for side in sides)
            sign = -1 if measure_name in LOWER_IS_BETTER else 1
            if sign * a.mean() <= sign * b.mean():
                continue
            row = dict(zip(by, names, strict=True)) | {"figure": measure_name}
            row |= {ahead: with_spread(a), behind: with_spread(b), "seeds": len(a)}
            clear = (sign * a).min() > (sign * b).max()
            rows.append(row | {"in every seed": "yes" if clear else "no"})
    return pd.DataFrame(rows).to_string(index=False) if rows else "  nowhere"


print("\nWhere TopKSAE is ahead of ICFL (elsewhere ICFL is level or ahead):\n")
print(leads(results, "dictionary", "TopKSAE", "ICFL", COMPARED))

same_scale = [m for m in COMPARED if m not in ("cosine", "explained variance")]
for ahead, behind in (("centred", "whitened"), ("whitened", "centred")):
    print(f"\nWhere {ahead} is ahead of {behind}, at k = {K}:\n")
    print(leads(at_default, "scaler", ahead, behind, same_scale))
print(
    "\nWhitening makes the reference alike in all directions, so few features can\n"
    "single out stroma there: whitened features tell what departs from the reference."
)

# %%
# Choosing k and the preprocessing
# --------------------------------
# This is a grid search over the whole pipeline, on the left half only. Columns of the
# image are the groups, so no column is in both the training and the validation part of
# a fold. Adjacent columns still look alike, so the result is judged on the right half.
# Of the candidates within one standard deviation of the best, the one with the fewest
# active features is taken.


def fewest_within_deviation(cv_results):
    """Index of the smallest k whose score is within one deviation of the best."""
    means = cv_results["mean_test_score"]
    best = means.argmax()
    enough = means >= means[best] - cv_results["std_test_score"][best]
    k = np.where(enough, cv_results["param_icfl__k"], np.inf).astype(float)
    return int(np.lexsort((-means, k))[0])


pipeline = Pipeline(
    [
        ("scale", SCALERS["whitened"]),
        ("normalise", Normalizer()),
        ("icfl", clone(DICTIONARIES["ICFL"]).set_params(random_state=0)),
    ]
)
grid = {"scale": list(SCALERS.values()), "icfl__k": SIZES}
folds = StratifiedGroupKFold(n_splits=2 if options.quick else 3)
search = GridSearchCV(
    pipeline,
    grid,
    scoring=make_selectivity_scorer(),
    cv=folds,
    refit=fewest_within_deviation,
    n_jobs=JOBS,
    verbose=1,
)
print("\nGrid search on the left half.", flush=True)
search.fit(X[train], y[train], control=reference[train], groups=columns[train])

scaler_names = {type(scaler): name for name, scaler in SCALERS.items()}
scores = pd.DataFrame(search.cv_results_["params"])
scores["scale"] = [scaler_names[type(scaler)] for scaler in scores["scale"]]
scores["score"] = [
    f"{mean:.3f} ± {spread:.3f}"
    for mean, spread in zip(
        search.cv_results_["mean_test_score"],
        search.cv_results_["std_test_score"],
        strict=True,
    )
]
scores = scores.pivot(index="icfl__k", columns="scale", values="score")
print("Mean best selectivity of ICFL's features, mean ± deviation over the folds:\n")
print(scores.rename_axis(index="k", columns=None).to_string())

best = search.best_estimator_
best_scaler, best_k = scaler_names[type(best["scale"])], best["icfl"].k
codes = best.transform(X)
print(f"\nChosen: {best_scaler}, k = {best_k}. Its features on the right half:\n")
print(
    selectivity_report(
        codes[test],
        y[test],
        n_permutations=1000,
        grid_shape=TEST_GRID,
        random_state=0,
    ).to_string(index=False, float_format="{:.3f}".format)
)

# %%
# What the features see
# ---------------------
# The figure shows, for each label, the feature that is the most selective on the left
# half, drawn over the image. The rates above the pictures and in the bars count the
# right half only.

LABEL_COLOURS = {"blank": "#56B4E9", "stroma": "#009E73", "DAB+": "#E69F00"}
LABEL_NAMES = {
    "blank": "blank (no tissue)",
    "stroma": "stroma (little DAB)",
    "DAB+": "DAB+ (brown stain)",
}
DICTIONARY_COLOURS = {"ICFL": "#0072B2", "TopKSAE": "#D55E00"}
plt.rcParams.update({"font.size": 10, "axes.titlesize": 10.5, "figure.dpi": 100})
grey = tissue.image.mean(axis=2) / 255
EXTENT = (0, 512, 512, 0)


def firing_rates(feature):
    """Fraction of each label's tokens on which the feature fires, right half."""
    active = codes[:, [feature]].toarray().ravel() != 0
    rates = {label: active[test & (y == label)].mean() for label in LABEL_COLOURS}
    rest = {label: active[test & (y != label)].mean() for label in LABEL_COLOURS}
    return rates, rest


def mark_halves(ax):
    ax.axvline(256, color="black", linewidth=1.2, linestyle=(0, (4, 3)))
    for x, text in ((128, "learned here"), (384, "tested here")):
        ax.text(x, 530, text, ha="center", va="top", fontsize=9)
    ax.set(xticks=[], yticks=[])


def draw_heatmap(ax, feature, label):
    """The strength of a feature, over a pale version of the image."""
    strength = abs(codes[:, [feature]].toarray().reshape(tissue.grid_shape))
    ax.imshow(0.55 + 0.45 * grey, cmap="gray", vmin=0, vmax=1, extent=EXTENT)
    picture = ax.imshow(
        np.ma.masked_equal(strength / strength.max(), 0),
        cmap="viridis_r",
        vmin=0,
        vmax=1,
        extent=EXTENT,
        alpha=0.9,
    )
    rates, rest = firing_rates(feature)
    ax.set_title(
        f"Feature {feature}: fires on {100 * rates[label]:.0f} %\nof {label} tokens, "
        f"{100 * rest[label]:.0f} % of the rest",
    )
    mark_halves(ax)
    return picture


def draw_rates(ax, features):
    """Bars: how often each of the features fires on each label."""
    places = np.arange(len(features))
    for i, (name, colour) in enumerate(LABEL_COLOURS.items()):
        rates = [100 * firing_rates(feature)[0][name] for feature in features.values()]
        bars = ax.bar(places + 0.29 * (i - 1), rates, 0.27, color=colour)
        ax.bar_label(bars, fmt="%.0f %%", fontsize=8, padding=1)
    ax.set_xticks(places, [f"feature {feature}" for feature in features.values()])
    ax.tick_params(axis="x", length=0, labelsize=9)
    ax.set(ylim=(0, 108), yticks=[])
    ax.set_title(
        "Fraction of each label's tokens on which\nthe features below fire, tested half"
    )
    ax.set_box_aspect(1)
    ax.spines[["top", "left", "right"]].set_visible(False)


left_scores = selectivity_scores(codes[train], y[train])
features = {
    label: int(left_scores[:, np.flatnonzero(classes == label)[0]].argmax())
    for label in LABEL_COLOURS
}
label_map = np.searchsorted(classes, y).reshape(tissue.grid_shape)

figure, axes = plt.subplots(2, 3, figsize=(10, 8), layout="constrained")
axes[0, 0].imshow(tissue.image, extent=EXTENT)
axes[0, 0].set_title("Colon glands;\nbrown is the DAB stain")
mark_halves(axes[0, 0])
axes[0, 1].imshow(
    label_map, cmap=ListedColormap([LABEL_COLOURS[c] for c in classes]), extent=EXTENT
)
axes[0, 1].set_title("Labels of the tokens,\ncomputed from the pixels")
mark_halves(axes[0, 1])
draw_rates(axes[0, 2], features)
for ax, (label, feature) in zip(axes[1], features.items(), strict=True):
    picture = draw_heatmap(ax, feature, label)
figure.colorbar(
    picture,
    ax=axes[1],
    location="bottom",
    shrink=0.4,
    aspect=30,
    label="strength of the feature, as a fraction of its maximum",
)
figure.legend(
    handles=[Patch(color=LABEL_COLOURS[c], label=LABEL_NAMES[c]) for c in LABEL_NAMES],
    loc="outside upper center",
    ncols=3,
    frameon=False,
)
figure.savefig(options.figures / "tissue_concepts.png", dpi=160)

# %%
# Is it more than luck?
# ---------------------
# The figure shows all features of a dictionary, the most selective first. The dotted
# lines are what the same codes reach with shifted label maps: the luck of the best of
# 640 features.


def sorted_scores(codes, labels):
    """Selectivity of all features, falling, one column for each label."""
    return -np.sort(-selectivity_scores(codes, labels), axis=0)


def null_scores(codes, labels):
    """95 % quantile of the sorted scores under shifts of the label map."""
    rng = np.random.default_rng(0)
    label_map = labels.reshape(TEST_GRID)
    shifted = (
        np.roll(label_map, rng.integers(TEST_GRID), axis=(0, 1)).ravel()
        for _ in range(N_PERMUTATIONS)
    )
    return np.quantile([sorted_scores(codes, y) for y in shifted], 0.95, axis=0)


figure, axes = plt.subplots(
    2, 2, figsize=(8, 6.6), sharex=True, sharey=True, layout="constrained"
)
for ax, (scaler, dictionary) in zip(axes.ravel(), CONFIGURATIONS, strict=True):
    test_codes = fitted[scaler, dictionary, K, 0].transform(X[test])
    curves = sorted_scores(test_codes, y[test])
    nulls = null_scores(test_codes, y[test])
    rank = np.arange(1, len(curves) + 1)
    for i, label in enumerate(classes):
        colour = LABEL_COLOURS[label]
        ax.plot(rank, curves[:, i].clip(0), color=colour, linewidth=2)
        ax.plot(rank, nulls[:, i].clip(0), ":", color=colour, linewidth=1.5)
    ax.set_title(f"{dictionary}, {scaler}, k = {K}")
    ax.set(xscale="log", xlim=(1, len(curves)))
    ax.set_xticks([1, 10, 100], ["1st", "10th", "100th"])
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", color="0.9")
axes[0, 0].set_ylim(0, None)
figure.supxlabel("features, the most selective first", fontsize=10)
figure.supylabel("selectivity: fires on the label minus elsewhere", fontsize=10)
handles = [plt.Line2D([], [], color=LABEL_COLOURS[c], lw=2) for c in LABEL_NAMES]
figure.legend(
    [*handles, plt.Line2D([], [], color="black", linestyle=":")],
    [*LABEL_NAMES.values(), "luck (95 %)"],
    loc="outside upper center",
    ncols=4,
    frameon=False,
)
figure.savefig(options.figures / "selectivity_curves.png", dpi=160)

# %%
# How many features does a token need?
# ------------------------------------
# With more active features a token is rebuilt better, but its label is not necessarily
# found better. Bands span the seeds. The cosines of the left and the right column are
# those of different rows: compare the lines within a column.

figure, axes = plt.subplots(
    2, 2, figsize=(8, 6.4), sharex=True, sharey="row", layout="constrained"
)
for scaler, (above, below) in zip(SCALERS, axes.T, strict=True):
    for dictionary, colour in DICTIONARY_COLOURS.items():
        chosen = (results["scaler"] == scaler) & (results["dictionary"] == dictionary)
        by_k = results[chosen].groupby("k")
        for ax, name in ((above, "cosine"), (below, "mean best selectivity")):
            mean = by_k[name].mean()
            ax.plot(mean.index, mean, "o-", color=colour, label=dictionary)
            ax.fill_between(
                mean.index, by_k[name].min(), by_k[name].max(), color=colour, alpha=0.25
            )
        null = by_k["selectivity, null 95 %"].mean()
        below.plot(
            null.index, null, ":", color=colour, label=f"{dictionary}, luck (95 %)"
        )
    above.set_title(f"{scaler}: how well tokens are rebuilt")
    below.set_title(f"{scaler}: how well features match labels")
axes[0, 0].set(ylabel="cosine of token and reconstruction", ylim=(None, 1))
axes[1, 0].set(ylabel="mean best selectivity", ylim=(0, None), xscale="log")
axes[1, 0].set_xticks(SIZES, [str(k) for k in SIZES], minor=False)
axes[1, 0].minorticks_off()
for ax in axes.ravel():
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", color="0.9")
figure.supxlabel("active features per token, k", fontsize=10)
figure.legend(
    *axes[1, 0].get_legend_handles_labels(),
    loc="outside upper center",
    ncols=4,
    frameon=False,
)
figure.savefig(options.figures / "cosine_against_k.png", dpi=160)

print(
    f"\nFigures and the table of all runs are in {options.figures}. "
    f"{perf_counter() - start:.0f} s in all."
)
