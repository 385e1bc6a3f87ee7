"""Tests of how TokenExtractor takes a model and gives it back: threads, wrappers."""

import pickle
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from skdict import TokenExtractor
from skdict.feature_extraction import _models


def small_model():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 5, 4, stride=4), nn.BatchNorm2d(5), nn.Dropout(0.5), nn.Flatten()
    )


def draw_images(n=7):
    images = np.random.default_rng(0).normal(size=(n, 3, 16, 12))
    return images.astype(np.float32)


def state(model):
    return [
        (name, module.training, len(module._forward_hooks), set(vars(module)))
        for name, module in model.named_modules()
    ]


@pytest.fixture(autouse=True)
def nothing_stays_borrowed():
    yield
    assert not _models._owners


@pytest.fixture
def expected():
    return TokenExtractor(small_model(), "2").fit_transform(draw_images())


# Threads.


@pytest.mark.parametrize("shared", ["extractor", "model", "part"])
def test_threads(shared):
    model = small_model().train()
    model[1].eval()
    inside = nn.Sequential(model, nn.Identity())
    before = state(inside)
    layers = ["0", "1", "2", "3"] * 4
    images = draw_images()
    alone = {name: TokenExtractor(model, name).fit_transform(images) for name in layers}
    one = TokenExtractor(model, "2", batch_size=2).fit(images)

    def embed(i):
        if shared == "extractor":
            return one.transform(images)
        if shared == "part" and i % 2:
            extractor = TokenExtractor(inside, f"0.{layers[i]}", batch_size=2)
        else:
            extractor = TokenExtractor(model, layers[i], batch_size=2)
        return extractor.fit_transform(images)

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(embed, range(16)))
    for layer, result in zip(layers, results, strict=True):
        want = alone["2" if shared == "extractor" else layer]
        np.testing.assert_allclose(result, want, atol=1e-5)
    assert state(inside) == before


class Gate(nn.Module):
    """Says when it is reached, and goes on when it is told to."""

    def __init__(self):
        super().__init__()
        self.sync = [threading.Event(), threading.Event()]

    def forward(self, x):
        reached, go_on = self.sync
        reached.set()
        assert go_on.wait(20)
        return x

    def __deepcopy__(self, memo):
        return nn.Identity()


@pytest.fixture
def halted():
    """An extractor in the middle of a pass in another thread."""
    model = nn.Sequential(*small_model(), Gate(), nn.Identity()).train()
    extractor = TokenExtractor(model, "5")
    reached, go_on = model[4].sync
    with ThreadPoolExecutor(4) as pool:
        result = pool.submit(extractor.fit_transform, draw_images())
        assert reached.wait(20)
        yield extractor, pool, go_on
        go_on.set()
        assert result.result().shape == (7, 60)


def test_second_thread_waits(halted):
    extractor, pool, go_on = halted
    second = pool.submit(TokenExtractor(extractor.model, "0").fit, draw_images())
    with pytest.raises(TimeoutError):
        second.result(0.2)
    go_on.set()
    second.result(20)


def test_another_model_need_not_wait(halted, expected):
    second = halted[1].submit(
        TokenExtractor(small_model(), "2").fit_transform, draw_images()
    )
    np.testing.assert_array_equal(second.result(20), expected)


def test_model_that_runs_elsewhere_is_not_stopped(halted):
    extractor, _, go_on = halted
    go_on.set()
    assert extractor.model(torch.from_numpy(draw_images())).shape == (7, 60)


def test_clone_waits_for_the_pass(halted):
    extractor, pool, go_on = halted
    copy = pool.submit(clone, extractor)
    with pytest.raises(TimeoutError):
        copy.result(0.2)
    go_on.set()
    model = copy.result(20).model
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


