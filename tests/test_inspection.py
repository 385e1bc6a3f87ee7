"""The displays draw the numbers that they were given, and can be read."""

import sys

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from figures import texts_of, unreadable
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from matplotlib.text import Text
from numpy.testing import assert_allclose
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import (
    GroupKFold,
    StratifiedGroupKFold,
    StratifiedKFold,
    cross_val_score,
)
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from skdict import ICFL, Truncator, inspection
from skdict.evaluation import summary_table
from skdict.inspection import (
    AtomSimilarityDisplay,
    ComparisonDisplay,
    ConceptImportanceDisplay,
    DensityDisplay,
    DirectionHistogramDisplay,
    SelectivityCDFDisplay,
    SelectivityCurveDisplay,
    SparseProbingDisplay,
    SparsityCurveDisplay,
    SteeringCurveDisplay,
    SuppressionDisplay,
    TrainingHistoryDisplay,
)
from skdict.inspection._style import COLOURS, COLUMN_WIDTH, in_lines, plain
from skdict.metrics import (
    direction_cosines,
    explained_variance,
    feature_density,
    make_linear_probe,
    order_atoms,
    reconstruction_cosine,
    selectivity_counts,
    selectivity_curve,
    selectivity_report,
    selectivity_scores,
)

RNG = np.random.default_rng(0)
Y = np.repeat(["control", "treatment A", "treatment B"], [60, 40, 20])
X = RNG.normal(size=(120, 8)).astype(np.float32)
X[Y == "treatment A", 0] += 3
CODES = sp.csr_matrix(RNG.random((120, 30)) * (RNG.random((120, 30)) < 0.2))
PIPELINE = make_pipeline(
    StandardScaler(), Normalizer(), ICFL(24, 3, max_iter=3, random_state=0)
).fit(X)
DICTIONARY = PIPELINE[-1]
PROBE = KNeighborsClassifier(1)
RUNS = pd.DataFrame(
    {"dictionary": name, "k": k, "seed": seed, "cosine": best - 0.3 / k + 0.01 * seed}
    for name, best in [("ICFL", 0.9), ("TopKSAE", 0.8), ("random atoms", 0.6)]
    for k in (*range(1, 10), 10, 20, 30, 40, 50, 100, 200)
    for seed in range(3)
)

COMPARED = pd.DataFrame(
    {"dictionary": name, "seed": seed, "cosine": x + 0.1 * seed, "cosine_null": x / 2}
    for name, x in [("ICFL", 0.9), ("TopKSAE", 0.8), ("random atoms", 0.6)]
    for seed in range(4)
)

PROBES = pd.DataFrame(
    {
        "input": "best features" if n < 200 else "x",
        "n_features": n,
        "fold": fold,
        "balanced_accuracy": 1 - 0.5 / n**0.5 + 0.01 * fold,
        "auroc": 1 - 0.4 / n**0.5,
        "balanced_accuracy_null": 0.4,
        "auroc_null": 0.6,
    }
    for n in (1, 2, 5, 10, 20, 50, 100, 200)
    for fold in range(3)
)


# Every display, drawn from an estimator; the tests below hold for all of them.
SUPPRESSION = pd.DataFrame(
    {
        "fold": [0, 0, 0, 0, 1, 1],
        "removed": [
            *("none", "batch features", "random features", "random features"),
            *("none", "batch features"),
        ],
        "draw": [0, 0, 0, 1, 0, 0],
        "probe_batch": [0.9, 0.4, 0.8, 0.9, 0.8, 0.5],
        "probe_y": [0.7, 0.7, 0.6, 0.7, 0.6, 0.6],
        "chance_batch": 0.25,
        "chance_y": 0.5,
    }
)
STEERING = pd.DataFrame(
    {
        "fold": np.repeat([0, 1], 8),
        "added": 2
        * [
            *2 * ["treatment features"],
            *2 * ["all features"],
            *4 * ["random features"],
        ],
        "draw": 2 * [0, 0, 0, 0, 0, 0, 1, 1],
        "amount": 8 * [0.0, 1.0],
        "target_fraction": [0, 0.8, 0, 1, 0, 0.1, 0, 0.3, 0, 0.6, 0, 1, 0, 0.1, 0, 0.1],
        "progress": 8 * [0.0, 0.5],
    }
)
IMPORTANCE = pd.DataFrame(
    {
        "feature": np.arange(40) * 7,
        "importance": np.linspace(1, -0.2, 40),
        "standard_error": 0.05,
        "random_importance": 0.1,
    }
)
DRAWN = {
    "comparison": lambda ax: ComparisonDisplay.from_runs(
        COMPARED, measure="cosine", ax=ax
    ),
    "importance": lambda ax: ConceptImportanceDisplay.from_table(
        IMPORTANCE, feature_names={7: "actin"}, max_concepts=12, ax=ax
    ),
    "suppression": lambda ax: SuppressionDisplay.from_runs(SUPPRESSION, ax=ax),
    "steering": lambda ax: SteeringCurveDisplay.from_runs(STEERING, ax=ax),
    "steering, progress": lambda ax: SteeringCurveDisplay.from_runs(
        STEERING, measure="progress", name="treatment A", ax=ax
    ),
    "selectivity curve": lambda ax: SelectivityCurveDisplay.from_estimator(
        PIPELINE, X, Y, n_permutations=5, random_state=0, ax=ax
    ),
    "selectivity curve of a label": lambda ax: SelectivityCurveDisplay.from_estimator(
        PIPELINE, X, Y, label="treatment A", contrast="maximum", n_permutations=0, ax=ax
    ),
    "selectivity CDF": lambda ax: SelectivityCDFDisplay.from_estimator(
        PIPELINE, X, Y, ax=ax
    ),
    "selectivity CDF of all labels": lambda ax: SelectivityCDFDisplay.from_estimator(
        PIPELINE, X, Y, labels="all", complementary=True, ax=ax
    ),
    "direction histogram": lambda ax: DirectionHistogramDisplay.from_estimator(
        PIPELINE, X, Y, feature=2, label="treatment A", ax=ax
    ),
    "sparsity curve": lambda ax: SparsityCurveDisplay.from_estimator(
        PIPELINE, X, k=[1, 2, 3], ax=ax
    ),
    "sparsity curves of many k": lambda ax: SparsityCurveDisplay.from_runs(RUNS, ax=ax),
    "density": lambda ax: DensityDisplay.from_estimator(PIPELINE, name="ICFL", ax=ax),
    "density with dead features": lambda ax: DensityDisplay(
        density=np.r_[np.zeros(9), np.geomspace(1e-9, 0.9, 100)]
    ).plot(ax),
    "atom similarity": lambda ax: AtomSimilarityDisplay.from_estimator(
        PIPELINE, n_clusters=4, ax=ax
    ),
    "sparsity curve of a probe": lambda ax: SparsityCurveDisplay.from_estimator(
        PIPELINE, X, Y, k=[1, 3], measure="probe_codes", cv=2, probe=PROBE, ax=ax
    ),
    "sparse probing": lambda ax: SparseProbingDisplay.from_runs(PROBES, ax=ax),
    "sparse probing of two": lambda ax: SparseProbingDisplay.from_runs(
        pd.concat([PROBES.assign(dictionary=name) for name in ("ICFL", "TopKSAE")]),
        measure="auroc",
        ax=ax,
    ),
    "training history": lambda ax: TrainingHistoryDisplay.from_estimator(
        PIPELINE, ax=ax
    ),
}
every_display = pytest.mark.parametrize(
    "draw", [pytest.param(draw, id=name) for name, draw in DRAWN.items()]
)


