"""Numbers in whatever they come: no digit is lost on the way in."""

from decimal import Decimal

import array_api_strict
import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import config_context

from skdict import (
    ICFL,
    ControlCenterScaler,
    ControlPCAWhitener,
    Reconstructor,
    TopKSAE,
    Truncator,
    metrics,
)
from skdict._utils import checks
from skdict._utils.arrays import row_blocks
from skdict._utils.checks import (
    as_floats,
    check_finite,
    check_floats,
    check_numbers,
    on_host,
    readable,
)
from skdict.metrics import reconstruction_cosine, selectivity_scores


def mixed(X):
    return pd.DataFrame(X).astype({0: object, 1: "Float64"})


# The same float64 numbers, in an array of their own layout or something else.
FORMS = {
    "list": lambda X: X.tolist(),
    "list of rows": list,
    "tuple": lambda X: tuple(map(tuple, X.tolist())),
    "object": lambda X: X.astype(object),
    "decimals": lambda X: [[Decimal(x) for x in row] for row in X.tolist()],
    "big-endian": lambda X: X.astype(">f8"),
    "long double": lambda X: X.astype(np.longdouble),
    "tensor": lambda X: torch.tensor(X, requires_grad=True),
    "pandas": pd.DataFrame,
    "pandas, nullable": lambda X: pd.DataFrame(X).astype("Float64"),
    "pandas, mixed": mixed,
    "polars": pl.DataFrame,
    "polars, mixed": lambda X: pl.DataFrame(X).with_columns(
        narrow=pl.Series(np.zeros(len(X), np.float32)),
        whole=pl.Series(np.arange(len(X))),
    ),
}
FLOAT32 = {
    "list of rows": lambda X: list(X.astype(np.float32)),
    "float16": lambda X: X.astype(np.float16),
    "big-endian": lambda X: X.astype(">f4"),
    "tensor, float16": lambda X: torch.tensor(X).half(),
    "tensor, bfloat16": lambda X: torch.tensor(X).bfloat16(),
    "list of int": lambda X: X.astype(int).tolist(),
    "int": lambda X: X.astype(int),
    "bool": lambda X: X > 0,
    "list of bool": lambda X: (X > 0).tolist(),
    "pandas, float16": lambda X: pd.DataFrame(X.astype(np.float16)),
    "pandas, int": lambda X: pd.DataFrame(X.astype(int)),
    "pandas, bool": lambda X: pd.DataFrame(X > 0),
    "polars, float32": lambda X: pl.DataFrame(X.astype(np.float32)),
    "polars, int": lambda X: pl.DataFrame(X.astype(int)),
    "polars, bool": lambda X: pl.DataFrame(X > 0),
}
ESTIMATORS = {
    "ICFL": ICFL(8, 2, max_iter=2, random_state=0),
    "TopKSAE": TopKSAE(8, 2, max_iter=2, random_state=0, sparse_output=False),
    "ControlPCAWhitener": ControlPCAWhitener(),
    "ControlPCAWhitener, zca": ControlPCAWhitener(method="zca", shrinkage="auto"),
    "ControlCenterScaler": ControlCenterScaler(),
    "Reconstructor": Reconstructor(ICFL(8, 2, max_iter=1, random_state=0)),
    "Truncator": Truncator(ICFL(8, 2, max_iter=1, random_state=0), k=1),
}

# Digits that float32 does not hold: it would see equal rows.
tables = st.builds(
    lambda seed, offset, scale: (
        offset + scale * np.random.default_rng(seed).normal(size=(24, 5))
    ),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 1e6, -3e9]),
    st.sampled_from([1e-2, 1.0, 1e5]),
)


def native(form):
    """The same numbers as a native array.

    In the same layout, because the last bit of a product depends on it, and as
    writeable, because torch copies what is not, into another layout.
    """
    flags = np.asarray(on_host(form)).flags
    rows = pd.DataFrame(form) if isinstance(form, pl.DataFrame) else on_host(form)
    array = np.array(rows, np.float64, order="F" if flags.f_contiguous else "C")
    array.flags.writeable = flags.writeable
    return array


def results(estimator, X):
    """All that an estimator gives for rows, in numpy and dense."""
    fitted = estimator.fit(X)
    out = {n: v for n, v in vars(fitted).items() if isinstance(v, np.ndarray)}
    out["codes"] = fitted.transform(X)
    if hasattr(fitted, "inverse_transform"):
        out["X_hat"] = fitted.inverse_transform(out["codes"])
    if hasattr(fitted, "score"):
        out["score"] = fitted.score(X)
    out.pop("feature_names_in_", None)
    return {n: v.toarray() if sp.issparse(v) else v for n, v in out.items()}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ESTIMATORS)
@settings(max_examples=15)
@given(form=st.sampled_from([*FORMS]), X=tables)
def test_float64_in_any_form_gives_what_a_native_array_gives(name, form, X):
    table = FORMS[form](X)
    expected = results(ESTIMATORS[name], native(table))
    got = results(ESTIMATORS[name], table)
    assert got.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(got[key], value, err_msg=key)
        assert np.asarray(got[key]).dtype == np.asarray(value).dtype, key


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", [n for n in ESTIMATORS if n != "Reconstructor"])
@settings(max_examples=15)
@given(form=st.sampled_from([f for f in FORMS if f != "polars, mixed"]), X=tables)
def test_codes_in_any_form_are_decoded_alike(name, form, X):
    fitted = ESTIMATORS[name].fit(X)
    codes = fitted.transform(X)
    codes = FORMS[form](codes.toarray() if sp.issparse(codes) else codes)
    got, expected = map(fitted.inverse_transform, (codes, native(codes)))
    np.testing.assert_array_equal(got, expected)
    assert got.dtype == np.float64


