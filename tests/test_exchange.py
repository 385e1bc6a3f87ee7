"""Nulls that shift the label maps of images, and what they are exchanged for."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage, sparse, stats

from skdict.images import morans_i
from skdict.metrics import (
    association_report,
    eta_squared,
    rescore_associations,
    selectivity_counts,
    selectivity_curve,
    selectivity_report,
    selectivity_scores,
    selectivity_tests,
)
from skdict.stats import (
    choose_exchange,
    null_of_best,
    permutations,
    run_label_tests,
    shift_tests,
)
from skdict.stats import scores as score_module
from skdict.stats.exchange import (
    _Agreement,
    are_neighbours_alike,
    correlate_all_shifts,
    shifts,
)

OF_LABELS = {
    "report": selectivity_report,
    "curve": selectivity_curve,
    "counts": selectivity_counts,
    "tests": lambda *args, n_permutations=0, random_state=0, **kwargs: (
        selectivity_tests(*args, alpha=1, **kwargs)
    ),
}
OF_TARGETS = {
    "association": association_report,
    "rescore": lambda codes, y, **kwargs: rescore_associations(
        association_report(codes[:, :1], y), codes, y, **kwargs
    ),
    "factors": lambda codes, y, **kwargs: eta_squared(codes, {"y": y}, **kwargs),
}
EVERY_NULL = OF_LABELS | OF_TARGETS


def smooth_maps(rng, n_maps, side, sigma):
    """Noise that is smooth in space and has no seam."""
    margin = 4 * sigma
    noise = rng.normal(size=(n_maps, side + 2 * margin, side + 2 * margin))
    noise = ndimage.gaussian_filter(noise, (0, sigma, sigma))
    return noise[:, margin:-margin, margin:-margin]


def smooth_case(rng, n_images, side=24, sigma=2, n_features=20):
    """Codes and a quantity that know nothing of each other, both smooth in space."""
    maps = [smooth_maps(rng, n_features + 1, side, sigma) for _ in range(n_images)]
    tokens = np.concatenate([m.reshape(n_features + 1, -1).T for m in maps])
    codes, target = tokens[:, 1:], tokens[:, 0]
    codes = codes * (codes > np.quantile(codes, 0.85, axis=0))
    return sparse.csr_array(codes), target


def in_thirds(target):
    return np.digitize(target, np.quantile(target, [0.4, 0.75]))


def share_below(p_values, level=0.05):
    return (np.concatenate(p_values) <= level).mean()


@pytest.fixture
def tokens(rng):
    """Sparse codes and labels of 3 images of 4 x 6 tokens."""
    codes = rng.random((72, 5)) * (rng.random((72, 5)) < 0.4)
    return codes, rng.integers(0, 3, 72)


class TestShifts:
    @pytest.mark.parametrize("grid_shape", [(4, 6), (1, 24), (24, 1)])
    def test_maps_are_shifted_and_nothing_else(self, rng, grid_shape):
        values = np.arange(72)
        maps = values.reshape(3, *grid_shape)
        for shifted in shifts(values, grid_shape, 20, np.random.RandomState(0)):
            for before, after in zip(maps, shifted.reshape(maps.shape), strict=True):
                offset = np.argwhere(after == before[0, 0])[0]
                assert_array_equal(after, np.roll(before, tuple(offset), (0, 1)))

    def test_every_offset_is_as_probable_in_each_image(self):
        drawn = [*shifts(np.arange(24), (3, 4), 12_000, np.random.RandomState(0))]
        first, second = np.array(drawn)[:, [0, 12]].T
        table = np.zeros((12, 12))
        np.add.at(table, (first, second - 12), 1)
        assert stats.chisquare(table.ravel()).pvalue > 1e-4

    def test_sums_of_all_shifts(self, rng):
        values, weights = rng.normal(size=(2, 3, 5, 4))
        sums = correlate_all_shifts(values, weights)
        for down, right in product(range(5), range(4)):
            shifted = np.roll(values, (down, right), (1, 2))
            assert_allclose(
                sums[:, down, right], (shifted * weights).sum(axis=(1, 2)), atol=1e-12
            )


class TestLevel:
    """Labels that vary smoothly inside an image and have nothing to do with it."""

    @pytest.mark.parametrize("n_images", [1, 4])
    def test_selectivity(self, rng, n_images):
        shifted, by_token, pairs = [], [], []
        for seed in range(40):
            codes, target = smooth_case(rng, n_images)
            y = in_thirds(target)
            null = {"n_permutations": 99, "random_state": seed}
            report = selectivity_report(codes, y, grid_shape=(24, 24), **null)
            shifted.append(report["p_value"])
            by_token.append(selectivity_report(codes, y, **null)["p_value"])
            tests = selectivity_tests(codes, y, grid_shape=(24, 24), alpha=1)
            pairs.append(tests["p_value"])
        assert share_below(by_token) >= 0.8
        assert share_below(shifted) <= 0.12
        assert 0.02 < share_below(pairs) <= 0.1

    def test_association(self, rng):
        shifted, by_token = [], []
        for seed in range(40):
            codes, target = smooth_case(rng, 1)
            null = {"n_permutations": 99, "random_state": seed}
            report = association_report(codes, target, grid_shape=(24, 24), **null)
            shifted.append(report["p_value"])
            by_token.append(association_report(codes, target, **null)["p_value"])
        assert share_below(by_token) >= 0.8
        assert share_below(shifted) <= 0.15

    def test_factors(self, rng):
        shifted, by_token = [], []
        for seed in range(10):
            codes, target = smooth_case(rng, 2)
            factors = {"depth": in_thirds(target)}
            null = {"n_permutations": 99, "random_state": seed}
            table = eta_squared(codes, factors, grid_shape=(24, 24), **null)
            shifted.append(table["depth_p_value"])
            table = eta_squared(codes, factors, **null)
            by_token.append(table["depth_p_value"])
        assert share_below(by_token) >= 0.5
        assert share_below(shifted) <= 0.12

    def test_features_that_know_the_label_are_found(self, rng):
        codes, target = smooth_case(rng, 6, side=12)
        y = in_thirds(target)
        codes = codes.tolil()
        codes[:, [7]] = np.where((y == 2) & (rng.random(len(y)) < 0.5), 1.0, 0.0)[
            :, None
        ]
        report = selectivity_report(
            codes, y, grid_shape=(12, 12), n_permutations=199, random_state=0
        )
        assert report["best_feature"][2] == 7
        assert report["p_value"][2] == 1 / 200
        pairs = selectivity_tests(codes, y, grid_shape=(12, 12))
        assert pairs["feature"][0] == 7
        assert pairs["p_value"][0] < 1e-8


class TestNulls:
    @pytest.mark.parametrize("name", ["report", "curve", "counts"])
    def test_null_of_labels_is_that_of_shifted_maps(self, name, tokens):
        codes, y = tokens
        table = OF_LABELS[name](
            codes, y, grid_shape=(4, 6), n_permutations=30, random_state=0
        )
        maps = [*shifts(y, (4, 6), 30, np.random.RandomState(0))]
        scores = np.array([selectivity_scores(codes, shifted) for shifted in maps])
        if name == "report":
            null = scores.max(axis=1)
        elif name == "curve":
            null = -np.sort(-scores.max(axis=2), axis=1)
        else:
            null = (scores.max(axis=2)[..., None] > [0.2, 0.5]).sum(axis=1)
        assert_allclose(table["null_q95"], np.quantile(null, 0.95, axis=0))

    def test_smallest_p_value_is_limited_by_the_shifts(self, rng):
        """A grid of 6 tokens has 5 other shifts, however many are drawn."""
        y = np.array([0, 0, 1, 0, 0, 1])
        codes = y[:, None] * rng.random((6, 1))
        report = selectivity_report(
            codes, y, grid_shape=(2, 3), n_permutations=6000, random_state=0
        )
        # The two rows are alike, so that half of the shifts are none.
        assert_allclose(report["p_value"][1], 1 / 3, atol=0.03)
        pairs = selectivity_tests(codes, y, grid_shape=(2, 3), alpha=1)
        assert pairs["p_value"][0] == pytest.approx(1 / 3, abs=1e-12)

    @pytest.mark.parametrize("name", [*EVERY_NULL])
    def test_groups_and_control_of_whole_images_change_nothing(self, name, tokens):
        codes, y = tokens
        null = {"n_permutations": 20, "random_state": 0, "grid_shape": (4, 6)}
        of_images = {"batch": np.repeat(["a", "b", "a"], 24)}
        if name in OF_LABELS:
            of_images["control"] = np.repeat([0, 1, 0], 24)
        expected = EVERY_NULL[name](codes, y, **null)
        pd.testing.assert_frame_equal(
            EVERY_NULL[name](codes, y, **null, **of_images), expected
        )

    def test_every_null_takes_the_grid(self, tokens):
        """By its tokens in another order: the shifts then are others."""
        codes, y = tokens
        for name, function in EVERY_NULL.items():
            null = {"n_permutations": 50, "random_state": 0}
            tables = [
                function(codes, y, grid_shape=grid_shape, **null)
                for grid_shape in ((4, 6), (6, 4))
            ]
            assert not tables[0].equals(tables[1]), name

    def test_classes_of_whole_images_are_not_tested(self, tokens):
        codes, y = tokens
        y[24:48] = 7
        null = {"n_permutations": 20, "random_state": 0, "grid_shape": (4, 6)}
        report = selectivity_report(codes, y, **null)
        assert report["p_value"].isna().tolist() == [False, False, False, True]
        pairs = selectivity_tests(codes, y, grid_shape=(4, 6), alpha=1)
        assert pairs["n_tests"].tolist() == [15] * 15
        assert set(pairs["class"]) == {0, 1, 2}


@pytest.mark.parametrize("most", [0, 2**25], ids=["by rows", "by a table"])
def test_groups_of_several_sizes_are_scored_by_their_samples(rng, monkeypatch, most):
    monkeypatch.setattr(score_module, "_MAX_TABLE_CELLS", most)
    groups = np.repeat(range(6), [1, 5, 2, 9, 3, 4])
    y, codes = (np.arange(6) % 2)[groups], (rng.random((24, 7)) < 0.4).astype(np.int8)
    found = null_of_best(
        sparse.csr_array(codes),
        y,
        "average",
        exchange=choose_exchange(y, [groups]),
        n_permutations=20,
        random_state=0,
    )
    draws = permutations(y, None, 20, np.random.RandomState(0), groups)
    expected = [selectivity_scores(codes, drawn).max(axis=0) for drawn in draws]
    assert_allclose(found, expected)


def count_and_test_shifts(activity, labels, grid_shape):
    exchange = choose_exchange(labels, grid_shape=grid_shape)
    tests = run_label_tests(activity, labels, exchange)
    return tests.counts, tests.p_values


class TestPairs:
    @settings(deadline=None, max_examples=30)
    @given(st.integers(0, 2**16), st.sampled_from([(3, 4), (2, 2), (1, 7)]))
    def test_one_image_is_exact(self, seed, grid_shape):
        rng = np.random.default_rng(seed)
        n_tokens = np.prod(grid_shape)
        y = rng.permutation(np.arange(n_tokens) % 2)
        active = rng.random((n_tokens, 3)) < 0.4
        counts, p_values = count_and_test_shifts(
            sparse.csr_array(active.astype(np.int8)), y, grid_shape
        )
        maps = y.reshape(grid_shape)
        null = [
            active[np.roll(maps, offset, (0, 1)).ravel() == 1].sum(axis=0)
            for offset in product(*map(range, grid_shape))
        ]
        assert_array_equal(counts[1], active[y == 1].sum(axis=0))
        assert_allclose(p_values[1], (np.array(null) >= counts[1]).mean(axis=0))

    def test_several_images_against_many_shifts(self, rng):
        codes, target = smooth_case(rng, 8, side=10, n_features=6)
        y = in_thirds(target)
        counts, p_values = count_and_test_shifts(
            (codes != 0).astype(np.int8).tocsr(), y, (10, 10)
        )
        active = (codes != 0).toarray()
        null = np.array(
            [
                [active[shifted == c].sum(axis=0) for c in range(3)]
                for shifted in shifts(y, (10, 10), 2000, np.random.RandomState(0))
            ]
        )
        assert_allclose(p_values, (null >= counts).mean(axis=0), atol=0.04)

    def test_activity_in_one_image_is_one_image(self, rng):
        """No tail thinner than the shifts of the only image that has the feature."""
        y = np.tile([0, 1], 60)[rng.permutation(120)]
        active = np.zeros((120, 1), dtype=np.int8)
        active[:12, 0] = y[:12]
        _, p_values = count_and_test_shifts(sparse.csr_array(active), y, (3, 4))
        assert p_values[1, 0] >= 1 / 12 - 1e-12

    def test_no_tail_is_thinner_than_that_all_images_reach_their_counts(self):
        """Pearson's tail is 0.028 for class 1, and below 1 for a count of zero."""
        y = np.zeros((2, 4, 4), np.intp)
        y[:, 0] = 1
        activity = sparse.csr_array(y.reshape(-1, 1).astype(np.int8))
        _, p_values = count_and_test_shifts(activity, y.ravel(), (4, 4))
        assert_allclose(p_values[:, 0], [1, (4 / 16) ** 2])

    def test_blocks_agree(self, rng, monkeypatch):
        codes, target = smooth_case(rng, 3, side=8)
        activity = (codes != 0).astype(np.int8).tocsr()
        whole = count_and_test_shifts(activity, in_thirds(target), (8, 8))
        monkeypatch.setattr(shift_tests, "_BLOCK_CELLS", 200)
        parts = count_and_test_shifts(activity, in_thirds(target), (8, 8))
        assert_allclose(whole[1], parts[1], rtol=1e-12)


