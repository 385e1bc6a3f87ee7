"""skdict.inspection: heatmaps over images and galleries."""

import itertools

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdict import ICFL
from skdict.images import rank_images, strongest_patches
from skdict.images.rendering import Renderer
from skdict.inspection import GalleryDisplay, HeatmapDisplay
from skdict.inspection._images import colour_scale
from skdict.metrics import direction_cosines

GRID = (4, 6)


@pytest.fixture
def heatmaps(rng):
    return rng.uniform(-0.6, 0.4, size=(5, *GRID))


@pytest.fixture
def images(rng):
    return rng.random((5, 16, 24, 3))


@pytest.fixture(scope="module")
def fitted():
    X = np.random.default_rng(1).normal(size=(5 * 24, 7)).astype(np.float32)
    pipe = make_pipeline(StandardScaler(), ICFL(9, 3, max_iter=2, random_state=0))
    return pipe.fit(X), X


def drawn_texts(figure):
    figure.draw_without_rendering()
    hidden = set()  # labels of ticks beyond the limits of their axis
    for ax, name in itertools.product(figure.axes, "xy"):
        axis = getattr(ax, f"{name}axis")
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks():
            if not low <= tick.get_loc() <= high:
                hidden |= {tick.label1, tick.label2}
    return [
        text
        for text in figure.findobj(plt.Text)
        if text.get_visible() and text.get_text() and text not in hidden
    ]


def overlapping_texts(figure):
    texts = drawn_texts(figure)
    boxes = [t.get_window_extent() for t in texts]
    return [
        (texts[i].get_text(), texts[j].get_text())
        for i, j in itertools.combinations(range(len(texts)), 2)
        if boxes[i].overlaps(boxes[j])
    ]


def cut_off_texts(figure):
    boxes = {text.get_text(): text.get_window_extent() for text in drawn_texts(figure)}
    whole = figure.bbox.padded(1)
    return [
        text
        for text, box in boxes.items()
        if not (whole.contains(*box.min) and whole.contains(*box.max))
    ]


def margins(figure):
    """Share of the figure's width and height that its panels leave empty."""
    figure.draw_without_rendering()
    panels = [ax.get_tightbbox() for ax in figure.axes]
    return 1 - matplotlib.transforms.Bbox.union(panels).size / figure.bbox.size


