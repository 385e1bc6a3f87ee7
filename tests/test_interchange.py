import copy
import errno
import functools
import io
import json
import os
import pickle
import struct
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path

import interchange_files as other
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, Normalizer, StandardScaler

from skdict import (
    ICFL,
    KSVD,
    SAE,
    ArchetypalSAE,
    BatchTopKSAE,
    Codebook,
    ControlCenterScaler,
    ControlPCAWhitener,
    GatedSAE,
    JumpReLUSAE,
    MatchingPursuitSAE,
    MatryoshkaSAE,
    TopKSAE,
    load,
    save,
)
from skdict._utils.files import write_file
from skdict.interchange import read_dictionary, write_dictionary
from skdict.interchange._pursuit import balance

OF_TRAINING = (
    "history_",
    "n_iter_",
    "n_steps_",
    "n_samples_seen_",
    "feature_names_in_",
)
# Of each class of estimators, the last case that becomes one.
ONE_OF_EACH = list({cls: name for name, cls in other.CASES.items()}.values())


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def dense(codes):
    return codes.toarray()


def check_same(estimator, case, X, rtol=1e-9):
    codes = case.encode(X)
    scale = abs(codes * case.norms).max() + 1e-300
    error = abs(dense(estimator.transform(X)) - codes * case.norms).max()
    assert error <= rtol * scale
    X_hat = case.decode(codes)
    rebuilt = estimator.inverse_transform(codes * case.norms)
    assert abs(rebuilt - X_hat).max() <= rtol * abs(X_hat).max()


# Reading


@pytest.mark.parametrize("name", other.CASES)
def test_codes_and_reconstructions_are_those_of_the_library(name, rng, tmp_path):
    case = other.make_case(name, rng)
    estimator = read_dictionary(case.write(tmp_path), **case.options)
    assert type(estimator).__name__ == other.CASES[name]
    X = 2 * rng.normal(size=(40, 5)) + 1
    assert (case.encode(X) != 0).any(1).all()
    check_same(estimator, case, X)
    assert estimator.n_features_in_ == 5
    for attribute in (*OF_TRAINING, "feature_density_", "dead_features_"):
        assert not hasattr(estimator, attribute), attribute
    np.testing.assert_allclose(np.linalg.norm(estimator.components_, axis=1), 1)


@pytest.mark.parametrize("name", other.CASES)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(6, 20), d=st.integers(1, 8))
def test_any_shape(name, seed, n, d):
    rng = np.random.default_rng(seed)
    case = other.make_case(name, rng, n=n, d=d, k=int(rng.integers(1, min(n, d) + 1)))
    with tempfile.TemporaryDirectory() as folder:
        estimator = read_dictionary(case.write(Path(folder)), **case.options)
    check_same(estimator, case, 3 * rng.normal(size=(7, d)), rtol=1e-8)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_an_imported_dictionary_is_at_home(name, rng, tmp_path):
    case = other.make_case(name, rng)
    estimator = read_dictionary(case.write(tmp_path), **case.options)
    X = 2 * rng.normal(size=(60, 5))
    codes = estimator.transform(X)
    assert np.isfinite(estimator.score(X))
    save(estimator, tmp_path / "file.skops")
    assert (load(tmp_path / "file.skops").transform(X) != codes).nnz == 0
    pipe = make_pipeline(StandardScaler(), FrozenEstimator(estimator)).fit(X)
    assert pipe.transform(X).shape == (60, 12)
    with pytest.raises(NotFittedError):
        clone(estimator).transform(X)
    with pytest.raises(ValueError, match="5 features"):
        estimator.transform(X[:, :3])


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_learning_goes_on(name, rng, tmp_path):
    case = other.make_case(name, rng)
    place = case.write(tmp_path)
    read = read_dictionary(place, **case.options)
    X = 2 * rng.normal(size=(300, 5))
    read.set_params(random_state=0, batch_size=50)
    before = read.components_.copy()
    read.partial_fit(X)
    assert read.n_samples_seen_ == 300
    assert len(read.history_) == 1
    assert 0 < abs(read.components_ - before).max() < 0.7
    read.partial_fit(X)
    assert read.n_samples_seen_ == 600
    assert [record["epoch"] for record in read.history_] == [1, 2]
    save(read, tmp_path / "file.skops")

    warm = read_dictionary(place, **case.options)
    warm.set_params(warm_start=True, max_iter=2, tol=None, random_state=0)
    score = warm.score(X)
    warm.fit(X)
    assert warm.score(X) > score - 0.05
    assert warm.n_iter_ == 2


def test_partial_fit_after_reading_starts_where_the_file_ends(rng, tmp_path):
    case = other.make_case("saelens-standard", rng)
    estimator = read_dictionary(case.write(tmp_path))
    X = 2 * rng.normal(size=(300, 5))
    before = dense(estimator.transform(X))
    estimator.set_params(learning_rate=1e-12).partial_fit(X)
    assert abs(dense(estimator.transform(X)) - before).max() <= 1e-6 * before.max()


def test_rows_without_spread_go_on_from_an_imported_dictionary(rng, tmp_path):
    case = other.make_case("saelens-topk", rng)
    estimator = read_dictionary(case.write(tmp_path))
    estimator.partial_fit(np.ones((20, 5)))
    assert np.isfinite(estimator.components_).all()


@pytest.mark.parametrize("norms", [None, "equal"])
@pytest.mark.parametrize("name", ["dictionary_learning-BatchTopKSAE", "saev-BatchTopK"])
def test_one_threshold_stays_one_where_norms_are_equal(
    name, norms, rng, tmp_path, monkeypatch
):
    monkeypatch.setattr(other, "NEED_UNIT_ATOMS", {name})
    case = other.make_case(name, rng)
    if norms == "equal":
        library, kind = name.split("-")
        case = other._MAKERS[library](kind, rng, 12, 5, 3, np.full(12, 0.1))
    estimator = read_dictionary(case.write(tmp_path))
    assert type(estimator) is BatchTopKSAE
    assert estimator.k == 3
    assert estimator.threshold_ == pytest.approx(0.4 * case.norms[0])
    check_same(estimator, case, rng.normal(size=(30, 5)))


def test_prefixes_of_a_matryoshka(rng, tmp_path):
    case = other.make_case("dictionary_learning-MatryoshkaBatchTopKSAE", rng)
    estimator = read_dictionary(case.write(tmp_path))
    assert estimator.prefixes == [2, 5]
    X = rng.normal(size=(30, 5))
    short = estimator.prefix(5)
    np.testing.assert_allclose(dense(short.transform(X)), case.encode(X)[:, :5])
    save(short, tmp_path / "short.skops")


def test_a_threshold_that_was_never_learned_lets_relu_decide(rng, tmp_path):
    case = other.make_case("dictionary_learning-BatchTopKSAE", rng)
    folder = case.write(tmp_path)
    tensors = torch.load(folder / "ae.pt", weights_only=True)
    tensors["threshold"] = torch.tensor(-1.0)
    torch.save(tensors, folder / "ae.pt")
    with pytest.warns(UserWarning, match="never learned"):
        estimator = read_dictionary(folder)
    assert (estimator.threshold_ == 0).all()


