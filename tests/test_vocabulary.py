"""One vocabulary: a name means one thing in every public signature.

Whoever adds a parameter looks here first, for the name that the library has for its
role. A new name needs a line with its meaning and its default.
"""

import importlib
import inspect
import re

import pytest

REQUIRED = inspect.Parameter.empty
ROOMS = (
    "metrics",
    "images",
    "inspection",
    "report",
    "evaluation",
    "concepts",
    "preprocessing",
)
OTHER_ROOMS = (
    "decomposition",
    "feature_extraction",
    "datasets",
    "persistence",
    "io",
)

# Name: meaning, default; several defaults where a name serves several roles, with the
# role beside each. What is drawn or required by some and optional for others is None.
VOCABULARY = {
    # Rows and what belongs to them
    "X": ("rows", REQUIRED, None),
    "X_hat": ("reconstruction of the rows", REQUIRED),
    "X_refit": ("reconstruction by least squares", None),
    "y": ("labels of the rows", REQUIRED, None),
    "codes": ("codes of the rows", REQUIRED),
    "codes_a": ("codes of the first dictionary", REQUIRED),
    "codes_b": ("codes of the second dictionary", REQUIRED),
    "control": ("mask of control rows", None),
    "control_label": ("label of the control rows in y", None, REQUIRED),
    "batch": ("experimental batch: permuted and centred inside it", None, REQUIRED),
    "batch_column": ("column of X with the batch", None),
    "groups": ("what belongs together: split, exchanged, made one row", None, REQUIRED),
    "attributes": ("known labels of the rows, by name", REQUIRED),
    "attribute": ("name of one of the attributes", REQUIRED),
    "estimate": ("how atoms of attributes are found", "mean"),
    "n_pairs": ("rows that are edited", 100),
    "audit_labels": ("labels that audit what other labels proposed", None),
    "confounds": ("what else might explain a feature, by name", None),
    "factors": ("labels that may explain the codes, by name", REQUIRED),
    "targets": ("numbers with which codes are correlated", REQUIRED),
    "metadata": ("columns with one value per row or image", None, REQUIRED),
    "profiles": ("rows of wells or perturbations, by name", REQUIRED),
    "pairs": ("perturbations that are known to be related", REQUIRED),
    "params": ("what is routed to the steps of a pipeline", None),
    "fit_params": ("what is handed on to fit", REQUIRED),
    # Dictionaries and features
    "estimator": ("fitted dictionary or pipeline; a regressor", REQUIRED, None),
    "dictionaries": ("dictionaries by name", REQUIRED),
    "dictionary": ("a dictionary that is not fitted", None),
    "baselines": ("names of the baselines", None),
    "pipeline": ("a pipeline that ends in a dictionary", REQUIRED),
    "components": ("atoms, one a row", REQUIRED, None),
    "components_a": ("atoms of the first dictionary", REQUIRED),
    "components_b": ("atoms of the second dictionary", REQUIRED),
    "direction": ("one or several directions in the space of the rows", REQUIRED),
    "projection": ("projection onto a subspace", REQUIRED),
    "feature": ("index of a column of the codes", REQUIRED, None),
    "features": ("indices of columns of the codes, or a mask", REQUIRED, None),
    "feature_names": ("names of the columns of the codes", None),
    "k": ("number of active features per row", REQUIRED, "k"),
    "n_components": ("number of atoms or of axes", REQUIRED, None),
    "n_features": (
        "numbers of best features; of features that an edit changes",
        REQUIRED,
        (1, 2, 5, 10, 20, 50, 100),
        (1, 2, 5, 10, 20),
        10,
    ),
    "budgets": ("numbers of features that are looked at", (10, 25, 50, 100)),
    "n_active": ("number of rows in which a feature is to be active", REQUIRED),
    "probe": ("classifier that reads the codes", None),
    # What is measured, and where it is cut
    "activity_threshold": ("a feature is active where |z| exceeds it", 0.0),
    "min_density": ("a feature that fires less often is dead", 1e-5),
    "min_similarity": ("cosine from which atoms are alike: cut, match", None, 0.7),
    "min_precision": ("precision from which a feature stands for a class", 0.3, 0.8),
    "ranking": ("what makes a feature good", "f_statistic"),
    "score_thresholds": ("scores to exceed", (0.2, 0.5)),
    "contrast": ("with what a class is compared: average or maximum", "average"),
    "correlation": ("Pearson or Spearman", "pearson"),
    "linkage": ("how clusters of atoms or features are joined", "average"),
    "quantity": ("what a heatmap shows: cosine or activation", "cosine"),
    "image_score": ("score of an image from its heatmap", "mean"),
    "measure": (
        "figure of a run that is drawn",
        "cosine",
        "balanced_accuracy",
        "target_fraction",
    ),
    "measures": (
        "figures of the training that are drawn; figures of runs",
        ("explained_variance", "dead_fraction", "learning_rate"),
        None,
    ),
    "tail": ("fraction of all pairs in each tail", 0.05),
    "statistic": ("what a group is reduced to: mean, median or max", "mean"),
    "positives": ("replicates that are to be found", "any"),
    "negatives": ("rows against which replicates are ranked", "any"),
    "alternative": ("side of a test", "greater"),
    "reference": ("region with which others are compared", None),
    "label": ("class that is looked at", REQUIRED, None),
    "labels": ("classes that get a curve each", None),
    # Nulls, and what is drawn at random
    "alpha": ("rate of false findings; opacity; ridge penalty", 0.05, 0.5, 0.3),
    "correction": ("control of the false discovery rate", "bh"),
    "n_permutations": ("permutations of the null", 0, 100, 999),
    "null_size": ("random rankings of the null", 10_000),
    "n_shifts": ("random shifts of the null of heatmaps", 999),
    "n_random": (
        "random draws beside a figure: of dictionaries, features, atoms",
        *(1, 3, 5, 20),
    ),
    "random_state": ("seed; of a report", None, 0),
    "seeds": ("seeds of the training", 5),
    "confidence_level": ("of the bootstrap", 0.95),
    # What a head decides, and by which features
    "head": ("classifier that reads embeddings", REQUIRED, None),
    "attributions": ("contribution of each feature in each row", REQUIRED),
    "response": ("score of the head that is explained", "auto"),
    "max_concepts": ("largest number of concepts that are shown", 32),
    "n_steps": ("points between no features and all of them", 16),
    "n_masks": ("random masks for Sobol indices", 32),
    "table": ("table of concept_importance", REQUIRED),
    "probe_set": ("the data set of each row on which a head is probed", REQUIRED),
    "n_rows": ("rows in which a feature matters most", 8),
    "n_points": ("points of a curve", 11),
    "order": ("features in the order of their importance", None),
    # Features that are taken out or changed
    "explanations": ("what features mean: texts, or a table of rules", REQUIRED),
    "examples": ("rows by which explanations are scored", REQUIRED),
    "n_examples": ("rows of each role", 8),
    "judge": ("callable that answers questions", REQUIRED),
    "n_shuffles": ("explanations of other features for the null", 5),
    "batch_size": ("questions in one call", 32),
    "max_conditions": ("conditions in a rule", 2),
    "max_values": ("values that a condition names", 3),
    "min_gain": ("balanced accuracy that a condition adds", 0.02),
    "test_size": ("fraction of the groups that judge", 0.5),
    "amount": ("by how much features are changed", REQUIRED),
    "amounts": ("sizes of the steps", (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)),
    "suppressor": ("finds the features to take out", None),
    "mode": ("whether amounts are added, set or multiplied", "add"),
    "to": ("space of the decoded rows: input or dictionary", "input"),
    "keep_error": ("whether rows keep what the dictionary leaves unexplained", True),
    "min_omega_squared": ("smallest effect of the batch that counts", 0.01),
    "max_features": ("largest number or fraction of features", None),
    "within_classes": ("whether batches are compared inside classes", True),
    # Folds, and how work is done
    "cv": ("folds; halves where one proposes to the other", 5, None, 2),
    "inner_cv": ("folds inside the training rows of a fold", 3),
    "n_jobs": ("processes", None),
    "verbose": ("whether there is a progress bar", 0),
    "layers": ("layers of a model, by name", REQUIRED),
    "models": ("embeddings of several models, by name", REQUIRED),
    "param_grid": ("parameters to vary", REQUIRED),
    "preprocessing": ("steps before the dictionary", None),
    "runs": ("table of runs", REQUIRED),
    "report": ("table of association_report", REQUIRED),
    "by": ("columns that tell the rows of a summary apart", "dictionary"),
    # Images and tokens
    "images": ("pictures, channels last", REQUIRED, None),
    "heatmaps": ("values on the grid of tokens", REQUIRED),
    "values": ("one value per token", REQUIRED),
    "grid_shape": ("height and width of the grid of tokens", None, REQUIRED, "auto"),
    "mask": ("region of every pixel", REQUIRED),
    "neighbors": ("tokens that count as adjacent", "queen"),
    "n_images": ("images on either side", 8),
    "n_items": ("pictures on either side", 6),
    "n_patches": ("tokens", 16),
    "side": ("the largest or the smallest values", "most"),
    "of": ("whole images or patches", "images"),
    "max_per_image": ("patches from one image", None),
    "min_distance": ("tokens between patches: any, or apart in a gallery", 1, 4),
    "context": ("tokens around a patch", 3),
    "channel_names": ("names of the channels", None),
    "image_names": ("names of the images", None),
    "rgb": ("whether channels are red, green and blue", None),
    "items": ("places of the pictures of a gallery", REQUIRED),
    # Figures
    "ax": ("axes to draw on", None),
    "name": ("name in the legend; what answers depend on", None, ""),
    "kwargs": ("arguments for matplotlib", REQUIRED),
    "kw": ("arguments for the classifier", REQUIRED),
    "band_kwargs": ("arguments for the band", None),
    "null_kwargs": ("arguments for the band of the null", None),
    "rest_kwargs": ("arguments for the other rows", None),
    "bins": ("bins of a histogram: of densities, of cosines", 30, 40),
    "cmap": ("color map", None),
    "colorbar": ("whether there is a color bar", True),
    "vmax": ("value of the last color", None),
    "limit": ("cosine of the last color", None),
    "overlay": ("whether heatmaps lie over the pictures", False),
    "views": ("what is drawn of an image", None),
    "complementary": ("whether the curve counts from above", False),
    "references": ("lines to compare with", None),
    "title": ("title of the page", None),
    "path": ("a file", REQUIRED),
    # What displays hold
    "cluster_starts": ("first atom of each cluster", None),
    "cosines": ("cosine of each row", REQUIRED),
    "density": ("density of each feature", REQUIRED),
    "history": ("training history", REQUIRED),
    "is_label": ("which rows have the label", REQUIRED),
    "high": ("upper end of an interval", REQUIRED),
    "low": ("lower end of an interval", REQUIRED),
    "mean": ("mean at each k", REQUIRED),
    "std": ("standard deviation at each k", None),
    "null_low": ("lower edge of the null", None),
    "null_high": ("upper edge of the null", None),
    "scores": ("score of each feature; scores of explanations", REQUIRED, None),
    "similarity": ("cosines of all pairs of atoms", REQUIRED),
    "n_clusters": ("clusters of atoms or features", None),
    "optimal_ordering": ("whether leaves are put in the best order", "auto"),
    # Whitening and centring
    "method": ("of whitening: pca or zca; of attribution", "pca", "occlusion"),
    "min_controls": ("controls that a batch needs", 10),
    "shrinkage": ("of the covariance", None),
    "unseen": ("what happens to batches that fit has not seen", "pooled"),
    "with_scaling": ("whether rows are scaled, too", True),
}
# Names whose default depends on the subpackage: what its functions do decides.
DEFAULTS_OF_ROOMS = {
    # The user guide says why, under "How many permutations".
    "n_permutations": {
        "metrics": 0,
        "inspection": 100,
        "report": 100,
        "evaluation": 100,
        "concepts": 100,
        "images": 999,
    },
    # A report is a document: written again, it is the same file.
    "random_state": {
        "metrics": None,
        "inspection": None,
        "report": 0,
        "evaluation": None,
        "concepts": None,
        "images": None,
    },
}
# What the words of the table replace, wherever they would stand in a name.
FORBIDDEN = {
    "unit": "groups",
    "stratum": "batch",
    "strata": "batch",
    "share": "fraction",
    "pass": "epoch",
    "colour": "color",
    "neighbour": "neighbor",
    "centre": "center",
    "normalise": "normalize",
    "kind": "contrast, quantity",
}
# Words that are too wide for a name by themselves.
FORBIDDEN_ALONE = {"threshold", "A", "B", "n_perm", "seed"}