class TestHeatmap:
    def test_drawn_values_are_the_numbers(self, heatmaps, images):
        display = HeatmapDisplay.from_predictions(heatmaps, images)
        assert display.axes_.shape == (5, 6)
        titles = [ax.get_title() for ax in display.axes_[0]]
        assert titles == ["image", "composite", "red", "green", "blue", "heatmap"]
        assert (display.heatmap_artists_[:, 0] == None).all()  # noqa: E711
        for i, j in itertools.product(range(5), range(1, 6)):
            artist = display.heatmap_artists_[i, j]
            assert_array_equal(artist.get_array(), heatmaps[i])
            assert artist.get_interpolation() == "nearest"
            assert artist.get_extent() == [0, 24, 16, 0]
            assert artist.axes is display.axes_[i, j]
            assert artist.get_alpha() == (1.0 if j == 5 else 0.5)
            # One scale for all, white at 0.
            assert artist.get_clim() == (
                -np.abs(heatmaps).max(),
                np.abs(heatmaps).max(),
            )
        for i, c in itertools.product(range(5), range(3)):
            picture = display.axes_[i, 2 + c].images[0].get_array()
            assert_array_equal(picture, images[i, ..., c])
            assert_array_equal(display.axes_[i, 1].images[0].get_array(), images[i])

    def test_masks_are_images(self, heatmaps, images):
        display = HeatmapDisplay(heatmaps=heatmaps, images=images > 0.5)
        drawn = display.plot(views=["image"]).axes_[0, 0].images[0].get_array()
        assert_array_equal(drawn, images[0] > 0.5)

    def test_first_token_lies_at_the_top_left(self, images):
        heatmap = np.zeros(GRID)
        heatmap[0, -1] = 1
        display = HeatmapDisplay.from_predictions(heatmap, images[0], views="heatmap")
        ax = display.axes_[0, 0]
        display.figure_.canvas.draw()
        corner = ax.transData.transform((23, 1))
        middle = ax.transAxes.transform((0.5, 0.5))
        assert (corner > middle).all()
        drawn = display.figure_.canvas.buffer_rgba()
        x, y = int(corner[0]), int(drawn.shape[0] - corner[1])
        red, green, blue, _ = np.asarray(drawn)[y, x] / 255
        assert red > 2 * blue
        assert red > 2 * green

    def test_from_estimator(self, fitted, images):
        pipe, X = fitted
        display = HeatmapDisplay.from_estimator(pipe, X, images, GRID, feature=4)
        rows = pipe[0].transform(X)
        expected = direction_cosines(rows, pipe[-1].components_[4])
        assert_allclose(display.heatmaps, expected.reshape(5, *GRID))
        label = display.colorbar_.ax.get_ylabel()
        assert label == "cosine with feature 4"
        labels = [ax.get_ylabel() for ax in display.axes_[:, 0]]
        assert labels == [f"image {i}" for i in range(5)]

        display = HeatmapDisplay.from_estimator(
            pipe,
            X,
            images,
            GRID,
            feature=4,
            quantity="activation",
            views=["heatmap", "image"],
            image_names=list("abcde"),
        )
        assert [ax.get_ylabel() for ax in display.axes_[:, 0]] == list("abcde")
        codes = pipe.transform(X)[:, [4]].toarray().reshape(5, *GRID)
        assert_array_equal(display.heatmaps, codes)
        drawn = display.heatmap_artists_[2, 0].get_array()
        assert_array_equal(drawn.mask, codes[2] == 0)
        assert_array_equal(drawn.filled(0), codes[2])

    @pytest.mark.parametrize(
        ("estimator", "feature", "kind", "error", "message"),
        [
            ("pipe", 9, "cosine", ValueError, "an index from 0 to 8, got 9"),
            ("pipe", -1, "cosine", ValueError, "an index from 0 to 8, got -1"),
            ("pipe", 1.0, "activation", ValueError, "an index from 0 to 8, got 1.0"),
            ("pipe", "icfl1", "cosine", ValueError, "name ends in its index"),
            ("pipe", 1, "angle", ValueError, "quantity must be one of"),
            ("scaler", 1, "cosine", TypeError, "components_"),
        ],
    )
    def test_bad_estimator_or_feature(
        self, fitted, images, estimator, feature, kind, error, message
    ):
        pipe, X = fitted
        estimator = {"pipe": pipe, "scaler": pipe[0]}[estimator]
        with pytest.raises(error, match=message):
            HeatmapDisplay.from_estimator(
                estimator, X, images, GRID, feature=feature, quantity=kind
            )
        assert plt.get_fignums() == []

    def test_given_axes_are_used(self, heatmaps, images):
        figure, axes = plt.subplots(1, 2)
        display = HeatmapDisplay.from_predictions(
            heatmaps[0], images[0], ax=axes, views=["composite", 1], colorbar=False
        )
        assert plt.get_fignums() == [figure.number]
        assert display.figure_ is figure
        assert_array_equal(display.axes_, axes[None])
        assert display.colorbar_ is None
        assert [len(ax.images) for ax in axes] == [2, 2]
        again = display.plot(axes[0], views="image")
        assert again is display
        assert again.colorbar_ is None
        with pytest.raises(ValueError, match=r"1 x 6 panels, but ax holds 2"):
            display.plot(axes)
        assert plt.get_fignums() == [figure.number]

    @pytest.mark.parametrize("n", [1, 3])
    def test_no_text_overlaps_or_is_cut_off(self, heatmaps, images, n):
        display = HeatmapDisplay.from_predictions(heatmaps[:n], images[:n], feature=7)
        assert overlapping_texts(display.figure_) == []
        assert cut_off_texts(display.figure_) == []
        assert len(plt.get_fignums()) == 1

    def test_one_row_of_panels_is_wrapped_and_has_no_spare_axes(self, rng):
        image = rng.random((8, 12, 5))
        names = ["DNA", "ER", "RNA", "actin", "mito"]
        display = HeatmapDisplay.from_predictions(
            rng.normal(size=GRID), image, channel_names=names
        )
        assert display.axes_.shape == (1, 8)
        assert [ax.get_title() for ax in display.axes_[0, 2:-1]] == names
        assert len(display.figure_.axes) == 8 + 1  # the colour bar
        display.plot(views=["mito", "heatmap", 0])
        titles = [ax.get_title() for ax in display.axes_[0]]
        assert titles == ["mito", "heatmap", "DNA"]

    def test_one_view_of_several_images_is_wrapped(self, heatmaps, images):
        display = HeatmapDisplay.from_predictions(heatmaps, images, views="composite")
        assert display.axes_.shape == (5, 1)
        places = [ax.get_subplotspec() for ax in display.axes_[:, 0]]
        assert [(p.rowspan.start, p.colspan.start) for p in places] == [
            (0, 0),
            (0, 1),
            (0, 2),
            (1, 0),
            (1, 1),
        ]
        titles = [ax.get_title() for ax in display.axes_[:, 0]]
        assert titles == [f"image {i}" for i in range(5)]
        assert not any(ax.get_ylabel() for ax in display.axes_.ravel())
        display = HeatmapDisplay.from_predictions(
            heatmaps, images, views=0, image_names=range(3, 8)
        )
        assert [ax.get_title() for ax in display.axes_[:, 0]] == list("34567")
        for i in range(5):
            drawn = display.heatmap_artists_[i, 0].get_array()
            assert_array_equal(drawn, heatmaps[i])

    @pytest.mark.parametrize(
        ("n", "views", "shape"),
        [
            (1, None, (48, 24)),
            (5, "heatmap", (16, 40)),
            (5, ["image", "heatmap"], (24, 24)),
        ],
    )
    def test_no_wide_margins(self, heatmaps, rng, n, views, shape):
        images = rng.random((n, *shape))
        display = HeatmapDisplay.from_predictions(heatmaps[:n], images, views=views)
        assert (margins(display.figure_) < 0.1).all()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"views": "purple"}, "no view 'purple'"),
            ({"views": 3}, "no view 3"),
            ({"views": []}, "views is empty"),
            ({"vmax": 0}, "vmax must be positive"),
            ({"quantity": "angle"}, "quantity must be one of"),
            ({"channel_names": ["a"]}, "3 channels, but channel_names has 1"),
            ({"image_names": ["a"]}, "5 images, but image_names has 1"),
            ({"cmap": "no such map"}, "no such map"),
        ],
    )
    def test_bad_options_leave_no_figure(self, heatmaps, images, options, message):
        with pytest.raises(ValueError, match=message):
            HeatmapDisplay.from_predictions(heatmaps, images, **options)
        assert plt.get_fignums() == []