def test_densities_come_from_the_file_that_tells_them(rng, tmp_path):
    case = other.make_case("saelens-standard", rng)
    density = np.array([0, 1e-6, 3e-5, 1e-3, 0.1, 0.5, 1, 0, 0.2, 0.3, 0.4, 0.9])
    logarithms = np.log10(density + 1e-10).astype(np.float32)
    case.write(tmp_path)
    path = tmp_path / "sparsity.safetensors"
    path.write_bytes(other.safetensors({"sparsity": logarithms}))
    estimator = read_dictionary(tmp_path)
    np.testing.assert_allclose(estimator.feature_density_, density, atol=2e-7)
    assert estimator.dead_features_.tolist() == (density < 1e-5).tolist()
    assert estimator.feature_density_[0] == 0
    assert not hasattr(estimator, "history_")
    save(estimator, tmp_path / "file.skops")
    assert (load(tmp_path / "file.skops").dead_features_).sum() == 3
    path.write_bytes(other.safetensors({"sparsity": logarithms[:-1]}))
    with pytest.raises(ValueError, match="density has the shape"):
        read_dictionary(tmp_path)
    for bad in (np.nan, 0.5):
        logarithms[3] = bad
        path.write_bytes(other.safetensors({"sparsity": logarithms}))
        with pytest.raises(ValueError, match="beyond 1"):
            read_dictionary(tmp_path)