@every_display
def test_texts_neither_overlap_nor_leave_the_figure(draw):
    figure = draw(None).figure_
    texts = texts_of(figure)
    assert len(texts) >= 6
    assert unreadable(figure, texts) == []


@every_display
def test_a_panel_of_a_figure_is_readable(draw):
    figure, axes = plt.subplots(2, 2, layout="constrained")
    draw(axes[0, 0])
    assert unreadable(figure) == []


@every_display
def test_on_a_dark_ground_nothing_is_black(draw):
    with plt.style.context("dark_background"):
        display = draw(None)
    drawn = [
        line
        for ax in np.ravel(display.ax_)
        for line in (*ax.get_lines(), *ax.get_legend_handles_labels()[0])
        if hasattr(line, "get_color")
    ]
    assert all(to_hex(line.get_color()) != "#000000" for line in drawn)
    assert all(
        to_hex(text.get_color()) == "#ffffff"
        for text in display.figure_.findobj(Text)
        if text.get_text().strip()
    )


LONG = np.array([f"treatment with compound {i} at {i} micromolar" for i in range(12)])
ODD = np.array(["a$b$c", "_hidden", "x_1^2", "5 $"])
MANY = np.random.default_rng(1).integers(0, 12, 120)
FOUR = MANY % 4
NULL = {"n_permutations": 3, "random_state": 0}
AWKWARD = {
    "curve, long names": lambda: SelectivityCurveDisplay.from_predictions(
        CODES, LONG[MANY], label=LONG[3], name=LONG[11], **NULL
    ),
    "curve, odd names": lambda: SelectivityCurveDisplay.from_predictions(
        CODES, ODD[FOUR], label=ODD[0], name="_hidden, 5 $ a_1", **NULL
    ),
    "curve, 2 features": lambda: SelectivityCurveDisplay.from_predictions(
        CODES[:, :2], Y, name="two", **NULL
    ),
    "curve, 8192 features": lambda: SelectivityCurveDisplay.from_predictions(
        sp.hstack([CODES] * 274, format="csr")[:, :8192], Y, name="many", **NULL
    ),
    "curve, all dead": lambda: SelectivityCurveDisplay.from_predictions(
        np.zeros((120, 7)), Y, name="dead", **NULL
    ),
    "CDF, 12 long names": lambda: SelectivityCDFDisplay.from_predictions(
        CODES, LONG[MANY], labels="all", **NULL
    ),
    "CDF, odd names": lambda: SelectivityCDFDisplay.from_predictions(
        CODES, ODD[FOUR], labels="all", **NULL
    ),
    "CDF, 2 features": lambda: SelectivityCDFDisplay.from_predictions(
        CODES[:, :2], Y, complementary=True, **NULL
    ),
    "CDF, all dead": lambda: SelectivityCDFDisplay.from_predictions(
        np.zeros((120, 7)), Y, complementary=True, name="dead", **NULL
    ),
    "direction, long name": lambda: DirectionHistogramDisplay.from_estimator(
        PIPELINE, X, LONG[MANY], feature=2, label=LONG[3]
    ),
    "direction, odd name": lambda: DirectionHistogramDisplay.from_estimator(
        PIPELINE, X, ODD[FOUR], feature=2, label="_hidden"
    ),
    "sparsity, one k": lambda: SparsityCurveDisplay.from_estimator(PIPELINE, X, k=[3]),
    "sparsity, long names": lambda: SparsityCurveDisplay.from_runs(
        RUNS.assign(dictionary=RUNS["dictionary"] + LONG[0]),
        references={LONG[1]: 0.5, "a$b$": 0.3, "chance": 0.1},
    ),
    "sparse probing, long name": lambda: SparseProbingDisplay.from_runs(
        PROBES, name=LONG[0] + " and_$more$", references={LONG[1]: 0.5, "a$b$": 0.3}
    ),
    "comparison, odd and long names": lambda: ComparisonDisplay.from_runs(
        COMPARED.replace({"ICFL": "$a_b$", "TopKSAE": 4 * "long name "}),
        measure="cosine",
    ),
    "importance, all": lambda: ConceptImportanceDisplay.from_table(
        IMPORTANCE, feature_names={0: LONG[0], 7: "a$b$"}
    ),
    "steering, long name": lambda: SteeringCurveDisplay.from_runs(
        STEERING, name=LONG[0] + " and_$more$"
    ),
    "density, all dead": lambda: DensityDisplay(
        density=np.zeros(12), name=LONG[0]
    ).plot(),
    "density, odd name": lambda: DensityDisplay(
        density=np.r_[0, np.geomspace(1e-8, 1, 8191)], name="_a$b$"
    ).plot(),
    "atoms, 2": lambda: AtomSimilarityDisplay.from_components(np.eye(2)),
    "history, long name": lambda: TrainingHistoryDisplay.from_estimator(
        PIPELINE, name=LONG[0] + " and_$more$"
    ),
    "history, one measure": lambda: TrainingHistoryDisplay.from_estimator(
        PIPELINE, measures=["loss"]
    ),
}


@pytest.mark.parametrize("draw", AWKWARD.values(), ids=AWKWARD)
def test_awkward_figures_are_readable(draw):
    display = draw()
    texts = texts_of(display.figure_)
    assert unreadable(display.figure_, texts) == []
    assert display.figure_.get_figwidth() == COLUMN_WIDTH
    # No name became mathematics: only the powers of ten are.
    names = [text for text, _ in texts]
    assert not any("$" in t.replace(r"\$", "") for t in names if "10^" not in t)


def test_names_in_the_legend_are_those_given():
    display = SelectivityCDFDisplay.from_predictions(
        CODES, ODD[FOUR], labels="all", n_permutations=0
    )
    texts = display.ax_.get_legend().get_texts()
    shown = [text.get_text().strip().replace(r"\$", "$") for text in texts]
    assert shown == sorted(ODD)


@pytest.mark.parametrize("width", [2, 8])
def test_a_legend_on_the_axes_of_a_caller_leaves_the_figure_as_it_is(width):
    figure, ax = plt.subplots(figsize=(width, 2.5), layout="constrained")
    SelectivityCDFDisplay.from_predictions(
        CODES, LONG[MANY], labels="all", n_permutations=0, ax=ax
    )
    assert figure.get_size_inches().tolist() == [width, 2.5]
    figure.canvas.draw()
    assert ax.get_window_extent().height > 0.5 * figure.dpi


@every_display
def test_new_figures_are_as_wide_as_a_column_and_readable(draw):
    figure = draw(None).figure_
    assert figure.get_figwidth() == COLUMN_WIDTH
    assert plt.get_fignums() == [figure.number]
    sizes = {
        text.get_fontsize()
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip()
    }
    assert sizes <= {7.0, 8.0}


@every_display
def test_given_axes_are_used_and_no_figure_is_made(draw):
    figure, ax = plt.subplots()
    before = dict(plt.rcParams)
    display = draw(ax)
    assert display.figure_ is figure
    assert plt.get_fignums() == [figure.number]
    assert dict(plt.rcParams) == before


@every_display
def test_axes_are_labelled(draw):
    display = draw(None)
    axes = np.ravel(display.ax_)
    assert axes[-1].get_xlabel()
    assert all(ax.get_ylabel() for ax in axes)


@every_display
def test_plot_again_gives_a_second_figure(draw):
    display = draw(None)
    first = display.figure_
    assert display.plot() is display
    assert display.figure_ is not first