class TestColours:
    def test_scale_is_centred_at_0_unless_activations_are_positive(self):
        values = np.array([0.0, 0.5])
        norm, cmap = colour_scale(values, "cosine", None, None)
        assert (norm.vmin, norm.vmax, cmap) == (-0.5, 0.5, "RdBu_r")
        norm, cmap = colour_scale(values, "activation", None, None)
        assert (norm.vmin, norm.vmax, cmap) == (0, 0.5, "viridis")
        norm, cmap = colour_scale(-values, "activation", None, 2.0)
        assert (norm.vmin, norm.vmax, cmap) == (-2, 2, "RdBu_r")
        norm, _ = colour_scale(values * 0, "cosine", "gray", None)
        assert (norm.vmin, norm.vmax) == (-1, 1)

    def test_ends_of_the_diverging_map_differ_from_its_middle_in_lightness(self):
        colours = matplotlib.colormaps["RdBu_r"]([0.0, 0.5, 1.0])[:, :3]
        lightness = colours @ [0.2126, 0.7152, 0.0722]
        assert lightness[1] > 0.9
        assert lightness[[0, 2]].max() < 0.3

    def test_channels_share_their_limits_over_images(self, rng):
        dark = rng.integers(0, 100, size=(20, 20, 4)).astype(np.uint16)
        bright = dark * 10
        renderer = Renderer([dark, bright])
        assert renderer.channel(bright, 2).max() == 1
        assert renderer.channel(dark, 2).max() < 0.12
        for image in (dark, bright):
            picture = renderer.composite(image)
            assert picture.shape == (20, 20, 3)
            assert 0 <= picture.min() <= picture.max() <= 1

    def test_every_channel_has_a_colour_of_its_own(self):
        lit = np.eye(4).reshape(2, 2, 4) * 100.0
        picture = Renderer([lit]).composite(lit).reshape(4, 3)
        assert len(np.unique(picture.round(6), axis=0)) == 4
        assert_array_equal(picture[:3], [[0, 1, 1], [1, 0, 1], [1, 1, 0]])

    def test_like_channels_do_not_add_up_to_white(self, rng):
        image = np.repeat(rng.random((20, 20, 1)), 6, axis=2)
        picture = Renderer([image]).composite(image)
        assert np.mean(picture == 1) < 0.02

    def test_constant_channels_are_black(self):
        image = np.full((4, 4, 2), 7.0)
        assert_array_equal(Renderer([image]).composite(image), 0)

    def test_rgb_is_shown_as_it_is(self, rng):
        image = rng.integers(0, 256, size=(4, 4, 3)).astype(np.uint8)
        renderer = Renderer([image])
        assert_array_equal(renderer.composite(image), image / 255)
        assert_array_equal(renderer.channel(image, 1), image[..., 1] / 255)
        assert not Renderer([image], rgb=False).is_rgb
        assert not Renderer([image - 0.5]).is_rgb
        with pytest.raises(ValueError, match="rgb=True needs three channels"):
            Renderer([image[..., :2]], rgb=True)


