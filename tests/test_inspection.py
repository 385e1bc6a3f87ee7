"""The displays draw the numbers that they were given, and can be read."""

import subprocess
import sys
from itertools import combinations

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.sparse as sp
from matplotlib.colors import to_hex
from matplotlib.text import Text
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from skdict import ICFL, Truncator, inspection
from skdict.inspection import SelectivityCDFDisplay, SelectivityCurveDisplay
from skdict.inspection._style import COLOURS, COLUMN_WIDTH
from skdict.metrics import (
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


@pytest.fixture(autouse=True)
def close_figures():
    assert plt.get_fignums() == []
    yield
    plt.close("all")


# Every display, drawn from an estimator; the tests below hold for all of them.
DRAWN = {
    "selectivity curve": lambda ax: SelectivityCurveDisplay.from_estimator(
        PIPELINE, X, Y, n_permutations=5, random_state=0, ax=ax
    ),
    "selectivity curve of a label": lambda ax: SelectivityCurveDisplay.from_estimator(
        PIPELINE, X, Y, label="treatment A", kind="maximum", n_permutations=0, ax=ax
    ),
    "selectivity CDF": lambda ax: SelectivityCDFDisplay.from_estimator(
        PIPELINE, X, Y, ax=ax
    ),
    "selectivity CDF of all labels": lambda ax: SelectivityCDFDisplay.from_estimator(
        PIPELINE, X, Y, labels="all", complementary=True, ax=ax
    ),
}
every_display = pytest.mark.parametrize(
    "draw", [pytest.param(draw, id=name) for name, draw in DRAWN.items()]
)


def texts_of(figure):
    """The texts that are seen in a rendered figure, and their boxes in pixels."""
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    found = []
    # Ticks beyond the limits of an axis exist, but are not drawn.
    unseen = set()
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            ticks = {*axis.get_major_ticks(), *axis.get_minor_ticks()}
            for tick in ticks - set(axis._update_ticks()):
                unseen |= {tick.label1, tick.label2}
            if not (axis.get_visible() and ax.axison):
                unseen |= set(axis.findobj(Text))
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text().strip() and text not in unseen:
            box = text.get_window_extent(renderer)
            if box.width and box.height:
                found.append((text.get_text(), box))
    return found


@every_display
def test_texts_neither_overlap_nor_leave_the_figure(draw):
    figure = draw(None).figure_
    texts = texts_of(figure)
    assert len(texts) >= 6
    for (one, box), (other, other_box) in combinations(texts, 2):
        # Boxes hold room for descenders, so that a pixel is no overlap.
        shared = box.padded(-1), other_box.padded(-1)
        assert not shared[0].overlaps(shared[1]), (one, other)
    for text, box in texts:
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= figure.bbox.x1, text
        assert box.y1 <= figure.bbox.y1, text


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
    for ax in np.ravel(display.ax_):
        assert ax.get_xlabel() or ax is not np.ravel(display.ax_)[-1]
        assert ax.get_ylabel()


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
    monkeypatch.setattr(matplotlib.axes.Axes, "set_xlabel", fail)
    monkeypatch.setattr(matplotlib.axes.Axes, "set_ylabel", fail)
    with pytest.raises(RuntimeError, match="no ink"):
        draw(None)
    assert plt.get_fignums() == []


def test_every_public_display_is_tested():
    displays = {name for name in inspection.__all__ if name.endswith("Display")}
    drawn = {type(draw(None)).__name__ for draw in DRAWN.values()}
    plt.close("all")
    own = {n for n in displays if getattr(inspection, n).__module__ in OWN_MODULES}
    assert own <= drawn


OWN_MODULES = {
    "skdict.inspection._selectivity_curve",
    "skdict.inspection._selectivity_cdf",
}


def test_importing_inspection_does_not_import_matplotlib():
    script = "import sys, skdict.inspection; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


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
    from sklearn.dummy import DummyClassifier

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
    scores = selectivity_scores(CODES, Y, kind=kind, threshold=0.1)
    curve = selectivity_curve(CODES, Y, kind=kind, threshold=0.1)
    best = scores.max(axis=1)
    np.testing.assert_array_equal(curve["score"], np.sort(best)[::-1])
    np.testing.assert_array_equal(best[curve["feature"]], curve["score"])
    assert curve.attrs == {"kind": kind, "label": None, "n_permutations": 0}
    assert list(curve) == ["feature", "score"]


def test_equal_scores_keep_the_order_of_the_features():
    codes = np.repeat([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]], 2, axis=0)
    curve = selectivity_curve(codes, [0, 0, 1, 1])
    assert curve["feature"].tolist() == [0, 1, 2]


def test_null_of_a_label_starts_where_that_of_the_report_does():
    settings = {"n_permutations": 50, "groups": np.arange(120) % 3, "random_state": 3}
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
    with pytest.raises(ValueError, match="kind"):
        SelectivityCurveDisplay.from_predictions(CODES, Y, kind="median")
    assert plt.get_fignums() == []


def test_curve_display_draws_the_curve():
    settings = {"n_permutations": 20, "random_state": 0, "kind": "maximum"}
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
    assert labels == ["codes", "permuted labels, codes"]


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
    assert len(texts) == 4
    assert {text.get_fontsize() for text in texts} == {7}


def test_what_the_caller_drew_keeps_its_colours():
    _, ax = plt.subplots()
    ax.plot([1, 2], [1, 2])
    display = SelectivityCurveDisplay.from_predictions(CODES, Y, ax=ax)
    assert to_hex(display.line_.get_color()) == to_hex("C1")


# The distribution over features


def test_cdf_display_draws_shares_of_features():
    display = SelectivityCDFDisplay.from_predictions(CODES, Y, threshold=0.1, name="a")
    best = selectivity_scores(CODES, Y, threshold=0.1).max(axis=1)
    np.testing.assert_array_equal(display.scores, best)
    x, y = display.line_.get_data()
    np.testing.assert_array_equal(x[1:], np.sort(best))
    np.testing.assert_allclose(y[1:], np.arange(1, 31) / 30)
    assert display.line_.get_drawstyle() == "steps-post"
    assert display.ax_.get_legend().get_texts()[0].get_text() == "a"


def test_cdf_display_of_labels():
    display = SelectivityCDFDisplay.from_predictions(
        CODES, Y, labels=["treatment B", "control"], kind="maximum", name="codes"
    )
    scores = selectivity_scores(CODES, Y, kind="maximum")
    for line, column in zip(display.line_, (2, 0), strict=True):
        np.testing.assert_array_equal(line.get_xdata()[1:], np.sort(scores[:, column]))
    assert display.name == ["codes, treatment B", "codes, control"]
    assert len({line.get_color() for line in display.line_}) == 2


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
    assert plt.get_fignums() == []
