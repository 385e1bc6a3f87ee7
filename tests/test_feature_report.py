"""skdict.report.FeatureReport: the numbers, cards and pictures of the page."""

import base64
import gzip
import io
import json
import os
import re

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.image import imread
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage, sparse, stats
from sklearn.base import clone
from sklearn.decomposition import PCA, MiniBatchDictionaryLearning
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from skdict import ICFL, TopKSAE, Truncator
from skdict.images import rank_images
from skdict.images.grid import block_means
from skdict.metrics import (
    describe_features,
    direction_cosines,
    selectivity_report,
    selectivity_tests,
)
from skdict.report import FeatureReport, _cards, _inputs, _pictures, _thumbnails
from skdict.stats import choose_exchange, null_of_best, run_label_tests
from skdict.stats.group_tests import group_p_values

GRID = (4, 6)
N_IMAGES = 12
N_TOKENS = N_IMAGES * 24


@pytest.fixture(scope="module")
def tokens():
    return np.random.default_rng(1).normal(size=(N_TOKENS, 7)).astype(np.float32)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(2).integers(0, 256, (N_IMAGES, 20, 30), np.uint8)


@pytest.fixture(scope="module")
def pipe(tokens):
    dictionary = ICFL(9, 3, max_iter=2, random_state=0, device="cpu")
    return make_pipeline(StandardScaler(), Normalizer(), dictionary).fit(tokens)


@pytest.fixture
def labels(rng):
    return rng.choice(["a", "b", "c"], N_TOKENS)


class Page:
    """What stands in a page, by the contract of `write_page`."""

    def __init__(self, path):
        text = path.read_text("ascii")
        (report,) = re.findall(r'<script[^>]*id="report"[^>]*>(.*?)</script>', text)
        self.report = json.loads(report)
        blocks = re.findall(
            r'class="(\w+)" data-first="(\d+)">(.*?)</script>', text, re.S
        )
        self.cards, self.thumbnails = [], []
        for kind, first, block in blocks:
            if kind == "cards":
                assert int(first) == len(self.cards)
                self.cards += json.loads(gzip.decompress(base64.b64decode(block)))
            else:
                assert int(first) == len(self.thumbnails)
                self.thumbnails += map(base64.b64decode, block.split())
        self.features = self.report["features"]
        self.overview = {r["name"]: r["value"] for r in self.report["overview"]}
        self.help = {c["key"]: c["help"] for c in self.report["columns"]}

    def heatmap(self, feature, group, item):
        """Values of a heatmap from its bytes."""
        card = self.cards[feature]
        packed = card["images"][group]["items"][item]["heatmap"]
        levels = np.frombuffer(base64.b64decode(packed), np.uint8)
        low, high = card["heatmap_range"]
        return (low + levels / 255 * (high - low)).reshape(self.report["grid"])


@pytest.fixture
def make_page(tmp_path):
    def make(*args, **kwargs):
        report = FeatureReport(*args, **{"verbose": False, **kwargs})
        return Page(report.to_html(tmp_path / "report.html"))

    return make


