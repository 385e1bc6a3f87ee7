"""Tests of TokenExtractor and of the choice of a device."""

import contextlib
import gc
import pickle
import weakref
from collections import OrderedDict
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils import get_tags
from torch import nn

from skdict import TokenExtractor
from skdict.feature_extraction import _models
from skdict.rows import resolve_device


class PatchSequence(nn.Module):
    """Patch tokens (n, tokens, d) behind `n_extra` constant tokens, like a ViT."""

    def __init__(self, n_extra=1, dim=6, patch=4):
        super().__init__()
        self.embed = nn.Conv2d(3, dim, patch, stride=patch)
        self.extra = nn.Parameter(torch.full((1, n_extra, dim), 100.0))
        self.norm = nn.LayerNorm(dim)
        self.block = nn.Identity()
        self.dropout = nn.Dropout(0.5)

    def forward(self, x):
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.extra.expand(len(x), -1, -1), tokens], dim=1)
        return self.block(self.dropout(tokens))


class Wrapped(nn.Module):
    """Gives what `inner` gives in another container."""

    def __init__(self, inner, wrap):
        super().__init__()
        self.inner = inner
        self.wrap = wrap

    def forward(self, x):
        return self.wrap(self.inner(x))


class Counting(nn.Module):
    """Counts how often and with how many images it is called."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def forward(self, x):
        self.sizes.append(len(x))
        return x


class Failing(nn.Module):
    def forward(self, x):
        raise RuntimeError("this layer must not run")


class Lambda(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def conv_model():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 5, 4, stride=4), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten()
    ).eval()


def make_images(n=7, height=16, width=12, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 3, height, width)).astype(dtype)


def feature_map(model, images):
    with torch.no_grad():
        return model[:3](torch.from_numpy(images)).numpy()


def test_feature_map_pooled_and_by_token():
    model, images = conv_model(), make_images()
    expected = feature_map(model, images)  # (n, d, h, w)

    pooled = TokenExtractor(model, "2").fit_transform(images)
    assert pooled.dtype == np.float32
    np.testing.assert_allclose(pooled, expected.mean(axis=(2, 3)), rtol=1e-5)

    extractor = TokenExtractor(model, "2", pool=None).fit(images)
    tokens = extractor.transform(images)
    assert extractor.grid_shape_ == (4, 3)
    np.testing.assert_array_equal(
        tokens.reshape(7, 4, 3, 5), expected.transpose(0, 2, 3, 1)
    )


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
@pytest.mark.parametrize("pool", ["mean", None])
def test_batches_do_not_change_the_result(batch_size, pool):
    model, images = conv_model(), make_images()
    counting = Counting()
    extractor = TokenExtractor(
        nn.Sequential(counting, *model), "3", pool=pool, batch_size=batch_size
    )
    got = extractor.fit_transform(images)
    probes = [1, 2][:batch_size]  # that tell the axis of the images
    assert counting.sizes[: len(probes)] == probes
    batches = counting.sizes[len(probes) :]
    # A first batch that was a probe is not run again.
    assert sum(batches) == (6 if batch_size == 1 else 7)
    assert max(batches) == min(batch_size, 7)
    once = TokenExtractor(model, "2", pool=pool).fit_transform(images)
    np.testing.assert_allclose(got, once, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(extractor.fit(images).transform(images), got)


def test_class_tokens_are_skipped():
    model, images = PatchSequence(n_extra=2), make_images(height=12, width=12)
    with torch.no_grad():
        expected = model.eval()(torch.from_numpy(images))[:, 2:].numpy()
    extractor = TokenExtractor(model, "block", pool=None, skip_tokens=2).fit(images)
    assert extractor.grid_shape_ == (3, 3)
    np.testing.assert_array_equal(
        extractor.transform(images), expected.reshape(7 * 9, 6)
    )
    pooled = TokenExtractor(model, "block", skip_tokens=2).fit_transform(images)
    np.testing.assert_allclose(pooled, expected.mean(axis=1), rtol=1e-5, atol=1e-6)
    # Left in, the constant tokens would dominate the mean.
    assert TokenExtractor(model, "block").fit_transform(images).mean() > 10


def test_forgotten_class_token_is_named():
    model, images = PatchSequence(n_extra=1), make_images(height=12, width=12)
    with pytest.raises(ValueError, match=r"got 10 tokens.*skip_tokens=1 leaves a grid"):
        TokenExtractor(model, "block", pool=None).fit(images)
    pooled = TokenExtractor(model, "block").fit(images)
    assert pooled.grid_shape_ is None


@pytest.mark.parametrize(
    "wrap",
    [
        lambda t: (t, None),
        lambda t: [None, t],
        lambda t: ((t, t + 1), t + 2),
        lambda t: OrderedDict(last_hidden_state=t, pooler_output=t.mean(1)),
        lambda t: SimpleNamespace(last_hidden_state=t),
    ],
    ids=["tuple", "list", "nested", "mapping", "object"],
)
def test_containers(wrap):
    inner, images = PatchSequence(), make_images(height=12, width=12)
    plain = TokenExtractor(inner, "block", pool=None, skip_tokens=1)
    wrapped = TokenExtractor(Wrapped(inner, wrap), "", pool=None, skip_tokens=1)
    np.testing.assert_array_equal(
        wrapped.fit_transform(images), plain.fit_transform(images)
    )


@pytest.mark.parametrize("pool", ["mean", None])
def test_vectors_are_one_token_an_image(pool):
    model, images = conv_model(), make_images()
    extractor = TokenExtractor(model, "3", pool=pool).fit(images)
    assert extractor.grid_shape_ == (1, 1)
    expected = feature_map(model, images).reshape(7, -1)
    np.testing.assert_array_equal(extractor.transform(images), expected)


@pytest.mark.parametrize(
    "convert",
    [
        torch.from_numpy,
        list,
        tuple,
        lambda a: [torch.from_numpy(image) for image in a],
        lambda a: a.astype(np.float64),
        lambda a: a.astype(">f4"),
        lambda a: np.asfortranarray(a),
        lambda a: a[:, ::-1].copy()[:, ::-1],
        lambda a: torch.from_numpy(a).double().requires_grad_(),
    ],
    ids=[
        "tensor",
        "list",
        "tuple",
        "tensors",
        "float64",
        "big-endian",
        "fortran",
        "negative-stride",
        "grad",
    ],
)
def test_kinds_of_input(convert):
    extractor = TokenExtractor(conv_model(), "2", batch_size=3)
    expected = extractor.fit_transform(make_images())
    np.testing.assert_array_equal(
        extractor.fit_transform(convert(make_images())), expected
    )


def test_readonly_memmap(tmp_path):
    path = tmp_path / "images.npy"
    np.save(path, make_images())
    images = np.load(path, mmap_mode="r")
    got = TokenExtractor(conv_model(), "2").fit_transform(images)
    expected = TokenExtractor(conv_model(), "2").fit_transform(make_images())
    np.testing.assert_array_equal(got, expected)


def test_images_are_left_alone_by_a_model_that_works_in_place():
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Flatten())
    images = torch.from_numpy(make_images())
    before = images.clone()
    TokenExtractor(model, "1").fit_transform(images)
    assert torch.equal(images, before)


def test_float16_images_and_models():
    images = make_images()
    expected = TokenExtractor(conv_model(), "2").fit_transform(images)
    got = TokenExtractor(conv_model(), "2").fit_transform(images.astype(np.float16))
    np.testing.assert_allclose(got, expected, atol=5e-3)
    for dtype, tolerance in [(torch.bfloat16, 5e-2), (torch.float64, 1e-5)]:
        got = TokenExtractor(conv_model().to(dtype), "2").fit_transform(images)
        assert got.dtype == (np.float64 if dtype == torch.float64 else np.float32)
        np.testing.assert_allclose(got, expected, atol=tolerance)


def test_forward_pass_ends_at_the_layer():
    model = conv_model()
    longer = nn.Sequential(*model, Failing())
    np.testing.assert_array_equal(
        TokenExtractor(longer, "2").fit_transform(make_images()),
        TokenExtractor(model, "2").fit_transform(make_images()),
    )


def test_code_of_the_model_cannot_swallow_the_end_of_the_pass():
    class Guarded(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = conv_model()

        def forward(self, x):
            try:
                return self.inner(x)
            except Exception:
                return torch.zeros(len(x), 2)

    got = TokenExtractor(Guarded(), "inner.2").fit_transform(make_images())
    assert got.shape == (7, 5)


def snapshot(model):
    return (
        {name: m.training for name, m in model.named_modules()},
        {name: len(m._forward_hooks) for name, m in model.named_modules()},
        {name: t.clone() for name, t in model.state_dict().items()},
        {name: p.requires_grad for name, p in model.named_parameters()},
    )


def assert_same(before, after):
    assert before[0] == after[0]
    assert before[1] == after[1]
    assert before[3] == after[3]
    for name, tensor in before[2].items():
        assert torch.equal(tensor, after[2][name])


@pytest.mark.parametrize("fails", [False, True])
def test_model_is_given_back_as_it_was(fails):
    tail = Failing() if fails else nn.Identity()
    model = nn.Sequential(*conv_model(), nn.Dropout(0.5), tail, nn.Identity())
    model.train()
    model[1].eval()  # a frozen normalisation inside of a model in training
    model[0].weight.requires_grad_(False)
    hook = model[0].register_forward_hook(lambda module, args, output: None)
    before = snapshot(model)
    extractor = TokenExtractor(model, "6")
    if fails:
        with pytest.raises(RuntimeError, match="must not run"):
            extractor.fit(make_images())
    else:
        extractor.fit_transform(make_images())
    assert_same(before, snapshot(model))
    hook.remove()


def test_evaluation_mode_is_used():
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5)).train()
    images = make_images()
    got = TokenExtractor(model, "1").fit_transform(images)
    np.testing.assert_array_equal(got, images.reshape(7, -1))


def test_model_can_be_trained_afterwards():
    class Caching(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)
            self.scale = None

        def forward(self, x):
            if self.scale is None:
                self.scale = torch.ones(4)
            return self.linear(x.flatten(1)[:, :4]) * self.scale

    model = Caching()
    images = make_images()
    TokenExtractor(model, "").fit(images)
    # Fails for a tensor made under inference_mode.
    model(torch.from_numpy(images)).sum().backward()
    assert model.linear.weight.grad.abs().sum() > 0


def test_model_moves_to_the_device_and_back():
    class Recording(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))
            self.moves = []

        def to(self, device):
            self.moves.append(str(device))
            return self

    model = Recording()
    with _models.borrowed(model, torch.device("cpu")):
        assert model.moves == []
    with contextlib.suppress(KeyError), _models.borrowed(model, torch.device("meta")):
        assert model.moves == ["meta"]
        raise KeyError
    assert model.moves == ["meta", "cpu"]


def test_model_on_several_devices_is_refused():
    model = nn.Sequential(nn.Conv2d(3, 4, 4), nn.Conv2d(4, 4, 1, device="meta"))
    with pytest.raises(ValueError, match=r"one device, got \['cpu', 'meta'\]"):
        TokenExtractor(model, "0").fit(make_images())


def test_error_of_the_model_mentions_channels_that_are_last():
    images = np.moveaxis(make_images(), 1, -1)
    with pytest.raises(RuntimeError) as caught:
        TokenExtractor(conv_model(), "2").fit(images)
    assert "np.moveaxis(images, -1, 1)" in caught.value.__notes__[0]
    with pytest.raises(RuntimeError) as caught:  # another error of the model
        TokenExtractor(nn.Conv2d(5, 4, 4), "").fit(make_images())
    assert not hasattr(caught.value, "__notes__")


def test_no_reference_cycle_keeps_the_output_alive():
    model, images = conv_model(), torch.from_numpy(make_images())
    gc.collect()
    gc.disable()
    try:
        output = _models.layer_output(model, "2", images)
        reference = weakref.ref(output)
        del output
        assert reference() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("method", ["fit", "transform", "fit_transform"])
def test_values_that_are_not_finite(bad, method):
    extractor = TokenExtractor(conv_model(), "2", batch_size=3).fit(make_images())
    images = make_images(dtype=np.float64)
    images[4, 0, 3, 3] = bad
    images[6, 2, 0, 1] = bad
    with pytest.raises(ValueError, match=r"2 of 7 images .* the first is image 4"):
        getattr(extractor, method)(images)


def test_layer_that_overflows():
    model = nn.Sequential(nn.Flatten(), Lambda(lambda x: x * 1e30 * 1e30))
    with pytest.raises(ValueError, match=r"output is NaN or infinite for 7 of 7"):
        TokenExtractor(model, "1").fit_transform(make_images())


@pytest.mark.parametrize(
    ("images", "error", "match"),
    [
        ([], ValueError, "no images"),
        (np.zeros((0, 3, 8, 8), np.float32), ValueError, "no images"),
        (np.zeros((2, 3, 0, 8), np.float32), ValueError, "no pixels"),
        (np.zeros((3, 8, 8), np.float32), ValueError, "got 3 dimensions"),
        (np.zeros((4, 5), np.float32), ValueError, "got 2 dimensions"),
        ([np.zeros((8, 8), np.float32)], ValueError, "got 3 dimensions"),
        (np.zeros((2, 3, 8, 8), np.uint8), ValueError, "floating point.*uint8"),
        (torch.zeros((2, 3, 8, 8), dtype=torch.int32), ValueError, "floating point"),
        (np.zeros((2, 3, 8, 8), object), ValueError, "floating point.*object"),
        (np.zeros((2, 3, 8, 8), complex), ValueError, "floating point.*complex"),
        (
            [np.zeros((3, 8, 8)), np.zeros((3, 8, 8)), np.zeros((3, 8, 9))],
            ValueError,
            r"image 0 has shape \(3, 8, 8\), image 2 has shape \(3, 8, 9\)",
        ),
        (None, TypeError, "got NoneType"),
        ("images", TypeError, "got str"),
    ],
)
def test_bad_images(images, error, match):
    extractor = TokenExtractor(conv_model(), "2")
    with pytest.raises(error, match=match):
        extractor.fit(images)
    with pytest.raises(error, match=match):
        extractor.fit(make_images()).transform(images)


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"model": "resnet"}, "'model' parameter"),
        ({"model": nn.Linear}, "'model' parameter"),
        ({"layer": 2}, "'layer' parameter"),
        ({"pool": "max"}, "'pool' parameter"),
        ({"skip_tokens": -1}, "'skip_tokens' parameter"),
        ({"batch_size": 0}, "'batch_size' parameter"),
        ({"device": "nowhere"}, "device='nowhere'"),
        ({"skip_tokens": 1}, "skip_tokens=1 needs an output of shape"),
    ],
)
@pytest.mark.parametrize("method", ["fit", "fit_transform"])
def test_bad_parameters(params, match, method):
    extractor = TokenExtractor(**{"model": conv_model(), "layer": "2", **params})
    with pytest.raises(ValueError, match=match):
        getattr(extractor, method)(make_images())


def test_unknown_layer_names_close_ones():
    model = nn.ModuleDict({"blocks": nn.ModuleList([nn.ReLU(), nn.ReLU()])})
    with pytest.raises(ValueError, match=r"'block\.1' .*ModuleDict.*'blocks\.1'"):
        TokenExtractor(model, "block.1").fit(make_images())


def test_layer_that_does_not_run():
    model = PatchSequence()
    with pytest.raises(ValueError, match="did not run"):
        TokenExtractor(model, "norm").fit(make_images(height=12, width=12))
    assert not model.norm._forward_hooks


@pytest.mark.parametrize(
    ("function", "match"),
    [
        (lambda x: "text", "holds no tensor: it is a str"),
        (lambda x: {}, "holds no tensor: it is a dict"),
        (lambda x: x.mean(), r"does not grow .* got \(\) for 1 images"),
        (lambda x: x[:1], r"does not grow .* got \(1, 3, 16, 12\)"),
        (lambda x: x[..., None], r"got \(2, 3, 16, 12, 1\)"),
        (lambda x: x[:, :0], r"got \(2, 0, 16, 12\)"),
    ],
)
def test_bad_outputs(function, match):
    with pytest.raises(ValueError, match=match):
        TokenExtractor(Lambda(function), "").fit(make_images())


def test_skipping_every_token():
    with pytest.raises(ValueError, match="leaves none of the 10 tokens"):
        TokenExtractor(PatchSequence(), "block", skip_tokens=10).fit(
            make_images(height=12, width=12)
        )


def test_transform_checks_against_fit():
    flat = TokenExtractor(conv_model(), "3")
    with pytest.raises(NotFittedError):
        flat.transform(make_images())
    flat.fit(make_images())
    with pytest.raises(ValueError, match=r"give 40 features, .* fit gave 60"):
        flat.transform(make_images(height=8, width=16))
    tokens = TokenExtractor(conv_model(), "2", pool=None).fit(make_images())
    with pytest.raises(ValueError, match=r"grid of \(3, 4\) tokens, .* \(4, 3\)"):
        tokens.transform(make_images(height=12, width=16))
    # Pooled, another size is no obstacle.
    pooled = TokenExtractor(conv_model(), "2").fit(make_images())
    assert pooled.transform(make_images(height=32, width=32)).shape == (7, 5)


def test_feature_names_and_set_output():
    extractor = TokenExtractor(conv_model(), "2", pool=None)
    extractor.set_output(transform="pandas")
    frame = extractor.fit_transform(list(make_images()))
    assert isinstance(frame, pd.DataFrame)
    assert frame.shape == (7 * 12, 5)
    assert list(frame.columns) == [f"tokenextractor{i}" for i in range(5)]
    np.testing.assert_array_equal(extractor.get_feature_names_out(), frame.columns)


def test_clone_and_pickle():
    images = make_images()
    extractor = TokenExtractor(conv_model(), "2", pool=None, device="cpu").fit(images)
    expected = extractor.transform(images)
    restored = pickle.loads(pickle.dumps(extractor))
    np.testing.assert_array_equal(restored.transform(images), expected)
    copy = clone(extractor)
    assert not hasattr(copy, "grid_shape_")
    assert copy.model is not extractor.model
    np.testing.assert_array_equal(copy.fit_transform(images), expected)


def test_in_a_pipeline():
    images = make_images(n=40)
    y = np.arange(40) % 2
    images[y == 1] += 1
    pipeline = make_pipeline(
        TokenExtractor(conv_model(), "2"), LogisticRegression()
    ).fit(images, y)
    assert pipeline.score(images, y) > 0.9


def test_tags_say_that_tables_are_no_input():
    tags = get_tags(TokenExtractor(conv_model(), "2"))
    assert not tags.input_tags.two_d_array
    assert not tags.input_tags.three_d_array
    assert not tags.target_tags.required


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_automatic_device(monkeypatch, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert resolve_device("auto") == torch.device(expected)


def test_named_devices():
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize(
    ("device", "error", "match"),
    [
        ("gpu", ValueError, "'gpu' is not a device"),
        ("", ValueError, "is not a device"),
        ("meta", ValueError, "holds no data"),
        ("cuda:99", ValueError, "'cuda:99' is not available"),
        (None, TypeError, "NoneType"),
        (0, TypeError, "int"),
    ],
)
def test_bad_devices(device, error, match):
    with pytest.raises(error, match=match):
        resolve_device(device)
