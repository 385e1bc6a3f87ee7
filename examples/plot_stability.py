"""
Which features come back with another seed?
===========================================

A dictionary starts from random atoms. If another seed leads to another feature, the
feature says something about the seed and not about the data. Which features come back,
how much of that is chance, and what makes a dictionary less stable? The user guide
explains the :ref:`figures <stability>`.
"""

# %%
# Three seeds
# -----------
# The tokens are from one stained tissue section, labelled stroma, DAB+ (brown stain) or
# blank, as :func:`skdict.datasets.load_tissue_tokens` describes. Dictionaries learn on
# the left half of the image and are judged on the right half. Tokens are whitened by
# the stroma of the left half and scaled to unit length. All dictionaries start with
# ``init="random"``; the end of this page gives the reason.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import spearmanr
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from skdict import ICFL, ControlPCAWhitener
from skdict.datasets import load_tissue_tokens
from skdict.inspection import AtomSimilarityDisplay
from skdict.metrics import (
    explained_variance,
    match_codes,
    match_dictionaries,
    selectivity_report,
    selectivity_scores,
    stability_report,
)

tissue = load_tissue_tokens()
left = tissue.columns < 32
whiten = make_pipeline(ControlPCAWhitener(control_label="stroma"), Normalizer())
y = tissue.target_names[tissue.target]
X = whiten.fit_transform(tissue.data[left], y[left])
X_right, y_right = whiten.transform(tissue.data[~left]), y[~left]

fits = [ICFL(160, 8, init="random", random_state=seed).fit(X) for seed in range(3)]
atoms = [fit.components_ for fit in fits]
report = stability_report(atoms, random_state=0)
columns = ["matched_cosine", "covariance_matched_cosine", "isotropic_matched_cosine"]
print(report[["a", "b", "matched_fraction", *columns]].round(3).to_string(index=False))

# %%
# :func:`skdict.metrics.stability_report` pairs the atoms of every two seeds so that the
# sum of the cosines is largest. The last two columns are what random atoms reach. Each
# of many atoms finds a partner that suits it, more easily if the random atoms have the
# mean and the covariance of the real ones. The seeds agree better than that. But only a
# minority of the pairs have a cosine above 0.7, which `matched_fraction` counts.
#
# Features that come back
# -----------------------
# The mean cosine does not show how much atoms differ. Each atom of the first seed has a
# partner in each of the two others; the mean of the two cosines is its stability. The
# null is the same figure with random atoms instead of the other seeds.

rng = np.random.default_rng(0)


def partners(others):
    """For each atom of the first seed, its partner in the others, and the cosines."""
    matches = [match_dictionaries(atoms[0], other) for other in others]
    which = np.array([pairs[:, 1] for pairs, _ in matches])
    return which, np.array([cosines for _, cosines in matches])


def random_atoms(like):
    """Random atoms of unit length with the mean and the covariance of real ones."""
    mean, root = like.mean(axis=0), np.linalg.cholesky(np.cov(like.T))
    atoms = rng.normal(size=like.shape)
    for _ in range(20):  # in turns: scaling changes the moments
        own = np.linalg.cholesky(np.cov(atoms.T))
        atoms = mean + (atoms - atoms.mean(axis=0)) @ np.linalg.solve(own.T, root.T)
        atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    return atoms


which, cosines = partners(atoms[1:])
stability = cosines.mean(axis=0)
null = partners([random_atoms(other) for other in atoms[1:]])[1].mean(axis=0)

figure, ax = plt.subplots(figsize=(3.6, 2.6), layout="constrained")
ax.ecdf(stability, complementary=True, color="#0072B2", label="two other seeds")
ax.ecdf(null, complementary=True, color="0.45", linestyle="--", label="random atoms")
ax.set(xlabel="mean cosine with the partners", ylabel="fraction of atoms above")
ax.legend()

# %%
# The figure shows the fifteen most stable atoms of the first seed with their partners,
# and the fifteen least stable ones. A square holds atoms that are joined at a mean
# cosine of at least 0.7. The atoms of a stable feature are three in a square, one from
# each seed.

order = np.argsort(stability)
figure, axes = plt.subplots(1, 2, figsize=(7, 3.2), layout="compressed")
for ax, chosen, title in zip(
    axes, (order[-15:], order[:15]), ("most stable", "least stable"), strict=True
):
    threefold = atoms[0][chosen], atoms[1][which[0, chosen]], atoms[2][which[1, chosen]]
    AtomSimilarityDisplay.from_components(
        np.vstack(threefold), min_similarity=0.7, limit=1, colorbar=ax is axes[1], ax=ax
    )
    ax.set_title(f"15 {title}")

# %%
# Are stable features the selective ones?
# ---------------------------------------
# The codes of the right half say to which label each feature of the first seed
# responds. 95 % of the random atoms lie below the horizontal line, and 95 % of the
# features lie left of the vertical line when the labels are permuted.