class TestRefusals:
    @pytest.mark.parametrize("name", [*EVERY_NULL])
    @pytest.mark.parametrize(
        ("grid_shape", "message"),
        [
            ((5, 5), "72 rows, which do not fill whole grids of 5 x 5 = 25 tokens"),
            ((4,), "must be .height, width."),
            ((0, 6), "two positive whole numbers"),
        ],
    )
    def test_grid(self, name, grid_shape, message, tokens):
        with pytest.raises(ValueError, match=message):
            EVERY_NULL[name](*tokens, grid_shape=grid_shape, n_permutations=9)

    @pytest.mark.parametrize("name", [*EVERY_NULL])
    def test_groups_inside_an_image(self, name, tokens):
        with pytest.raises(ValueError, match="differs inside an image"):
            EVERY_NULL[name](
                *tokens,
                batch=np.arange(72) // 12,
                grid_shape=(4, 6),
                n_permutations=9,
            )

    @pytest.mark.parametrize("name", [*OF_LABELS])
    def test_control_inside_an_image(self, name, tokens):
        codes, y = tokens
        with pytest.raises(ValueError, match="has not seen, without control"):
            OF_LABELS[name](
                codes, y, control=y == 0, grid_shape=(4, 6), n_permutations=9
            )

    @pytest.mark.parametrize("name", [*EVERY_NULL])
    def test_groups(self, name, tokens):
        codes, _ = tokens
        image = np.repeat(np.arange(3), 24)
        with pytest.raises(ValueError, match="groups and grid_shape exclude"):
            EVERY_NULL[name](
                codes, image % 2, groups=image, grid_shape=(4, 6), n_permutations=9
            )

    @pytest.mark.parametrize("name", [*EVERY_NULL])
    def test_labels_of_whole_images(self, name, tokens):
        codes, _ = tokens
        image = np.repeat(np.arange(3), 24)
        with pytest.warns(UserWarning, match="same for all tokens of each image"):
            EVERY_NULL[name](codes, image % 2, grid_shape=(4, 6), n_permutations=9)