@pytest.mark.parametrize("form", [f for f in FORMS if f != "polars, mixed"])
def test_start_in_any_form(form):
    X = np.random.default_rng(0).normal(size=(24, 5))
    init = X[:8] / 3
    atoms, expected = (
        ICFL(8, 2, init=start, max_iter=0).fit(X).components_
        for start in (FORMS[form](init), init)
    )
    np.testing.assert_array_equal(atoms, expected)


@pytest.mark.parametrize("form", FORMS)
@given(X=tables)
def test_every_digit_arrives(form, X):
    table = FORMS[form](X)
    X = native(table)
    for check in (check_floats, check_numbers):
        np.testing.assert_array_equal(check(table), X)
    assert metrics.explained_variance(table, X + 1) == metrics.explained_variance(
        X, X + 1
    )


def test_score_where_float32_sees_equal_rows():
    A = 1e6 + 1e-3 * np.random.default_rng(0).normal(size=(400, 12))
    score = ICFL(30, 4, random_state=0).fit(A).score(A)
    assert 0 < score < 1
    assert ICFL(30, 4, random_state=0).fit(A.tolist()).score(A.tolist()) == score


@pytest.mark.parametrize("form", FLOAT32)
def test_narrow_numbers_become_float32(form):
    X = np.random.default_rng(0).normal(scale=5, size=(24, 5))
    given_ = FLOAT32[form](X)
    expected = np.asarray(on_host(given_)).astype(np.float32)
    got = check_floats(given_)
    assert got.dtype == np.float32
    assert got.dtype.isnative
    np.testing.assert_array_equal(got, expected)
    codes = ICFL(8, 2, max_iter=1, sparse_output=False).fit_transform(given_)
    assert codes.dtype == np.float32


@pytest.mark.parametrize("name", ["ICFL", "TopKSAE", "ControlPCAWhitener"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_tensors_under_dispatch(name):
    X = torch.tensor(np.random.default_rng(0).normal(size=(24, 5)))
    estimator = ESTIMATORS[name].set_params(
        **({} if "PCA" in name else {"sparse_output": False})
    )
    with config_context(array_api_dispatch=True):
        for given_, dtype in [(X, torch.float64), (X.bfloat16(), torch.float32)]:
            Z = estimator.fit(given_).transform(given_)
            assert Z.dtype == dtype
            same = estimator.fit(given_.to(dtype)).transform(given_.to(dtype))
            np.testing.assert_array_equal(Z, same)


def test_sparse_codes():
    codes = sp.random(20, 8, density=0.4, format="csr", random_state=0)
    assert check_floats(codes, accept_sparse="csr") is codes
    wide = check_floats(codes.astype(np.longdouble), accept_sparse="csr")
    assert wide.dtype == np.float64
    np.testing.assert_array_equal(wide.toarray(), codes.toarray())
    counts = (codes * 10).astype(int)
    assert check_floats(counts, accept_sparse="csr").dtype == np.float32
    assert check_numbers(counts, accept_sparse="csr").dtype == counts.dtype


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.ones((3, 2), "M8[s]"), "Numbers are needed, but the entries are datetime"),
        ([["a", "b"]], "bytes/strings"),
        (np.ones((3, 2), complex), "Complex data"),
        (np.full((3, 2), np.longdouble(10) ** 400), "infinity"),
    ],
)
def test_what_is_no_finite_number_is_refused(X, message):
    with pytest.raises(ValueError, match=message):
        ICFL(4, 2).fit(X)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (ICFL(4, 2).fit, "X"),
        (
            ICFL(4, 2, max_iter=1)
            .fit(pd.DataFrame(np.eye(4), columns=list("0123")))
            .transform,
            "X",
        ),
        (lambda frame: reconstruction_cosine(frame, np.eye(4)), "X"),
        (lambda frame: selectivity_scores(frame, [0, 1, 0, 1]), "codes"),
    ],
    ids=["fit", "transform", "rows of a metric", "codes of a metric"],
)
def test_frames_of_sparse_columns_with_other_fill_values(call, name):
    columns = {str(i): pd.arrays.SparseArray(row) for i, row in enumerate(np.eye(4))}
    frame = pd.DataFrame(columns).astype(pd.SparseDtype(float, np.nan))
    with pytest.raises(ValueError, match=rf"^{name} is a frame of .*to_dense\(\)"):
        call(frame)


def test_what_is_right_is_not_copied():
    for dtype in (np.float32, np.float64):
        X = np.ones((3, 2), dtype)
        assert as_floats(X) is X
    tensor = torch.ones(3, 2)
    assert readable(tensor).data_ptr() == tensor.data_ptr()
    assert readable("no tensor") == on_host("no tensor") == "no tensor"


@pytest.mark.parametrize(
    "make",
    [np.asarray, sp.csr_array, sp.csc_array, torch.tensor, array_api_strict.asarray],
    ids=["numpy", "CSR", "CSC", "torch", "strict"],
)
def test_rows_that_are_not_finite_are_counted(make, monkeypatch):
    monkeypatch.setattr(checks, "row_blocks", lambda X: row_blocks(X, 6))
    X = np.zeros((7, 3))
    X[1, 2] = X[0, 0] = 1.7e308  # their sum overflows
    X[2, 0] = 1.7e308
    with config_context(array_api_dispatch=True):
        check_finite(make(X), "X")
        X[3, 1], X[3, 2], X[6, 0] = np.nan, -np.inf, np.inf
        message = "^X holds NaN or infinity in 2 of 7 rows, the first of them row 3.$"
        with pytest.raises(ValueError, match=message):
            check_finite(make(X), "X")
