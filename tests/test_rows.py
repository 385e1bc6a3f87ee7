"""Batches of rows, and their centre and spread against NumPy in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skdict.rows import RowBatches, as_tensor, centre_and_spread, to_device

CPU = torch.device("cpu")
kinds = pytest.mark.parametrize("kind", [np.asarray, torch.tensor])


def numbered(n, d=3):
    """Rows that tell where they stood."""
    return np.arange(n * d, dtype=np.float32).reshape(n, d)


def shuffled(X, batch_size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return RowBatches(X, batch_size, CPU, generator=generator)


# RowBatches


@settings(max_examples=50)
@given(n=st.integers(1, 30), batch_size=st.integers(1, 35), tensor=st.booleans())
def test_order_is_kept_without_a_generator(n, batch_size, tensor):
    X = numbered(n)
    batches = list(RowBatches(as_tensor(X) if tensor else X, batch_size, CPU))
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    np.testing.assert_array_equal(torch.cat(batches), X)
    assert len(RowBatches(X, batch_size, CPU)) == len(batches)


@settings(max_examples=50)
@given(
    n=st.integers(1, 30),
    batch_size=st.integers(1, 35),
    tensor=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_shuffled_batches_hold_every_row_once(n, batch_size, tensor, seed):
    X = numbered(n)
    batches = list(shuffled(as_tensor(X) if tensor else X, batch_size, seed))
    sizes = [len(batch) for batch in batches]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    assert len(batches) == -(-n // batch_size)
    first = torch.cat(batches)[:, 0].numpy()
    np.testing.assert_array_equal(np.sort(first), X[:, 0])
    for batch in batches:
        assert (batch[:, 0].diff() > 0).all()
        np.testing.assert_array_equal(batch[:, 2], batch[:, 0] + 2)


def test_every_pass_has_another_order_and_a_seed_repeats_them():
    batches, again = (shuffled(numbered(40), 10, seed=1) for _ in range(2))
    passes = [torch.cat(list(batches)) for _ in range(2)]
    assert not torch.equal(*passes)
    assert torch.equal(passes[0], torch.cat(list(again)))
    assert torch.equal(passes[1], torch.cat(list(again)))
    assert not torch.equal(passes[0], torch.cat(list(shuffled(numbered(40), 10, 2))))


@kinds
@pytest.mark.parametrize("shuffle", [False, True])
def test_rows_are_divided_by_the_scale(kind, shuffle):
    X = kind(numbered(5))
    generator = torch.Generator().manual_seed(0) if shuffle else None
    (batch,) = RowBatches(X, 5, CPU, scale=4.0, generator=generator)
    np.testing.assert_array_equal(batch, numbered(5) / 4)
    np.testing.assert_array_equal(X, numbered(5))


@pytest.mark.parametrize("shuffle", [False, True])
def test_read_only_memmap_is_read_in_parts_and_never_written(tmp_path, shuffle):
    np.save(tmp_path / "rows.npy", numbered(10))
    X = np.load(tmp_path / "rows.npy", mmap_mode="r")
    sizes = []

    class Spy(np.memmap):
        def __getitem__(self, rows):
            part = super().__getitem__(rows)
            sizes.append(len(part))
            return part

    generator = torch.Generator().manual_seed(0) if shuffle else None
    for batch in RowBatches(X.view(Spy), 4, CPU, generator=generator):
        batch += 1  # would end the process, were the memory shared
    assert sizes == ([4, 3, 3] if shuffle else [4, 4, 2])
    np.testing.assert_array_equal(np.load(tmp_path / "rows.npy"), numbered(10))


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(
    "X",
    [
        np.asfortranarray(numbered(6)),
        numbered(6)[::-1],
        numbered(6)[:, ::-1],
        numbered(12)[::2],
        numbered(6, d=6)[:, ::2],
    ],
)
def test_any_memory_layout_serves(X, shuffle):
    generator = torch.Generator().manual_seed(0) if shuffle else None
    rows = torch.cat(list(RowBatches(X, 4, CPU, generator=generator))).numpy()
    np.testing.assert_array_equal(
        rows[rows[:, 0].argsort()], X[X[:, 0].argsort()], strict=True
    )


# To the device


def test_writeable_memory_is_shared():
    X = numbered(3)
    as_tensor(X)[0, 0] = 7
    assert X[0, 0] == 7
    tensor = torch.zeros(2)
    assert as_tensor(tensor) is tensor
    assert to_device(tensor, CPU) is tensor


@kinds
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_is_kept_where_the_device_has_it(kind, dtype):
    X = kind(numbered(2).astype(dtype))
    moved = to_device(X, torch.device("meta"))
    assert moved.device.type == "meta"
    assert moved.dtype == getattr(torch, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_mps_gets_float32(monkeypatch, dtype):
    monkeypatch.setattr(torch.Tensor, "to", lambda self, **kwargs: kwargs)
    mps = torch.device("mps")
    moved = to_device(numbered(2).astype(dtype), mps)
    assert moved == {"device": mps, "dtype": torch.float32}


# Centre and spread


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 30),
    d=st.integers(1, 5),
    batch_size=st.integers(1, 35),
    dtype=st.sampled_from([np.float32, np.float64]),
    magnitude=st.sampled_from([1e-37, 1e-30, 1.0, 1e30, 1e37]),
    offset=st.sampled_from([0.0, 1.0, 1e3]),
    tensor=st.booleans(),
)
def test_centre_and_spread(seed, n, d, batch_size, dtype, magnitude, offset, tensor):
    rng = np.random.default_rng(seed)
    X = ((rng.normal(size=(n, d)) + offset) / 1e3 * magnitude).astype(dtype)
    mean, spread = centre_and_spread(torch.tensor(X) if tensor else X, batch_size)
    exact = X.astype(np.float64)
    expected = exact.mean(axis=0)
    assert mean.numpy().dtype == dtype
    atol = 1e-6 * abs(exact).max() + np.finfo(dtype).smallest_subnormal
    np.testing.assert_allclose(mean, expected, rtol=1e-6, atol=atol)
    squares = ((exact / magnitude - expected / magnitude) ** 2).sum(axis=1)
    np.testing.assert_allclose(
        spread / magnitude,
        np.sqrt(squares.mean()),
        rtol=1e-6,
        atol=1e-15 * (1 + offset),
    )


def test_the_mean_is_summed_in_float64():
    X = np.random.default_rng(0).normal(size=(20_000, 8)).astype(np.float32)
    mean, _ = centre_and_spread(X)
    expected = X.mean(axis=0, dtype=np.float64).astype(np.float32)
    np.testing.assert_array_equal(mean, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_at_the_ends_of_their_range(dtype):
    info = np.finfo(dtype)
    for number in (info.max, info.smallest_subnormal):
        mean, spread = centre_and_spread(np.array([[number, number]] * 2, dtype))
        np.testing.assert_array_equal(mean, np.array([number, number], dtype))
        assert spread == 0
    mean, spread = centre_and_spread(np.array([[info.max], [-info.max]], dtype) / 2)
    assert mean == 0
    assert spread == pytest.approx(float(info.max) / 2)
    mean, spread = centre_and_spread(np.array([[-info.max], [0]], dtype))
    assert mean == -info.max / 2
    assert spread == pytest.approx(float(info.max) / 2)


@pytest.mark.parametrize("row", [0.1, 1e9 / 3, 0.0])
def test_equal_rows_have_no_spread_at_all(row):
    mean, spread = centre_and_spread(np.full((1000, 3), row), batch_size=7)
    assert (mean == row).all()
    assert spread == 0.0