class TestWarnings:
    """Groups that are the images of smooth labels, and no grid."""

    @pytest.mark.parametrize("name", [*OF_LABELS, "factors"])
    def test_smooth_labels_in_groups(self, name, rng):
        codes, target = smooth_case(rng, 3, side=16)
        groups = np.repeat(["b", "a", "c"], 256)
        with pytest.warns(UserWarning, match=r"pass grid_shape=\(16, 16\)") as caught:
            EVERY_NULL[name](codes, in_thirds(target), batch=groups, n_permutations=9)
        assert [w.filename for w in caught] == [__file__]

    @pytest.mark.parametrize(
        "labels",
        [
            np.repeat([0, 1], 50),  # each class stands together
            np.repeat([0, 1, 2, 3, 4], 20),
            np.tile([0, 1], 50),  # in turn
            np.repeat(np.arange(20) % 4, 5),  # by plates, and inside them
            np.arange(100) % 10,
        ],
    )
    @pytest.mark.parametrize("n_groups", [1, 6])
    def test_no_false_alarm_on_tables_in_order(self, labels, n_groups, rng):
        y = np.tile(labels, n_groups)
        groups = np.repeat(np.arange(n_groups), 100)
        codes = rng.random((len(y), 3)) * (rng.random((len(y), 3)) < 0.5)
        selectivity_report(codes, y, batch=groups, n_permutations=5, random_state=0)

    def test_smallest_grid(self, rng):
        y = np.tile([0, 0, 1, 0, 0, 1, 1, 1, 1], 200)
        with pytest.warns(UserWarning, match=r"pass grid_shape=\(3, 3\)"):
            selectivity_report(
                rng.random((1800, 2)),
                y,
                batch=np.repeat(range(200), 9),
                n_permutations=2,
            )

    def test_false_alarms_on_labels_in_any_order(self, rng):
        groups = np.repeat(np.arange(10), 100)
        codes = rng.random((1000, 2)) * (rng.random((1000, 2)) < 0.5)
        for n_classes in range(2, 22):
            y = rng.integers(0, n_classes, 1000)
            selectivity_report(codes, y, batch=groups, n_permutations=2)

    @pytest.mark.parametrize("n_permutations", [0, 9])
    def test_without_a_null_there_is_nothing_to_warn_of(self, n_permutations, rng):
        codes, target = smooth_case(rng, 3, side=16)
        y, groups = in_thirds(target), np.repeat([0, 1, 2], 256)
        kwargs = {"batch": groups, "n_permutations": n_permutations}
        if n_permutations == 0:
            selectivity_report(codes, y, **kwargs)
        else:
            with pytest.warns(UserWarning, match="grid_shape"):
                selectivity_report(codes, y, **kwargs)

    @settings(deadline=None, max_examples=20)
    @given(st.integers(0, 2**16), st.integers(2, 4))
    def test_agreement_is_morans_i_of_the_classes(self, seed, n_classes):
        """Over the indicators of all classes, those of a class for each image."""
        rng = np.random.default_rng(seed)
        maps = rng.integers(0, n_classes, (3, 12, 12))
        indicators = np.concatenate([maps == c for c in range(n_classes)])
        expected = morans_i(
            indicators.astype(float), neighbors="rook", n_permutations=0
        ).statistic
        agreement = _Agreement(maps.reshape(3, -1))
        right = agreement.morans_i(
            maps[:, :, 1:].reshape(3, -1), maps[:, :, :-1].reshape(3, -1)
        )
        below = agreement.morans_i(
            maps[:, 1:].reshape(3, -1), maps[:, :-1].reshape(3, -1)
        )
        assert (right + below) / 2 == pytest.approx(expected, abs=1e-9)

    def test_neighbours(self, rng):
        assert are_neighbours_alike(
            in_thirds(smooth_maps(rng, 1, 12, 2).ravel()), (12, 12)
        )
        assert not are_neighbours_alike(rng.integers(0, 2, 144), (12, 12))
        assert not are_neighbours_alike(np.zeros(144, int), (12, 12))
        assert not are_neighbours_alike(np.array([0, 1]), (1, 1))

    def test_few_pairs_of_neighbours_are_no_evidence(self):
        halves = np.tile([0, 0, 1, 1], 4)  # Moran's I of 2/3
        assert not are_neighbours_alike(halves, (4, 4))
        assert are_neighbours_alike(np.tile(halves, 10), (4, 4))