def test_thread_may_use_its_model_again():
    class Nested(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = small_model()

        def forward(self, x):
            extractor = TokenExtractor(self.inner, "2", batch_size=1)
            return torch.from_numpy(extractor.fit_transform(x))

    model = Nested()
    before = state(model)
    assert TokenExtractor(model, "").fit_transform(draw_images()).shape == (7, 5)
    assert state(model) == before


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("n_calls", [0, 1, 3])
def test_model_is_whole_after_any_error(error, n_calls):
    class Failing(nn.Module):
        calls = 0

        def forward(self, x):
            self.calls += 1
            if self.calls > n_calls:
                raise error
            return x

    model = nn.Sequential(*small_model(), Failing(), nn.Identity()).train()
    model[1].eval()
    before = state(model)
    with pytest.raises(error):
        TokenExtractor(model, "5", batch_size=2).fit_transform(draw_images())
    vars(model[4]).pop("calls")
    assert state(model) == before
    # Nothing waits for a thread that gave up.
    with ThreadPoolExecutor(1) as pool:
        extractor = TokenExtractor(model, "3")
        assert pool.submit(extractor.fit, draw_images()).result(20) is extractor


def test_modes_are_restored_where_the_way_back_fails():
    class Heavy(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def to(self, device):
            if device == torch.device("cpu"):
                raise RuntimeError("out of memory")

    model = Heavy().train()
    with (
        pytest.raises(RuntimeError, match="out of memory"),
        _models.borrowed(model, torch.device("meta")),
    ):
        assert not model.training
    assert model.training


def test_pickle_and_clone_of_a_used_extractor(expected):
    extractor = TokenExtractor(small_model(), "2").fit(draw_images())
    for copy in (pickle.loads(pickle.dumps(extractor)), clone(extractor)):
        np.testing.assert_array_equal(copy.fit_transform(draw_images()), expected)


def test_hooks_in_a_copy_do_nothing(expected):
    copies = []

    class Copying(nn.Module):
        def forward(self, x):
            copies.append(clone(model, safe=False))
            return x

    model = nn.Sequential(Copying(), *small_model())
    TokenExtractor(model, "3").fit(draw_images())
    with torch.no_grad():
        assert copies[0](torch.from_numpy(draw_images())).shape == (7, 60)


# Wrappers and compiled models.


def compiled(model, **options):
    return torch.compile(model, backend="eager", **options)


def compiled_in_place(model):
    model.compile(backend="eager")
    return model


WRAPPERS = {
    "compile": (compiled, ["2", "_orig_mod.2"]),
    "fullgraph": (lambda m: compiled(m, fullgraph=True), ["2", "_orig_mod.2"]),
    "in place": (compiled_in_place, ["2"]),
    "a part": (lambda m: nn.Sequential(compiled(m, fullgraph=True)), ["0._orig_mod.2"]),
    "parallel": (nn.DataParallel, ["2", "module.2"]),
    "a parallel part": (lambda m: nn.Sequential(nn.DataParallel(m)), ["0.module.2"]),
    "both": (lambda m: nn.DataParallel(compiled(m)), ["2", "module._orig_mod.2"]),
}


@pytest.mark.parametrize("is_warm", [False, True])
@pytest.mark.parametrize("kind", WRAPPERS)
def test_wrapped_models(kind, is_warm, expected):
    wrap, names = WRAPPERS[kind]
    inner = small_model()
    model = wrap(inner)
    if is_warm:  # a graph without hooks exists
        model.eval()
        with torch.no_grad():
            model(torch.from_numpy(draw_images()))
    before = state(model)
    for name in names:
        got = TokenExtractor(model, name).fit_transform(draw_images())
        np.testing.assert_array_equal(got, expected)
    assert state(model) == before
    assert (inner._compiled_call_impl is None) == (kind != "in place")


def test_unknown_layer_of_a_wrapped_model():
    with pytest.raises(
        ValueError, match=r"'module.9' names no|'9' names no submodule of S"
    ):
        TokenExtractor(nn.DataParallel(small_model()), "module.9").fit(draw_images())
    with pytest.raises(ValueError, match=r"which has none; layer='' is the model"):
        TokenExtractor(nn.Flatten(), "9").fit(draw_images())
    # A submodule's attribute is no submodule.
    with pytest.raises(ValueError, match=r"'0.weight' names no submodule"):
        TokenExtractor(small_model(), "0.weight").fit(draw_images())


def torchscript(kind):
    model = small_model().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        if kind == "trace":
            return torch.jit.trace(model, torch.zeros(2, 3, 16, 12))
        script = torch.jit.script(model)
        return torch.jit.freeze(script) if kind == "freeze" else script


@pytest.mark.parametrize("kind", ["trace", "script", "freeze"])
def test_torchscript(kind):
    images = draw_images()
    model = torchscript(kind)
    for layer in ("2", "0.weight", "nothing"):
        with pytest.raises(ValueError, match=r"inside of TorchScript .*made of; .*''"):
            TokenExtractor(model, layer).fit(images)
    expected = TokenExtractor(small_model(), "").fit_transform(images)
    got = TokenExtractor(model, "").fit_transform(images)
    np.testing.assert_allclose(got, expected, atol=1e-6)

    around = nn.Sequential(model, nn.Identity())
    for layer in ("0", "0.2"):
        with pytest.raises(ValueError, match="inside of TorchScript"):
            TokenExtractor(around, layer).fit(images)
    got = TokenExtractor(around, "1").fit_transform(images)
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_program_of_torch_export():
    example = (torch.zeros(2, 3, 16, 12),)
    model = torch.export.export(small_model().eval(), example).module()
    with pytest.raises(
        ValueError, match=r"evaluation mode .* model that it was made of"
    ):
        TokenExtractor(model, "").fit(draw_images())


def test_symbolic_trace(expected):
    model = torch.fx.symbolic_trace(small_model())
    got = TokenExtractor(model, "2").fit_transform(draw_images())
    np.testing.assert_array_equal(got, expected)


def test_model_without_weights():
    with pytest.raises(ValueError, match="meta device, which holds no values"):
        TokenExtractor(small_model().to("meta"), "2").fit(draw_images())


# Layers.


class Calls(nn.Module):
    """A function of its layer, called in a way of its own."""

    def __init__(self, call):
        super().__init__()
        self.layer = nn.Sequential(nn.Flatten())
        self.call = call

    def forward(self, x):
        return self.call(self.layer, x)


def test_first_call_of_a_layer_counts():
    model = Calls(lambda layer, x: layer(x) + layer(x + 1))
    images = draw_images()
    got = TokenExtractor(model, "layer").fit_transform(images)
    np.testing.assert_array_equal(got, images.reshape(7, -1))


def call_in_a_thread(layer, x):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(layer, x).result()


@pytest.mark.parametrize(
    "call",
    [lambda layer, x: x, lambda layer, x: layer.forward(x), call_in_a_thread],
    ids=["never", "forward", "thread"],
)
def test_layer_that_no_hook_sees(call):
    with pytest.raises(
        ValueError, match=r"'layer' did not run .* Take a layer that ru"
    ):
        TokenExtractor(Calls(call), "layer").fit(draw_images())


def test_weights_that_are_read_without_a_call():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(12, 2)

        def forward(self, x):  # the sequence first
            x = x.flatten(1, 2).transpose(0, 1)
            return self.attention(x, x, x)

    model = Attention()
    with pytest.raises(ValueError, match=r"MultiheadAttention.*'attention' around it"):
        TokenExtractor(model, "attention.out_proj").fit(draw_images())
    images = draw_images(48)  # as many as the tokens
    with torch.no_grad():
        want = model.eval()(torch.from_numpy(images))[0].mean(0).numpy()
    extractor = TokenExtractor(model, "attention", batch_size=48)
    np.testing.assert_allclose(extractor.fit_transform(images), want, atol=1e-6)


def test_model_that_catches_everything():
    def call(layer, x):
        try:
            return layer(x)
        except BaseException:
            return x

    def call_and_fail(layer, x):
        call(layer, x)
        raise RuntimeError("no output")

    images = draw_images()
    for function in (call, call_and_fail):
        got = TokenExtractor(Calls(function), "layer").fit_transform(images)
        np.testing.assert_array_equal(got, images.reshape(7, -1))


@pytest.mark.parametrize(
    ("convert", "match"),
    [
        (lambda x: None, "holds no tensor: it is a NoneType"),
        (lambda x: (None, {}), "holds no tensor: it is a tuple"),
        (lambda x: x.flatten(1).long(), "floating point, got torch.int64"),
        (lambda x: x.flatten(1) > 0, "floating point, got torch.bool"),
        (lambda x: x.flatten(1) * 1j, "floating point, got torch.complex64"),
        (lambda x: x.flatten(1).to_sparse(), "nested, sparse or quantized"),
        (
            lambda x: torch.quantize_per_tensor(x.flatten(1), 0.1, 0, torch.qint8),
            "nested, sparse or quantized",
        ),
        (
            lambda x: torch.nested.as_nested_tensor(list(x), layout=torch.jagged),
            "nested, sparse or quantized",
        ),
    ],
)
def test_outputs_that_are_no_embeddings(convert, match):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of torch, of quantization
        with pytest.raises(ValueError, match=match):
            TokenExtractor(Calls(lambda _, x: convert(x)), "").fit(draw_images())


# Precision.


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_of_the_caller(dtype, expected):
    seen = []
    model = small_model()
    model[0].register_forward_hook(lambda module, args, output: seen.append(output))
    extractor = TokenExtractor(model, "2")
    with torch.autocast("cpu", dtype=dtype):
        got = extractor.fit_transform(draw_images())
        again = extractor.transform(draw_images())
    assert {output.dtype for output in seen} == {dtype}
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=0.05)
    np.testing.assert_array_equal(again, got)


def test_float64_stays():
    images = draw_images().astype(np.float64) + 1e-9
    model = nn.Sequential(nn.Flatten()).double()
    model.register_parameter("scale", nn.Parameter(torch.ones(1).double()))
    got = TokenExtractor(model, "0").fit_transform(images)
    np.testing.assert_array_equal(got, images.reshape(7, -1))