def half(array, dtype):
    """An array in half precision, as it is in a file, and its values."""
    if dtype == "F16":
        stored = array.astype(np.float16)
        return ("F16", stored), stored.astype(np.float64)
    stored = (array.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    values = (stored.astype(np.uint32) << 16).view(np.float32)
    return ("BF16", stored), values.astype(np.float64)


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_half_precision_becomes_float32(dtype, rng, tmp_path):
    encoder, bias, atoms, b_dec = other.random_arrays(rng, 12, 5)
    (encoder_, encoder), (bias_, bias) = half(encoder, dtype), half(bias, dtype)
    (atoms_, atoms), (b_dec_, b_dec) = half(atoms, dtype), half(b_dec, dtype)
    tensors = {
        "encoder.weight": encoder_,
        "encoder.bias": bias_,
        "W_dec": atoms_,
        "b_dec": b_dec_,
    }
    files = {
        "sae.safetensors": other.safetensors(tensors, {"format": "pt"}),
        "cfg.json": {"activation": "topk", "k": 3, "d_in": 5},
    }
    estimator = read_dictionary(other.write_folder(tmp_path, files))
    assert estimator.components_.dtype == np.float32
    np.testing.assert_array_equal(estimator.components_, atoms)
    X = rng.normal(size=(40, 5))
    codes = other.largest(other.relu((X - b_dec) @ encoder.T + bias), 3)
    np.testing.assert_allclose(dense(estimator.transform(X)), codes, atol=1e-6)


def test_half_precision_of_torch(rng, tmp_path):
    case = other.make_case("saev-Relu", rng)
    header, _, body = (
        (case.write(tmp_path) / "checkpoint/sae.pt").read_bytes().partition(b"\n")
    )
    tensors = torch.load(io.BytesIO(body), weights_only=True)
    buffer = io.BytesIO()
    torch.save({n: t.bfloat16() for n, t in tensors.items()}, buffer)
    (tmp_path / "sae.pt").write_bytes(header + b"\n" + buffer.getvalue())
    estimator = read_dictionary(tmp_path)
    assert estimator.components_.dtype == np.float32
    X = rng.normal(size=(40, 5))
    np.testing.assert_allclose(
        dense(estimator.transform(X)), case.encode(X) * case.norms, atol=0.1
    )


@pytest.mark.parametrize(
    ("name", "below", "format"),
    [
        ("saelens-topk", "sae_weights.safetensors", "saelens"),
        ("saelens-topk", "cfg.json", "saelens"),
        ("sparsify-topk", "sae.safetensors", "sparsify"),
        ("sparsify-topk", "cfg.json", "sparsify"),
        ("dictionary_learning-AutoEncoder", "ae.pt", "dictionary_learning"),
        ("saev-Relu", "checkpoint/sae.pt", "saev"),
        ("saev-Relu", "checkpoint", "saev"),
    ],
)
def test_the_file_may_be_named_instead_of_the_folder(
    name, below, format, rng, tmp_path
):
    case = other.make_case(name, rng)
    folder = case.write(tmp_path)
    X = rng.normal(size=(20, 5))
    for how in ("auto", format):
        for path in (folder / below, str(folder)):
            check_same(read_dictionary(path, how), case, X)


def test_a_checkpoint_finds_its_settings_above(rng, tmp_path):
    case = other.make_case("dictionary_learning-AutoEncoderTopK", rng)
    folder = case.write(tmp_path)
    (folder / "checkpoints").mkdir()
    path = folder / "checkpoints" / "ae_100.pt"
    (folder / "ae.pt").rename(path)
    check_same(read_dictionary(path), case, rng.normal(size=(20, 5)))
    (folder / "config.json").unlink()
    with pytest.raises(ValueError, match=r"no config.json beside"):
        read_dictionary(path)


def test_links_are_followed(rng, tmp_path):
    """Caches of hubs hold links to their files."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    case = other.make_case("saelens-standard", rng)
    for path in case.write(tmp_path / "blobs").iterdir():
        (tmp_path / "snapshot" / path.name).symlink_to(path)
    check_same(read_dictionary(tmp_path / "snapshot"), case, rng.normal(size=(9, 5)))


# Settings of SAELens before version 6


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("saelens-standard", {"activation_fn_str": "relu", "architecture": "standard"}),
        ("saelens-standard", {"activation_fn": "relu", "normalize_activations": False}),
        ("saelens-standard", {"sae_lens_version": "5.10.2"}),
        (
            "saelens-topk",
            {
                "architecture": "standard",
                "activation_fn_str": "topk",
                "activation_fn_kwargs": {"k": 3},
            },
        ),
        ("saelens-jumprelu", {"activation_fn_str": "relu"}),
    ],
)
def test_settings_of_earlier_versions(name, changes, rng, tmp_path):
    case = other.make_case(name, rng)
    path = case.write(tmp_path) / "cfg.json"
    config = json.loads(path.read_text())
    for key in ("metadata", "k", "rescale_acts_by_decoder_norm"):
        config.pop(key, None)
    path.write_text(json.dumps({**config, **changes}))
    check_same(read_dictionary(tmp_path), case, rng.normal(size=(20, 5)))


def test_a_scaling_factor_of_one_is_none(rng, tmp_path):
    case = other.make_case("saelens-standard", rng)
    path = case.write(tmp_path) / "sae_weights.safetensors"
    tensors = other.read_safetensors(path)
    path.write_bytes(other.safetensors({**tensors, "scaling_factor": np.ones(12)}))
    check_same(read_dictionary(tmp_path), case, rng.normal(size=(20, 5)))
    path.write_bytes(other.safetensors({**tensors, "scaling_factor": np.full(12, 2.0)}))
    with pytest.raises(ValueError, match="scaling_factor has no place"):
        read_dictionary(tmp_path)


# What is refused


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("saelens-standard", {"architecture": "temporal"}, "'temporal' is not read"),
        ("saelens-standard", {"architecture": "transcoder"}, "'transcoder' is not"),
        ("saelens-standard", {"architecture": ["topk"]}, "is not read"),
        ("saelens-standard", {"architecture": None}, "is not read"),
        ("saelens-standard", {"normalize_activations": "layer_norm"}, "every row"),
        (
            "saelens-standard",
            {"normalize_activations": "expected_average_only_in"},
            "fold_activation_norm_scaling_factor",
        ),
        (
            "saelens-standard",
            {"normalize_activations": "covariance_whitening"},
            "fold_activation_whitening",
        ),
        ("saelens-standard", {"normalize_activations": "new"}, "'new', which no"),
        ("saelens-standard", {"reshape_activations": "hook_q"}, "'hook_q', which no"),
        ("saelens-standard", {"apply_b_dec_to_input": "yes"}, "'yes', which no"),
        ("saelens-standard", {"finetuning_scaling_factor": True}, "which no"),
        (
            "saelens-standard",
            {"metadata": {}, "activation_fn_str": "tanh-relu"},
            "'tanh-relu' is not known",
        ),
        (
            "saelens-standard",
            {"metadata": None, "normalize_activations": True},
            "fold_activation_norm",
        ),
        ("saelens-topk", {"k": 0}, "k is 0, no number of latents"),
        ("saelens-topk", {"k": "3"}, "k is '3', no number"),
        ("saelens-topk", {"k": 13}, "k is 13, but there are 12 latents"),
        ("saelens-topk", {"k": True}, "no number"),
        ("saelens-topk", {"rescale_acts_by_decoder_norm": 2}, "which no"),
        ("saelens-matching_pursuit", {"residual_threshold": 0.01}, "always makes k"),
        ("saelens-matching_pursuit", {"residual_threshold": "0"}, "always makes k"),
        ("saelens-matching_pursuit", {"stop_on_duplicate_support": True}, "always"),
        ("saelens-matching_pursuit", {"max_iterations": 0}, "no number of latents"),
        ("saelens-matching_pursuit", {"max_iterations": 99}, "but there are 12"),
        ("sparsify-topk", {"activation": "groupmax"}, "'groupmax', which no"),
        ("sparsify-topk", {"signed": True}, "signed is True"),
        ("sparsify-topk", {"transcode": True}, "transcoder"),
        ("sparsify-topk", {"skip_connection": True}, "skip connection"),
        ("sparsify-topk", {"k": None}, "k is None"),
    ],
)
def test_settings_that_are_not_computed_are_refused(
    name, changes, message, rng, tmp_path
):
    path = other.make_case(name, rng).write(tmp_path) / "cfg.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(ValueError, match=message):
        read_dictionary(tmp_path)


@pytest.mark.parametrize(
    "name", ["saelens-topk", "sparsify-topk", "dictionary_learning-AutoEncoderTopK"]
)
def test_a_topk_with_atoms_of_other_norms_is_refused(name, rng, tmp_path, monkeypatch):
    monkeypatch.setattr(other, "NEED_UNIT_ATOMS", set())
    with pytest.raises(ValueError, match=r"norms from 0\.\d+ to [12]\.\d+"):
        read_dictionary(other.make_case(name, rng).write(tmp_path))


@pytest.mark.parametrize("norm", [1e-3, 1.0, 2.5])
def test_a_topk_with_atoms_of_equal_norms_is_read(norm, rng, tmp_path):
    case = other._sparsify("topk", rng, 12, 5, 3, np.full(12, norm))
    check_same(read_dictionary(case.write(tmp_path)), case, rng.normal(size=(30, 5)))


def test_a_zero_atom_keeps_its_codes(rng, tmp_path):
    norms = np.ones(12)
    norms[4] = 0.0
    for i, scale in enumerate((1.0, 2.0)):
        case = other._saelens("standard", rng, 12, 5, 3, scale * norms)
        case.norms[4] = 1.0
        folder = tmp_path / str(i)
        folder.mkdir()
        check_same(read_dictionary(case.write(folder)), case, rng.normal(size=(9, 5)))
    with pytest.raises(ValueError, match="Atom 4 is zero"):
        read_dictionary(
            other._saelens("topk+rescaled", rng, 12, 5, 3, norms).write(tmp_path)
        )


def test_a_pursuit_that_may_differ_is_refused(rng, tmp_path):
    case = other.make_case("saelens-matching_pursuit", rng)
    path = case.write(tmp_path) / "sae_weights.safetensors"
    tensors = dict(other.read_safetensors(path))
    tensors["W_dec"] = abs(tensors["W_dec"])  # all in one orthant
    path.write_bytes(other.safetensors(tensors))
    with pytest.raises(ValueError, match="SAELens takes none"):
        read_dictionary(tmp_path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"schema": 1, "cfg": {}}, "several versions"),
        ({"schema": "5"}, "schema '5' is not known"),
        ({"schema": 6}, "schema 6 is not known"),
        ({"schema": True}, "schema True is not known"),
        ({"schema": 5}, "None has no estimator"),
        ({"schema": 5, "cfg": {"activation": {"cls": "TopK"}}}, "are negative"),
        ({"schema": 2, "cfg": {"activation": {"cls": "BatchTopK"}}}, "are negative"),
        ({"schema": 5, "cfg": {"activation": {"cls": "Exp"}}}, "'Exp' has no"),
        ({"schema": 5, "cfg": {"activation": ["Relu"]}}, "None has no"),
    ],
)
def test_headers_of_saev_that_are_refused(header, message, rng, tmp_path):
    path = other.make_case("saev-Relu", rng).write(tmp_path) / "checkpoint/sae.pt"
    _, _, body = path.read_bytes().partition(b"\n")
    path.write_bytes(json.dumps(header).encode() + b"\n" + body)
    with pytest.raises(ValueError, match=message):
        read_dictionary(tmp_path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "None has no estimator"),
        ({"trainer": []}, "None has no estimator"),
        ({"trainer": {"dict_class": "IdentityDict"}}, "'IdentityDict' has no"),
        ({"trainer": {"dict_class": {}}}, "has no estimator"),
        ({"trainer": {"dict_class": "GatedAutoEncoder"}}, "decoder_bias is missing"),
        ({"trainer": {"dict_class": "AutoEncoder"}}, "bias is missing"),
        ({"trainer": {"dict_class": "MatryoshkaBatchTopKSAE"}}, "group_sizes"),
    ],
)
def test_settings_of_dictionary_learning_that_are_refused(
    config, message, rng, tmp_path
):
    case = other.make_case("dictionary_learning-AutoEncoderTopK", rng)
    folder = case.write(tmp_path)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        read_dictionary(folder)


def test_trainers_that_name_the_class_they_do_not_save(rng, tmp_path):
    """Those of the April update name AutoEncoder, and save AutoEncoderNew."""
    case = other.make_case("dictionary_learning-AutoEncoderNew", rng)
    folder = case.write(tmp_path)
    config = {"trainer": {"dict_class": "AutoEncoder"}}
    (folder / "config.json").write_text(json.dumps(config))
    check_same(read_dictionary(folder), case, rng.normal(size=(20, 5)))


@pytest.mark.parametrize("sizes", [[2, 3], [2, 3, 8], [12, 0], [-1, 13], [[12]]])
def test_group_sizes_are_checked(sizes, rng, tmp_path):
    case = other.make_case("dictionary_learning-MatryoshkaBatchTopKSAE", rng)
    path = case.write(tmp_path) / "ae.pt"
    tensors = torch.load(path, weights_only=True)
    torch.save({**tensors, "group_sizes": torch.tensor(sizes)}, path)
    with pytest.raises(ValueError, match="group_sizes"):
        read_dictionary(path)


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (None, "does not tell the class"),
        (BatchTopKSAE(k=3), "threshold of a BatchTopKSAE is not in the file"),
        (TopKSAE(), "k is None"),
        (TopKSAE(k=3, selection="absolute"), "does not tell the class"),
        (MatchingPursuitSAE(k=3), "does not tell the class"),
    ],
)
def test_overcomplete_does_not_tell_its_class(estimator, message, rng, tmp_path):
    path = other.make_case("overcomplete-TopKSAE", rng).write(tmp_path)
    with pytest.raises(ValueError, match=message):
        read_dictionary(path, estimator=estimator)


def test_the_estimator_is_for_overcomplete_only(rng, tmp_path):
    with pytest.raises(ValueError, match="one of sparsify, which tells its class"):
        read_dictionary(
            other.make_case("sparsify-topk", rng).write(tmp_path), estimator=SAE()
        )
    path = other.make_case("overcomplete-JumpSAE", rng).write(tmp_path)
    with pytest.raises(ValueError, match="it is a JumpSAE"):
        read_dictionary(path, estimator=SAE())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("encoder.final_block.0.bias"), "bias is missing"),
        (lambda t: t.update({"encoder.final_block.1.weight": 1}), "has no place"),
        (lambda t: t.update({"dictionary._weights": 2 * np.eye(12, 5)}), "not norm 1"),
        (lambda t: t.update({"dictionary.C": np.eye(5)}), "neither _weights nor"),
        (lambda t: t.update({"dictionary._weights": np.eye(12)[0]}), "else than matr"),
        (lambda t: t.update({"dictionary.multiplier": np.ones(2)}), "is no number"),
        (lambda t: t.update({"dictionary.multiplier": np.array(1e9)}), "NaN or inf"),
    ],
)
def test_state_dicts_of_overcomplete_that_are_refused(change, message, rng, tmp_path):
    path = other.make_case("overcomplete-SAE", rng).write(tmp_path)
    tensors = {n: t.numpy() for n, t in torch.load(path, weights_only=True).items()}
    change(tensors)
    torch.save(other.as_tensors(tensors), path)
    with pytest.raises(ValueError, match=message):
        read_dictionary(path, estimator=SAE())


@pytest.mark.parametrize("part", ["W", "C", "Relax"])
def test_archetypes_that_are_no_mixtures_are_refused(part, rng, tmp_path):
    path = other.make_case("overcomplete-RA-SAE", rng).write(tmp_path)
    tensors = torch.load(path, weights_only=True)
    name = f"dictionary.{part}"
    tensors[name] = 2 * tensors[name] if part == "W" else tensors[name][:-1]
    torch.save(tensors, path)
    with pytest.raises(ValueError, match=r"weights that add up|do not fit together"):
        read_dictionary(path, estimator=SAE())


def test_unknown_formats(tmp_path):
    with pytest.raises(ValueError, match="no file in which a known library"):
        read_dictionary(tmp_path)
    with pytest.raises(ValueError, match="format='h5' is not known"):
        read_dictionary(tmp_path, format="h5")
    with pytest.raises(ValueError, match="format='saev' cannot be written"):
        write_dictionary(SAE(), tmp_path, format="saev")
    with pytest.raises(FileNotFoundError):
        read_dictionary(tmp_path / "missing")
    with pytest.raises(FileNotFoundError):
        read_dictionary(tmp_path, format="saelens")


@pytest.mark.parametrize("name", ["saelens-jumprelu", "saelens-gated", "saev-Relu"])
def test_arrays_are_checked(name, rng, tmp_path):
    case = other.make_case(name, rng)
    folder = case.write(tmp_path)
    path = folder / "sae_weights.safetensors"
    if not path.exists():
        path = folder / "checkpoint/sae.pt"
        header, _, body = path.read_bytes().partition(b"\n")
        loaded = torch.load(io.BytesIO(body), weights_only=True)
        tensors = {n: t.numpy() for n, t in loaded.items()}
    else:
        tensors = other.read_safetensors(path)

    def write(changed):
        if path.suffix == ".pt":
            with open(path, "wb") as file:
                file.write(header + b"\n")
                torch.save(other.as_tensors(changed), file)
        else:
            path.write_bytes(other.safetensors(changed))

    for tensor, array in tensors.items():
        rest = {n: a for n, a in tensors.items() if n != tensor}
        write(rest)
        with pytest.raises(ValueError, match="is missing"):
            read_dictionary(folder)
        for bad in (array[:-1], array[None], array.T[:-1].T, array[:0]):
            write({**rest, tensor: bad})
            with pytest.raises(ValueError, match=r"the shape|The atoms"):
                read_dictionary(folder)
        for number in (np.nan, np.inf):
            bad = array.copy()
            bad.flat[-1] = number
            write({**rest, tensor: bad})
            with pytest.raises(ValueError, match="NaN or infinity"):
                read_dictionary(folder)
        write({**rest, tensor: array.astype(np.int32)})
        with pytest.raises(ValueError, match="no floats"):
            read_dictionary(folder)
    write({**tensors, "W_skip": np.eye(5)})
    with pytest.raises(ValueError, match="W_skip has no place"):
        read_dictionary(folder)


# Hostile files


def header_with(**entry):
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **entry}
    return {"W_dec": entry}


@pytest.mark.parametrize(
    ("header", "body", "message"),
    [
        (header_with(shape=[2**40, 2**40]), 8, "do not hold"),
        (header_with(shape=[2**62, 4]), 8, "do not hold"),
        (header_with(shape=[10**30]), 8, "has the shape"),
        (header_with(shape=[-2, -1]), 8, "has the shape"),
        (header_with(shape=[1] * 9), 4, "has the shape"),
        (header_with(shape=[2.0]), 8, "has the shape"),
        (header_with(shape=[True, 2]), 8, "has the shape"),
        (header_with(shape=2), 8, "has the shape"),
        (header_with(shape="2"), 8, "has the shape"),
        (header_with(dtype="F8_E4M3"), 8, "has the dtype 'F8_E4M3'"),
        (header_with(dtype="O"), 8, "has the dtype"),
        (header_with(dtype=["F32"]), 8, "has the dtype"),
        (header_with(data_offsets=[8, 0]), 8, "do not hold"),
        (header_with(data_offsets=[0, 2**70]), 8, "lies at"),
        (header_with(data_offsets=[0, 8, 16]), 8, "lies at"),
        (header_with(data_offsets=[-8, 0]), 8, "lies at"),
        (header_with(data_offsets=[4, 12]), 12, "leave gaps"),
        (header_with(), 12, "describes 8"),
        (header_with(), 4, "describes 8"),
        (header_with(extra=1), 8, "does not describe"),
        ({"W_dec": [1]}, 8, "does not describe"),
        ({"a": header_with()["W_dec"], "b": header_with()["W_dec"]}, 8, "overlap"),
        ([1], 8, "no JSON object"),
        ({}, 8, "describes 0"),
        ({}, 0, "W_dec is missing"),
    ],
)
def test_headers_that_lie(header, body, message, rng, tmp_path):
    other.make_case("saelens-standard", rng).write(tmp_path)
    text = json.dumps(header).encode()
    data = struct.pack("<Q", len(text)) + text + bytes(body)
    (tmp_path / "sae_weights.safetensors").write_bytes(data)
    with pytest.raises(ValueError, match=message):
        read_dictionary(tmp_path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cut short"),
        (b"\x01\x02", "cut short"),
        (struct.pack("<Q", 2**63), "cut short"),
        (struct.pack("<Q", 100) + b"{}", "cut short"),
        (struct.pack("<Q", 2**21) + bytes(2**21), "has a header of 2097152"),
        (struct.pack("<Q", 2) + b"\xff\xff", "no JSON"),
        (struct.pack("<Q", 17) + b'{"a": 1, "a": 2} ', "a key is there twice"),
        (struct.pack("<Q", 200000) + b"[" * 200000, "no JSON"),
        (struct.pack("<Q", 20005) + b'{"a":' + b"9" * 20000, "no JSON"),
    ],
)
def test_files_that_are_no_safetensors(data, message, rng, tmp_path):
    other.make_case("saelens-standard", rng).write(tmp_path)
    (tmp_path / "sae_weights.safetensors").write_bytes(data)
    with pytest.raises(ValueError, match=message):
        read_dictionary(tmp_path)


def test_large_and_broken_settings(rng, tmp_path):
    other.make_case("saelens-standard", rng).write(tmp_path)
    for text in (b" " * (2**20 + 1), b"[]", b"{", b"\xff", b'{"k": 1, "k": 2}'):
        (tmp_path / "cfg.json").write_bytes(text)
        with pytest.raises(ValueError, match="JSON"):
            read_dictionary(tmp_path)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_damaged_safetensors_give_an_estimator_or_a_value_error(data):
    with tempfile.TemporaryDirectory() as name:
        folder = other.make_case("saelens-jumprelu", np.random.default_rng(0)).write(
            Path(name)
        )
        path = folder / data.draw(
            st.sampled_from(["sae_weights.safetensors", "cfg.json"])
        )
        path.write_bytes(damaged(path.read_bytes(), data))
        try:
            estimator = read_dictionary(folder)
        except ValueError:
            return
        check_usable(estimator)


@settings(max_examples=100, deadline=None)
@given(data=st.data(), name=st.sampled_from(["saev-BatchTopK", "overcomplete-JumpSAE"]))
def test_damaged_files_of_torch_give_an_estimator_or_a_value_error(data, name):
    with tempfile.TemporaryDirectory() as folder:
        case = other.make_case(name, np.random.default_rng(0))
        place = case.write(Path(folder))
        path = place / "checkpoint/sae.pt" if place.is_dir() else place
        path.write_bytes(damaged(path.read_bytes(), data))
        try:
            estimator = read_dictionary(path, format=name.split("-")[0])
        except ValueError:
            return
        check_usable(estimator)


def damaged(content, data):
    """Some bytes changed, or the end cut off."""
    content = bytearray(content)
    if data.draw(st.booleans()):
        return bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(content) - 1))
        content[position] = data.draw(st.integers(0, 255))
    return bytes(content)


def check_usable(estimator):
    X = np.random.default_rng(1).normal(size=(4, estimator.n_features_in_))
    with suppress(ValueError):  # numbers that overflow
        estimator.inverse_transform(estimator.transform(X))


class Harmful:
    def __reduce__(self):
        return (os.system, ("touch harmed",))


@pytest.mark.parametrize(
    "name", ["overcomplete-SAE", "dictionary_learning-AutoEncoder"]
)
def test_a_pickle_is_refused_with_what_to_do(name, rng, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = other.make_case(name, rng).write(tmp_path)
    path = path / "ae.pt" if path.is_dir() else path
    whole = torch.nn.Linear(2, 3)
    for value in (whole, Harmful(), {"W_dec": Harmful()}):
        torch.save(value, path)
        with pytest.raises(ValueError, match=r"torch\.save\(model\.state_dict\(\)"):
            read_dictionary(path, estimator=None)
    path.write_bytes(pickle.dumps({"W_dec": np.eye(3)}))
    with pytest.raises(ValueError, match=r"torch\.save\(model\.state_dict\(\)"):
        read_dictionary(path)
    for content in (b"", b"PK", b"hello"):
        path.write_bytes(content)
        with pytest.raises(
            ValueError, match=r"It is no file that torch\.save writes\."
        ):
            read_dictionary(path)
    torch.save({"W_dec": torch.eye(3)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match=r"no file that torch\.save writes today"):
        read_dictionary(path)
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([torch.eye(3)], "tensors by name"),
        ({3: torch.eye(3)}, "tensors by name"),
        ({"W_dec": 3}, "tensors by name"),
        ({"W_dec": torch.ones(1).expand(2**40)}, "repeats its numbers"),
        ({"W_dec": torch.ones(3).to_sparse()}, "more than dense tensors"),
        ({"W_dec": torch.ones(3, dtype=torch.complex64)}, "has the dtype"),
        ({"W_dec": torch.ones(3, dtype=torch.bool)}, "has the dtype"),
        ({"W_dec": torch.empty(2**40, device="meta")}, "more than dense tensors"),
    ],
)
def test_state_dicts_that_are_none(value, message, rng, tmp_path):
    folder = other.make_case("dictionary_learning-AutoEncoder", rng).write(tmp_path)
    torch.save(value, folder / "ae.pt")
    with pytest.raises(ValueError, match=message):
        read_dictionary(folder)


def rewritten(path, change, compression=zipfile.ZIP_STORED):
    """Write the members of a zip file anew."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, change(name, content))


def test_archives_that_lie(rng, tmp_path):
    folder = other.make_case("dictionary_learning-AutoEncoder", rng).write(tmp_path)
    path = folder / "ae.pt"
    torch.save({"W_dec": torch.arange(4.0)}, path)
    whole = path.read_bytes()

    def larger(name, content):
        # The storage and the tensor claim 255 numbers instead of 4.
        return content.replace(b"K\x04", b"K\xff") if "pkl" in name else content

    rewritten(path, larger)
    with pytest.raises(ValueError, match=r"cannot be read|larger than the file"):
        read_dictionary(folder)
    path.write_bytes(whole)
    rewritten(path, lambda _, content: content, zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="it is compressed"):
        read_dictionary(folder)
    path.write_bytes(whole)
    rewritten(path, lambda n, c: b"big" if n.endswith("byteorder") else c)
    with pytest.raises(ValueError, match="its numbers are big-endian"):
        read_dictionary(folder)
    path.write_bytes(whole)
    rewritten(path, lambda n, c: c + bytes(2**20) if n.endswith("pkl") else c)
    with pytest.raises(ValueError, match="describes too many"):
        read_dictionary(folder)


@pytest.mark.parametrize("member", ["a/data.pkl", "a/DATA.PKL"])
@pytest.mark.parametrize(
    "call",
    [
        b"cbuiltins\nbytearray\n(I4\ntR",
        b"c__builtin__\nbytearray\n(I4\ntR",
        b"ctorch\nFloatTensor\n(I4\ntR",
        b"ccollections\nCounter\n(tR",
        b"(I4\nibuiltins\nbytearray\n",
    ],
)
def test_a_state_dict_calls_nothing_that_makes_memory(call, member, rng, tmp_path):
    """weights_only=True does: bytearray(10**12) would fill the memory."""
    folder = other.make_case("dictionary_learning-AutoEncoder", rng).write(tmp_path)
    with zipfile.ZipFile(folder / "ae.pt", "w") as archive:
        archive.writestr(member, b"\x80\x02}X\x04\x00\x00\x00bias" + call + b"s.")
        archive.writestr("a/version", b"3\n")
    with pytest.raises(ValueError, match="holds more than dense tensors"):
        read_dictionary(folder)


def test_messages_can_be_printed_whatever_the_names(rng, tmp_path):
    path = other.make_case("saelens-standard", rng).write(tmp_path) / (
        "sae_weights.safetensors"
    )
    tensors = other.read_safetensors(path)
    path.write_bytes(other.safetensors({**tensors, "\ud800\n" * 99: np.ones(2)}))
    with pytest.raises(ValueError, match="has no place") as error:
        read_dictionary(tmp_path)
    assert str(error.value).encode().count(b"\n") == 0
    many = {f"{i}\ud800": np.ones(1) for i in range(1000)}
    path.write_bytes(other.safetensors(many))
    with pytest.raises(ValueError, match="W_dec is missing") as error:
        read_dictionary(tmp_path)
    assert len(str(error.value).encode()) < 1000


def test_a_gain_beyond_all_numbers_is_refused(rng, tmp_path):
    path = other.make_case("saelens-gated", rng).write(tmp_path) / (
        "sae_weights.safetensors"
    )
    tensors = dict(other.read_safetensors(path))
    tensors["r_mag"] = tensors["r_mag"] + 800
    path.write_bytes(other.safetensors(tensors))
    with pytest.raises(ValueError, match="log gain is as large as 80"):
        read_dictionary(tmp_path)


@pytest.mark.parametrize("change", [{"d_in": 6}, {"d_sae": 5}, {"d_sae": None}])
def test_settings_of_other_weights_are_refused(change, rng, tmp_path):
    path = other.make_case("saelens-standard", rng).write(tmp_path) / "cfg.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match="belongs to other weights"):
        read_dictionary(tmp_path)


def test_one_cfg_beside_the_weights_of_two_formats(rng, tmp_path):
    other.make_case("saelens-standard", rng).write(tmp_path)
    case = other.make_case("sparsify-topk", rng)
    case.write(tmp_path)
    with pytest.raises(ValueError, match="say by format"):
        read_dictionary(tmp_path)
    with pytest.raises(ValueError, match="belongs to other weights"):
        read_dictionary(tmp_path, format="saelens")
    read = read_dictionary(tmp_path, format="sparsify")
    check_same(read, case, rng.normal(size=(9, 5)))


@pytest.mark.parametrize("name", ["saelens-standard", "saev-Relu"])
def test_only_regular_files_are_read(name, rng, tmp_path):
    folder = other.make_case(name, rng).write(tmp_path)
    path = next(p for p in folder.rglob("*") if p.suffix in (".safetensors", ".pt"))
    path.unlink()
    path.mkdir()
    with pytest.raises(ValueError, match="no regular file"):
        read_dictionary(folder)
    path.rmdir()
    os.mkfifo(path)
    for where in (folder, path):
        with pytest.raises(ValueError, match="no regular file"):
            read_dictionary(where)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(ValueError, match="no regular file"):
        read_dictionary(folder)


# Writing

ESTIMATORS = {
    "standard": SAE(16, 4),
    "topk": TopKSAE(16, 3),
    "topk-archetypal": ArchetypalSAE(16, 3, n_archetypes=10),
    "abstopk": TopKSAE(16, 3, selection="absolute"),
    "jumprelu": JumpReLUSAE(16, 4),
    "jumprelu-batch": BatchTopKSAE(16, 3),
    "jumprelu-matryoshka": MatryoshkaSAE(16, 3),
    "gated": GatedSAE(16, 4),
    "matching_pursuit": MatchingPursuitSAE(16, 3),
    "matching_pursuit-icfl": ICFL(16, 3, atoms_per_step=1),
}
STEPS = {
    "none": [],
    "whitener": [ControlPCAWhitener()],
    "whitener-few": [ControlPCAWhitener(n_components=3)],
    "whitener-zca": [ControlPCAWhitener(n_components=3, method="zca")],
    "whitener-shrunk": [ControlPCAWhitener(shrinkage=0.3)],
    "scaler": [StandardScaler()],
    "scaler-mean": [StandardScaler(with_std=False)],
    "scaler-std": [StandardScaler(with_mean=False)],
    "pca": [PCA(3)],
    "pca-white": [PCA(whiten=True)],
    "chain": [StandardScaler(), PCA(4), ControlPCAWhitener(), "passthrough"],
    "nested": [make_pipeline(StandardScaler(), PCA(4))],
}
KEEP_ANGLES = {"none", "scaler-mean", "pca"}


def rows(rng, n=400):
    mixing = rng.normal(size=(5, 5))
    return rng.normal(size=(n, 5)) @ mixing + 20 * rng.normal(size=5)


def fit(steps, X):
    """A pipeline of clones, fitted with every second row as a control."""
    pipe = make_pipeline(*(s if isinstance(s, str) else clone(s) for s in steps))
    control = np.arange(len(X)) % 2 == 0
    return pipe.fit(
        X,
        **{
            f"{name}__control": control
            for name, step in pipe.steps
            if isinstance(step, ControlPCAWhitener)
        },
    )


@functools.cache
def trained(name, n_features, dtype):
    """An estimator that has learned a little, from rows with a mean."""
    rng = np.random.default_rng(1)
    estimator = clone(ESTIMATORS[name]).set_params(max_iter=3, random_state=0)
    if "pursuit" in name:  # atoms that balance each other
        atoms = rng.normal(size=(8, n_features))
        estimator.set_params(init=np.vstack([atoms, -atoms]), max_iter=0)
    return estimator.fit((rng.normal(size=(400, n_features)) + 1).astype(dtype))


def fitted(name, steps, X):
    """A pipeline that is fitted, and ends in a trained estimator.

    The estimator does not come from these rows, because training takes most of the
    time, and what is folded is exact for any dictionary.
    """
    before = fit([*STEPS[steps], "passthrough"], X)
    Y = before.transform(X)
    estimator = copy.deepcopy(trained(name, Y.shape[1], Y.dtype))
    return make_pipeline(*(step for _, step in before.steps[:-1]), estimator)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_other_library_computes_the_same(name, steps, rng, tmp_path):
    X = rows(rng)
    if "pursuit" in name and steps not in KEEP_ANGLES:
        with pytest.raises(ValueError, match="keeps lengths and angles"):
            write_dictionary(fitted(name, steps, X), tmp_path)
        return
    pipe = fitted(name, steps, X)
    write_dictionary(pipe, tmp_path)
    config = json.loads((tmp_path / "cfg.json").read_text())
    assert config["architecture"] == name.split("-")[0]
    codes, X_hat = other.theirs(tmp_path, X)
    ours = dense(pipe.transform(X))
    assert (codes != 0).any()
    assert abs(codes - ours).max() <= 1e-8 * abs(ours).max()
    rebuilt = pipe.inverse_transform(ours)
    assert abs(X_hat - rebuilt).max() <= 1e-8 * abs(rebuilt).max()


@pytest.mark.parametrize("format", ["saelens", "sparsify"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_reading_what_was_written(format, dtype, rng, tmp_path):
    X = rows(rng).astype(dtype)
    for i, (name, estimator) in enumerate(ESTIMATORS.items()):
        if format == "sparsify" and not name.startswith("topk"):
            continue
        folder = tmp_path / str(i)
        pipe = fitted(name, "none", X)
        write_dictionary(pipe, folder, format)
        read = read_dictionary(folder)
        assert read.components_.dtype == dtype
        np.testing.assert_allclose(
            dense(read.transform(X)), dense(pipe.transform(X)), rtol=1e-4, atol=1e-5
        )
        if format == "saelens":
            np.testing.assert_allclose(
                read.feature_density_, pipe[-1].feature_density_, rtol=1e-4, atol=1e-9
            )
        is_same = type(read) is type(estimator)
        assert is_same or name in (
            "topk-archetypal",
            "jumprelu-batch",
            "jumprelu-matryoshka",
            "matching_pursuit-icfl",
        )


def test_float32_pipelines_keep_their_codes(rng, tmp_path):
    X = rows(rng).astype(np.float32)
    for name in ("topk", "jumprelu", "gated", "standard"):
        pipe = fitted(name, "whitener", X)
        write_dictionary(pipe, tmp_path)
        assert (
            other.read_safetensors(tmp_path / "sae_weights.safetensors")["W_dec"].dtype
            == np.float32
        )
        codes, X_hat = other.theirs(tmp_path, X.astype(np.float64))
        ours = dense(pipe.transform(X))
        assert abs(codes - ours).max() <= 1e-5 * abs(ours).max()
        rebuilt = pipe.inverse_transform(ours)
        assert abs(X_hat - rebuilt).max() <= 1e-5 * abs(rebuilt).max()


def test_the_encoder_makes_up_for_the_rounding_of_a_large_mean(rng, tmp_path):
    X = rng.normal(size=(400, 5)).astype(np.float32) + np.float32(1e5)
    pipe = fitted("jumprelu", "scaler", X)
    write_dictionary(pipe, tmp_path)
    weights = other.read_safetensors(tmp_path / "sae_weights.safetensors")
    assert weights["b_dec"].dtype == np.float32  # whose spacing is 0.008 there
    wide = X.astype(np.float64)
    codes, _ = other.theirs(tmp_path, wide)
    ours = dense(pipe.transform(wide))
    assert abs(codes - ours).max() <= 1e-5 * abs(ours).max()


@pytest.mark.parametrize("steps", ["none", "whitener", "pca"])
def test_sparsify_computes_the_same(steps, rng, tmp_path):
    X = rows(rng)
    pipe = fitted("topk", steps, X)
    write_dictionary(pipe, tmp_path, format="sparsify")
    codes, X_hat = other.theirs(tmp_path, X)
    ours = dense(pipe.transform(X))
    np.testing.assert_allclose(codes, ours, atol=1e-9)
    np.testing.assert_allclose(X_hat, pipe.inverse_transform(ours))
    config = json.loads((tmp_path / "cfg.json").read_text())
    assert config["normalize_decoder"] == (steps in ("none", "pca"))


def test_files_of_an_earlier_dictionary_are_replaced(rng, tmp_path):
    X = rows(rng)
    write_dictionary(fitted("topk", "none", X), tmp_path / "new")
    assert (tmp_path / "new/sparsity.safetensors").exists()
    case = other.make_case("saelens-standard", rng)
    (tmp_path / "old").mkdir()
    imported = read_dictionary(case.write(tmp_path / "old"))
    write_dictionary(imported, tmp_path / "new")
    names = {path.name for path in (tmp_path / "new").iterdir()}
    assert names == {"cfg.json", "sae_weights.safetensors"}
    check_same(read_dictionary(tmp_path / "new"), case, X)


def test_files_of_the_other_format_are_replaced(rng, tmp_path):
    pipe = fitted("topk", "none", rows(rng))
    for format, weights in {
        "saelens": {"sae_weights.safetensors", "sparsity.safetensors"},
        "sparsify": {"sae.safetensors"},
    }.items():
        write_dictionary(pipe, tmp_path, format)
        names = {path.name for path in tmp_path.iterdir()}
        assert names == {"cfg.json", *weights}


def test_a_write_that_fails_leaves_the_earlier_dictionary(rng, tmp_path, monkeypatch):
    X = rows(rng)
    first = fitted("topk", "none", X)
    write_dictionary(first, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def check_unchanged():
        assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    (tmp_path / "sparsity.safetensors").chmod(0o444)
    with pytest.raises(PermissionError, match=r"sparsity\.safetensors is read-only"):
        write_dictionary(fitted("jumprelu", "none", X), tmp_path)
    check_unchanged()
    (tmp_path / "sparsity.safetensors").chmod(0o644)

    def full(path, parts):
        if path.name == "cfg.json":
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_file(path, parts)

    monkeypatch.setattr("skdict.interchange._write.write_file", full)
    with pytest.raises(OSError, match="No space left"):
        write_dictionary(fitted("jumprelu", "none", X), tmp_path)
    check_unchanged()


def test_places_where_nothing_can_be_written(rng, tmp_path):
    pipe = fitted("topk", "none", rows(rng))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileExistsError):
        write_dictionary(pipe, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
    (tmp_path / "folder/cfg.json").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        write_dictionary(pipe, tmp_path / "folder")
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["cfg.json"]


def test_frozen_steps_are_folded(rng, tmp_path):
    X = rows(rng)
    pipe = fitted("topk", "scaler", X)
    frozen = make_pipeline(*(FrozenEstimator(step) for _, step in pipe.steps))
    write_dictionary(FrozenEstimator(frozen), tmp_path)
    codes, _ = other.theirs(tmp_path, X)
    np.testing.assert_allclose(codes, dense(pipe.transform(X)), atol=1e-9)


def test_the_whitener_of_the_fit_is_folded_whatever_its_parameters_say(rng, tmp_path):
    X = rows(rng)
    pipe = fitted("topk", "whitener", X)
    pipe[0].set_params(method="zca")
    write_dictionary(pipe, tmp_path)
    codes, _ = other.theirs(tmp_path, X)
    np.testing.assert_allclose(codes, dense(pipe.transform(X)), atol=1e-9)


def test_the_scaler_is_folded_as_it_transforms_now(rng, tmp_path):
    X = rows(rng)
    pipe = fitted("jumprelu", "scaler", X)
    pipe[0].set_params(with_std=False, with_mean=False)
    write_dictionary(pipe, tmp_path)
    codes, _ = other.theirs(tmp_path, X)
    np.testing.assert_allclose(codes, dense(pipe.transform(X)), atol=1e-9)


def test_constant_features_and_axes_without_variance(rng, tmp_path):
    X = rows(rng)
    X[:, 2] = 7.0
    for steps in ("scaler", "whitener"):
        pipe = fitted("jumprelu", steps, X)
        write_dictionary(pipe, tmp_path)
        codes, X_hat = other.theirs(tmp_path, X)
        ours = dense(pipe.transform(X))
        assert abs(codes - ours).max() <= 1e-6 * abs(ours).max()
        np.testing.assert_allclose(X_hat, pipe.inverse_transform(ours), rtol=1e-5)


def test_whitened_rounding_is_refused(rng, tmp_path):
    X = rows(rng)
    X[:, 2] = 7.0
    with pytest.raises(ValueError, match="leaves only rounding"):
        write_dictionary(fitted("jumprelu", "pca-white", X), tmp_path)


def test_narrow_directions_are_written_in_float64(rng, tmp_path):
    X = (rng.normal(size=(400, 5)) * [1e4, 1, 1, 1, 1]).astype(np.float32)
    for steps in ("none", "scaler", "whitener"):
        pipe = fitted("topk", steps, X)
        write_dictionary(pipe, tmp_path)
        weights = other.read_safetensors(tmp_path / "sae_weights.safetensors")
        wide = steps != "none"
        assert weights["W_dec"].dtype == (np.float64 if wide else np.float32)
        config = json.loads((tmp_path / "cfg.json").read_text())
        assert config["dtype"] == weights["W_dec"].dtype
        codes, _ = other.theirs(tmp_path, X.astype(np.float64))
        ours = dense(pipe.transform(X))
        assert abs(codes - ours).max() <= 1e-5 * abs(ours).max()


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (Normalizer(), "its own norm"),
        (MinMaxScaler(), "MinMaxScaler cannot be folded"),
        (TopKSAE(8, 2, sparse_output=False, max_iter=1), "TopKSAE cannot be folded"),
    ],
)
def test_steps_that_cannot_be_folded(step, message, rng, tmp_path):
    X = rows(rng)
    pipe = make_pipeline(step, TopKSAE(16, 3, max_iter=1)).fit(X)
    with pytest.raises(ValueError, match=message):
        write_dictionary(pipe, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_centring_by_batch_cannot_be_folded(rng, tmp_path):
    X, batch = rows(rng), np.arange(400) % 2
    pipe = make_pipeline(ControlCenterScaler(), TopKSAE(16, 3, max_iter=1))
    pipe.fit(
        X, controlcenterscaler__batch=batch, controlcenterscaler__control=batch >= 0
    )
    with pytest.raises(ValueError, match="knows no batches"):
        write_dictionary(pipe, tmp_path)


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (KSVD(16, 3, max_iter=1), "A KSVD cannot be written"),
        (Codebook(16, 3, max_iter=1), "A Codebook cannot be written"),
        (PCA(3), "A PCA cannot be written"),
        (ICFL(16, 3, max_iter=1), "atoms_per_step=5"),
        (ICFL(16, 3, atoms_per_step=1, refit=True, max_iter=1), "refit=True"),
        (ICFL(16, 3, atoms_per_step=1, selection="absolute", max_iter=1), "absolute"),
    ],
)
def test_dictionaries_that_no_file_holds(estimator, message, rng, tmp_path):
    with pytest.raises(ValueError, match=message):
        write_dictionary(estimator.fit(rows(rng)), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["matching_pursuit", "matching_pursuit-icfl"])
def test_a_pursuit_whose_codes_may_differ_is_not_written(name, rng, tmp_path):
    atoms = abs(rng.normal(size=(16, 5)))  # all in one orthant
    estimator = clone(ESTIMATORS[name]).set_params(init=atoms, max_iter=0)
    with pytest.raises(ValueError, match="SAELens takes none"):
        write_dictionary(estimator.fit(rows(rng)), tmp_path)


def test_sparsify_holds_topk_only(rng, tmp_path):
    X = rows(rng)
    for name in set(ESTIMATORS) - {"topk", "topk-archetypal"}:
        with pytest.raises(ValueError, match="k largest positive activations only"):
            write_dictionary(fitted(name, "none", X), tmp_path, format="sparsify")


def test_what_is_not_fitted_is_not_written(rng, tmp_path):
    with pytest.raises(NotFittedError):
        write_dictionary(TopKSAE(), tmp_path)
    sae = TopKSAE(16, 3, max_iter=1).fit(rows(rng))
    with pytest.raises(NotFittedError):
        write_dictionary(make_pipeline(StandardScaler(), sae), tmp_path)
    sae.components_[0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN or infinity"):
        write_dictionary(sae, tmp_path)
    assert not list(tmp_path.iterdir())


def test_tensors_are_written_as_arrays(rng, tmp_path):
    X = rows(rng)
    sae = TopKSAE(16, 3, max_iter=1, random_state=0).fit(X)
    write_dictionary(sae, tmp_path / "arrays")
    for name in ("components_", "pre_bias_", "encoder_components_", "encoder_bias_"):
        setattr(sae, name, torch.from_numpy(getattr(sae, name)))
    write_dictionary(sae, tmp_path / "tensors")
    name = "sae_weights.safetensors"
    arrays = (tmp_path / "arrays" / name).read_bytes()
    assert arrays == (tmp_path / "tensors" / name).read_bytes()


# Where both kinds of matching pursuit agree


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), d=st.integers(1, 12), ratio=st.integers(1, 8))
@example(seed=530148, d=9, ratio=6)  # weights of 2e-7 to 1
def test_balance_is_right_about_random_atoms(seed, d, ratio):
    """Compared with a linear program: is there a direction away from all atoms?"""
    from scipy.optimize import linprog

    rng = np.random.default_rng(seed)
    atoms = rng.normal(size=(ratio * d + 1, d)) + 0.3 * rng.normal(size=d)
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    # Weights of at least one that add up to nothing.
    program = linprog(
        np.ones(len(atoms)), A_eq=atoms.T, b_eq=np.zeros(d), bounds=(1, None)
    )
    assert balance(atoms) <= (program.status == 0)
    if program.status == 0 and program.x.max() < 1e3:
        assert balance(atoms)


def test_balance_of_atoms_in_a_subspace():
    atoms = np.array([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]])
    assert balance(atoms)
    assert not balance(atoms[:3])


def test_a_file_of_save_is_known(tmp_path):
    save(TopKSAE(8, k=2, max_iter=1).fit(np.eye(6)), tmp_path / "own")
    with pytest.raises(ValueError, match=r"skdict\.save wrote it: use skdict\.load"):
        read_dictionary(tmp_path / "own")