class TestGallery:
    def test_images_stand_in_order(self, heatmaps, images):
        display = GalleryDisplay.from_predictions(
            heatmaps, images, n_items=2, overlay=True
        )
        ranking = rank_images(heatmaps, n_images=2)
        shown = np.asarray(ranking["image"]).reshape(2, 2)
        for i, j in np.ndindex(2, 2):
            picture = display.picture_artists_[i, j].get_array()
            assert_array_equal(picture, images[shown[i, j]])
            drawn = display.heatmap_artists_[i, j].get_array()
            assert_array_equal(drawn, heatmaps[shown[i, j]])
            title = display.axes_[i, j].get_title().replace("\N{MINUS SIGN}", "-")
            score = heatmaps[shown[i, j]].mean()
            assert title == f"image {shown[i, j]}\n{score:.2f}"
        labels = [ax.get_ylabel() for ax in display.axes_[:, 0]]
        assert labels == ["most aligned", "least aligned"]

    def test_names_of_the_shown_images(self, heatmaps, images):
        names = [f"plate 0{i}, well of the $row_{i}$" for i in range(5)]
        display = GalleryDisplay.from_predictions(
            heatmaps, images, n_items=2, image_names=names
        )
        shown = np.asarray(display.items["image"]).reshape(2, 2)
        for i, j in np.ndindex(2, 2):
            *lines, score = display.axes_[i, j].get_title().split("\n")
            expected = names[shown[i, j]].replace("$", r"\$")
            assert " ".join(lines) == expected
            assert float(score.replace("\N{MINUS SIGN}", "-")) < 1
        assert overlapping_texts(display.figure_) == []
        with pytest.raises(ValueError, match="5 images, but image_names has 4"):
            GalleryDisplay.from_predictions(heatmaps, images, image_names=names[:4])

    @pytest.mark.parametrize("n", [1, 5])
    def test_patches_are_cut_from_their_places(self, heatmaps, images, n):
        heatmaps, images = heatmaps[:n], images[:n]
        display = GalleryDisplay.from_predictions(
            heatmaps, images, of="patches", n_items=3, min_distance=2, context=1
        )
        for i, side in enumerate(("most", "least")):
            table = strongest_patches(heatmaps, n_patches=3, side=side, min_distance=2)
            for j in range(3):
                image, row, column = (
                    int(table[key][j]) for key in ("image", "row", "column")
                )
                top, left = max(4 * (row - 1), 0), max(4 * (column - 1), 0)
                cut = images[image, top : 4 * row + 8, left : 4 * column + 8]
                artist = display.picture_artists_[i, j]
                assert_array_equal(artist.get_array(), cut)
                bottom, right = top + cut.shape[0], left + cut.shape[1]
                assert artist.get_extent() == [left, right, bottom, top]
                ax = display.axes_[i, j]
                assert ax.get_xlim() == (4 * (column - 1), 4 * (column + 2))
                assert ax.get_ylim() == (4 * (row + 2), 4 * (row - 1))
                frame = ax.patches[-1].get_bbox()
                assert frame.bounds == (4 * column, 4 * row, 4, 4)

    def test_from_estimator(self, fitted, images):
        pipe, X = fitted
        display = GalleryDisplay.from_estimator(
            pipe, X, images, GRID, feature=2, n_items=4, image_score="max"
        )
        expected = direction_cosines(pipe[0].transform(X), pipe[-1].components_[2])
        assert_allclose(display.heatmaps.ravel(), expected)
        assert display.items["score"][0] == pytest.approx(expected.max())
        assert display.figure_.get_suptitle() == "cosine with feature 2"

    def test_given_axes_are_used(self, heatmaps, images):
        figure, axes = plt.subplots(2, 3)
        display = GalleryDisplay.from_predictions(
            heatmaps, list(images), n_items=3, feature=8, ax=axes
        )
        assert plt.get_fignums() == [figure.number]
        assert_array_equal(display.axes_, axes)
        assert figure.get_suptitle() == ""  # the figure is the caller's
        with pytest.raises(ValueError, match=r"2 x 3 panels, but ax holds 3"):
            display.plot(axes[0])

    def test_heatmaps_share_the_scale_of_all_images(self, images):
        heatmaps = np.full((5, *GRID), 0.1)
        heatmaps[2, 0] = (-3, 3) * 3  # not among the shown ones: its mean is 0.1
        heatmaps[[0, 1, 3, 4]] += np.array([0.4, 0.3, -0.3, -0.4])[:, None, None]
        heatmaps[2, 0] += 0.1
        display = GalleryDisplay.from_predictions(
            heatmaps, images, n_items=2, overlay=True, alpha=0.3
        )
        assert 2 not in np.asarray(display.items["image"])
        for artist in display.heatmap_artists_.ravel():
            assert artist.get_clim() == (-3.1, 3.1)
            assert artist.get_alpha() == 0.3
        assert display.plot(overlay=True, vmax=1).colorbar_.vmax == 1

    def test_patches_per_image_and_empty_panels(self, heatmaps, images):
        heatmaps = heatmaps[:2]
        display = GalleryDisplay.from_predictions(
            heatmaps, images[:2], of="patches", n_items=3, max_per_image=1
        )
        assert display.axes_.shape == (2, 2)
        most = np.asarray(display.items["image"])[:2]
        assert sorted(most) == [0, 1]
        lopsided = {
            key: np.asarray(display.items[key])[:3]
            for key in ("side", "image", "score", "row", "column")
        }
        display = GalleryDisplay(heatmaps=heatmaps, images=images[:2], items=lopsided)
        axes = display.plot().axes_
        assert display.picture_artists_[1, 1] is None
        assert [ax.axison for ax in axes.ravel()] == [True, True, True, False]

    @pytest.mark.parametrize("of", ["images", "patches"])
    @pytest.mark.parametrize("overlay", [False, True])
    def test_no_text_overlaps_or_is_cut_off(self, heatmaps, images, of, overlay):
        display = GalleryDisplay.from_predictions(
            heatmaps, images, of=of, overlay=overlay, feature=123
        )
        assert overlapping_texts(display.figure_) == []
        assert cut_off_texts(display.figure_) == []
        assert len(plt.get_fignums()) == 1

    @pytest.mark.parametrize("shape", [(48, 24), (16, 40)])
    def test_no_wide_margins(self, heatmaps, rng, shape):
        images = rng.random((5, *shape))
        figure = GalleryDisplay.from_predictions(heatmaps, images, feature=1).figure_
        assert margins(figure)[0] < 0.1
        assert margins(figure)[1] < 0.2  # the title
        assert overlapping_texts(figure) == []
        assert cut_off_texts(figure) == []

    def test_only_images_that_are_shown_are_looked_at(self, images):
        heatmaps = np.arange(5.0)[:, None, None] * np.ones(GRID)
        images[2] = np.nan
        GalleryDisplay.from_predictions(heatmaps, images, n_items=2)
        with pytest.raises(ValueError, match="holds NaN"):
            GalleryDisplay.from_predictions(heatmaps, images, n_items=3)

    @pytest.mark.parametrize(
        ("n", "options", "message"),
        [
            (4, {}, "got 4 entries for 5 heatmaps"),
            (5, {"of": "cells"}, "of must be 'images' or 'patches'"),
            (5, {"n_items": 0}, "'n_images' parameter"),
            (5, {"quantity": "angle"}, "quantity must be one of"),
        ],
    )
    def test_bad_input_leaves_no_figure(self, heatmaps, images, n, options, message):
        with pytest.raises(ValueError, match=message):
            GalleryDisplay.from_predictions(heatmaps, images[:n], **options)
        assert plt.get_fignums() == []