@every_display
def test_without_matplotlib_the_error_says_what_to_install(draw, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"Display\.\w+ requires matplotlib"):
        draw(None)


@every_display
def test_nothing_is_left_open_where_drawing_fails(draw, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("no ink")

    monkeypatch.setattr(matplotlib.axes.Axes, "set", fail)
    monkeypatch.setattr(matplotlib.axes.Axes, "set_ylabel", fail)
    with pytest.raises(RuntimeError, match="no ink"):
        draw(None)
    assert plt.get_fignums() == []


# Their tests are in a file of their own.
ON_IMAGES = {"HeatmapDisplay", "GalleryDisplay"}


def test_every_public_display_is_tested():
    names = {name for draw in DRAWN.values() for name in draw.__code__.co_names}
    drawn = {name for name in names if name.endswith("Display")}
    public = {name for name in inspection.__all__ if name.endswith("Display")}
    assert drawn | ON_IMAGES == public


# What is an estimator to a display


def test_a_dictionary_a_pipeline_and_a_truncator_are_understood():
    rows = PIPELINE[:-1].transform(X)
    truncator = Truncator(ICFL(24, 3, max_iter=3, random_state=0)).fit(rows)
    for estimator in (DICTIONARY, truncator):
        display = SelectivityCDFDisplay.from_estimator(estimator, rows, Y)
        assert display.name == "ICFL"
        np.testing.assert_array_equal(
            display.scores, selectivity_scores(PIPELINE.transform(X), Y).max(axis=1)
        )


def test_estimators_without_codes_are_refused():
    classifier = DummyClassifier().fit(X, Y)
    with pytest.raises(TypeError, match="DummyClassifier has no transform"):
        SelectivityCDFDisplay.from_estimator(classifier, X, Y)
    with pytest.raises(TypeError, match=r"has no transform.*pipeline\[:-1\]"):
        SelectivityCDFDisplay.from_estimator(
            make_pipeline(StandardScaler(), DummyClassifier()).fit(X, Y), X, Y
        )
    with pytest.raises(NotFittedError):
        SelectivityCDFDisplay.from_estimator(ICFL(), X, Y)
    assert plt.get_fignums() == []


# The sorted curve and its null


@pytest.mark.parametrize("kind", ["average", "maximum"])
def test_curve_is_the_sorted_best_scores(kind):
    scores = selectivity_scores(CODES, Y, contrast=kind, activity_threshold=0.1)
    curve = selectivity_curve(CODES, Y, contrast=kind, activity_threshold=0.1)
    best = scores.max(axis=1)
    np.testing.assert_array_equal(curve["score"], np.sort(best)[::-1])
    np.testing.assert_array_equal(best[curve["feature"]], curve["score"])
    assert list(curve) == ["feature", "score", "contrast", "label", "n_permutations"]
    assert set(curve["contrast"]) == {kind}
    assert set(curve["label"]) == {None}
    assert set(curve["n_permutations"]) == {0}


def test_equal_scores_keep_the_order_of_the_features():
    codes = np.repeat([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]], 2, axis=0)
    curve = selectivity_curve(codes, [0, 0, 1, 1])
    assert curve["feature"].tolist() == [0, 1, 2]


def test_null_of_a_label_starts_where_that_of_the_report_does():
    settings = {"n_permutations": 50, "batch": np.arange(120) % 3, "random_state": 3}
    report = selectivity_report(CODES, Y, **settings)
    for i, label in enumerate(report["class"]):
        curve = selectivity_curve(CODES, Y, label=label, **settings)
        scores = selectivity_scores(CODES, Y)[:, i]
        np.testing.assert_array_equal(curve["score"], np.sort(scores)[::-1])
        assert curve["null_q95"][0] == report["null_q95"][i]
        assert curve["feature"][0] == report["best_feature"][i]


def test_null_agrees_with_the_counts_above_a_score():
    # P(the r-th best score > t) = P(at least r scores > t).
    settings = {"n_permutations": 60, "random_state": 1}
    curve = selectivity_curve(CODES, Y, **settings)
    for rank in (1, 5, 20):
        level = curve["null_q95"][rank - 1]
        counts = selectivity_counts(CODES, Y, score_thresholds=[level], **settings)
        assert counts["null_q95"][0] <= rank


def test_null_band_falls_and_holds_chance():
    curve = selectivity_curve(CODES, Y, n_permutations=100, random_state=0)
    for name in ("null_q05", "null_q95"):
        assert (np.diff(curve[name]) <= 0).all()
    inside = curve["null_q05"] <= curve["score"]
    inside &= curve["score"] <= curve["null_q95"]
    assert inside.mean() > 0.5  # these codes know nothing of the labels


def test_curve_refuses_a_label_that_is_not_there():
    with pytest.raises(ValueError, match=r"No sample has the label 'treatment C'"):
        selectivity_curve(CODES, Y, label="treatment C")
    with pytest.raises(ValueError, match="has length 3"):
        SelectivityCurveDisplay.from_predictions(CODES, Y[:3])
    with pytest.raises(ValueError, match="contrast"):
        SelectivityCurveDisplay.from_predictions(CODES, Y, contrast="median")
    assert plt.get_fignums() == []


def test_curve_display_draws_the_curve():
    settings = {"n_permutations": 20, "random_state": 0, "contrast": "maximum"}
    display = SelectivityCurveDisplay.from_predictions(
        CODES, Y, name="codes", linewidth=3, null_kwargs={"alpha": 0.5}, **settings
    )
    curve = selectivity_curve(CODES, Y, **settings)
    rank = np.arange(1, 31)
    np.testing.assert_array_equal(display.line_.get_xdata(), rank)
    np.testing.assert_array_equal(display.line_.get_ydata(), curve["score"])
    vertices = display.null_band_.get_paths()[0].vertices
    for edge in ("null_q05", "null_q95"):
        points = set(zip(rank.tolist(), curve[edge].tolist(), strict=True))
        assert points <= set(map(tuple, vertices.tolist()))
    assert display.line_.get_linewidth() == 3
    assert display.null_band_.get_alpha() == 0.5
    assert display.ax_.get_xscale() == "log"
    assert display.ax_.get_ylabel() == "maximum selectivity"
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert labels == ["codes", "null (central 90 %)"]