class TestList:
    @pytest.mark.parametrize("shared", ["groups", "grid_shape"])
    def test_dependent_rows_give_the_numbers_of_metrics(
        self, pipe, tokens, labels, images, rng, shared
    ):
        image = np.repeat(np.arange(N_IMAGES), 24)
        given, exchanged = {"images": images, "grid_shape": GRID}, {"grid_shape": GRID}
        if shared == "groups":
            labels = np.array([*"ab"] * 6)[image]
            given = exchanged = {"groups": image}
        slide, patch = np.arange(N_IMAGES)[image] // 4, rng.integers(0, 3, N_TOKENS)
        confounds = {"slide": slide, "patch": patch}
        frame = FeatureReport(
            pipe, tokens, labels, metadata=confounds, verbose=False, **given
        ).to_frame()
        expected = describe_features(
            pipe.transform(tokens), labels, confounds=confounds, **exchanged
        )
        assert frame["best_label"].tolist() == expected["best_class"].tolist()
        compared = ["score", "auroc"]
        for name in confounds:
            compared += [f"{name}_score", f"q_value_within_{name}", f"follows_{name}"]
        for name in compared:
            assert_array_equal(frame[name], expected[name], err_msg=name)
        assert (frame["slide_q_value"] < 1).any()
        for name in ("q_value", "slide_q_value", "patch_q_value"):
            tested = frame[name].notna()
            assert_array_equal(frame[name][tested], expected[name][tested], name)

    def test_independent_rows_give_the_numbers_of_metrics(
        self, pipe, tokens, labels, rng
    ):
        batch = rng.integers(0, 3, N_TOKENS)
        control = labels == "a"
        kwargs = {"control": control, "n_permutations": 50, "random_state": 3}
        report = FeatureReport(
            pipe, tokens, labels, metadata={"batch": batch}, verbose=False, **kwargs
        )
        frame = report.to_frame()
        codes = pipe.transform(tokens)
        expected = describe_features(
            codes, labels, confounds={"batch": batch}, control=control
        )
        assert frame["feature"].tolist() == pipe[-1].get_feature_names_out().tolist()
        assert frame["best_label"].tolist() == expected["best_class"].tolist()
        assert (
            frame["best_batch"].tolist() == expected["best_batch"].astype(str).tolist()
        )
        assert frame["n_labels"].tolist() == expected["n_classes"].tolist()
        untested = frame["best_label"] == "a"
        assert 0 < untested.sum() < 9
        q_values = np.where(untested, np.nan, expected["q_value"])
        assert_array_equal(frame["q_value"], q_values)
        same = "density score auroc batch_score batch_q_value follows_batch"
        for key in [*same.split(), "q_value_within_batch"]:
            assert_array_equal(frame[key], expected[key], err_msg=key)
        for y, best, null in (
            (labels, "best_label", "null"),
            (batch, "best_batch", "batch_null"),
        ):
            of_class = selectivity_report(codes, y, **kwargs)
            names = of_class["class"].astype(str).tolist()
            places = [names.index(name) for name in frame[best]]
            assert_array_equal(frame[null], of_class["null_q95"].to_numpy()[places])

    def test_a_q_value_of_just_alpha_is_selective(
        self, pipe, tokens, labels, make_page
    ):
        pairs = selectivity_tests(pipe.transform(tokens), labels, alpha=1)
        alpha = pairs["q_value"].quantile(0.5, interpolation="lower")
        selective = pairs["feature"][pairs["q_value"] <= alpha].nunique()
        assert selective > pairs["feature"][pairs["q_value"] < alpha].nunique()
        page = make_page(pipe, tokens, labels, alpha=alpha)
        (found,) = (v for name, v in page.overview.items() if "(q up to" in name)
        assert found == str(selective)
        assert sum(n > 0 for n in page.features["n_labels"]) == selective

    def test_maps_of_labels_that_differ_in_images_are_shifted(
        self, pipe, tokens, images, labels
    ):
        kwargs = {"images": images, "grid_shape": GRID, "verbose": False}
        report = FeatureReport(pipe, tokens, labels, **kwargs).to_frame()
        codes = pipe.transform(tokens)
        pairs = selectivity_tests(codes, labels, grid_shape=GRID, alpha=1)
        q_values = pairs.pivot(index="feature", columns="class", values="q_value")
        null = selectivity_report(
            codes, labels, grid_shape=GRID, n_permutations=100, random_state=0
        )
        best = np.searchsorted(null["class"], report["best_label"].tolist())
        assert_array_equal(report["q_value"], q_values.to_numpy()[range(9), best])
        assert_array_equal(report["null"], null["null_q95"][best])
        # Groups and controls of whole images have nothing to say in it.
        of_images = {"groups": np.arange(12) // 4, "control": np.arange(12) < 3}
        again = FeatureReport(pipe, tokens, labels, **kwargs, **of_images).to_frame()
        pd.testing.assert_frame_equal(report, again)

    def test_tokens_of_smooth_noise_are_not_selective(self, rng, make_page):
        """Taken for independent, or permuted inside images, they mislead."""
        noise = ndimage.gaussian_filter(rng.normal(size=(31, 6, 30, 30)), (0, 0, 2, 2))
        noise = noise[:, :, 8:-8, 8:-8].reshape(31, -1)
        X = (noise[:30] > np.quantile(noise[:30], 0.8)).T.astype(float)
        y = noise[30] > 0
        with pytest.warns(UserWarning, match="pass grid_shape"):
            naive = describe_features(X, y, batch=np.repeat(np.arange(6), 196))
        assert (naive["q_value"] <= 0.05).sum() >= 12
        page = make_page(
            Identity().fit(X), X, y, images=np.zeros((6, 14, 14)), n_permutations=99
        )
        assert sum(n > 0 for n in page.features["n_labels"]) <= 1
        assert page.features["null"][0] > 0.15
        assert "is shifted over its grid" in " ".join(page.report["notes"])
        assert "below 1/196" in " ".join(page.report["notes"])
        assert "map of label is shifted" in page.help["q_value"]

    @pytest.mark.parametrize("inside", ["groups", "control"])
    def test_what_cuts_images_keeps_maps_from_being_shifted(
        self, pipe, tokens, images, inside
    ):
        y = np.tile(np.repeat([0, 1], 12), N_IMAGES)
        report = FeatureReport(
            pipe,
            tokens,
            y,
            images=images,
            grid_shape=GRID,
            verbose=False,
            **{inside: np.arange(N_TOKENS) % 2},
        )
        with pytest.warns(UserWarning, match="exchanged token by token") as caught:
            report.to_frame()
        assert [w.filename for w in caught] == [__file__]

    def test_labels_that_differ_in_images_without_a_grid(
        self, pipe, tokens, images, labels
    ):
        report = FeatureReport(
            pipe, tokens, labels, images=images, grid_shape=None, verbose=False
        )
        groups = np.repeat(np.arange(N_IMAGES), 24)
        codes = pipe.transform(tokens)
        expected = describe_features(codes, labels, batch=groups)
        assert_array_equal(report.to_frame()["q_value"], expected["q_value"])
        null = selectivity_report(
            codes, labels, batch=groups, n_permutations=100, random_state=0
        )
        best = np.searchsorted(null["class"], report.to_frame()["best_label"].tolist())
        assert_array_equal(report.to_frame()["null"], null["null_q95"][best])

    def test_page_holds_the_frame(self, pipe, tokens, labels, tmp_path):
        report = FeatureReport(
            pipe, tokens, labels, metadata={"batch": labels == "b"}, verbose=False
        )
        frame = report.to_frame()
        page = Page(report.to_html(str(tmp_path / "r.html"), title="Title"))
        assert list(page.features) == frame.columns.tolist()
        assert page.report["title"] == "Title"
        for key, values in page.features.items():
            if frame[key].dtype.kind == "f":
                assert_allclose(values, frame[key], rtol=1e-3)
            else:
                assert values == frame[key].tolist()
        assert page.help.keys() == page.features.keys()
        assert page.overview["Features"] == "9"
        assert report.column_help() == page.help

    @pytest.mark.parametrize("grid_shape", [GRID, None])
    def test_note_on_labels_that_differ_in_few_images(
        self, make_page, pipe, tokens, images, grid_shape
    ):
        """One wrong token, and whole images are no longer exchanged."""
        y = np.repeat(np.arange(N_IMAGES) % 2, 24)
        kwargs = {"images": images, "grid_shape": grid_shape}
        assert "whole groups are exchanged" in " ".join(
            make_page(pipe, tokens, y, **kwargs).report["notes"]
        )
        y[30] = 1 - y[30]
        notes = " ".join(make_page(pipe, tokens, y, **kwargs).report["notes"])
        assert "differ inside 1 of 12 groups" in notes
        assert "labels of the other 11 stay where they are" in notes
        assert ("is shifted over its grid" in notes) == (grid_shape is not None)

    def test_note_on_labels_that_differ_in_all_images(
        self, make_page, pipe, tokens, images, labels
    ):
        page = make_page(pipe, tokens, labels, images=images, grid_shape=GRID)
        notes = " ".join(page.report["notes"])
        assert "inside 12 of 12 groups" in notes
        assert "stay where" not in notes
        assert "Neighbouring tokens" not in notes
        page = make_page(
            pipe, tokens, labels, images=images, grid_shape=GRID, control=labels == "a"
        )
        assert "Neighbouring tokens" in " ".join(page.report["notes"])

    def test_without_labels(self, make_page, pipe, tokens, images):
        batch = np.arange(N_TOKENS) % 2
        page = make_page(pipe, tokens, metadata={"batch": batch})
        keys = "feature density follows_batch best_batch batch_score batch_null"
        assert list(page.features) == [*keys.split(), "batch_q_value"]
        assert page.cards[0]["labels"] == page.cards[0]["images"] == []
        assert len(page.cards[0]["histograms"][0]["series"]) == 1

    def test_batch_is_flagged_and_class_is_not(self, rng, make_page):
        batch = rng.integers(0, 2, 400)
        y = np.where(rng.random(400) < 0.3 + 0.4 * batch, "treated", "control")
        # Rows are codes already.
        X = (rng.random((400, 3)) < 0.2).astype(float)
        X[:, 1] += y == "treated"
        X[:, 2] += batch
        page = make_page(Identity().fit(X), X, y, metadata={"batch": batch})
        assert page.features["follows_batch"] == [False, False, True]
        assert page.features["best_label"][1] == "treated"
        assert "batch explains what" in page.help["follows_batch"]
        assert page.overview["Features that follow batch"] == "1"

    def test_labels_and_batch_that_coincide_are_named(
        self, make_page, pipe, tokens, labels
    ):
        page = make_page(pipe, tokens, labels, metadata={"plate": labels})
        assert any("coincide" in note for note in page.report["notes"])

    def test_dead_feature(self, make_page, rng):
        X = np.abs(rng.normal(size=(40, 3)))
        X[:, 1] = 0
        page = make_page(Identity().fit(X), X, np.arange(40) % 2)
        assert page.features["density"][1] == 0
        assert page.features["best_label"][1] is None
        assert page.features["score"][1] == 0
        assert page.features["q_value"][1] == 1
        assert page.cards[1]["notes"] == [
            "The feature does not fire on any of these rows."
        ]
        assert [h["xlabel"] for h in page.cards[1]["histograms"]] == ["cosine"]

    def test_best_label_is_one_that_is_significant(self, make_page):
        """A higher score by chance, for a label of a single row, counts for less."""
        y = np.array(["one"] + ["a"] * 100 + ["b"] * 299)
        X = np.zeros((400, 2))
        X[:, 0] = np.arange(400) < 71
        page = make_page(Identity().fit(X), X, y)
        names, scores = zip(
            *((entry["name"], entry["score"]) for entry in page.cards[0]["labels"]),
            strict=True,
        )
        assert names[:2] == ("one", "a")
        assert scores[0] > scores[1]
        assert page.features["best_label"][0] == "a"
        assert page.features["q_value"][0] < 1e-9

    def test_dense_codes_need_a_threshold(self, make_page, tokens, labels):
        pca = PCA(3).fit(tokens)
        page = make_page(pca, tokens, labels)
        assert page.features["score"] == [0, 0, 0]
        assert any("need a threshold" in note for note in page.report["notes"])
        page = make_page(pca, tokens, labels, activity_threshold=1.0)
        assert not any("need a threshold" in note for note in page.report["notes"])

    def test_n_permutations_0_has_no_null(self, make_page, pipe, tokens, labels):
        page = make_page(pipe, tokens, labels, n_permutations=0)
        assert "null" not in page.features
        assert {entry["null"] for entry in page.cards[0]["labels"]} == {None}


class Identity(PCA):
    """A dictionary whose atoms are the axes: codes are the rows."""

    def fit(self, X, y=None):
        self.components_ = np.eye(X.shape[1])
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        return sparse.csr_array(np.asarray(X, dtype=float))


def all_tests(activity, labels, groups, batch=None):
    exchange = choose_exchange(labels, [groups], batch)
    return run_label_tests(activity, labels, exchange)


def null_of(activity, labels, groups, n_permutations, batch=None):
    return null_of_best(
        activity,
        labels,
        "average",
        exchange=choose_exchange(labels, [groups], batch),
        n_permutations=n_permutations,
        random_state=0,
    )


class TestExchangeOfGroups:
    """Labels of whole images."""

    @pytest.fixture
    def case(self, rng):
        groups = np.repeat(np.arange(40), 10)
        # Bursts: features fire on many tokens of some images.
        rate = rng.beta(0.3, 1.5, size=(40, 6))
        codes = (rng.random((400, 6)) < rate[groups]).astype(np.int8)
        codes[:, 5] = groups == 3
        labels = (rng.permutation(40) < 12).astype(int)
        return sparse.csr_array(codes), groups, labels

    def permuted_counts(self, counts, labels, strata, rng, n=20000):
        draws = np.empty((n, counts.shape[1]))
        for i in range(n):
            permuted = labels.copy()
            for s in np.unique(strata):
                permuted[strata == s] = rng.permutation(labels[strata == s])
            draws[i] = counts[permuted == 1].sum(axis=0)
        return draws

    @pytest.mark.parametrize("n_strata", [1, 2])
    def test_tail_is_that_of_permutations(self, case, rng, n_strata):
        codes, groups, labels = case
        counts = np.array([codes.toarray()[groups == g].sum(axis=0) for g in range(40)])
        strata = np.arange(40) % n_strata
        p_values = group_p_values(
            sparse.csr_array(counts), np.full(40, 10), labels, strata, 2
        )
        draws = self.permuted_counts(counts, labels, strata, rng, 5000)
        expected = (draws >= counts[labels == 1].sum(axis=0)).mean(axis=0)
        assert_allclose(p_values[1], expected, atol=0.03)

    def test_far_tail(self, rng):
        """Counts far out: within a factor of 2 of 2e5 permutations."""
        counts = rng.binomial(20, 0.1, size=(60, 1))
        labels = np.zeros(60, int)
        labels[np.argsort(-counts[:, 0], kind="stable")[2:26:2]] = 1
        observed = counts[labels == 1].sum()
        draws = np.array(
            [counts[rng.permutation(60)[:12]].sum() for _ in range(200_000)]
        )
        expected = (draws >= observed).mean()
        assert 1e-5 < expected < 0.01
        p = group_p_values(sparse.csr_array(counts), np.full(60, 20), labels, None, 2)
        assert 0.5 < p[1, 0] / expected < 2

    def test_far_tail_of_skewed_counts(self, rng):
        """The normal tail would be too thin by more than five times here."""
        counts = np.rint(rng.lognormal(1, 1.2, size=(80, 1))).astype(int)
        labels = np.zeros(80, int)
        labels[np.argsort(-counts[:, 0], kind="stable")[[0, 1, 9, 20, 30, 50]]] = 1
        observed = counts[labels == 1].sum()
        order = rng.random((100_000, 80)).argpartition(6, axis=1)[:, :6]
        expected = (counts[order, 0].sum(axis=1) >= observed).mean()
        assert 1e-4 < expected < 0.02
        excess = observed - 6 * counts.mean()
        normal = stats.norm.sf(excess / (counts.std() * np.sqrt(6 * 74 / 79)))
        assert normal < expected / 5
        sizes = np.full(80, counts.max())
        p = group_p_values(sparse.csr_array(counts), sizes, labels, None, 2)
        assert 1 / 3 < p[1, 0] / expected < 3

    def test_large_images_are_no_evidence(self, rng):
        """More tokens fire in larger images, at the same rate."""
        sizes = np.repeat([10, 100], 20)
        labels = np.repeat([0, 1], 20)
        counts = rng.binomial(sizes[:, None], 0.3, size=(40, 50))
        p = group_p_values(sparse.csr_array(counts), sizes, labels, None, 2)
        assert (p < 0.01).sum() <= 4
        assert p[1].min() > 1e-4

    def test_groups_that_lie_in_several_strata(self, case):
        codes, groups, labels = case
        halves = np.arange(400) % 2
        tests = all_tests(codes, labels[groups], groups, halves)
        units = 2 * groups + halves
        counts = np.array([codes.toarray()[units == u].sum(axis=0) for u in range(80)])
        p = group_p_values(
            sparse.csr_array(counts),
            np.full(80, 5),
            np.repeat(labels, 2),
            np.tile([0, 1], 40),
            2,
        )
        assert_allclose(
            tests.q_values.ravel(), stats.false_discovery_control(p.ravel())
        )

    def test_controls_are_not_exchanged(self, case):
        codes, groups, labels = case
        labels = np.where(np.arange(40) < 10, 2, labels)
        control = (labels == 2).astype(int)[groups]
        tests = all_tests(codes, labels[groups], groups, control)
        assert tests.tested.tolist() == [True, True, False]
        null = null_of(codes, labels[groups], groups, 20, control)
        assert np.ptp(null[:, 2]) < 1e-12
        assert np.ptp(null[:, 0]) > 0

    def test_activity_in_one_image_is_no_evidence(self, case):
        codes, groups, labels = case
        labels[3] = 1
        tests = all_tests(codes, labels[groups], groups)
        assert tests.exchange.group_ids is not None
        # The one image in which feature 5 fires has the label with probability n / N.
        assert tests.p_values[1, 5] >= labels.mean() - 1e-12

    def test_null_of_best_score(self, case, rng):
        codes, groups, labels = case
        dense = codes.toarray()
        null = null_of(codes, labels[groups], groups, 400)
        expected = []
        for _ in range(400):
            y = rng.permutation(labels)[groups]
            expected.append(
                [
                    (dense[y == c].mean(axis=0) - dense[y != c].mean(axis=0)).max()
                    for c in (0, 1)
                ]
            )
        expected = np.quantile(expected, [0.5, 0.95], axis=0)
        assert_allclose(np.quantile(null, [0.5, 0.95], axis=0), expected, atol=0.04)

    def test_tables_of_units_and_rows_agree(self, case, monkeypatch):
        codes, groups, labels = case
        dense = null_of(codes, labels[groups], groups, 9)
        monkeypatch.setattr("skdict.stats.scores._MAX_TABLE_CELLS", 0)
        assert_array_equal(dense, null_of(codes, labels[groups], groups, 9))

    def test_blocks_agree(self, case, monkeypatch):
        codes, groups, labels = case
        whole = all_tests(codes, labels[groups], groups).q_values
        monkeypatch.setattr("skdict.stats.group_tests._BLOCK_CELLS", 50)
        assert_array_equal(whole, all_tests(codes, labels[groups], groups).q_values)

    def test_tokens_of_noise_are_not_selective(self, rng, make_page):
        """Tokens are alike within an image; taken for independent they mislead."""
        image_of = np.repeat(np.arange(30), 25)
        rate = rng.beta(0.2, 1, size=(30, 40))[image_of]
        X = (rng.random(rate.shape) < rate).astype(float)
        y = rng.permutation(30) % 2
        naive = describe_features(X, y[image_of])
        assert (naive["q_value"] <= 0.05).sum() >= 15
        page = make_page(
            Identity().fit(X), X, y, images=np.zeros((30, 8, 8)), n_permutations=99
        )
        assert sum(n > 0 for n in page.features["n_labels"]) <= 2
        assert any("whole groups" in note for note in page.report["notes"])

    def test_groups_without_images_are_the_same(self, rng, tmp_path):
        X = (rng.random((60, 4)) < 0.3).astype(float)
        y = np.arange(12) % 2
        dictionary = Identity().fit(X)
        kwargs = {"verbose": False, "n_permutations": 20}
        first = FeatureReport(
            dictionary, X, y, images=np.zeros((12, 5, 5)), grid_shape=None, **kwargs
        )
        image_of = np.repeat(np.arange(12), 5)
        second = FeatureReport(dictionary, X, y[image_of], groups=image_of, **kwargs)
        pd.testing.assert_frame_equal(first.to_frame(), second.to_frame())

    def test_images_are_exchanged_inside_groups(self, rng, make_page):
        """Each patient has images of both labels; nothing depends on them."""
        patients, labels = np.repeat(np.arange(8), 5), np.arange(40) % 2
        rate = rng.beta(0.3, 1.5, size=(40, 30))
        X = (rng.random((1000, 30)) < np.repeat(rate, 25, axis=0)).astype(float)
        X[:, 0] *= np.repeat(labels, 25)
        X[:, 0] += np.repeat(labels, 25) * (rng.random(1000) < 0.5)
        kwargs = {"images": rng.random((40, 6, 6)), "groups": patients}
        page = make_page(Identity().fit(X), X, labels, **kwargs)
        assert [i for i, n in enumerate(page.features["n_labels"]) if n] == [0]
        assert "Labels differ inside 8 of 8 groups and belong to whole images" in (
            " ".join(page.report["notes"])
        )
        strata = np.repeat(patients, 25)
        images, ids = np.repeat(np.arange(40), 25), np.repeat(labels, 25)
        activity = sparse.csr_array(X != 0).astype(np.int8)
        expected = all_tests(activity, ids, images, strata).q_values[1, 0]
        assert_allclose(page.features["q_value"][0], expected, rtol=1e-3)
        null = null_of(activity, ids, images, 100, strata)
        expected = np.quantile(null, 0.95, axis=0)[1]
        assert_allclose(page.features["null"][0], expected, rtol=1e-3)
        # The labels of patients are exchanged between patients.
        page = make_page(Identity().fit(X), X, patients % 2, **kwargs)
        assert "whole groups are exchanged" in " ".join(page.report["notes"])

    def test_rows_that_are_groups_of_their_own(self, rng, make_page):
        """Groups inside images, or one for each image, are no groups of images."""
        X = (rng.random((400, 3)) < 0.3).astype(float)
        labels = rng.integers(0, 2, 400)
        X[:, 1] += labels
        kwargs = {"images": rng.random((40, 6, 6)), "grid_shape": None}
        for groups in (None, np.arange(400), np.arange(40)):
            page = make_page(Identity().fit(X), X, labels, groups=groups, **kwargs)
            assert page.features["n_labels"][1] == 1, groups
        kwargs["images"] = rng.random((400, 6, 6))
        page = make_page(Identity().fit(X), X, labels, groups=np.arange(400), **kwargs)
        alone = make_page(Identity().fit(X), X, labels)
        assert page.features["n_labels"][1] == 1
        assert page.features["q_value"] == alone.features["q_value"]
        assert page.features["null"] == alone.features["null"]

    def test_batch_of_images_is_flagged(self, rng, make_page):
        batch = np.arange(40) % 2
        y = rng.permutation(40) % 2
        image_of = np.repeat(np.arange(40), 9)
        X = (rng.random((360, 2)) < 0.2).astype(float)
        X[:, 1] += batch[image_of] * (rng.random(360) < 0.5)
        page = make_page(
            Identity().fit(X),
            X,
            y,
            images=np.zeros((40, 6, 6)),
            metadata={"batch": batch},
        )
        assert page.features["follows_batch"] == [False, True]

    def test_rows_and_images_in_another_order(self, pipe, tokens, images, rng):
        order = rng.permutation(N_IMAGES)
        y = np.arange(N_IMAGES) % 3
        kwargs = {"grid_shape": GRID, "n_permutations": 0, "verbose": False}
        first = FeatureReport(pipe, tokens, y, images=images, **kwargs)
        moved = tokens.reshape(N_IMAGES, 24, -1)[order].reshape(N_TOKENS, -1)
        second = FeatureReport(pipe, moved, y[order], images=images[order], **kwargs)
        # The codes of a float32 row may differ by its place in the batch: not here.
        pd.testing.assert_frame_equal(first.to_frame(), second.to_frame(), rtol=1e-9)


class TestCards:
    @pytest.fixture
    def page(self, make_page, pipe, tokens, images):
        y = np.arange(N_IMAGES) % 3
        well = [f"W{i}" for i in range(N_IMAGES)]
        return make_page(
            pipe, tokens, y, images=images, grid_shape=GRID, metadata={"well": well}
        )

    @pytest.fixture
    def cosines(self, pipe, tokens):
        return direction_cosines(pipe[:-1].transform(tokens), pipe[-1].components_)

    def test_images_and_heatmaps_are_the_cosines(self, page, cosines):
        assert page.report["grid"] == list(GRID)
        for feature, card in enumerate(page.cards):
            maps = cosines[:, feature].reshape(N_IMAGES, *GRID)
            ranking = rank_images(maps, n_images=5)
            most, least = card["images"]
            assert (most["title"], least["title"]) == ("Most aligned", "Least aligned")
            for g, (group, side) in enumerate([(most, "most"), (least, "least")]):
                ranked = ranking[ranking["side"] == side]["image"].tolist()
                low, high = card["heatmap_range"]
                for i, item in enumerate(group["items"]):
                    assert item["caption"] == f"{ranked[i] % 3} · well W{ranked[i]}"
                    assert item["value"] == pytest.approx(
                        maps[ranked[i]].mean(), abs=1e-4
                    )
                    error = np.abs(page.heatmap(feature, g, i) - maps[ranked[i]])
                    assert error.max() <= (high - low) / 510 + 1e-5
            assert [len(most["items"]), len(least["items"])] == [5, 3]

    def test_masks_are_images(self, make_page, pipe, tokens, images):
        page = make_page(pipe, tokens, images=images > 127, grid_shape=GRID)
        picture = imread(io.BytesIO(page.thumbnails[0]), format="jpeg")
        assert picture.min() < 60
        assert picture.max() > 195

    def test_thumbnails_are_the_images(self, page, images):
        assert page.report["image_shape"] == [20, 30]
        for card in page.cards:
            for group in card["images"]:
                for item in group["items"]:
                    image = int(item["caption"].rpartition("W")[2])
                    shown = imread(
                        io.BytesIO(page.thumbnails[item["image"]]), format="jpeg"
                    ).mean(axis=2)
                    assert shown.shape == (20, 30)
                    r = np.corrcoef(shown.ravel(), images[image].ravel())[0, 1]
                    assert r > 0.9

    def test_histograms_are_those_of_numpy(self, page, cosines, pipe, tokens):
        codes = pipe.transform(tokens).toarray()
        y = np.repeat(np.arange(N_IMAGES) % 3, 24)
        for feature, card in enumerate(page.cards):
            best = page.features["best_label"][feature]
            is_best = y == int(best)
            values = {"cosine": cosines[:, feature], "activation": codes[:, feature]}
            assert [h["xlabel"] for h in card["histograms"]] == list(values)
            for histogram in card["histograms"]:
                edges = histogram["edges"]
                assert len(edges) <= 41
                which = values[histogram["xlabel"]]
                shown = which != 0 if histogram["xlabel"] == "activation" else which < 2
                names = [series["name"] for series in histogram["series"]]
                assert names == [best, "all others"]
                for series, side in zip(
                    histogram["series"], (is_best, ~is_best), strict=True
                ):
                    counts = np.histogram(which[side & shown], edges)[0]
                    assert counts.sum() == (side & shown).sum()
                    assert_allclose(
                        series["fractions"], counts / max(counts.sum(), 1), atol=1e-4
                    )

    def test_labels_of_a_card(self, page, pipe, tokens):
        active = pipe.transform(tokens).toarray() != 0
        y = np.repeat(np.arange(N_IMAGES) % 3, 24)
        for feature, card in enumerate(page.cards):
            entries = {int(entry["name"]): entry for entry in card["labels"]}
            assert sorted(entries) == [0, 1, 2]
            scores = [entry["score"] for entry in card["labels"]]
            assert scores == sorted(scores, reverse=True)
            for c, entry in entries.items():
                rate = active[y == c, feature].mean()
                assert entry["rate"] == pytest.approx(rate, abs=1e-4)
                score = rate - active[y != c, feature].mean()
                assert entry["score"] == pytest.approx(score, abs=1e-4)
            best = entries[int(page.features["best_label"][feature])]
            assert best["q"] == pytest.approx(
                page.features["q_value"][feature], rel=0.06
            )
            assert best["null"] == pytest.approx(
                page.features["null"][feature], abs=1e-4
            )

    def test_equally_near_neighbours_come_in_their_order(self, rng):
        atoms = np.repeat(np.eye(4), [9, 3, 7, 1], axis=0)[rng.permutation(20)]
        order, cosines = _cards.nearest_atoms(atoms, slice(3, 17))
        found = atoms[3:17] @ atoms.T
        found[np.arange(14), np.arange(3, 17)] = -np.inf
        expected = np.argsort(-found, axis=1, kind="stable")[:, :5]
        assert_array_equal(order, expected)
        assert_array_equal(cosines, np.take_along_axis(found, expected, axis=1))

    def test_neighbours(self, page, pipe):
        cosines = direction_cosines(pipe[-1].components_, pipe[-1].components_)
        np.fill_diagonal(cosines, -2)
        for feature, card in enumerate(page.cards):
            order = np.argsort(-cosines[feature])[:5]
            assert [n["feature"] for n in card["neighbours"]] == order.tolist()
            assert_allclose(
                [n["cosine"] for n in card["neighbours"]],
                cosines[feature, order],
                atol=1e-4,
            )

    @pytest.mark.parametrize("cells", [1, 9 * N_TOKENS, 4 * N_TOKENS])
    def test_batches_of_features_change_nothing(
        self, page, make_page, pipe, tokens, images, monkeypatch, cells
    ):
        monkeypatch.setattr(_cards, "_BLOCK_COSINES", cells)
        y = np.arange(N_IMAGES) % 3
        well = [f"W{i}" for i in range(N_IMAGES)]
        again = make_page(
            pipe, tokens, y, images=images, grid_shape=GRID, metadata={"well": well}
        )
        assert json.dumps(again.cards)[:2000] == json.dumps(page.cards)[:2000]

    def test_threshold_holds_for_histograms(self, make_page, pipe, tokens):
        threshold = 0.2
        page = make_page(pipe, tokens, activity_threshold=threshold)
        codes = np.abs(pipe.transform(tokens).toarray())
        assert_allclose(
            page.features["density"], (codes > threshold).mean(axis=0), rtol=1e-3
        )
        n_inside = 0
        for card in page.cards:
            for histogram in card["histograms"][1:]:
                edges = np.array(histogram["edges"])
                inside = (edges[:-1] >= -threshold) & (edges[1:] <= threshold)
                n_inside += inside.sum()
                assert not np.array(histogram["series"][0]["fractions"])[inside].any()
        assert n_inside

    def test_one_row_per_image(self, make_page, pipe, tokens, images):
        page = make_page(pipe, tokens[:N_IMAGES], images=images)
        assert page.report["grid"] is None
        assert page.cards[0]["heatmap_range"] is None
        assert page.cards[0]["images"][0]["items"][0]["heatmap"] is None

    def test_one_image_is_shown_once(self, make_page, pipe, tokens, images):
        page = make_page(pipe, tokens[:24], images=images[:1], grid_shape=GRID)
        (group,) = page.cards[0]["images"]
        assert [item["caption"] for item in group["items"]] == ["image 0"]
        assert len(page.thumbnails) == 1

    def test_one_atom(self, make_page, tokens):
        page = make_page(PCA(1, random_state=0).fit(tokens), tokens)
        assert page.cards[0]["neighbours"] == []

    def test_only_images_that_are_shown_are_read(self, make_page, pipe, tokens):
        class Images(list):
            read = set()

            def __getitem__(self, i):
                self.read.add(i)
                return super().__getitem__(i)

        images = Images(np.random.default_rng(0).random((288, 6, 6)))
        page = make_page(pipe, tokens, images=images)
        assert len(page.thumbnails) == len(Images.read) <= 9 * 8


class TestEstimators:
    @pytest.mark.parametrize(
        "dictionary",
        [
            PCA(4, random_state=0),
            MiniBatchDictionaryLearning(5, max_iter=3, random_state=0),
            TopKSAE(8, 2, max_iter=1, random_state=0, device="cpu"),
            ICFL(8, 2, max_iter=1, random_state=0, device="cpu", sparse_output=False),
            Truncator(ICFL(8, 3, max_iter=1, random_state=0, device="cpu"), k=1),
        ],
    )
    def test_any_dictionary(self, make_page, dictionary, tokens, labels, monkeypatch):
        monkeypatch.setattr(_inputs, "_BLOCK_CELLS", 100)
        dictionary = clone(dictionary).fit(tokens)
        page = make_page(dictionary, tokens, labels)
        expected = describe_features(dictionary.transform(tokens), labels)
        assert_allclose(page.features["score"], expected["score"], rtol=1e-3)
        assert len(page.cards) == len(expected)

    def test_codes_of_half_precision(self, make_page, tokens):
        class Half(Identity):
            def transform(self, X):
                return np.asarray(X, np.float16)

        rounded = tokens.astype(np.float16).astype(np.float32)
        half = make_page(Half().fit(rounded), rounded)
        full = make_page(Identity().fit(rounded), rounded)
        assert half.cards[2]["histograms"] == full.cards[2]["histograms"]

    def test_frames(self, make_page, labels, tokens):
        X = pd.DataFrame(tokens, columns=list("abcdefg"))
        pipe = make_pipeline(StandardScaler(), PCA(3)).set_output(transform="pandas")
        page = make_page(
            pipe.fit(X), X, pd.Series(labels, index=X.index + 7), n_permutations=0
        )
        assert page.features["feature"] == ["pca0", "pca1", "pca2"]

    def test_repr(self, pipe, tokens, images):
        report = FeatureReport(pipe, tokens, images=images)
        assert repr(report) == "FeatureReport(ICFL, 288 rows, 12 images)"
        assert "FeatureReport(ICFL" in report._repr_html_()
        assert "PCA" in repr(FeatureReport(PCA(), tokens))
        assert "PCA" in repr(FeatureReport(PCA(), tokens, images=iter(images)))


class TestMetadata:
    def test_columns_by_what_they_hold(self, make_page, pipe, tokens, images):
        metadata = pd.DataFrame(
            {
                "plate": ["P1"] * N_IMAGES,
                "batch": np.arange(N_IMAGES) % 2,
                "well": [f"A{i}" for i in range(N_IMAGES)],
                "dose": np.linspace(0, 1, N_IMAGES),
            }
        )
        page = make_page(
            pipe, tokens, images=images, grid_shape=GRID, metadata=metadata
        )
        assert page.overview["plate"] == "P1"
        assert page.overview["batch"] == "2: 0 (144 rows), 1 (144 rows)"
        assert "follows_batch" in page.features
        assert not any("well" in key or "dose" in key for key in page.features)
        caption = page.cards[0]["images"][0]["items"][0]["caption"]
        assert re.fullmatch(r"batch [01] · well A\d+ · dose [\d.]+", caption)

    def test_many_values_are_no_batches(self, make_page, pipe, tokens, monkeypatch):
        metadata = {
            "third": np.arange(N_TOKENS) % 3,
            "quarter": np.arange(N_TOKENS) % 4,
        }
        monkeypatch.setattr(_inputs, "_MAX_LEVELS", 3)
        page = make_page(pipe, tokens, metadata=metadata)
        assert "follows_third" in page.features
        assert "follows_quarter" not in page.features
        assert any(
            note.endswith("not batches: quarter.") for note in page.report["notes"]
        )

    def test_columns_of_rows(self, make_page, pipe, tokens):
        metadata = {"place": np.arange(N_TOKENS), "side": np.arange(N_TOKENS) % 2}
        page = make_page(pipe, tokens, metadata=metadata)
        assert "follows_side" in page.features
        assert any("place" in note for note in page.report["notes"])

    def test_a_column_that_needs_another_name(self, pipe, tokens, labels):
        report = FeatureReport(
            pipe, tokens, labels, metadata={"label": labels}, verbose=False
        )
        with pytest.raises(ValueError, match="column label of metadata needs another"):
            report.to_frame()
        metadata = {"c_score": labels, "best_c": labels}
        report = FeatureReport(pipe, tokens, metadata=metadata, verbose=False)
        with pytest.raises(
            ValueError, match=r"needs another name.* best_c_score already"
        ):
            report.to_frame()

    @pytest.mark.parametrize("tz", [None, "UTC"])
    def test_dates_that_repeat_are_batches(self, make_page, pipe, tokens, images, tz):
        days = pd.to_datetime(np.arange(N_IMAGES) % 2, unit="D").tz_localize(tz)
        seconds = pd.to_datetime(np.arange(N_IMAGES), unit="s").tz_localize(tz)
        page = make_page(
            pipe,
            tokens,
            images=images,
            grid_shape=GRID,
            metadata={"day": pd.Series(days), "taken": pd.Series(seconds)},
        )
        best = {day[:10] for day in page.features["best_day"]}
        assert best == {"1970-01-01", "1970-01-02"}
        assert not any("taken" in key for key in page.features)
        caption = page.cards[0]["images"][0]["items"][0]["caption"]
        assert re.search(r"taken 1970-01-01.00:00:\d\d", caption)

    def test_missing_captions(self, make_page, pipe, tokens, images):
        dose = np.full(N_IMAGES, np.nan)
        dose[:6] = np.linspace(0.1, 1, 6)
        page = make_page(
            pipe, tokens, images=images, grid_shape=None, metadata={"dose": dose}
        )
        groups = [group for card in page.cards for group in card["images"]]
        captions = {item["caption"] for group in groups for item in group["items"]}
        assert len(captions) > 2
        assert all(re.fullmatch(r"dose [\d.]+|image \d+", c) for c in captions)

    def test_empty_columns(self, make_page, pipe, tokens, images):
        metadata = {"remark": [None] * N_IMAGES, "dose": np.full(N_IMAGES, np.nan)}
        page = make_page(
            pipe, tokens, images=images, grid_shape=GRID, metadata=metadata
        )
        assert not any("dose" in key or "remark" in key for key in page.features)
        caption = page.cards[0]["images"][0]["items"][0]["caption"]
        assert re.fullmatch(r"image \d+", caption)

    def test_pandas_na_of_rows(self, make_page, pipe, tokens, images):
        wells = pd.Series([pd.NA, *"abcdefghijk"], dtype="string").repeat(24)
        page = make_page(
            pipe, tokens, images=images, grid_shape=GRID, metadata={"well": wells}
        )
        groups = [group for card in page.cards for group in card["images"]]
        captions = {item["caption"] for group in groups for item in group["items"]}
        assert len(captions) > 2
        assert all(re.fullmatch("well [a-k]|image 0", c) for c in captions)

    def test_long_captions_are_cut(self, make_page, pipe, tokens, images):
        well = ["x" * 500 + str(i) for i in range(N_IMAGES)]
        page = make_page(
            pipe, tokens, images=images, grid_shape=None, metadata={"well": well}
        )
        assert len(page.cards[0]["images"][0]["items"][0]["caption"]) == 80


class TestBadInput:
    @pytest.mark.parametrize(
        ("kwargs", "match"),
        [
            ({"y": ["a", "b"]}, "y has length 2, but there are 288 rows and 12 images"),
            ({"y": [None, "b"] * 144}, "y holds 144 missing .* row 0"),
            ({"y": ["a"] * 288}, "at least two classes"),
            ({"y": np.linspace(0, 1, 288)}, "fractional"),
            (
                {"images": np.zeros((7, 5, 5))},
                "288 rows, which is not a multiple of the 7",
            ),
            ({"images": np.zeros((0, 5, 5))}, "multiple of the 0 images"),
            ({"images": np.zeros((64, 64, 3))}, "single image needs an axis in front"),
            ({"images": 3}, "images must be an array"),
            ({"images": np.zeros((12, 5, 5)), "grid_shape": "auto"}, "not a square"),
            ({"images": np.zeros((12, 5, 5)), "grid_shape": (5, 5)}, "25 tokens"),
            ({"images": np.zeros((12, 5, 5)), "grid_shape": "x"}, "grid_shape must"),
            ({"images": None, "grid_shape": (2, 2)}, "grid_shape needs images"),
            ({"images": None, "grid_shape": np.array([2, 2])}, "needs images"),
            ({"images": np.zeros((12, 3, 20, 30))}, "Channels must be the last axis"),
            ({"images": np.full((12, 5, 5), np.nan)}, "NaN"),
            ({"images": np.full((12, 5, 5), "x")}, "no numbers"),
            ({"images": [np.zeros((5, 5))] * 11 + [np.zeros((5, 4))]}, "one shape"),
            ({"metadata": {"b": [1, 2]}}, "Column b of metadata has length 2"),
            ({"metadata": {"b": [None, "x"] * 144}}, "Column b of metadata holds 144"),
            ({"metadata": [1, 2]}, "metadata must be a dict"),
            (
                {"metadata": {"b": 3}},
                "Column b of metadata must be a list or an array with one",
            ),
            ({"groups": [1, 2]}, "groups has length 2"),
            ({"control": [1, 0]}, "control has length 2"),
            ({"control": np.arange(288) % 3}, "control must be a boolean"),
            ({"activity_threshold": -1}, "activity_threshold"),
            ({"alpha": 0}, "alpha"),
            ({"n_permutations": 1.5}, "n_permutations"),
        ],
    )
    def test_message(self, pipe, tokens, images, tmp_path, kwargs, match):
        kwargs = {"images": images, "grid_shape": GRID, "verbose": False} | kwargs
        report = FeatureReport(pipe, tokens, **kwargs)
        with pytest.raises(ValueError, match=match):
            report.to_html(tmp_path / "x.html")
        assert list(tmp_path.iterdir()) == []

    def test_rows(self, pipe, tokens):
        bad = tokens.copy()
        bad[5, 0] = np.nan
        with pytest.raises(ValueError, match="NaN"):
            FeatureReport(pipe, bad, verbose=False).to_frame()
        with pytest.raises(ValueError, match="features"):
            FeatureReport(pipe, tokens[:, :5], verbose=False).to_frame()

        class Forgiving(Identity):
            def transform(self, X):
                return super().transform(np.nan_to_num(X))

        # Codes without NaN, but cosines of NaN.
        with pytest.raises(
            ValueError, match="X as it reaches the dictionary holds NaN"
        ):
            FeatureReport(Forgiving().fit(tokens), bad, verbose=False).to_frame()
        with pytest.raises(ValueError, match="X has no rows"):
            FeatureReport(pipe, tokens[:0], verbose=False).to_frame()
        with pytest.raises(ValueError, match=r"with shape \(7,\)"):
            FeatureReport(pipe[-1], tokens[0], verbose=False).to_frame()

    def test_estimator(self, tokens):
        with pytest.raises(NotFittedError):
            FeatureReport(PCA(), tokens).to_frame()
        with pytest.raises(TypeError, match="components_"):
            FeatureReport(StandardScaler().fit(tokens), tokens).to_frame()

    def test_atoms(self, tokens):
        dictionary = Identity().fit(tokens)
        dictionary.components_[3, 0] = np.nan
        with pytest.raises(ValueError, match=r"components_ holds NaN .* 1 of 7 rows"):
            FeatureReport(dictionary, tokens, verbose=False).to_frame()

    def test_names(self, tokens):
        class Misnamed(Identity):
            def get_feature_names_out(self, input_features=None):
                return ["a", "b"]

        report = FeatureReport(Misnamed().fit(tokens), tokens, verbose=False)
        with pytest.raises(ValueError, match=r"7 atoms, .* gives 2 names"):
            report.to_frame()

    def test_path(self, pipe, tokens, tmp_path):
        report = FeatureReport(pipe, tokens, verbose=False)
        with pytest.raises(FileNotFoundError, match="no folder"):
            report.to_html(tmp_path / "missing" / "x.html")
        with pytest.raises(IsADirectoryError):
            report.to_html(tmp_path)
        (tmp_path / "link").symlink_to(tmp_path / "missing" / "x.html")
        with pytest.raises(FileNotFoundError, match="no folder"):
            report.to_html(tmp_path / "link")
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(FileExistsError, match="neither a file nor"):
            report.to_html(tmp_path / "pipe")
        # Before any work.
        assert not report._computed

    def test_existing_file_is_replaced(self, pipe, tokens, tmp_path):
        path = tmp_path / "x.html"
        path.write_text("old")
        FeatureReport(pipe, tokens, verbose=False).to_html(path)
        assert path.read_text().startswith("<!")
        assert [p.name for p in tmp_path.iterdir()] == ["x.html"]


def test_any_text_survives(make_page, pipe, tokens):
    names = np.array(["</script><script>alert(1)", "übel \u2028 日本 & <!--"], object)
    y = names[np.arange(N_TOKENS) % 2]
    page = make_page(pipe, tokens, y, metadata={"<b>": y[::-1]})
    assert set(page.features["best_label"]) <= set(names)
    assert {e["name"] for e in page.cards[0]["labels"]} == set(names)
    assert "follows_<b>" in page.features


def test_same_page_twice(pipe, tokens, labels, images, tmp_path):
    pages = []
    for name in "ab":
        report = FeatureReport(
            pipe, tokens, labels, images=images, grid_shape=GRID, verbose=False
        )
        pages.append(report.to_html(tmp_path / name).read_bytes())
    assert pages[0] == pages[1]


@settings(max_examples=60)
@given(
    arrays(np.float64, st.integers(1, 50), elements=st.floats(-1e6, 1e6)),
    st.integers(2, 40),
)
# The quotients of these by the width fall on either side of a whole number.
@example(np.array([-9.200000000000001, -1.6]), 40)
def test_histogram_counts_all(values, n_bins):
    is_best = np.arange(len(values)) % 2 == 0
    edges, fractions = _cards.histogram(values, is_best, n_bins)
    assert len(edges) - 1 <= n_bins + 1
    assert np.all(np.diff(edges) > 0)
    width = edges[1] - edges[0]
    assert edges[0] <= values.min() + 1e-6 * width
    assert edges[-1] >= values.max() - 1e-6 * width
    assert_allclose(fractions[0].sum(), 1)
    assert_allclose(fractions[1].sum(), float(len(values) > 1))


@settings(max_examples=60)
@given(arrays(np.float64, (2, 3, 4), elements=st.floats(-1, 1)))
def test_quantisation_error(values):
    levels, (low, high) = _cards.quantise(values)
    restored = low + levels / 255 * (high - low)
    assert np.abs(restored - values).max() <= (high - low) / 510 + 1e-12
    assert low <= values.min()
    assert high >= values.max()
    assert high - low <= np.ptp(values) + 2.1e-4


class TestSizes:
    def test_heatmaps_are_reduced_by_means(self, rng):
        maps = rng.normal(size=(2, 3, 9, 6))
        reduced = _cards.reduce_heatmaps(maps, (3, 2))
        assert_allclose(reduced, maps.reshape(2, 3, 3, 3, 2, 3).mean(axis=(3, 5)))
        uneven = _cards.reduce_heatmaps(maps, (4, 4))
        assert_allclose(
            uneven[1, 2], block_means(maps[1, 2][..., None], (4, 4))[..., 0]
        )

    def test_thumbnails_are_reduced_by_means(self, rng):
        image = rng.random((40, 60, 5))
        small = _thumbnails._reduce(image, 30)
        assert_allclose(
            small, image.reshape(20, 2, 30, 2, 5).mean(axis=(1, 3)), rtol=1e-6
        )
        assert _thumbnails._reduce(image, 60) is image
        bytes_ = rng.integers(0, 256, (40, 61, 3), np.uint8)
        assert _thumbnails._reduce(bytes_, 7).shape == (5, 7, 3)
        assert _thumbnails._reduce(bytes_, 7).dtype == np.uint8

    def test_channels_are_shown_as_rgb_says(self, make_page, tokens):
        lit = np.zeros((N_IMAGES, 20, 30, 3), np.uint8)
        lit[..., 15:, 0] = 200  # red, or the first of three stains
        dictionary = PCA(7).fit(tokens)

        def right_half(**kwargs):
            page = make_page(dictionary, tokens, grid_shape=GRID, **kwargs)
            picture = imread(io.BytesIO(page.thumbnails[0]), format="jpeg")
            return picture[:, 20:].mean(axis=(0, 1))

        for rgb in (None, True):
            assert_allclose(right_half(images=lit, rgb=rgb), [200, 0, 0], atol=4)
        assert_allclose(right_half(images=lit, rgb=False), [0, 255, 255], atol=4)
        with pytest.raises(ValueError, match="rgb=True needs three channels"):
            right_half(images=lit.astype(float), rgb=True)
        with pytest.raises(ValueError, match="'rgb' parameter of FeatureReport"):
            right_half(images=lit, rgb="yes")

    @pytest.mark.parametrize(
        ("budget", "n_items"),
        [(2e4, [1]), (3e4, [2, 1]), (5e4, [5, 3]), (1.2e5, [5, 3]), (3e5, [5, 3])],
    )
    def test_page_fits_its_budget(
        self, make_page, rng, tokens, monkeypatch, budget, n_items
    ):
        monkeypatch.setattr(_pictures, "MAX_PAGE", budget)
        monkeypatch.setattr(_pictures, "_SPARE", 0)
        noise = rng.integers(0, 256, (N_IMAGES * 6, 40, 40, 3), np.uint8)
        dictionary = PCA(7).fit(tokens)
        page = make_page(dictionary, tokens, images=noise)
        size = sum(len(t) for t in page.thumbnails) * 4 / 3
        size += len(base64.b64encode(gzip.compress(json.dumps(page.cards).encode())))
        assert size <= budget
        assert [len(part["items"]) for part in page.cards[0]["images"]] == n_items

    @pytest.mark.slow
    def test_8192_features_stay_below_30_mb(self, rng, tmp_path):
        """Noise is what compresses least."""
        n_images, n_features = 150, 8192
        X = rng.normal(size=(n_images * 144, 16)).astype(np.float32)
        dictionary = ICFL(n_features, 4, max_iter=0, random_state=0, device="cpu").fit(
            X[:10000]
        )
        images = rng.integers(0, 256, (n_images, 96, 96, 3), np.uint8)
        y = rng.integers(0, 12, n_images)
        report = FeatureReport(
            dictionary,
            X,
            y,
            images=images,
            metadata={"batch": np.arange(n_images) % 4},
            n_permutations=2,
            verbose=False,
        )
        path = report.to_html(tmp_path / "large.html")
        assert 15e6 < path.stat().st_size < 30e6
        page = Page(path)
        assert len(page.cards) == n_features
        assert min(page.report["grid"]) >= 6


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("activity_threshold", 0.5),
        ("alpha", 0.9),
        ("n_permutations", 0),
        ("y", "other"),
    ],
)
def test_a_parameter_that_is_replaced_counts(name, value):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 6))
    y = np.repeat(["a", "b"], 30)
    value = y[rng.permutation(60)] if name == "y" else value
    dictionary = ICFL(8, 2, max_iter=1, random_state=0).fit(X)
    given = {"y": y, "n_permutations": 5, "verbose": False}
    report = FeatureReport(dictionary, X, **given)
    before = report._compute()
    assert report._compute() is before
    report.verbose, report.rgb = 0, False
    assert report._compute() is before
    setattr(report, name, value)
    assert report._compute() is not before
    anew = FeatureReport(dictionary, X, **given | {name: value})
    pd.testing.assert_frame_equal(report.to_frame(), anew.to_frame())


def test_a_bad_parameter_is_refused_although_the_numbers_are_there():
    X = np.random.default_rng(0).normal(size=(20, 4))
    dictionary = ICFL(6, 2, max_iter=1, random_state=0).fit(X)
    report = FeatureReport(dictionary, X, n_permutations=0, verbose=False)
    report.to_frame()
    report.n_permutations = True
    with pytest.raises(ValueError, match="'n_permutations' parameter of FeatureReport"):
        report.to_frame()


@pytest.mark.parametrize("title", [3, b"page", ["a"], True])
def test_a_title_is_a_text(title, tmp_path):
    X = np.zeros((3, 2))
    with pytest.raises(ValueError, match="title must be a str"):
        FeatureReport(None, X).to_html(tmp_path / "page.html", title=title)
