"""What the metrics say of parameters of the wrong type, dimension or length."""

import inspect
from numbers import Integral

import numpy as np
import pytest
from sklearn.model_selection import KFold, check_cv

from skdict import images, metrics
from skdict._utils.checks import check_array
from skdict._utils.constraints import Interval
from skdict.metrics._folds import list_folds

RNG = np.random.default_rng(0)
CODES = RNG.random((30, 5)) * (RNG.random((30, 5)) < 0.4)
Y = np.arange(30) % 3
X = RNG.normal(size=(30, 4))
HEATMAPS = RNG.normal(size=(2, 5, 6))
LABELLED = {"codes": CODES, "y": Y}
NULL = {"n_permutations": 2}

PUBLIC = {
    name: getattr(module, name)
    for module in (metrics, images)
    for name in module.__all__
    if inspect.isfunction(getattr(module, name))
}

# Arguments that every public function takes.
ARGUMENTS = {
    "selectivity_scores": LABELLED,
    "selectivity_report": LABELLED | NULL,
    "selectivity_curve": LABELLED | NULL,
    "selectivity_counts": LABELLED | NULL | {"score_thresholds": [0.1]},
    "selectivity_tests": LABELLED | {"alpha": 0.1},
    "auroc_scores": LABELLED,
    "make_selectivity_scorer": {"activity_threshold": 0.0},
    "describe_features": LABELLED | {"confounds": {"b": Y % 2}, "alpha": 0.1},
    "association_report": {"codes": CODES, "targets": X} | NULL,
    "association_scores": {"codes": CODES, "targets": X},
    "rescore_associations": {
        "report": metrics.association_report(CODES, X),
        "codes": CODES,
        "targets": X,
    }
    | NULL,
    "eta_squared": {"codes": CODES, "factors": {"b": Y}} | NULL,
    "binarize_at_quantiles": {"X": X, "n_active": 2},
    "reconstruction_cosine": {"X": X, "X_hat": X},
    "explained_variance": {"X": X, "X_hat": X},
    "decompose_error": {"X": X, "X_hat": X + 1, "X_refit": X + 2, "cv": 3},
    "feature_density": {"codes": CODES, "activity_threshold": 0.0},
    "dead_feature_fraction": {"codes": CODES, "min_density": 0.0},
    "mean_coherence": {"components": X},
    "mutual_coherence": {"components": X},
    "offset_ratio": {"X": X},
    "match_dictionaries": {"components_a": X[:5], "components_b": X[5:10]},
    "match_codes": {"codes_a": CODES, "codes_b": CODES},
    "stability_report": {"dictionaries": [X[:5], X[5:10]], "n_random": 1},
    "order_atoms": {"components": X[:8], "n_clusters": 2},
    "make_linear_probe": {},
    "split_by_projection": {"X": X, "projection": np.eye(4)[:2]},
    "subspace_probes": {
        "X": X,
        "y": Y,
        "projection": np.eye(4)[:2],
        "cv": 2,
        "n_random": 1,
    },
    "direction_cosines": {"X": X, "direction": X[0]},
    "token_heatmaps": {"values": np.arange(60.0), "grid_shape": (5, 6)},
    "heatmap_channel_correlations": {
        "heatmaps": HEATMAPS,
        "images": RNG.random((2, 10, 12, 3)),
    },
    "heatmap_by_region": {
        "heatmaps": HEATMAPS,
        "mask": RNG.random((2, 10, 12)) < 0.5,
        "n_shifts": 2,
    },
    "morans_i": {"heatmaps": HEATMAPS} | NULL,
    "rank_images": {"heatmaps": HEATMAPS, "n_images": 1},
    "strongest_patches": {
        "heatmaps": HEATMAPS,
        "n_patches": 2,
        "max_per_image": 1,
        "min_distance": 1,
    },
}
ARRAYS = {"codes", "codes_a", "codes_b", "targets", "X", "X_hat", "X_refit"}
ARRAYS |= {"components", "components_a", "components_b"}
ARRAYS |= {"projection", "values", "heatmaps", "direction"}
NUMBERS = {
    "activity_threshold",
    "min_density",
    "min_similarity",
    "alpha",
    "n_permutations",
    "n_random",
    "n_active",
    "n_clusters",
}
NUMBERS |= {"n_images", "n_patches", "max_per_image", "min_distance", "n_shifts"}

NO_ARRAYS = {
    "a number": 3,
    "None": None,
    "text": "abc",
    "a dict": {"a": 1},
    "an empty list": [],
    "texts": np.full((30, 5), "a"),
    "a column of texts": ["a"] * 30,
    "complex": np.full((30, 4), 1j),
    "four dimensions": np.zeros((2, 2, 2, 2)),
}

CASES = [
    pytest.param(name, parameter, value, id=f"{name}-{parameter}-{what}")
    for name, arguments in ARGUMENTS.items()
    for parameter in arguments
    for what, value in (
        NO_ARRAYS.items()
        if parameter in ARRAYS
        else {"True": True, "text": "abc", "a list": [1]}.items()
        if parameter in NUMBERS
        else {"a number": 3}.items()
        if parameter in ("report", "confounds", "factors", "dictionaries")
        else {"nothing": [], "numbers": (1, 2), "blocks": np.zeros((2, 2, 2))}.items()
        if parameter == "cv"
        else {"text": ["a"], "a dict": {}, "nothing": []}.items()
        if parameter == "score_thresholds"
        else ()
    )
    # None leaves it out.
    if not (parameter == "X_refit" and value is None)
]


@pytest.mark.parametrize(("name", "parameter", "value"), CASES)
def test_the_parameter_is_named(name, parameter, value):
    arguments = ARGUMENTS[name] | {parameter: value}
    with pytest.raises(ValueError, match=rf"\b{parameter.removesuffix('s')}"):
        PUBLIC[name](**arguments)


def test_every_metric_is_in_the_table():
    assert PUBLIC.keys() == ARGUMENTS.keys()
    for name, arguments in ARGUMENTS.items():
        PUBLIC[name](**arguments)


def test_names_are_not_printed_twice():
    with pytest.raises(ValueError, match=r"^codes: Expected 2D array, got 1D .*\.$"):
        check_array(np.arange(3.0), input_name="codes")
    with pytest.raises(ValueError, match=r"^Input codes contains NaN"):
        check_array([[np.nan]], input_name="codes")


def test_interval():
    interval = Interval(Integral, 0, None, closed="left")
    assert [interval.is_satisfied_by(x) for x in (0, 1, -1)] == [True, True, False]
    assert not interval.is_satisfied_by(True)
    assert not interval.is_satisfied_by(np.True_)


def test_folds():
    expected = list(KFold(3).split(X))
    for cv in (KFold(3), check_cv(expected), check_cv(iter(expected))):
        for fold, wanted in zip(list_folds(cv, X), expected, strict=True):
            np.testing.assert_equal(fold, wanted)
    with pytest.raises(ValueError, match="n_splits=31"):
        list_folds(KFold(31), X)