@pytest.mark.parametrize(
    "exchange",
    [
        {
            "batch": np.arange(120) % 3,
            "groups": 3 * (np.arange(120) // 10) + np.arange(120) % 3,
            "control": Y == "control",
        },
        {"grid_shape": (6, 10)},
    ],
)
def test_the_settings_of_a_null_reach_it(exchange):
    settings = {
        "contrast": "maximum",
        "activity_threshold": 0.1,
        "n_permutations": 9,
        "random_state": 4,
    } | exchange
    codes = PIPELINE.transform(X)
    curve = selectivity_curve(codes, Y, label="treatment B", **settings)
    low, high = curve["null_q05"], curve["null_q95"]
    display = SelectivityCurveDisplay.from_estimator(
        PIPELINE, X, Y, label="treatment B", **settings
    )
    np.testing.assert_array_equal(display.scores, curve["score"])
    np.testing.assert_array_equal(display.null_low, low)
    np.testing.assert_array_equal(display.null_high, high)
    display = SelectivityCDFDisplay.from_estimator(
        PIPELINE, X, Y, labels=["treatment B"], **settings
    )
    np.testing.assert_array_equal(np.sort(display.scores[0])[::-1], curve["score"])
    np.testing.assert_array_equal(display.null_low[0], low)
    np.testing.assert_array_equal(display.null_high[0], high)


def test_curve_display_without_a_null_has_no_band():
    display = SelectivityCurveDisplay.from_predictions(
        CODES, Y, label="control", n_permutations=0
    )
    assert display.null_band_ is None
    assert display.ax_.get_legend() is None
    assert display.ax_.get_ylabel() == "average selectivity for control"


def test_a_second_curve_differs_and_looks_like_the_first():
    first = SelectivityCurveDisplay.from_predictions(CODES, Y, name="a", c="#0072b2")
    second = SelectivityCurveDisplay.from_predictions(CODES, Y, name="b", ax=first.ax_)
    assert second.figure_ is first.figure_
    assert to_hex(second.line_.get_color()) in [c.lower() for c in COLOURS]
    assert second.line_.get_linestyle() != first.line_.get_linestyle()
    texts = first.ax_.get_legend().get_texts()
    assert [text.get_text() for text in texts] == ["a", "b", "null (central 90 %)"]
    assert {text.get_fontsize() for text in texts} == {7}


def test_what_the_caller_drew_keeps_its_colours():
    _, ax = plt.subplots()
    ax.plot([1, 2], [1, 2])
    display = SelectivityCurveDisplay.from_predictions(CODES, Y, ax=ax)
    assert to_hex(display.line_.get_color()) == to_hex("C1")


# The distribution over features


def test_no_two_of_many_lines_look_alike():
    codes = np.random.default_rng(0).normal(size=(60, 5))
    y = np.arange(60) % 12
    display = SelectivityCDFDisplay.from_predictions(codes, y, labels="all")
    looks = {(line.get_color(), str(line._dash_pattern)) for line in display.ax_.lines}
    assert len(display.ax_.lines) == len(looks) == 12
    plt.close(display.figure_)


def test_cdf_display_draws_shares_of_features():
    display = SelectivityCDFDisplay.from_predictions(
        CODES, Y, activity_threshold=0.1, name="a"
    )
    best = selectivity_scores(CODES, Y, activity_threshold=0.1).max(axis=1)
    np.testing.assert_array_equal(display.scores, best)
    x, y = display.line_.get_data()
    np.testing.assert_array_equal(x[1:], np.sort(best))
    np.testing.assert_allclose(y[1:], np.arange(1, 31) / 30)
    assert display.line_.get_drawstyle() == "steps-post"
    assert display.ax_.get_legend().get_texts()[0].get_text() == "a"


def band_at(band, share):
    """Scores between which a horizontal band lies at a share."""
    vertices = band.get_paths()[0].vertices
    edges = np.unique(vertices[:, 1])
    top = edges[np.searchsorted(edges, share)]
    bottom = edges[np.searchsorted(edges, share) - 1]
    inside = {tuple(v) for v in vertices if v[1] == top}
    inside &= {(x, top) for x, y in map(tuple, vertices) if y == bottom}
    scores = sorted(x for x, _ in inside)
    return scores[0], scores[-1]


@pytest.mark.parametrize("label", [None, "treatment A"])
@pytest.mark.parametrize("complementary", [False, True])
def test_cdf_band_is_that_of_the_sorted_curve(label, complementary):
    settings = {
        "n_permutations": 20,
        "random_state": 0,
        "contrast": "maximum",
        "activity_threshold": 0.1,
        "batch": np.arange(120) % 3,
        "groups": 3 * (np.arange(120) // 10) + np.arange(120) % 3,
        "control": Y == "control",
    }
    display = SelectivityCDFDisplay.from_predictions(
        CODES,
        Y,
        labels=None if label is None else [label],
        complementary=complementary,
        null_kwargs={"alpha": 0.5},
        **settings,
    )
    curve = selectivity_curve(CODES, Y, label=label, **settings)
    (band,) = display.null_bands_
    assert band.get_alpha() == 0.5
    assert band.get_label() == "null (central 90 %)"
    for rank in (0, 4, 15, 29):
        # This many of the features have a higher score.
        above = (rank + 0.5) / 30
        low, high = band_at(band, above if complementary else 1 - above)
        assert low == curve["null_q05"][rank]
        assert high == curve["null_q95"][rank]


def test_all_curves_share_the_permutations_of_the_labels():
    """Those of a stream, too: a label by itself would draw the next ones."""
    settings = {"labels": "all", "n_permutations": 9}
    seeded = SelectivityCDFDisplay.from_predictions(
        CODES, Y, random_state=0, **settings
    )
    stream = np.random.RandomState(0)
    drawn = SelectivityCDFDisplay.from_predictions(
        CODES, Y, random_state=stream, **settings
    )
    for i, label in enumerate(np.unique(Y)):
        curve = selectivity_curve(
            CODES, Y, label=label, n_permutations=9, random_state=0
        )
        np.testing.assert_array_equal(np.sort(seeded.scores[i])[::-1], curve["score"])
        for display in (seeded, drawn):
            np.testing.assert_array_equal(display.null_low[i], curve["null_q05"])
            np.testing.assert_array_equal(display.null_high[i], curve["null_q95"])


def test_cdf_band_lies_where_permuted_codes_do():
    # Codes that know nothing of the labels: the curve is one more permutation.
    rng = np.random.default_rng(5)
    inside = []
    for _ in range(10):
        display = SelectivityCDFDisplay.from_predictions(
            CODES, rng.permutation(Y), n_permutations=60, random_state=1
        )
        for rank in range(30):
            low, high = band_at(display.null_bands_[0], (rank + 0.5) / 30)
            inside.append(low <= np.sort(display.scores)[rank] <= high)
        plt.close("all")
    assert 0.8 < np.mean(inside) < 0.98


def test_cdf_of_labels_has_a_band_for_each_that_is_exchanged():
    display = SelectivityCDFDisplay.from_estimator(
        PIPELINE, X, Y, labels="all", control=Y == "control", **NULL
    )
    control, *others = display.null_bands_
    assert control is None
    for band, line in zip(others, display.line_[1:], strict=True):
        assert to_hex(band.get_facecolor()[0]) == to_hex(line.get_color())
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert texts.count("null (central 90 %)") == 1
    none = SelectivityCDFDisplay.from_predictions(CODES, Y, n_permutations=0)
    assert none.null_bands_ == [None]
    assert none.null_low is None


def test_a_curve_of_a_class_that_is_never_exchanged_has_no_band():
    display = SelectivityCurveDisplay.from_predictions(
        CODES, Y, label="control", control=Y == "control", **NULL
    )
    assert display.null_band_ is None


def test_cdf_display_of_labels():
    display = SelectivityCDFDisplay.from_predictions(
        CODES, Y, labels=["treatment B", "control"], contrast="maximum", name="codes"
    )
    scores = selectivity_scores(CODES, Y, contrast="maximum")
    for line, column in zip(display.line_, (2, 0), strict=True):
        np.testing.assert_array_equal(line.get_xdata()[1:], np.sort(scores[:, column]))
    assert display.name == ["codes, treatment B", "codes, control"]
    assert len({line.get_color() for line in display.line_}) == 2


def test_complementary_cdf_beside_an_empty_line():
    _, ax = plt.subplots()
    ax.plot([], [], label="only in the legend")
    display = SelectivityCDFDisplay.from_predictions(
        CODES, Y, complementary=True, ax=ax
    )
    assert 0 < display.ax_.get_ylim()[0] < 1 / CODES.shape[1]


def test_complementary_cdf():
    display = SelectivityCDFDisplay.from_predictions(CODES, Y, complementary=True)
    x, y = display.line_.get_data()
    best = selectivity_scores(CODES, Y).max(axis=1)
    # At equal scores the line falls step by step from the first of them.
    levels, first = np.unique(x, return_index=True)
    shares = [(best >= level).mean() for level in levels]
    np.testing.assert_allclose(y[first], shares)
    assert display.ax_.get_yscale() == "log"


def test_cdf_display_refuses():
    with pytest.raises(ValueError, match="No sample has the label 'C'"):
        SelectivityCDFDisplay.from_predictions(CODES, Y, labels=["control", "C"])
    display = SelectivityCDFDisplay(scores=[np.arange(3.0), np.arange(4.0)])
    with pytest.raises(ValueError, match="2 curves, but 1 names"):
        display.plot(name=["a"])
    with pytest.raises(ValueError, match="1 curves, but 2 upper edges"):
        SelectivityCDFDisplay(scores=np.arange(3.0), null_high=[None, None]).plot()
    assert plt.get_fignums() == []


# One direction


def test_direction_histogram_counts_cosines():
    feature, label = 5, "treatment B"
    display = DirectionHistogramDisplay.from_estimator(
        PIPELINE, X, Y, feature=feature, label=label, bins=7, rest_kwargs={"alpha": 1}
    )
    cosines = direction_cosines(
        PIPELINE[:-1].transform(X), DICTIONARY.components_[feature]
    )
    np.testing.assert_array_equal(display.cosines, cosines)
    edges = np.histogram_bin_edges(cosines, 7)
    for patch, chosen in (
        (display.label_patch_, label == Y),
        (display.rest_patch_, label != Y),
    ):
        data = patch.get_data()
        counts, _ = np.histogram(cosines[chosen], edges)
        np.testing.assert_array_equal(data.edges, edges)
        np.testing.assert_allclose(
            data.values * np.diff(edges) * chosen.sum(), counts, atol=1e-9
        )
    assert display.rest_patch_.get_alpha() == 1
    assert display.ax_.get_xlabel() == "cosine of direction 5 and sample"
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert labels == ["treatment B", "all others"]


def test_direction_histogram_from_predictions_is_the_same():
    one = DirectionHistogramDisplay.from_estimator(
        DICTIONARY, X, Y, feature=0, label="control"
    )
    other = DirectionHistogramDisplay.from_predictions(
        direction_cosines(X, DICTIONARY.components_[0]), Y, label="control", feature=0
    )
    for a, b in zip(
        one.label_patch_.get_data(), other.label_patch_.get_data(), strict=True
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("feature", [-1, 24, 1.5, None, "a"])
def test_direction_histogram_refuses_other_features(feature):
    with pytest.raises(ValueError, match="an index from 0 to 23, got"):
        DirectionHistogramDisplay.from_estimator(
            PIPELINE, X, Y, feature=feature, label="control"
        )
    assert plt.get_fignums() == []


def test_direction_histogram_refuses_bad_input():
    cosines = np.linspace(-1, 1, 120)
    draw = DirectionHistogramDisplay.from_predictions
    with pytest.raises(ValueError, match="No sample has the label 'C'"):
        draw(cosines, Y, label="C")
    with pytest.raises(ValueError, match="Every sample has the label 'a'"):
        draw(cosines, ["a"] * 120, label="a")
    with pytest.raises(ValueError, match="7 rows, but y has length 120"):
        draw(cosines[:7], Y, label="control")
    cosines[3:5] = np.nan
    with pytest.raises(ValueError, match=r"2 of 120 cosines are NaN .* at row 3"):
        draw(cosines, Y, label="control")
    with pytest.raises(TypeError, match="StandardScaler has no components_"):
        DirectionHistogramDisplay.from_estimator(
            StandardScaler().fit(X), X, Y, feature=0, label="control"
        )
    assert plt.get_fignums() == []


# Measures against k


@pytest.mark.parametrize(
    ("measure", "score"),
    [("cosine", reconstruction_cosine), ("explained_variance", explained_variance)],
)
def test_sparsity_curve_draws_the_truncated_codes(measure, score):
    display = SparsityCurveDisplay.from_estimator(
        PIPELINE, X, k=[3, 1, 1], measure=measure
    )
    rows = PIPELINE[:-1].transform(X)
    np.testing.assert_array_equal(display.line_.get_xdata(), [1, 3])
    for k, drawn in zip(*display.line_.get_data(), strict=True):
        truncator = Truncator(ICFL(24, 3, max_iter=3, random_state=0), int(k)).fit(rows)
        X_hat = truncator.inverse_transform(truncator.transform(rows))
        assert drawn == pytest.approx(score(rows, X_hat), abs=1e-6)
    assert display.bands_ == []
    assert [text.get_text() for text in display.ax_.get_xticklabels()] == ["3", "1"]
    assert PIPELINE[-1].k == 3


def test_sparsity_curve_of_a_probe():
    cv = StratifiedKFold(3)
    display = SparsityCurveDisplay.from_estimator(
        PIPELINE, X, Y, k=[2, 3], measure="probe_codes", cv=cv
    )
    scores = cross_val_score(
        make_linear_probe(),
        PIPELINE.transform(X),
        Y,
        cv=cv,
        scoring="balanced_accuracy",
    )
    assert display.line_.get_ydata()[1] == pytest.approx(scores.mean())
    edge = display.bands_[0].get_paths()[0].vertices[:, 1]
    assert np.isclose(edge, scores.mean() + scores.std()).any()
    assert display.ax_.get_ylabel() == "balanced accuracy of probe"


def test_sparsity_curve_of_a_probe_has_the_probe_on_x_and_chance():
    cv = StratifiedKFold(3, shuffle=True, random_state=0)
    options = {"k": [2], "measure": "probe_codes"}
    display = SparsityCurveDisplay.from_estimator(PIPELINE, X, Y, cv=cv, **options)
    rows = PIPELINE[:-1].transform(X)
    scores = cross_val_score(
        make_linear_probe(), rows, Y, cv=cv, scoring="balanced_accuracy"
    )
    assert display.references == pytest.approx(
        {"probe on x": scores.mean(), "chance": 1 / 3}
    )
    heights = [line.get_ydata()[0] for line in display.reference_lines_]
    assert heights == pytest.approx([scores.mean(), 1 / 3])
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert texts == ["ICFL", "probe on x", "chance"]
    # A second dictionary: other markers, the same ticks, no second entries.
    SparsityCurveDisplay.from_estimator(
        PIPELINE, X, Y, name="b", ax=display.ax_, cv=cv, **options | {"k": [1, 3]}
    )
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert texts == ["ICFL", "b", "probe on x", "chance"]
    assert sorted(display.ax_.get_xticks()) == [1, 2, 3]
    other = SparsityCurveDisplay.from_estimator(
        PIPELINE, X, Y, references={"paper": 0.5}, cv=cv, **options
    )
    assert other.references == {"paper": 0.5}
    cosine = SparsityCurveDisplay.from_estimator(PIPELINE, X, k=[2])
    assert cosine.reference_lines_ == []


def test_folds_of_a_probe_are_drawn_once():
    cv = StratifiedKFold(3, shuffle=True, random_state=np.random.RandomState(0))
    identity = Truncator(PCA(8).fit(X)).fit(X)
    display = SparsityCurveDisplay.from_estimator(
        identity, X, Y, k=[8], measure="probe_codes", cv=cv, probe=PROBE
    )
    # A rotation of x tells a nearest neighbour what x tells it.
    assert display.mean[0] == pytest.approx(display.references["probe on x"])


@pytest.mark.parametrize(
    ("cv", "splitter"),
    [
        (GroupKFold(3), GroupKFold(3)),
        (3, StratifiedGroupKFold(3)),
        (None, StratifiedGroupKFold(5)),
    ],
    ids=["splitter", "number", "default"],
)
def test_folds_of_a_probe_keep_groups_together(cv, splitter):
    groups = np.arange(120) % 7
    display = SparsityCurveDisplay.from_estimator(
        PIPELINE,
        X,
        Y,
        k=[3],
        measure="probe_codes",
        cv=cv,
        groups=groups,
        probe=PROBE,
    )
    rows = PIPELINE[:-1].transform(X)
    for found, features in (
        (display.mean[0], PIPELINE.transform(X)),
        (display.references["probe on x"], rows),
    ):
        scores = cross_val_score(
            PROBE,
            features,
            Y,
            cv=splitter.split(rows, Y, groups),
            scoring="balanced_accuracy",
        )
        assert found == pytest.approx(scores.mean())


def test_runs_with_the_probe_on_x_have_it_as_reference():
    runs = RUNS.assign(probe_codes=RUNS["cosine"], probe_x=0.7)
    display = SparsityCurveDisplay.from_runs(runs, measure="probe_codes")
    assert display.references == pytest.approx({"probe on x": 0.7})
    assert SparsityCurveDisplay.from_runs(runs).references is None
    for without in (
        runs.drop(columns="probe_x"),
        runs.assign(probe_x=runs["probe_x"].where(runs["seed"] > 0)),
        runs.assign(probe_x=runs["cosine"]),
    ):
        display = SparsityCurveDisplay.from_runs(without, measure="probe_codes")
        assert display.reference_lines_ == []


def test_sparsity_curve_of_another_transformer():
    pca = PCA(6).fit(X)
    display = SparsityCurveDisplay.from_estimator(pca, X, k=[1, 6])
    expected = reconstruction_cosine(X, pca.inverse_transform(pca.transform(X)))
    assert display.line_.get_ydata()[1] == pytest.approx(expected, abs=1e-6)


def test_sparsity_curves_of_runs():
    # The tables of several k come in any order, and their indices repeat.
    runs = pd.concat(own.reset_index(drop=True) for _, own in RUNS[::-1].groupby("k"))
    display = SparsityCurveDisplay.from_runs(runs, band_kwargs={"alpha": 0.1})
    assert display.name == ["random atoms", "TopKSAE", "ICFL"]
    for i, name in enumerate(display.name):
        own = RUNS[RUNS["dictionary"] == name]
        x, y = display.line_[i].get_data()
        np.testing.assert_array_equal(x, np.unique(own["k"]))
        values = own["cosine"].to_numpy().reshape(-1, 3)  # 3 seeds for each k
        np.testing.assert_allclose(y, values.mean(axis=1))
        top = display.bands_[i].get_paths()[0].vertices[:, 1].max()
        assert top == pytest.approx((values.mean(axis=1) + values.std(axis=1)).max())
    assert len({line.get_marker() for line in display.line_}) == 3


def test_sparsity_curve_refuses_bad_input():
    draw = SparsityCurveDisplay.from_estimator
    for k in ([0, 1], [1.5], [], 3, ["a"]):
        with pytest.raises(ValueError, match="k must be a list of positive integers"):
            draw(PIPELINE, X, k=k)
    with pytest.raises(ValueError, match="k=4 is larger than k=3"):
        draw(PIPELINE, X, k=[1, 4])
    with pytest.raises(ValueError, match="measure must be one of"):
        draw(PIPELINE, X, k=[1], measure="loss")
    with pytest.raises(ValueError, match="A probe needs labels"):
        draw(PIPELINE, X, k=[1], measure="probe_codes")
    with pytest.raises(ValueError, match="no runs"):
        SparsityCurveDisplay.from_runs(RUNS[:0])
    with pytest.raises(ValueError, match=r"lacks the columns \['l0', 'size'\]"):
        SparsityCurveDisplay.from_runs(RUNS, measure="l0", k="size")
    some = RUNS.assign(cosine=RUNS["cosine"].where(RUNS["seed"] > 0))
    with pytest.raises(ValueError, match=r"48 of 144 runs have no 'cosine'.*row 0"):
        SparsityCurveDisplay.from_runs(some)
    with pytest.raises(TypeError, match="must be a DataFrame, got list"):
        SparsityCurveDisplay.from_runs([RUNS, RUNS])
    with pytest.raises(ValueError, match="lists of the same length"):
        SparsityCurveDisplay(k=[np.arange(1, 3)], mean=[[1, 2], [3, 4]]).plot()
    assert plt.get_fignums() == []


# How often features fire


def test_density_counts_every_feature_once():
    density = np.r_[np.zeros(3), np.full(5, 2e-6), np.geomspace(1e-4, 1, 40)]
    display = DensityDisplay(density=density).plot(bins=11)
    heights = [bar.get_height() for bar in display.bars_]
    assert len(heights) == 11
    assert sum(heights) == 45
    for bar in display.bars_:
        left, right = bar.get_x(), bar.get_x() + bar.get_width()
        inside = (density > left) & (density < right)
        assert bar.get_height() - inside.sum() in (0, 1)  # 1 lies on the last edge
    (never,) = display.never_bar_
    assert never.get_height() == 3
    assert never.get_x() + never.get_width() < display.bars_[0].get_x()
    assert display.threshold_line_.get_xdata()[0] == 1e-5
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert labels == ["8 of 48 dead", "dead below 1e-05"]
    assert "never" in [tick.get_text() for tick in display.ax_.get_xticklabels()]


def test_suppression_display_draws_means_over_folds_and_draws():
    display = SuppressionDisplay.from_runs(SUPPRESSION)
    batch, y = display.lines_["batch"], display.lines_["y"]
    np.testing.assert_allclose(batch.get_ydata(), [0.85, 0.85, 0.45])
    np.testing.assert_allclose(y.get_ydata(), [0.65, 0.65, 0.65])
    np.testing.assert_allclose(
        display.points_["batch"].get_ydata(), [0.9, 0.8, 0.85, 0.4, 0.5]
    )
    assert [*display.chance_lines_["batch"].get_ydata()] == [0.25, 0.25]


def test_importance_display_draws_the_largest_at_the_top():
    display = ConceptImportanceDisplay.from_table(IMPORTANCE, max_concepts=3)
    widths = [bar.get_width() for bar in display.bars_]
    np.testing.assert_allclose(widths, IMPORTANCE["importance"][:3])
    assert display.ax_.yaxis_inverted()
    np.testing.assert_allclose(
        [ticks.get_offsets()[0, 0] for ticks in display.null_ticks_], [0.1, -0.1]
    )
    alone = IMPORTANCE.drop(columns="standard_error")
    assert ConceptImportanceDisplay.from_table(alone).bars_.errorbar is None
    with pytest.raises(ValueError, match="max_concepts must be a positive integer"):
        ConceptImportanceDisplay.from_table(IMPORTANCE, max_concepts=0)
    with pytest.raises(TypeError, match="table must be a DataFrame"):
        ConceptImportanceDisplay.from_table([1])


def test_steering_display_draws_means_over_folds_and_the_null():
    display = SteeringCurveDisplay.from_runs(STEERING)
    np.testing.assert_allclose(display.line_.get_ydata(), [0, 0.7])
    np.testing.assert_allclose(display.reference_line_.get_ydata(), [0, 1])
    # The draws' means over folds are 0.1 and 0.2.
    edges = display.null_band_.get_paths()[0].vertices
    np.testing.assert_allclose(edges[:, 1].max(), 0.195)
    own = STEERING[STEERING["added"] == "treatment features"]
    bare = SteeringCurveDisplay.from_runs(own)
    assert bare.null_band_ is None
    assert bare.reference_line_ is None


def test_runs_with_categories_are_drawn_as_they_are():
    kinds = STEERING.astype({"added": "category"})
    own = kinds[kinds["added"] == "treatment features"]
    assert SteeringCurveDisplay.from_runs(own).null_band_ is None
    display = SuppressionDisplay.from_runs(SUPPRESSION.astype({"removed": "category"}))
    ydata = display.lines_["batch"].get_ydata()
    np.testing.assert_allclose(ydata, [0.85, 0.85, 0.45])


@pytest.mark.parametrize("display", [SuppressionDisplay, SteeringCurveDisplay])
def test_tables_of_runs_that_cannot_be_drawn(display):
    with pytest.raises(TypeError, match="runs must be a DataFrame, got list"):
        display.from_runs([1])
    with pytest.raises(ValueError, match="runs lacks the columns"):
        display.from_runs(pd.DataFrame({"a": [1]}))
    runs = STEERING if display is SteeringCurveDisplay else SUPPRESSION
    with pytest.raises(ValueError, match="runs has no rows to draw"):
        display.from_runs(runs[:0])
    with pytest.raises(ValueError, match=r"of \d+ rows of runs have no .* row 0"):
        display.from_runs(runs.assign(**{runs.columns[4]: np.nan}))
    assert plt.get_fignums() == []


def test_density_display_takes_the_densities():
    in_training = DensityDisplay.from_estimator(PIPELINE)
    np.testing.assert_array_equal(in_training.density, DICTIONARY.feature_density_)
    codes = PIPELINE.transform(X)
    for display in (
        DensityDisplay.from_estimator(PIPELINE, X, min_density=0.1, name="ICFL"),
        DensityDisplay.from_predictions(codes, min_density=0.1, name="ICFL"),
    ):
        density = feature_density(codes)
        np.testing.assert_array_equal(display.density, density)
        labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
        dead = (density < 0.1).sum()
        assert labels == [f"ICFL: {dead} of 24 dead", "dead below 0.1"]


@pytest.mark.parametrize("density", [np.zeros(4), np.ones(4), np.full(4, 1e-5)])
def test_density_of_features_that_are_all_alike(density):
    display = DensityDisplay(density=density).plot()
    n_never = display.never_bar_[0].get_height() if display.never_bar_ else 0
    assert n_never + sum(bar.get_height() for bar in display.bars_) == 4


def test_density_of_a_second_dictionary_joins_the_legend():
    first = DensityDisplay.from_estimator(PIPELINE, name="a")
    DensityDisplay.from_estimator(PIPELINE, name="b", ax=first.ax_)
    labels = [text.get_text() for text in first.ax_.get_legend().get_texts()]
    assert labels == ["a: 0 of 24 dead", "b: 0 of 24 dead", "dead below 1e-05"]


@pytest.mark.parametrize("threshold", [0, -1, 1.5, np.nan])
def test_density_refuses_other_thresholds(threshold):
    with pytest.raises(ValueError, match="min_density must be in"):
        DensityDisplay.from_estimator(PIPELINE, min_density=threshold)
    assert plt.get_fignums() == []


@pytest.mark.parametrize("bins", [0, -1, 2.5, "auto"])
def test_density_refuses_other_bins(bins):
    with pytest.raises(ValueError, match="bins must be a positive integer"):
        DensityDisplay.from_estimator(PIPELINE, bins=bins)
    assert plt.get_fignums() == []


# Atoms


def test_atom_similarity_draws_the_ordered_matrix():
    display = AtomSimilarityDisplay.from_estimator(PIPELINE, n_clusters=4)
    ordered = order_atoms(DICTIONARY.components_, n_clusters=4)
    np.testing.assert_array_equal(display.im_.get_array(), ordered.similarity)
    low, high = display.im_.get_clim()
    assert low == -high
    others = ordered.similarity[~np.eye(24, dtype=bool)]
    assert high == pytest.approx(np.abs(others).max())
    squares = display.cluster_lines_.get_segments()
    sizes = np.bincount(ordered.labels)
    assert [square[1, 0] - square[0, 0] for square in squares] == sizes.tolist()
    assert squares[0][0].tolist() == [-0.5, -0.5]
    assert squares[-1][2].tolist() == [23.5, 23.5]
    assert display.colorbar_.ax.get_ylabel() == "cosine"


def test_atom_similarity_without_extras():
    display = AtomSimilarityDisplay.from_components(
        np.eye(3), colorbar=False, limit=0.5, cmap="PuOr"
    )
    assert display.colorbar_ is None
    assert display.cluster_lines_ is None
    assert display.im_.get_clim() == (-0.5, 0.5)
    assert display.im_.get_cmap().name == "PuOr"
    assert len(display.figure_.axes) == 1


@pytest.mark.parametrize(
    ("limit", "extend"), [(1, "neither"), (0.9, "max"), (0.4, "both"), (None, "max")]
)
def test_the_colour_bar_points_where_values_lie_beyond(limit, extend):
    atoms = [[1.0, 0.0], [-0.5, 0.75**0.5], [0.0, 1.0]]
    display = AtomSimilarityDisplay.from_components(atoms, limit=limit)
    assert display.colorbar_.extend == extend


@pytest.mark.parametrize("atoms", [np.eye(3), np.eye(1)])
def test_atom_similarity_of_orthogonal_atoms_has_a_scale(atoms):
    display = AtomSimilarityDisplay.from_components(atoms)
    assert display.im_.get_clim() == (-1, 1)


def test_atom_similarity_refuses_bad_input():
    with pytest.raises(ValueError, match="NaN"):
        AtomSimilarityDisplay.from_components([[np.nan, 1.0]])
    with pytest.raises(ValueError, match="more than the 24 atoms"):
        AtomSimilarityDisplay.from_estimator(PIPELINE, n_clusters=25)
    assert plt.get_fignums() == []


# Training


def test_history_is_drawn():
    display = TrainingHistoryDisplay.from_estimator(PIPELINE, measures=["loss"])
    (line,) = display.lines_
    records = DICTIONARY.history_
    np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
    np.testing.assert_array_equal(line.get_ydata(), [r["loss"] for r in records])
    assert line.get_marker() == "."
    default = TrainingHistoryDisplay.from_estimator(PIPELINE, name="mine")
    for line, measure in zip(
        default.lines_,
        ("explained_variance", "dead_fraction", "learning_rate"),
        strict=True,
    ):
        np.testing.assert_array_equal(line.get_ydata(), [r[measure] for r in records])
    assert default.ax_[0].get_legend().get_texts()[0].get_text() == "mine"


def test_history_on_axes_of_the_caller():
    figure, (left, right) = plt.subplots(1, 2)
    divided = TrainingHistoryDisplay.from_estimator(PIPELINE, ax=left)
    assert divided.figure_ is figure
    assert len(divided.ax_) == 3
    assert not left.axison
    for ax in divided.ax_:
        assert ax.get_position().x1 <= left.get_position().x1 + 1e-9
    whole = TrainingHistoryDisplay.from_estimator(PIPELINE, measures="loss", ax=right)
    assert whole.ax_.tolist() == [right]
    second = TrainingHistoryDisplay.from_estimator(PIPELINE, name="b", ax=divided.ax_)
    assert second.ax_.tolist() == divided.ax_.tolist()
    assert [len(ax.get_lines()) for ax in second.ax_] == [2, 2, 2]
    with pytest.raises(ValueError, match=r"ax must be 3 Axes, .* got 2"):
        TrainingHistoryDisplay.from_estimator(PIPELINE, ax=[left, right])


def test_history_keeps_extremes_from_flattening_the_rest():
    history = [
        {
            "epoch": i,
            "explained_variance": e,
            "dead_fraction": 0.0,
            "learning_rate": rate,
        }
        for i, e, rate in [(1, -7.0, 1.0), (2, 0.5, 0.6), (3, 0.8, 0.0)]
    ]
    display = TrainingHistoryDisplay(history=history).plot()
    assert display.ax_[0].get_ylim()[0] == -0.1
    assert display.ax_[1].get_ylim()[1] == 0.1
    assert display.ax_[2].get_yscale() == "linear"
    slower = [
        record | {"learning_rate": 0.001 * record["learning_rate"]}
        for record in history
    ]
    TrainingHistoryDisplay(history=slower).plot(display.ax_)
    rates = display.ax_[2]
    assert rates.get_yscale() == "log"
    # The rate 0 at the end is left out, and no line falls to the bottom.
    assert not np.isfinite(rates.transData.transform((3, 0.0))).all()


def test_history_refuses_bad_input():
    untrained = ICFL(8, 2, max_iter=0).fit(X)
    with pytest.raises(ValueError, match="fitted without training"):
        TrainingHistoryDisplay.from_estimator(untrained)
    with pytest.raises(ValueError, match=r"measures must be .* got \['accuracy'\]"):
        TrainingHistoryDisplay.from_estimator(PIPELINE, measures=["loss", "accuracy"])
    with pytest.raises(TypeError, match="PCA has no history_"):
        TrainingHistoryDisplay.from_estimator(PCA().fit(X))
    assert plt.get_fignums() == []


# Texts that matplotlib would take for formulas

MATHS = r"$\frac{$ a_b$ _^$ 5\$"


def _drawn(display):
    figure = display.figure_
    figure.canvas.draw()
    return figure


TEXTS = {
    "curve": lambda: SelectivityCurveDisplay.from_predictions(
        CODES, np.where(Y[0] == Y, MATHS, "b"), label=MATHS, name=MATHS, **NULL
    ),
    "CDF": lambda: SelectivityCDFDisplay.from_predictions(
        CODES, np.where(Y[0] == Y, MATHS, "b"), labels="all", name=MATHS, **NULL
    ),
    "kinds": lambda: SelectivityCDFDisplay(
        scores=np.ones(2), contrast=MATHS, name=MATHS
    ).plot(),
    "kind": lambda: SelectivityCurveDisplay(scores=[0.1], contrast=MATHS).plot(),
    "histogram": lambda: DirectionHistogramDisplay(
        cosines=[0.1, 0.3], is_label=[True, False], label=MATHS, feature=MATHS
    ).plot(),
    "sparsity": lambda: SparsityCurveDisplay(
        k=[1, 2], mean=[0.1, 0.2], measure=MATHS, name=MATHS, references={MATHS: 0.1}
    ).plot(),
    "sparse probing": lambda: SparseProbingDisplay(
        n_features=[1, 2], mean=[0.1, 0.2], measure=MATHS, references={MATHS: 0.1}
    ).plot(),
    "importance": lambda: ConceptImportanceDisplay(
        table=IMPORTANCE[:3], feature_names={7: MATHS}
    ).plot(),
    "steering": lambda: SteeringCurveDisplay(
        runs=STEERING.rename(columns={"progress": MATHS}), measure=MATHS, name=MATHS
    ).plot(),
    "density": lambda: DensityDisplay(density=[0.1, 0.0], name=MATHS).plot(),
    "history": lambda: TrainingHistoryDisplay(
        history=[{"epoch": 1, MATHS: 0.5}], name=MATHS
    ).plot(measures=[MATHS]),
}


@pytest.mark.parametrize("draw", TEXTS.values(), ids=TEXTS)
def test_no_text_is_a_formula(draw):
    figure = _drawn(draw())
    found = [text for text in figure.findobj(Text) if "frac" in text.get_text()]
    assert found
    assert not any(text._preprocess_math(text.get_text())[1] for text in found)


@given(st.text("a $\\_^{", min_size=1, max_size=40), st.integers(1, 12))
def test_lines_of_a_text_are_no_formulas(text, width):
    lines = in_lines(plain(text), width)
    drawn, is_math = Text(text=lines)._preprocess_math(lines)
    assert not is_math
    assert drawn.count("$") == text.count("$")


# What is no number and no name is refused before anything is encoded


NEVER = object()


@pytest.mark.parametrize("name", [["a", "b"], True, {"a": 1}, b"a"])
@pytest.mark.parametrize(
    "draw",
    [
        lambda name: SelectivityCurveDisplay.from_estimator(
            PIPELINE, NEVER, Y, name=name
        ),
        lambda name: SelectivityCDFDisplay.from_estimator(
            PIPELINE, NEVER, Y, name=name
        ),
        lambda name: DensityDisplay.from_estimator(PIPELINE, NEVER, name=name),
        lambda name: SparsityCurveDisplay.from_estimator(
            PIPELINE, NEVER, k=[1], name=name
        ),
        lambda name: TrainingHistoryDisplay.from_estimator(PIPELINE, name=name),
    ],
)
def test_a_name_is_a_text(draw, name):
    with pytest.raises(ValueError, match="name must be a str"):
        draw(name)
    assert plt.get_fignums() == []


def test_booleans_are_no_whole_numbers():
    with pytest.raises(ValueError, match="bins must be"):
        DensityDisplay.from_estimator(PIPELINE, bins=True)
    with pytest.raises(ValueError, match="feature must be"):
        DirectionHistogramDisplay.from_estimator(
            PIPELINE, X, Y, feature=True, label=Y[0]
        )
    for k in ([True], [1, True], np.array([True, False])):
        with pytest.raises(ValueError, match="k must be"):
            SparsityCurveDisplay.from_estimator(PIPELINE, X, k=k)


def test_comparison_has_the_figures_of_the_summary():
    display = ComparisonDisplay.from_runs(COMPARED)
    table = summary_table(COMPARED).query("measure == 'cosine'")
    assert display.name == table["dictionary"].tolist()
    assert_allclose(display.mean, table["mean"])
    assert_allclose(display.low, table["low"])
    assert_allclose(display.high, table["high"])
    assert_allclose(display.null_high, [0.45, 0.4, 0.3])
    assert_allclose(display.points_.get_xdata(), table["mean"])
    segments = np.array(display.intervals_.get_segments())
    assert_allclose(segments[:, :, 0], table[["low", "high"]])
    assert_allclose(segments[:, 0, 1], display.points_.get_ydata())
    # The first name is on top.
    assert display.ax_.yaxis_inverted()
    layers = COMPARED.rename(columns={"dictionary": "layer"}).drop(
        columns="cosine_null"
    )
    assert ComparisonDisplay.from_runs(layers, by="layer").null_points_ is None
    narrow = ComparisonDisplay.from_runs(COMPARED, confidence_level=0.5)
    assert (narrow.low > display.low).all()
    with pytest.raises(ValueError, match=r"lacks the columns \['l0'\]"):
        ComparisonDisplay.from_runs(COMPARED, measure="l0")
