"""Tests of how TokenExtractor reads a layer's output: images, tokens, features."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from skdict import TokenExtractor
from skdict.feature_extraction._layouts import read_layout, square_stride_grids


class Tokens(nn.Module):
    """Tokens of patches behind `n_extra` others, in a given order of the axes."""

    def __init__(
        self, order="ntd", kernel=4, stride=None, n_extra=0, dim=6, unfold=False
    ):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, dim, kernel, stride=stride or kernel)
        self.order, self.n_extra, self.unfold = order, n_extra, unfold
        self.out = nn.Identity()

    def forward(self, x):
        if self.unfold:  # the same numbers without a convolution to be seen
            kernel, stride = self.conv.kernel_size, self.conv.stride
            patches = nn.functional.unfold(x, kernel, stride=stride)
            weight = self.conv.weight.flatten(1)
            tokens = (weight @ patches).transpose(1, 2) + self.conv.bias
        else:
            tokens = self.conv(x).flatten(2).transpose(1, 2)
        extra = tokens.new_full((len(x), self.n_extra, tokens.shape[2]), 100.0)
        tokens = torch.cat([extra, tokens], dim=1)
        return self.out(tokens.permute(["ntd".index(axis) for axis in self.order]))


def draw_images(n, height, width):
    images = np.random.default_rng(0).normal(size=(n, 3, height, width))
    return images.astype(np.float32)


def true_tokens(model, images):
    with torch.no_grad():
        maps = model.conv(torch.from_numpy(images))
    return maps.permute(0, 2, 3, 1).numpy(), tuple(maps.shape[2:])


def assert_reads(model, images, **params):
    """Each token is where it belongs, pooled and not."""
    expected, grid = true_tokens(model, images)
    extractor = TokenExtractor(model, "out", pool=None, **params)
    got = extractor.fit_transform(images)
    assert extractor.grid_shape_ == grid
    np.testing.assert_allclose(got.reshape(expected.shape), expected, atol=1e-5)
    pooled = TokenExtractor(model, "out", **params).fit_transform(images)
    np.testing.assert_allclose(pooled, expected.mean(axis=(1, 2)), atol=1e-5)


@pytest.mark.parametrize("order", ["ntd", "tnd"])
@pytest.mark.parametrize("unfold", [False, True])
@pytest.mark.parametrize("batch_size", [1, 2, 9, 11])
@pytest.mark.parametrize("n", [1, 2, 9, 11])
def test_axis_of_the_images(order, unfold, batch_size, n):
    # 9 tokens: also as many as there are images in a batch, or in all.
    model = Tokens(order, unfold=unfold)
    assert_reads(model, draw_images(n, 12, 12), batch_size=batch_size)


@pytest.mark.parametrize("order", ["ntd", "tnd"])
def test_as_many_images_as_tokens_with_a_class_token(order):
    model = Tokens(order, n_extra=1)
    assert_reads(model, draw_images(10, 12, 12), batch_size=10, skip_tokens=1)


def test_as_many_features_as_images_and_tokens():
    assert_reads(Tokens("tnd", dim=9), draw_images(9, 12, 12), batch_size=9)


@pytest.mark.parametrize("unfold", [False, True])
@pytest.mark.parametrize(
    ("kernel", "stride", "height", "width"),
    [(14, 7, 32, 96), (4, 4, 8, 32), (5, 5, 23, 11), (7, 4, 40, 20), (4, 2, 16, 64)],
)
def test_grids_of_images_that_are_not_square(unfold, kernel, stride, height, width):
    model = Tokens(kernel=kernel, stride=stride, unfold=unfold)
    assert_reads(model, draw_images(3, height, width))


def test_kernel_that_is_not_square_is_seen():
    # Of the numbers alone, 36 tokens of a square image would be 6 x 6.
    model = Tokens(kernel=(8, 2), stride=(8, 2))
    assert true_tokens(model, draw_images(1, 24, 24))[1] == (3, 12)
    assert_reads(model, draw_images(2, 24, 24))


def test_grid_that_nothing_gives_away():
    model, images = (
        Tokens(kernel=(8, 2), stride=(8, 2), unfold=True),
        draw_images(2, 24, 18),
    )
    with pytest.raises(ValueError, match=r"got 27 tokens .* 24 x 18 .*set grid_shape"):
        TokenExtractor(model, "out", pool=None).fit(images)
    assert TokenExtractor(model, "out").fit(images).grid_shape_ is None
    assert_reads(model, images, grid_shape=(3, 9))


def test_several_grids_are_no_choice():
    shapes = {1: (1, 36, 5), 2: (2, 36, 5)}
    maps = {(3, 12), (6, 6), (12, 24)}
    with pytest.raises(
        ValueError, match=r"any of \[\(3, 12\), \(6, 6\)\]. Set grid_sh"
    ):
        read_layout(shapes, (32, 96), maps, needs_grid=True)
    assert read_layout(shapes, (32, 96), maps).grid is None
    layout = read_layout(shapes, (32, 96), maps, needs_grid=True, grid_shape=(3, 12))
    assert layout.grid == (3, 12)


@pytest.mark.parametrize("unfold", [False, True])
def test_forgotten_class_tokens_are_counted(unfold):
    model = Tokens(n_extra=2, unfold=unfold)
    with pytest.raises(ValueError, match=r"got 11 tokens.*skip_tokens=2 leaves a grid"):
        TokenExtractor(model, "out", pool=None).fit(draw_images(3, 12, 12))


def test_class_tokens_that_make_a_square():
    # 2 x 2 patches and 5 others are 9 tokens, but no grid of 3 x 3.
    model, images = Tokens(n_extra=5), draw_images(3, 8, 8)
    with pytest.raises(ValueError, match=r"got 9 tokens.*skip_tokens=5 leaves a grid"):
        TokenExtractor(model, "out", pool=None).fit(images)
    assert TokenExtractor(model, "out").fit(images).grid_shape_ is None
    assert_reads(model, images, skip_tokens=5)


def test_features_before_tokens():
    model, images = Tokens("ndt"), draw_images(3, 12, 12)
    for pool in ("mean", None):
        with pytest.raises(ValueError, match=r"\(2, 6, 9\).*\(3, 3\).*set grid_shape"):
            TokenExtractor(model, "out", pool=pool).fit(images)
    assert_reads(model, images, grid_shape=(3, 3))
    # As long as the grid by chance: the tokens are still where torch has them.
    assert_reads(Tokens(dim=9), images)
    assert_reads(Tokens(dim=9), images, grid_shape=(3, 3))
    assert_reads(Tokens(dim=9, n_extra=1), images, skip_tokens=1)


class Map(Tokens):
    """The feature map with its channels last."""

    def forward(self, x):
        maps = self.conv(x)
        if self.unfold:  # another size than the convolution's
            maps = nn.functional.avg_pool2d(maps, 2)
        return self.out(maps.permute(0, 2, 3, 1))


def test_channels_last():
    model, images = Map(), draw_images(3, 16, 12)
    for pool in ("mean", None):
        with pytest.raises(
            ValueError, match=r"channels may be last: set grid_shape=\(4"
        ):
            TokenExtractor(model, "out", pool=pool).fit(images)
    assert_reads(model, images, grid_shape=(4, 3))
    with pytest.raises(ValueError, match=r"\(3, 6\) with its channels first, \(4, 3\)"):
        TokenExtractor(model, "out", grid_shape=(3, 4)).fit(images)


def test_channels_last_without_a_trace():
    model, images = Map(unfold=True, dim=7), draw_images(3, 32, 16)
    with pytest.raises(ValueError, match=r"grid_shape=\(4, 2\) if they are"):
        TokenExtractor(model, "out").fit(images)
    extractor = TokenExtractor(model, "out", pool=None, grid_shape=[4, 2]).fit(images)
    assert extractor.grid_shape_ == (4, 2)
    assert extractor.transform(images).shape == (24, 7)


def test_channels_first_are_what_torch_has():
    # Channels as many as rows and columns, and sides that no single stride makes.
    for shape in [(2, 4, 4, 4), (2, 7, 5, 2), (2, 99, 5, 2)]:
        shapes = {1: (1, *shape[1:]), 2: shape}
        assert read_layout(shapes, (16, 16), set()).axes == "ndhw"
        assert read_layout(shapes, (16, 16), {shape[2:]}).axes == "ndhw"


@pytest.mark.parametrize("maps", [set(), {(4, 4), (5, 4)}])
def test_channels_that_may_be_first_or_last(maps):
    shapes = {1: (1, 5, 4, 3), 2: (2, 5, 4, 3)}
    maps = {(5, 4), (4, 3)} if maps else maps
    with pytest.raises(ValueError, match="may be last"):
        read_layout(shapes, (16, 12), maps)


@pytest.mark.parametrize(
    ("shapes", "match"),
    [
        ({1: (1, 9, 4), 2: (1, 9, 4)}, "does not grow with the number of images"),
        ({1: (9, 4), 2: (18, 4)}, "images and tokens, or windows of tokens, share"),
        ({1: (4, 9, 5), 2: (8, 9, 5)}, "share an axis, take a layer around it"),
        ({1: (9, 4), 2: (2, 9, 4)}, "loses an axis .* squeeze"),
        ({1: (4,), 2: (2, 4)}, "loses an axis"),
        ({1: (9, 4, 1), 2: (9, 4, 2)}, "must have shape .*Take another layer"),
        ({1: (4, 1), 2: (4, 2)}, "must have shape"),
        ({1: (3, 1, 4, 5), 2: (3, 2, 4, 5)}, "must have shape"),
        ({1: (1, 9, 4), 2: (2, 10, 4)}, r"got \(1, 9, 4\) for 1 images and"),
        ({1: (1,), 2: (2,)}, "must have shape"),
        ({1: (9, 4)}, "must have shape"),
    ],
)
def test_outputs_without_an_axis_of_images(shapes, match):
    with pytest.raises(ValueError, match=match):
        read_layout(shapes, (12, 12), set())


def test_windows_as_many_as_images():
    # Four windows of nine tokens; nine images would be tokens of nine images.
    class Windows(nn.Module):
        def forward(self, x):
            return x.reshape(len(x) * 4, 9, -1)

    for n in (1, 9):
        with pytest.raises(ValueError, match="windows of tokens, share an axis"):
            TokenExtractor(Windows(), "", batch_size=9).fit(draw_images(n, 12, 12))


def test_output_that_changes_its_axes_is_noticed():
    class Squeezing(Tokens):
        def forward(self, x):
            tokens = super().forward(x)
            return tokens[0] if len(x) == 3 else tokens

    images = draw_images(5, 12, 12)
    with pytest.raises(
        ValueError, match=r"for 3 images has shape \(9, 6\).*\(n, t, d\)"
    ):
        TokenExtractor(Squeezing(), "", batch_size=3).fit_transform(images)


@pytest.mark.parametrize(
    "grid_shape", [(3,), (3, 3, 1), (0, 9), (-3, -3), (3.0, 3.0), (True, 9), "33"]
)
def test_grid_shape_that_is_none(grid_shape):
    with pytest.raises(ValueError, match="grid_shape"):
        TokenExtractor(Tokens(), "out", grid_shape=grid_shape).fit(
            draw_images(2, 12, 12)
        )


def test_grid_shape_of_other_numbers():
    images = draw_images(2, 12, 12)
    with pytest.raises(
        ValueError, match=r"has 8 tokens, but there are 9.*skip_tokens=1"
    ):
        TokenExtractor(Tokens(), "out", grid_shape=(2, 4)).fit(images)
    with pytest.raises(ValueError, match=r"has 10 tokens, but there are 9"):
        TokenExtractor(Tokens(), "out", grid_shape=(2, 5)).fit(images)
    with pytest.raises(ValueError, match=r"needs an output with tokens"):
        TokenExtractor(nn.Flatten(), "", grid_shape=(3, 3)).fit(images)
    grid_shape = np.array([1, 9])
    extractor = TokenExtractor(Tokens(), "out", pool=None, grid_shape=grid_shape)
    assert extractor.fit(images).grid_shape_ == (1, 9)


def test_images_of_another_size_are_read_anew():
    extractor = TokenExtractor(Tokens("tnd", kernel=4, dim=9), "out", pool=None)
    extractor.fit(draw_images(3, 8, 24))
    # As many tokens in another grid.
    with pytest.raises(ValueError, match=r"grid of \(6, 2\) tokens, .* \(2, 6\)"):
        extractor.transform(draw_images(3, 24, 8))


@settings(deadline=None, max_examples=200)
@given(height=st.integers(1, 600), width=st.integers(1, 600), patch=st.integers(1, 64))
def test_grid_of_whole_patches_is_among_them(height, width, patch):
    h, w = height // patch, width // patch
    if h and w:
        grids = square_stride_grids(h * w, (height, width))
        assert (h, w) in grids
        if height == width:
            assert grids == [(h, w)]


@settings(deadline=None, max_examples=200)
@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    kernel=st.integers(1, 40),
    stride=st.integers(1, 40),
    padding=st.integers(0, 20),
)
def test_grid_of_a_convolution_is_among_them(height, width, kernel, stride, padding):
    excess = kernel - 2 * padding
    if 0 <= excess <= min(2 * stride, height, width):
        h, w = ((side - excess) // stride + 1 for side in (height, width))
        if h <= height and w <= width:
            assert (h, w) in square_stride_grids(h * w, (height, width))


def test_grids_by_hand():
    assert square_stride_grids(36, (32, 96)) == [(3, 12)]
    assert square_stride_grids(196, (224, 224)) == [(14, 14)]
    assert square_stride_grids(197, (224, 224)) == []
    assert square_stride_grids(196, (300, 400)) == []
    assert square_stride_grids(7, (28, 28)) == []
