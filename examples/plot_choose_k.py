"""
How sparse? Choosing k
======================

A dictionary writes every row with at most ``k`` active features. How many should it be?
Reconstruction cannot answer this, because it always improves with more. The use of the
codes can. This page searches ``k`` for features that single out a label beyond what
chance gives, on parts of an image on which no step was fitted. It then takes the
sparsest codes that are as good as the best.
"""

# %%
# Rows that belong together
# -------------------------
# :func:`skdict.datasets.load_tissue_tokens` has 64 x 64 tokens of one stained section,
# each with a label: stroma, DAB+ (a brown stain) or blank. Neighbouring tokens are
# alike, so tokens must not be divided among folds one by one. The groups are tiles of 8
# x 8 tokens, and all tokens of a tile are on the same side of a fold. With many images,
# the image would be the group; with patients, the patient.
#
# The search sees the left half of the image. The right half is kept for the end.

import tempfile

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedGroupKFold,
    StratifiedKFold,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from skdict import ICFL, ControlPCAWhitener, Truncator
from skdict.datasets import load_tissue_tokens
from skdict.inspection import SparsityCurveDisplay
from skdict.metrics import (
    explained_variance,
    make_linear_probe,
    reconstruction_cosine,
    selectivity_report,
)

tissue = load_tissue_tokens()
left = tissue.columns < 32
X, y = tissue.data[left], tissue.target_names[tissue.target[left]]
X_right, y_right = tissue.data[~left], tissue.target_names[tissue.target[~left]]
tile = (tissue.rows // 8 * 8 + tissue.columns // 8)[left]
# Stroma takes the place of controls.
control = {"controlpcawhitener__control": y == "stroma"}

# %%
# One fit for all k
# -----------------
# Pursuit is greedy: the first eight features of a code do not depend on whether others
# follow. So :class:`skdict.Truncator` can encode with any ``k`` up to the one that its
# dictionary was fitted for, and with ``memory`` all candidates of a fold share a single
# fit. The pipeline ends in a linear classifier, the probe.

K = [1, 2, 4, 8, 16, 32]
folder = tempfile.TemporaryDirectory()

truncator = Truncator(ICFL(160, max(K), random_state=0), memory=folder.name)
pipeline = make_pipeline(
    ControlPCAWhitener(), Normalizer(), truncator, make_linear_probe()
)

# %%
# Several scores, one search
# --------------------------
# ``scoring`` may be a function that returns several scores, here three:
#
# - how well rows are rebuilt;
# - how selective the best feature of each label is: the fraction of the label's tokens
#   on which it is active, minus that fraction among all other tokens. The best of 160
#   features scores well by chance, and better if more features are active. So the score
#   that :func:`skdict.metrics.selectivity_report` finds for permuted labels is
#   subtracted;
# - the balanced accuracy of the probe.


def scores(pipeline, X, y):
    """What the codes of held-out rows are good for."""
    *steps, truncator, probe = (step for _, step in pipeline.steps)
    rows = make_pipeline(*steps).transform(X)
    codes = truncator.transform(rows)
    rebuilt = truncator.inverse_transform(codes)
    report = selectivity_report(codes, y, n_permutations=20, random_state=0)
    found, chance = report.loc[0, ["mean_score", "null_mean_q95"]]
    return {
        "explained_variance": explained_variance(rows, rebuilt),
        "cosine": reconstruction_cosine(rows, rebuilt),
        "selectivity": found,
        "chance": chance,
        "beyond_chance": found - chance,
        "probe": balanced_accuracy_score(y, probe.predict(codes)),
    }


# %%
# There are few folds, and some are more difficult than others, so it is partly luck
# which mean is the best. The *one-standard-error rule* takes the sparsest candidate
# whose mean is no more than one standard error below the best. As far as these folds
# can tell, its quality is the same, and there are fewer features to read. ``refit`` may
# be a function that applies this rule.

N_FOLDS = 4


def sparsest_of_the_best(results, score="beyond_chance"):
    """Index of the smallest k within one standard error of the best mean."""
    mean = results[f"mean_test_{score}"]
    best = mean.argmax()
    # The deviation in the results divides by N_FOLDS, not by N_FOLDS - 1.
    standard_error = results[f"std_test_{score}"][best] / np.sqrt(N_FOLDS - 1)
    good = np.flatnonzero(mean >= mean[best] - standard_error)
    return good[results["param_truncator__k"][good].argmin()]


tiles_apart = StratifiedGroupKFold(N_FOLDS, shuffle=True, random_state=0)
search = GridSearchCV(
    pipeline,
    {"truncator__k": K},
    scoring=scores,
    refit=sparsest_of_the_best,
    cv=tiles_apart,
)
search.fit(X, y, groups=tile, **control)
found = search.cv_results_

SCORES = ["explained_variance", "cosine", "beyond_chance", "probe"]
choices = pd.DataFrame(
    {
        "best mean": [K[found[f"mean_test_{score}"].argmax()] for score in SCORES],
        "one standard error": [K[sparsest_of_the_best(found, s)] for s in SCORES],
    },
    index=SCORES,
)
print("k by each score:\n")
print(choices.to_string())

# %%
# Reconstruction has no best k
# ----------------------------
# A further feature never increases the residual: with ``k``, the squared error of every
# row falls or stays the same, and the explained variance rises. ``GridSearchCV`` scores
# a dictionary by explained variance unless it gets another score, so it returns the
# largest ``k`` of any grid. The cosine rises in the same way, also for atoms that have
# learned nothing (dashed). The distance between the two curves is the effect of
# learning.

dictionary = search.best_estimator_[:-1]
rows = dictionary[:-1].transform(X_right)
random_atoms = ICFL(160, max(K), init="random", max_iter=0, random_state=0).fit(
    dictionary[:-1].transform(X)
)

display = SparsityCurveDisplay.from_estimator(dictionary, X_right, k=K)
SparsityCurveDisplay.from_estimator(
    random_atoms, rows, k=K, name="random atoms", ax=display.ax_
)
plt.show()

# %%
# Selectivity beyond chance
# -------------------------
# The search kept the scores of all folds, and the display draws their mean and standard
# deviation. The search maximised the distance between the two curves. The lower curve
# permutes single tokens; because neighbours are alike, chance can give more than it
# shows. The grey line marks the ``k`` that the rule took.

chosen = search.best_params_["truncator__k"]
display = SparsityCurveDisplay(
    k=[K, K],
    mean=[found["mean_test_selectivity"], found["mean_test_chance"]],
    std=[found["std_test_selectivity"], found["std_test_chance"]],
    measure="selectivity of best feature",
    name=["codes", "chance, 95 % quantile"],
).plot()
display.ax_.axvline(chosen, color="0.5", linewidth=0.8)
display.ax_.set_ylim(0, None)
plt.show()

# %%
# A probe asks something else
# ---------------------------
# A probe may add up many features, none of which has a meaning by itself. It may also
# favour dense codes, which are close to the rows themselves. The reference is a probe
# on x, the rows that the dictionary sees, on the same folds. Chance would be 1/3.
#
# The second search divides single tokens among the folds. Neighbours of a test token
# are then in training, so both codes and rows look better than they are on a new part
# of the image.

tokens_apart = StratifiedKFold(N_FOLDS, shuffle=True, random_state=0)
too_good = GridSearchCV(
    pipeline,
    {"truncator__k": K},
    scoring="balanced_accuracy",
    refit=False,
    cv=tokens_apart,
).fit(X, y, **control)

without_dictionary = make_pipeline(
    ControlPCAWhitener(), Normalizer(), make_linear_probe()
)
on_x = {
    name: cross_val_score(
        without_dictionary,
        X,
        y,
        groups=groups,
        cv=cv,
        scoring="balanced_accuracy",
        params=control,
    ).mean()
    for name, cv, groups in (
        ("on x, tiles", tiles_apart, tile),
        ("on x, tokens", tokens_apart, None),
    )
}
tokens_found = too_good.cv_results_
display = SparsityCurveDisplay(
    k=[K, K],
    mean=[found["mean_test_probe"], tokens_found["mean_test_score"]],
    std=[found["std_test_probe"], tokens_found["std_test_score"]],
    measure="probe_codes",
    name=["tiles kept whole", "tokens dealt out"],
    references=on_x,
).plot()
display.ax_.axvline(chosen, color="0.5", linewidth=0.8)
plt.show()

# %%
# The chosen k, by itself
# -----------------------
# The search truncated a dictionary that was trained for the largest ``k``. One that is
# trained for the chosen ``k`` rebuilds rows better, so it is fitted at the end; its
# best features need not be more selective. Both are judged on the right half of the
# image, which no choice has seen.

final = make_pipeline(
    ControlPCAWhitener(), Normalizer(), ICFL(160, chosen, random_state=0)
).fit(X, **control)
final.steps.append(("probe", make_linear_probe().fit(final.transform(X), y)))

without_dictionary.fit(X, y, **control)
table = pd.DataFrame(
    {
        "truncated": scores(search.best_estimator_, X_right, y_right),
        "trained for it": scores(final, X_right, y_right),
    }
)
print(f"Right half of the image, k = {chosen}:\n")
print(table.round(3).to_string())
on_x_right = balanced_accuracy_score(y_right, without_dictionary.predict(X_right))
print(f"\nprobe on x: {on_x_right:.3f}")
folder.cleanup()

# %%
# What to remember
# ----------------
# - Explained variance has no best ``k``: its curve shows the cost of fewer features,
#   not how many there should be.
# - Search on the use of the codes: selectivity beyond chance if someone reads features
#   one by one, a probe if they feed a classifier. The two may choose a different ``k``,
#   and either may choose another one for other labels: the best ``k`` depends on the
#   question and is not a property of the data.
# - Folds keep together what belongs together, and the control mask is split with the
#   rows.
# - Within the error of the folds several ``k`` are equally good. The sparsest of them
#   is the easiest to read.
# - Fit the chosen ``k`` by itself, and judge it on rows that the search has not seen.