codes = fits[0].transform(X_right)
selectivity = selectivity_scores(codes, y_right).max(axis=1)
by_chance = selectivity_scores(codes, rng.permutation(y_right)).max(axis=1)

figure, ax = plt.subplots(figsize=(3.6, 2.8), layout="constrained")
ax.scatter(selectivity, stability, s=8, color="#0072B2", alpha=0.7, linewidth=0)
ax.axhline(np.quantile(null, 0.95), color="0.45", linestyle="--")
ax.axvline(np.quantile(by_chance, 0.95), color="0.45", linestyle="--")
ax.set(xlabel="best average selectivity", ylabel="stability (mean cosine)")

rho = spearmanr(selectivity, stability)
print(f"rank correlation {rho.statistic:.2f}, p = {rho.pvalue:.1g}")
best = selectivity_report(codes, y_right)
best["stability"] = stability[best["best_feature"]]
best["rank_of_160"] = (-stability).argsort().argsort()[best["best_feature"]] + 1
print(best.round(2).to_string(index=False))

# %%
# Stability and selectivity go together only loosely: there are features in all four
# quarters of the figure. So neither replaces the other.
#
# Two atoms may differ and still respond to the same places.
# :func:`skdict.metrics.match_codes` pairs features by the correlation of their codes,
# here on the right half. It works across models, too. For the null, the rows of one
# input are shuffled.

other_codes = fits[1].transform(X_right)
_, correlations = match_codes(codes, other_codes)
_, shuffled = match_codes(codes, other_codes[rng.permutation(len(X_right))])
print(f"mean correlation {correlations.mean():.2f}, shuffled {shuffled.mean():.2f}")

# %%
# More atoms, more of them active
# -------------------------------
# The number of atoms and `k`, the number of atoms that may be active in a token, are
# free choices. How do they change stability?


def two_seeds(n_components, k):
    """Agreement of two seeds, its null, and what the dictionary explains."""
    pair = [ICFL(n_components, k, init="random", random_state=s).fit(X) for s in (0, 1)]
    row = stability_report([fit.components_ for fit in pair], random_state=0).iloc[0]
    X_hat = pair[0].inverse_transform(pair[0].transform(X_right))
    return {
        "n_components": n_components,
        "k": k,
        "matched_cosine": row["matched_cosine"],
        "null": row["covariance_matched_cosine"],
        "explained_variance": explained_variance(X_right, X_hat),
    }


sizes = pd.DataFrame([two_seeds(n, 8) for n in (20, 80, 160, 640)])
sparsities = pd.DataFrame([two_seeds(160, k) for k in (2, 8, 20)])

figure, axes = plt.subplots(1, 2, figsize=(7, 2.8), sharey=True, layout="constrained")
for ax, table, x in zip(axes, (sizes, sparsities), ("n_components", "k"), strict=True):
    ax.plot(table[x], table["matched_cosine"], "o-", color="#0072B2", label="two seeds")
    ax.plot(table[x], table["null"], "o--", color="0.45", label="random atoms")
    ax.plot(
        table[x],
        table["explained_variance"],
        "s:",
        color="#D55E00",
        label="explained variance, right half",
    )
    ax.set(xscale="log", xlabel=x, xticks=table[x], xticklabels=table[x])
    ax.minorticks_off()
axes[0].set(ylabel="mean matched cosine, or fraction", ylim=(0, 1))
axes[0].set_title("k = 8")
axes[1].set_title("160 atoms")
figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3)

# %%
# More atoms and a larger `k` explain more of the tokens. But with more atoms, and with
# a larger `k`, the agreement of the seeds comes closer to that of random atoms.
#
# A start that is alike already
# -----------------------------
# The default, ``init="samples"``, takes rows of the data as the first atoms. The left
# half has only 2048 tokens, so two seeds draw many of the same ones. With
# ``max_iter=0`` nothing is learned, but the seeds agree nevertheless.

start = {
    "samples, untrained": ICFL(640, 8, max_iter=0),
    "random, untrained": ICFL(640, 8, init="random", max_iter=0),
}
for name, dictionary in start.items():
    pair = [
        dictionary.set_params(random_state=seed).fit(X).components_ for seed in (0, 1)
    ]
    cosine = stability_report(pair, n_random=0)["matched_cosine"][0]
    print(f"{name}: {cosine:.2f}")
print(f"random, trained: {sizes['matched_cosine'].iloc[-1]:.2f}")

# %%
# What to remember
# ----------------
# - Read the agreement of seeds beside that of random atoms with the same covariance,
#   and judge it from ``init="random"``, because a common start looks like stability.
# - A feature of one seed is a candidate. Keep those that come back in the other seeds.
# - Few atoms and a small `k` were more stable here, and explain less.
