"""skdict.metrics: heatmaps on grids of tokens, their nulls, the strongest places."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage, sparse, stats
from sklearn.metrics.pairwise import cosine_similarity

from skdict.images import (
    grid,
    heatmap_by_region,
    heatmap_channel_correlations,
    morans_i,
    rank_images,
    strongest_patches,
    token_heatmaps,
)
from skdict.metrics import direction_cosines

numbers = st.floats(-100, 100, allow_nan=False, width=32)
coarse = st.sampled_from([-2.0, -1.0, 0.0, 0.0, 1.0, 3.0])
grid_shapes = st.tuples(st.integers(2, 5), st.integers(2, 5))


def smooth(rng, n, size, sigma=2.5):
    """Smooth noise without any meaning."""
    noise = rng.normal(size=(n, size, size))
    return ndimage.gaussian_filter(noise, (0, sigma, sigma), mode="wrap")


def smooth_masks(rng, n, size):
    fields = smooth(rng, n, size)
    return fields > np.median(fields, axis=(1, 2), keepdims=True)


class TestCosines:
    @settings(deadline=None, max_examples=40)
    @given(
        hnp.arrays(
            np.float32, st.tuples(st.integers(1, 9), st.just(4)), elements=coarse
        ),
        hnp.arrays(np.float64, (3, 4), elements=coarse),
    )
    def test_equal_scikit_learn(self, X, directions):
        expected = cosine_similarity(X, directions)
        assert_allclose(direction_cosines(X, directions), expected, atol=1e-6)
        assert_allclose(direction_cosines(X, directions[1]), expected[:, 1], atol=1e-6)

    def test_length_counts_neither_for_rows_nor_directions(self, rng):
        X, direction = rng.normal(size=(5, 3)), rng.normal(size=3)
        expected = direction_cosines(X, direction)
        assert_allclose(direction_cosines(X * 1e-200, direction * 1e200), expected)
        assert_allclose(direction_cosines(X * 1e200, -direction), -expected)

    def test_takes_data_frames_and_integers(self, rng):
        X = rng.integers(-3, 4, size=(6, 2))
        cosines = direction_cosines(pd.DataFrame(X, columns=["a", "b"]), [1, 1])
        assert_allclose(cosines, direction_cosines(X / 2.0, [3.0, 3.0]), atol=1e-12)

    @pytest.mark.parametrize(
        ("X", "direction", "message"),
        [
            ([[1.0, 2.0]], [1.0, 2.0, 3.0], "2 features, but the direction has 3"),
            ([[1.0, 2.0], [np.nan, 0]], [1.0, 2.0], "X holds NaN .* row 1"),
            ([[1.0, 2.0]], [1.0, np.inf], "direction holds NaN or infinity"),
            (np.empty((0, 2)), [1.0, 2.0], "0 sample"),
            ([["a", "b"]], [1.0, 2.0], "could not convert|dtype"),
        ],
    )
    def test_bad_input(self, X, direction, message):
        with pytest.raises(ValueError, match=message):
            direction_cosines(X, direction)


class TestHeatmaps:
    def test_tokens_lie_row_by_row_and_image_by_image(self):
        values = np.arange(24, dtype=np.float32)
        heatmaps = token_heatmaps(values, (3, 4))
        assert heatmaps.shape == (2, 3, 4)
        assert heatmaps.dtype == np.float32
        assert heatmaps[1, 2, 1] == values[12 + 2 * 4 + 1]

    def test_takes_a_column_of_sparse_codes(self, rng):
        codes = sparse.random_array((12, 5), density=0.5, format="csr", rng=rng)
        expected = codes.toarray()[:, 3].reshape(1, 3, 4)
        assert_array_equal(token_heatmaps(codes[:, [3]], (3, 4)), expected)
        assert_array_equal(token_heatmaps(codes.toarray()[:, 3:4], (3, 4)), expected)

    @pytest.mark.parametrize(
        ("values", "grid_shape", "message"),
        [
            (np.zeros(13), (3, 4), "13 tokens do not fill whole grids of 3 x 4"),
            (np.zeros((12, 2)), (3, 4), "one value per token"),
            (sparse.csr_array((12, 2)), (3, 4), "one value per token"),
            (np.zeros(12), (3,), "must be .height, width."),
            (np.zeros(12), (3, 0), "positive whole numbers"),
            (np.zeros(12), (3, 2.5), "positive whole numbers"),
            (np.zeros(0), (3, 4), "0 sample"),
            (np.full(12, np.nan), (3, 4), "NaN or infinity in 12 of 12"),
        ],
    )
    def test_bad_input(self, values, grid_shape, message):
        with pytest.raises(ValueError, match=message):
            token_heatmaps(values, grid_shape)


class TestGrid:
    def test_block_means_of_whole_blocks(self, rng):
        image = rng.random((12, 8, 3))
        expected = image.reshape(3, 4, 4, 2, 3).mean(axis=(1, 3))
        assert_allclose(grid.block_means(image, (3, 4)), expected)

    @settings(deadline=None, max_examples=40)
    @given(
        st.tuples(st.integers(5, 13), st.integers(5, 13)),
        grid_shapes,
        st.integers(0, 9),
    )
    def test_block_means_of_broken_blocks(self, size, grid_shape, seed):
        """Every pixel is first cut into as many parts as the grid has blocks."""
        image = np.random.default_rng(seed).random((*size, 1))
        fine = image.repeat(grid_shape[0], axis=0).repeat(grid_shape[1], axis=1)
        blocks = (grid_shape[0], size[0], grid_shape[1], size[1])
        expected = fine.reshape(blocks).mean(axis=(1, 3))[..., None]
        assert_allclose(grid.block_means(image, grid_shape), expected)

    def test_majority_takes_the_largest_share_and_the_first_of_equals(self):
        ids = np.array([[0, 0, 2, 1], [0, 1, 1, 2]])
        assert_array_equal(grid.majority_labels(ids, 3, (1, 2)), [[0, 1]])

    def test_boxes_cover_the_image_once(self):
        count = np.zeros((10, 7), int)
        for row in range(3):
            for column in range(4):
                top, bottom, left, right = grid.token_box(row, column, (3, 4), (10, 7))
                count[top:bottom, left:right] += 1
        assert_array_equal(count, 1)
        assert grid.token_box(0, 1, (3, 4), (30, 40), context=1) == (0, 20, 0, 30)


class TestChannelCorrelations:
    @settings(deadline=None, max_examples=30)
    @given(st.data(), grid_shapes)
    def test_equal_scipy_and_a_loop_over_shifts(self, data, grid_shape):
        heatmap = data.draw(hnp.arrays(np.float64, grid_shape, elements=coarse))
        means = data.draw(hnp.arrays(np.float64, (*grid_shape, 2), elements=coarse))
        image = means.repeat(3, axis=0).repeat(2, axis=1)
        table = heatmap_channel_correlations(heatmap, image)
        for c in range(2):
            channel = means[..., c]
            r, p = 0.0, 1.0
            if np.ptp(heatmap) and np.ptp(channel):
                r = stats.pearsonr(heatmap.ravel(), channel.ravel()).statistic
                shifted = [
                    np.roll(heatmap, (i, j), axis=(0, 1))
                    for i in range(grid_shape[0])
                    for j in range(grid_shape[1])
                ]
                null = [np.corrcoef(s.ravel(), channel.ravel())[0, 1] for s in shifted]
                p = np.mean(np.abs(null) >= abs(r) - 1e-9)
            assert_allclose(table["correlation"][c], r, atol=1e-9)
            assert_allclose(table["p_shift"][c], p)

    def test_several_images_of_different_sizes_and_names(self, rng):
        heatmaps = rng.normal(size=(2, 4, 5))
        images = [rng.random((8, 10, 2)), rng.random((9, 13, 2))]
        table = heatmap_channel_correlations(
            heatmaps, images, channel_names=["DNA", "actin"]
        )
        assert table["image"].tolist() == [0, 0, 1, 1]
        assert table["channel"].tolist() == ["DNA", "actin"] * 2
        alone = heatmap_channel_correlations(heatmaps[1], images[1])
        assert_array_equal(table["correlation"][2:], alone["correlation"])

    def test_constant_channels_and_heatmaps_give_0(self, rng):
        # 0.1 is no sum of powers of two, so its block means are not quite equal.
        image = np.stack([np.full((9, 9), 0.1), rng.random((9, 9))], axis=2)
        table = heatmap_channel_correlations(rng.random((4, 4)), image)
        assert table["correlation"][0] == 0
        assert table["p_shift"][0] == 1
        assert table["correlation"][1] != 0
        table = heatmap_channel_correlations(np.full((4, 4), 0.1), image)
        assert table["correlation"].tolist() == [0, 0]

    def test_grey_images_booleans_and_stacks_of_one(self, rng):
        heatmap, image = rng.random((4, 4)), rng.random((8, 8)) < 0.5
        one = heatmap_channel_correlations(heatmap, image)
        for form in (image[None], image[..., None], [image], image[None, ..., None]):
            table = heatmap_channel_correlations(heatmap[None], form)
            assert_array_equal(table["correlation"], one["correlation"])

    def test_p_values_are_uniform_without_a_relation(self, rng):
        heatmaps, images = smooth(rng, 200, 16), smooth(rng, 200, 16)
        p_values = heatmap_channel_correlations(heatmaps, list(images))["p_shift"]
        assert stats.kstest(p_values, "uniform").pvalue > 0.01

    @pytest.mark.parametrize(
        ("heatmaps", "images", "options", "message"),
        [
            (np.zeros((4, 4)), np.zeros((3, 9)), {}, "fewer than the grid of 4 x 4"),
            (np.zeros((2, 4, 4)), np.zeros((3, 9, 9)), {}, "3 entries for 2 heatmaps"),
            (np.zeros(4), np.zeros((9, 9)), {}, "heatmaps must have shape"),
            (np.zeros((0, 4, 4)), [], {}, "heatmaps is empty"),
            ([[1.0], [1.0, 2.0]], np.zeros((9, 9)), {}, "all of one shape"),
            (np.full((4, 4), np.nan), np.zeros((9, 9)), {}, "1 of 1 heatmaps hold NaN"),
            (np.zeros((4, 4)), np.full((9, 9), np.inf), {}, "Image 0 holds NaN"),
            (np.zeros((4, 4)), np.full((9, 9), "a"), {}, "holds no numbers"),
            (
                np.zeros((4, 4)),
                np.zeros((1, 9, 9, 2, 2)),
                {},
                "Image 0 must have shape",
            ),
            (np.zeros((4, 4)), np.zeros((9, 9, 0)), {}, "is empty"),
            (
                np.zeros((2, 4, 4)),
                [np.zeros((9, 9, 2)), np.zeros((9, 9, 3))],
                {},
                "the same number of channels",
            ),
            (
                np.zeros((4, 4)),
                np.zeros((9, 9, 2)),
                {"channel_names": ["a"]},
                "2 channels, but channel_names has 1",
            ),
        ],
    )
    def test_bad_input(self, heatmaps, images, options, message):
        with pytest.raises(ValueError, match=message):
            heatmap_channel_correlations(heatmaps, images, **options)


class TestRegions:
    @settings(deadline=None, max_examples=30)
    @given(st.data(), grid_shapes, st.sampled_from(["greater", "less"]), st.booleans())
    def test_equal_scipy_and_a_loop_over_shifts(
        self, data, grid_shape, alternative, with_reference
    ):
        heatmap = data.draw(hnp.arrays(np.float64, grid_shape, elements=coarse))
        mask = data.draw(hnp.arrays(np.int64, grid_shape, elements=st.integers(0, 2)))
        mask.flat[:2] = 0, 1
        table = heatmap_by_region(
            heatmap.tolist(),
            mask.repeat(2, axis=0),
            alternative=alternative,
            reference=0 if with_reference else None,
        )
        assert table["region"].tolist() == sorted(set(mask.flat))[with_reference:]
        sign = 1 if alternative == "greater" else -1
        ranks = stats.rankdata(heatmap).reshape(grid_shape)
        for i, region in enumerate(table["region"]):
            inside = mask == region
            outside = mask == 0 if with_reference else ~inside
            a, b = heatmap[inside], heatmap[outside]
            assert table["n_tokens"][i] == len(a)
            assert table["n_compared"][i] == len(b)
            assert table["median"][i] == np.median(a)
            assert table["median_compared"][i] == np.median(b)
            if np.ptp([*a, *b]):
                test = stats.mannwhitneyu(a, b, alternative=alternative)
                assert_allclose(table["u_statistic"][i], test.statistic)
                assert_allclose(table["p_mannwhitney"][i], test.pvalue)
            else:
                assert table["p_mannwhitney"][i] == 1
            assert_allclose(
                table["auroc"][i],
                (a[:, None] > b).mean() + (a[:, None] == b).mean() / 2,
            )

            null = []
            for d in range(grid_shape[0]):
                for r in range(grid_shape[1]):
                    shifted = np.roll(ranks, (d, r), axis=(0, 1))
                    null.append(
                        sign * (shifted[inside].mean() - shifted[outside].mean())
                    )
            assert_allclose(
                table["p_shift"][i], np.mean(np.array(null) >= null[0] - 1e-6)
            )

    def test_without_a_reference_the_shifts_are_ordered_as_u_orders_them(self, rng):
        heatmap, mask = rng.normal(size=(5, 6)), rng.random((5, 6)) < 0.4
        u = [
            stats.mannwhitneyu(s[mask], s[~mask]).statistic
            for i in range(5)
            for j in range(6)
            for s in [np.roll(heatmap, (i, j), axis=(0, 1))]
        ]
        table = heatmap_by_region(heatmap, mask)
        assert_allclose(table["p_shift"][1], np.mean(np.array(u) >= u[0]))

    def test_the_u_test_fails_on_smooth_heatmaps_and_shifts_do_not(self, rng):
        """Smooth noise beside unrelated smooth masks: the null hypothesis is true."""
        heatmaps, masks = smooth(rng, 200, 24), smooth_masks(rng, 200, 24)
        tables = [
            heatmap_by_region(*pair) for pair in zip(heatmaps, masks, strict=True)
        ]
        p = {
            key: np.array([table[key][1] for table in tables])
            for key in ("p_mannwhitney", "p_shift")
        }
        # Nominal: 0.05. One side only, so at most one half.
        assert np.mean(p["p_mannwhitney"] < 0.05) > 0.35
        assert np.mean(p["p_shift"] < 0.05) < 0.1
        assert stats.kstest(p["p_shift"], "uniform").pvalue > 0.01

    def test_shifts_of_several_images_keep_their_level_and_gain_power(self, rng):
        p_values = []
        for _ in range(100):
            heatmaps, masks = smooth(rng, 3, 16), smooth_masks(rng, 3, 16)
            table = heatmap_by_region(
                heatmaps, masks, n_shifts=99, random_state=rng.integers(2**31)
            )
            p_values.append(table["p_shift"][1])
        assert stats.kstest(p_values, "uniform").pvalue > 0.01
        masks = smooth_masks(rng, 6, 16)
        heatmaps = smooth(rng, 6, 16)
        heatmaps += 1.5 * heatmaps.std() * masks
        pooled = heatmap_by_region(heatmaps, masks, random_state=0)
        assert pooled["p_shift"][1] == 0.001
        again = heatmap_by_region(heatmaps, list(masks), random_state=0)
        pd.testing.assert_frame_equal(pooled, again)
        assert set(pooled["n_shifts"]) == {999}

    def test_regions_too_small_for_a_token_are_named(self, rng):
        mask = np.full((8, 8), "cell", dtype=object)
        mask[:, 4:] = "background"
        mask[0, 0] = "speck"
        with pytest.warns(UserWarning, match="hold no token .*: speck"):
            table = heatmap_by_region(rng.random((4, 4)), mask)
        assert table["region"].tolist() == ["background", "cell"]

    def test_constant_heatmap(self):
        table = heatmap_by_region(
            np.full((2, 4), 0.1), np.repeat([[0, 1]], 4, 1)[[0, 0]]
        )
        assert table["auroc"].tolist() == [0.5, 0.5]
        assert table["p_mannwhitney"].tolist() == [1, 1]
        assert table["p_shift"].tolist() == [1, 1]

    @pytest.mark.parametrize(
        ("mask", "options", "message"),
        [
            (np.zeros((4, 4), int), {}, "All tokens are in the region 0"),
            (np.eye(4, dtype=int), {"reference": 7}, "No token has the reference 7"),
            (np.eye(4), {"reference": "a"}, "No token has the reference 'a'"),
            (np.eye(3), {}, "Mask 0 has 3 x 3 pixels, fewer"),
            (np.zeros((2, 4, 4)), {}, "got 2 entries for 1 heatmaps"),
            (np.full((4, 4), np.nan), {}, "mask holds 16 missing"),
            (np.zeros(4), {}, "Mask 0 must have shape"),
            (3, {}, "'mask' parameter"),
            ([[0, 1]], {}, "Mask 0 must have shape"),
        ],
    )
    def test_bad_input(self, mask, options, message):
        with pytest.raises(ValueError, match=message):
            heatmap_by_region(np.arange(16.0).reshape(4, 4), mask, **options)

    def test_labels_of_types_that_cannot_be_sorted(self):
        mask = np.full((4, 4), "a", dtype=object)
        mask[0] = 1
        with pytest.raises(ValueError, match=r"mask mixes labels .* int and str"):
            heatmap_by_region(np.zeros((4, 4)), mask)


def brute_force_moran(heatmaps, reach):
    """Weights as a dense matrix, over one image after the other."""
    n, height, width = heatmaps.shape
    places = np.indices((height, width)).reshape(2, -1).T
    apart = np.abs(places[:, None] - places)
    if reach == "rook":
        weights = apart.sum(axis=2) == 1
    else:
        weights = apart.max(axis=2) == 1
    z = heatmaps.reshape(n, -1)
    z = z - z.mean(axis=1, keepdims=True)
    numerator = np.einsum("ni,ij,nj->", z, weights.astype(float), z)
    return (z.size / (n * weights.sum())) * numerator / np.square(z).sum()


class TestMoran:
    @settings(deadline=None, max_examples=40)
    @given(
        st.data(), st.integers(1, 3), grid_shapes, st.sampled_from(["rook", "queen"])
    )
    def test_equal_a_matrix_of_weights(self, data, n, grid_shape, neighbours):
        heatmaps = data.draw(hnp.arrays(np.float64, (n, *grid_shape), elements=numbers))
        z = heatmaps - heatmaps.mean(axis=(1, 2), keepdims=True)
        if np.abs(z).max() < 1e-6:
            heatmaps[0, 0, 0] += 1
        result = morans_i(heatmaps, neighbors=neighbours, n_permutations=0)
        expected = brute_force_moran(heatmaps, neighbours)
        assert_allclose(result.statistic, expected, rtol=1e-7, atol=1e-9)
        assert "p_value" not in result

    def test_single_rows_and_columns(self, rng):
        heatmaps = rng.normal(size=(2, 1, 6))
        for neighbours in ("rook", "queen"):
            for form in (heatmaps, heatmaps.transpose(0, 2, 1)):
                statistic = morans_i(form, neighbors=neighbours).statistic
                assert_allclose(statistic, brute_force_moran(heatmaps, "rook"))

    @pytest.mark.parametrize("neighbours", ["rook", "queen"])
    def test_mean_of_the_shuffles_is_the_exact_one(self, rng, neighbours):
        heatmaps = rng.exponential(size=(2, 4, 5))
        heatmaps[1] += 9
        result = morans_i(
            heatmaps, neighbors=neighbours, n_permutations=20_000, random_state=0
        )
        assert result.expected == -1 / 19
        error = result.null.std() / np.sqrt(len(result.null))
        assert abs(result.null.mean() - result.expected) < 4 * error

    def test_p_values_are_uniform_on_noise(self, rng):
        p_values = [
            morans_i(rng.normal(size=(8, 8)), n_permutations=99, random_state=i).p_value
            for i in range(200)
        ]
        assert stats.kstest(p_values, "uniform").pvalue > 0.01

    def test_smooth_heatmaps_stand_out(self, rng):
        result = morans_i(smooth(rng, 1, 32), random_state=0)
        assert result.statistic > 0.9
        assert result.p_value == 0.001
        assert result.null.shape == (999,)
        assert_array_equal(
            morans_i(smooth(rng, 1, 8), random_state=3).null[:2].shape, 2
        )

    def test_images_that_differ_as_a_whole_are_not_smooth(self, rng):
        heatmaps = rng.normal(size=(10, 8, 8)) + 50 * rng.normal(size=(10, 1, 1))
        assert abs(morans_i(heatmaps, n_permutations=0).statistic) < 0.1

    def test_seed_and_scale(self, rng):
        heatmap = rng.normal(size=(6, 6))
        first, second = (morans_i(heatmap, random_state=5) for _ in range(2))
        assert_array_equal(first.null, second.null)
        assert first.null[0] != morans_i(heatmap, random_state=6).null[0]
        assert_allclose(morans_i(heatmap * 1e300).statistic, first.statistic)
        assert_allclose(morans_i(heatmap * 1e-300).statistic, first.statistic)

    def test_blocks_of_shuffles_do_not_change_them(self, rng, monkeypatch):
        from skdict.images import _morans_i

        heatmaps = rng.normal(size=(2, 5, 5))
        expected = morans_i(heatmaps, random_state=0).null
        monkeypatch.setattr(_morans_i, "_BLOCK_VALUES", 300)
        assert_allclose(morans_i(heatmaps, random_state=0).null, expected)

    def test_constant_heatmaps(self):
        result = morans_i(np.full((3, 3), 0.1), n_permutations=9)
        assert (result.statistic, result.p_value) == (0.0, 1.0)
        heatmaps = [np.full((3, 3), 0.1), np.full((3, 3), 7.7)]
        result = morans_i(heatmaps, n_permutations=9)
        assert (result.statistic, result.p_value) == (0.0, 1.0)

    @pytest.mark.parametrize(
        ("heatmaps", "message"),
        [
            (np.zeros((3, 1, 1)), "no neighbours"),
            (np.zeros((2, 0, 3)), "empty"),
            ([[np.inf, 1.0]], "1 of 1 heatmaps hold NaN"),
        ],
    )
    def test_bad_input(self, heatmaps, message):
        with pytest.raises(ValueError, match=message):
            morans_i(heatmaps)


class TestStrongest:
    def test_most_and_least_aligned_images(self, rng):
        heatmaps = rng.normal(size=(9, 3, 4))
        for pool in ("mean", "max"):
            scores = getattr(heatmaps.reshape(9, -1), pool)(axis=1)
            table = rank_images(heatmaps, n_images=3, image_score=pool)
            order = np.argsort(scores)
            assert table["image"].tolist() == [*order[:-4:-1], *order[:3]]
            assert_allclose(table["score"], scores[table["image"]])
            assert table["side"].tolist() == ["most"] * 3 + ["least"] * 3
            assert table["rank"].tolist() == [0, 1, 2] * 2

    def test_fewer_images_than_asked_for_and_ties(self):
        table = rank_images(np.zeros((2, 1, 1)), n_images=5)
        assert table["image"].tolist() == [0, 1, 0, 1]

    @settings(deadline=None, max_examples=40)
    @given(
        hnp.arrays(np.float64, (2, 4, 5), elements=coarse),
        st.integers(1, 45),
        st.sampled_from(["most", "least"]),
    )
    def test_patches_are_the_extreme_values(self, heatmaps, n_patches, side):
        table = strongest_patches(heatmaps, n_patches=n_patches, side=side)
        values = np.sort(heatmaps.ravel())
        values = values[::-1] if side == "most" else values
        assert_array_equal(table["value"], values[:n_patches])
        places = (table["image"], table["row"], table["column"])
        assert_array_equal(heatmaps[places], table["value"])
        assert len(set(zip(*places, strict=True))) == min(n_patches, 40)

    @settings(deadline=None, max_examples=40)
    @given(
        hnp.arrays(np.float64, (2, 6, 7), elements=coarse),
        st.integers(1, 4),
        st.integers(1, 5),
    )
    def test_distance_and_number_per_image(self, heatmaps, distance, per_image):
        table = strongest_patches(
            heatmaps, n_patches=50, min_distance=distance, max_per_image=per_image
        )
        for image in (0, 1):
            here = (table["image"] == image).to_numpy()
            places = table.loc[here, ["row", "column"]].to_numpy()
            assert 1 <= len(places) <= per_image
            apart = np.abs(places[:, None] - places).max(axis=2)
            assert (apart[~np.eye(len(places), dtype=bool)] >= distance).all()
            assert table["value"][here].iloc[0] == heatmaps[image].max()

    def test_bad_input(self):
        with pytest.raises(ValueError, match="hold NaN"):
            rank_images([[[np.nan]]])
        with pytest.raises(ValueError, match="heatmaps is empty"):
            strongest_patches(np.zeros((0, 2, 2)))
        with pytest.raises(ValueError, match="n_patches"):
            strongest_patches(np.zeros((2, 2)), n_patches=0)


# From subnormal numbers to nearly the largest.
@pytest.mark.parametrize("scale", [2.0**-1070, 2.0**-600, 2.0**1000, 1.75 * 2.0**1023])
class TestMagnitudes:
    """Figures of signs and small whole numbers do not depend on their unit."""

    @pytest.fixture
    def heatmaps(self, rng):
        return rng.choice([-1.0, 0.0, 1.0], size=(3, 4, 5), p=[0.6, 0.1, 0.3])

    def test_morans_i(self, heatmaps, scale):
        one, other = (
            morans_i(some, random_state=0) for some in (heatmaps, scale * heatmaps)
        )
        assert other.statistic == pytest.approx(one.statistic, abs=1e-12)
        assert other.p_value == one.p_value
        assert_allclose(other.null, one.null, atol=1e-12)

    def test_channel_correlations(self, heatmaps, scale, rng):
        images = rng.choice([-1.0, 1.0], size=(3, 4, 5, 2))
        expected = heatmap_channel_correlations(heatmaps, images)
        for pair in ((scale * heatmaps, images), (heatmaps, scale * images)):
            table = heatmap_channel_correlations(*pair)
            assert_allclose(table["correlation"], expected["correlation"], atol=1e-12)
            assert_array_equal(table["p_shift"], expected["p_shift"])

    def test_regions(self, heatmaps, scale, rng):
        mask = rng.integers(0, 2, (3, 4, 5))
        one, other = (
            heatmap_by_region(some, mask, random_state=0)
            for some in (heatmaps, scale * heatmaps)
        )
        medians = ["median", "median_compared"]
        assert_array_equal(other[medians], scale * one[medians])
        pd.testing.assert_frame_equal(
            other.drop(columns=medians), one.drop(columns=medians)
        )

    def test_ranking(self, heatmaps, scale):
        one, other = (rank_images(some) for some in (heatmaps, scale * heatmaps))
        assert_array_equal(other["image"], one["image"])
        # Up to the smallest number that there is.
        expected = scale * one["score"]
        assert_allclose(other["score"], expected, rtol=1e-12, atol=5e-324)