def signatures(rooms):
    """The public calls of some subpackages, with their parameters."""
    for room in rooms:
        module = importlib.import_module(f"skdict.{room}")
        for name in module.__all__:
            item = getattr(module, name)
            calls = {name: item}
            if inspect.isclass(item):
                calls |= {
                    f"{name}.{method}": call
                    for method, call in inspect.getmembers(item, callable)
                    if not method.startswith(("_", "set_", "get_"))
                }
            for where, call in calls.items():
                for parameter in inspect.signature(call).parameters.values():
                    if parameter.name != "self":
                        yield f"{room}.{where}", parameter


SIGNATURES = list(signatures(ROOMS))
NAMES = sorted({parameter.name for _, parameter in SIGNATURES})


def same(default, allowed):
    return default is allowed or (type(default) is type(allowed) and default == allowed)


def test_the_table_holds_the_names_that_are_used():
    assert sorted(VOCABULARY) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_name_has_the_default_of_its_role(name):
    _, *allowed = VOCABULARY[name]
    defaults = {where: p.default for where, p in SIGNATURES if p.name == name}
    wrong = {
        where: default
        for where, default in defaults.items()
        if not any(same(default, one) for one in allowed)
    }
    assert wrong == {}
    unused = [
        one for one in allowed if not any(same(d, one) for d in defaults.values())
    ]
    assert unused == []


@pytest.mark.parametrize("name", DEFAULTS_OF_ROOMS)
def test_a_subpackage_has_one_default(name):
    found = {
        (where.partition(".")[0], p.default)
        for where, p in SIGNATURES
        if p.name == name
    }
    assert found == set(DEFAULTS_OF_ROOMS[name].items())


@pytest.mark.parametrize("room", [*ROOMS, *OTHER_ROOMS])
def test_forbidden_words(room):
    module = importlib.import_module(f"skdict.{room}")
    names = {*module.__all__, *(p.name for _, p in signatures([room]))}
    for name in names:
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower().split("_")
        singular = {word.removesuffix("s") for word in words} | set(words)
        found = singular & FORBIDDEN.keys()
        assert not found, f"{name}: use {', '.join(FORBIDDEN[w] for w in found)}"
        assert name not in FORBIDDEN_ALONE


def test_explained_variance_is_one_name():
    """Nothing else may be taken for the fraction that a reconstruction explains."""
    names = {
        name
        for room in (*ROOMS, *OTHER_ROOMS)
        for name in importlib.import_module(f"skdict.{room}").__all__
        if {"explained", "variance"} <= set(name.split("_"))
    }
    assert names == {"explained_variance"}