MATHS = r"$\frac{$ a_b$ _^$ 5\$"


def test_no_name_is_a_formula(heatmaps, images):
    names = [f"{MATHS} {i}" for i in range(5)]
    figures = [
        HeatmapDisplay.from_predictions(
            heatmaps,
            images,
            channel_names=names[:3],
            image_names=names,
            feature=MATHS,
            views=views,
        ).figure_
        for views in (None, names[:1])
    ]
    figures += [
        GalleryDisplay.from_predictions(
            heatmaps, images, image_names=names, n_items=2, feature=MATHS, overlay=over
        ).figure_
        for over in (True, False)
    ]
    for figure in figures:
        figure.canvas.draw()
        texts = [t for t in figure.findobj(plt.Text) if "frac" in t.get_text()]
        assert texts
        assert not any(t._preprocess_math(t.get_text())[1] for t in texts)


@pytest.mark.parametrize("names", ["abcde", 3, [["a"]] * 5, [None] * 5])
@pytest.mark.parametrize("display", [HeatmapDisplay, GalleryDisplay])
def test_names_are_checked_before_anything_is_encoded(display, names, fitted, images):
    pipe, _ = fitted
    with pytest.raises(ValueError, match="image_names must be a list of str"):
        display.from_estimator(
            pipe, object(), images, GRID, feature=0, image_names=names
        )
    if display is HeatmapDisplay:
        with pytest.raises(ValueError, match="channel_names must be a list of str"):
            display.from_estimator(
                pipe, object(), images, GRID, feature=0, channel_names=names
            )


def test_booleans_are_no_views_and_no_tokens(heatmaps, images):
    for views in (True, [True]):
        with pytest.raises(ValueError, match="no view True"):
            HeatmapDisplay.from_predictions(heatmaps, images, views=views)
    with pytest.raises(ValueError, match="context must be"):
        GalleryDisplay.from_predictions(heatmaps, images, of="patches", context=True)
