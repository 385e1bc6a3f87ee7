"""Rows of any scale, offset and shape give finite dictionaries."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from oracles import FEW, VARIANTS, assert_sound, close_atoms, make_variant, variants

from skdict import ICFL
from skdict.metrics import explained_variance

# Equivariance


@pytest.mark.parametrize("factor", [1e-6, 0.3, 7.0, 1e6])
@variants
def test_scale_equivariance(variant, factor):
    parameters = {"n_components": 20, "k": 3, "max_iter": 5}
    model = make_variant(variant, **parameters).fit(FEW)
    scaled = make_variant(variant, **parameters).fit(factor * FEW)
    close_atoms(model, scaled, 1e-8)
    assert_allclose(scaled.pre_bias_ / factor, model.pre_bias_, rtol=0, atol=1e-9)
    assert_allclose(
        scaled.transform(factor * FEW).toarray() / factor,
        model.transform(FEW).toarray(),
        atol=1e-6,
    )
    assert scaled.score(factor * FEW) == pytest.approx(model.score(FEW))
    for a, b in zip(model.history_, scaled.history_, strict=True):
        assert b["loss"] / factor**2 == pytest.approx(a["loss"])
        assert b["explained_variance"] == pytest.approx(a["explained_variance"])


@variants
def test_translation_equivariance(variant):
    shift = 100 * np.arange(8.0)
    parameters = {"n_components": 20, "k": 3, "max_iter": 5}
    model = make_variant(variant, **parameters).fit(FEW)
    moved = make_variant(variant, **parameters).fit(FEW + shift)
    close_atoms(model, moved, 1e-6)
    assert_allclose(moved.pre_bias_, model.pre_bias_ + shift, atol=1e-6)
    assert_allclose(
        moved.transform(FEW + shift).toarray(),
        model.transform(FEW).toarray(),
        atol=1e-5,
    )


@settings(max_examples=15)
@given(exponent=st.integers(-90, 90), variant=st.sampled_from(sorted(VARIANTS)))
def test_powers_of_two_scale_exactly(exponent, variant):
    rows, factor = FEW.astype(np.float32), np.float32(2.0**exponent)
    parameters = {"n_components": 10, "k": 3, "max_iter": 2}
    model = make_variant(variant, **parameters).fit(rows)
    scaled = make_variant(variant, **parameters).fit(factor * rows)
    assert_array_equal(scaled.components_, model.components_, strict=True)
    assert_array_equal(scaled.pre_bias_, factor * model.pre_bias_, strict=True)
    codes = model.transform(rows)
    assert_array_equal(
        scaled.transform(factor * rows).toarray(), factor * codes.toarray(), strict=True
    )
    # What is learnt at one magnitude also codes another.
    model.pre_bias_ = np.zeros_like(model.pre_bias_)
    if variant == "TopKSAE":
        model.encoder_bias_ = np.zeros_like(model.encoder_bias_)
    assert_array_equal(
        model.transform(factor * rows).toarray(),
        factor * model.transform(rows).toarray(),
        strict=True,
    )


@variants
def test_refit_and_codes_at_any_magnitude(variant):
    model = make_variant(variant, n_components=20, k=6, max_iter=3).fit(
        FEW.astype(np.float32)
    )
    model.pre_bias_[:] = 0
    if variant == "TopKSAE":
        model.encoder_bias_[:] = 0
    codes = model.transform(FEW.astype(np.float32)).toarray()
    for exponent in (-100, 100):
        factor = np.float32(2.0**exponent)
        scaled = model.transform(factor * FEW.astype(np.float32)).toarray()
        assert_array_equal(scaled, factor * codes)


# Odd rows


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 1e30])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@variants
def test_constant_rows(variant, dtype, value):
    # 0.1 has no exact mean: sums of it round.
    rows = np.full((50, 3), value, dtype=dtype)
    model = make_variant(variant, max_iter=2).fit(rows)
    assert_array_equal(model.pre_bias_, rows[0], strict=True)
    assert model.transform(rows).nnz == 0
    assert model.score(rows) == 1
    assert model.score(rows[:1]) == 1
    assert model.score(rows + 1) == explained_variance(
        rows + 1, model.inverse_transform(model.transform(rows + 1))
    )
    assert_sound(model, rows)


def odd_rows():
    rng = np.random.default_rng(0)
    rows = FEW.astype(np.float32)
    return {
        "all zero": np.zeros((9, 4), np.float32),
        "some zero": np.vstack([rows, np.zeros((5, 8), np.float32)]),
        "duplicate": np.repeat(rows[:3], 20, axis=0),
        "constant features": np.c_[rows, np.full((60, 2), 3, np.float32)],
        "large constant feature": np.c_[rows, np.full((60, 1), 1e10, np.float32)],
        "huge constant feature": np.c_[
            rows * np.float32(1e-29), np.full((60, 1), 1e10, np.float32)
        ],
        "one row": rows[:1],
        "two rows": rows[:2],
        "one feature": rows[:, :1],
        "one number": rows[:1, :1],
        "fewer rows than components": rows[:5],
        "huge": rows * np.float32(1e30),
        "tiny": rows * np.float32(1e-30),
        "subnormal": rows * np.float32(1e-40),
        "smallest": np.sign(rows) * np.float32(1e-45),
        "huge float64": FEW * 1e300,
        "tiny float64": FEW * 1e-300,
        "subnormal float64": FEW * 1e-310,
        "float16": rows.astype(np.float16),
        "bool": rows > 0,
        "outlier": np.vstack([rows, np.full((1, 8), 1e30, np.float32)]),
        "parallel outlier": np.vstack([rows, rows[:1] * np.float32(1e30)]),
        "large offset": rows + np.float32(1e6),
        "Fortran": np.asfortranarray(rows),
        "reversed": rows[::-1, ::-1],
        "strided": np.repeat(rows, 2, axis=1)[:, ::2],
        "big endian": rows.astype(">f4"),
        "long double": rows.astype(np.longdouble),
        "mixed magnitudes": rows * 10.0 ** rng.integers(-150, 150, rows.shape),
        "list": rows.tolist(),
    }


@pytest.mark.parametrize("kind", odd_rows())
@variants
def test_odd_rows_are_no_error(variant, kind):
    rows = odd_rows()[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = make_variant(variant, n_components=20, k=2, max_iter=3).fit(rows)
        assert_sound(model, np.asarray(rows))
        model = make_variant(variant, n_components=20, k=2).partial_fit(rows)
        assert_sound(model.partial_fit(rows), np.asarray(rows))


def test_duplicate_atoms_are_no_error():
    model = ICFL(init=np.repeat(FEW[:4], 5, axis=0), k=8, max_iter=3).fit(FEW)
    assert_sound(model, FEW)
    model.components_[:] = model.components_[0]
    for refit in (False, True):
        assert_sound(model.set_params(refit=refit), FEW)


@st.composite
def finite_rows(draw):
    """Rows of any shape and magnitude, some of them degenerate."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    rows = rng.normal(size=(draw(st.integers(1, 30)), draw(st.integers(1, 7))))
    if draw(st.booleans()):
        rows[:, 0] = draw(st.sampled_from([0.0, 1.0, 1e6]))
    if draw(st.booleans()):
        rows[rng.random(len(rows)) < 0.5] = 0
    if draw(st.booleans()):
        rows[rng.random(len(rows)) < 0.5] = rows[0]
    if draw(st.booleans()):
        rows = np.round(rows)
    if draw(st.booleans()):
        rows[-1] *= draw(st.sampled_from([1e-15, 1e4, 1e15]))
    if draw(st.booleans()):
        rows += draw(st.sampled_from([1.0, 1e3, 1e7]))
    dtype = draw(st.sampled_from([np.float16, np.float32, np.float64]))
    highest = {np.float16: 0, np.float32: 18, np.float64: 270}[dtype]
    lowest = {np.float16: 0, np.float32: -45, np.float64: -320}[dtype]
    rows = rows * 10.0 ** draw(st.integers(lowest, highest))
    with np.errstate(over="ignore"):
        return np.nan_to_num(rows.astype(dtype))


@settings(max_examples=120)
@given(
    rows=finite_rows(),
    variant=st.sampled_from(sorted(VARIANTS)),
    n_components=st.integers(1, 12),
    k=st.integers(1, 14),
    init=st.sampled_from(["random", "samples"]),
    batch_size=st.sampled_from(["auto", 1, 7]),
    streamed=st.booleans(),
)
@pytest.mark.filterwarnings("ignore:k=")
def test_never_a_nan_out_of_finite_rows(
    rows, variant, n_components, k, init, batch_size, streamed
):
    model = make_variant(
        variant,
        n_components=n_components,
        k=k,
        init=init,
        batch_size=batch_size,
        max_iter=2,
    )
    if streamed:
        model.partial_fit(rows).partial_fit(rows)
    else:
        model.fit(rows)
    assert_sound(model, rows)
