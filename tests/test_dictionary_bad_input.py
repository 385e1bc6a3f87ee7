"""What the dictionaries refuse: rows, codes, parameters and devices."""

import itertools

import numpy as np
import pytest
import scipy.sparse as sp
from oracles import X64, X, dictionaries, fitted, planted
from sklearn.exceptions import NotFittedError

from skdict import ICFL, TopKSAE
from skdict.decomposition import _base
from skdict.models import Dictionary

# Rows and codes


@dictionaries
@pytest.mark.parametrize("method", ["fit", "partial_fit", "transform", "score"])
def test_rows_that_are_not_finite(cls, method):
    rows = X[:60].copy()
    rows[[4, 7], 2], rows[9, 0], rows[9, 3] = np.nan, np.inf, -np.inf
    model = planted(cls, max_iter=1)
    if method in ("transform", "score"):
        model = fitted(cls, max_iter=1)
    with pytest.raises(ValueError, match=r"NaN or infinity in 3 of 60 rows, .*row 4"):
        getattr(model, method)(rows)


@dictionaries
@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        (X[:0], ValueError, "0 sample"),
        (X[:, :0], ValueError, "0 feature"),
        (X[0], ValueError, "Expected 2D array, got 1D"),
        (X[None], ValueError, "Found array with dim 3"),
        (sp.csr_matrix(X), TypeError, "Sparse data"),
        ([["a", "b"], ["c", "d"]], ValueError, "bytes/strings"),
        (X * 1j, ValueError, "Complex data not supported"),
        (None, ValueError, "Expected 2D array, got scalar"),
    ],
    ids=["empty", "no features", "1d", "3d", "sparse", "text", "complex", "none"],
)
def test_bad_rows(cls, rows, error, message):
    model = planted(cls, max_iter=1)
    for method in (model.fit, model.partial_fit):
        with pytest.raises(error, match=message):
            method(rows)
    model = fitted(cls, max_iter=1)
    for method in (model.transform, model.score):
        with pytest.raises(error, match=f"{message}|0 feature|expecting 16"):
            method(rows)


@dictionaries
def test_number_of_features(cls):
    model = fitted(cls, max_iter=1)
    for method in (model.transform, model.score, model.partial_fit):
        with pytest.raises(ValueError, match=r"15 features, but .* expecting 16"):
            method(X[:, :15])


@dictionaries
def test_codes_of_the_wrong_kind(cls):
    model = fitted(cls, max_iter=1)
    codes = model.transform(X)
    for wrong in (codes[:, :23], codes.toarray()[:, :23]):
        with pytest.raises(ValueError, match=r"23 columns, but .* has 24 components"):
            model.inverse_transform(wrong)
    with pytest.raises(ValueError, match="0 sample"):
        model.inverse_transform(codes[:0])
    with pytest.raises(ValueError, match="Expected 2D array"):
        model.inverse_transform(codes.toarray()[0])
    codes.data[3] = np.nan
    with pytest.raises(ValueError, match="X contains NaN"):
        model.inverse_transform(codes)


@dictionaries
def test_not_fitted(cls):
    for method in ("transform", "inverse_transform", "score"):
        with pytest.raises(NotFittedError):
            getattr(cls(), method)(X)


# Parameters


@pytest.mark.parametrize(
    "params",
    [
        {"k": 0},
        {"k": -1},
        {"k": "2"},
        {"n_components": 0},
        {"max_iter": -1},
        {"batch_size": 0},
        {"batch_size": "all"},
        {"learning_rate": 0.0},
        {"learning_rate": np.inf},
        {"learning_rate": np.nan},
        {"tol": -1.0},
        {"tol": np.nan},
        {"n_iter_no_change": 0},
        {"callbacks": print},
        {"verbose": -1},
        {"random_state": -1},
    ],
    ids=str,
)
@dictionaries
def test_bad_parameters(cls, params):
    for method in ("fit", "partial_fit"):
        with pytest.raises(ValueError, match=f"'{next(iter(params))}' parameter"):
            getattr(cls(**params), method)(X)


@pytest.mark.parametrize(
    "model",
    [
        ICFL(atoms_per_step=0),
        ICFL(selection="negative"),
        ICFL(span_distance=1.0),
        ICFL(span_distance=-0.1),
        ICFL(refit="each_step"),
        ICFL(reset_similarity=1.1),
        ICFL(reset_every=0),
        TopKSAE(auxiliary_weight=-1),
        TopKSAE(dead_after=0),
        TopKSAE(training_factor=0),
    ],
    ids=str,
)
def test_bad_parameters_of_one(model):
    with pytest.raises(ValueError, match="parameter of"):
        model.fit(X)


@dictionaries
@pytest.mark.parametrize(
    ("device", "message"), [("tpu9", "not a device"), ("meta", "holds no data")]
)
def test_bad_device(cls, device, message):
    with pytest.raises(ValueError, match=message):
        cls(device=device).fit(X)


# Overflow


@dictionaries
@pytest.mark.parametrize(
    "rows",
    [
        np.sign(X) * np.finfo(np.float32).max,
        np.sign(X64) * np.finfo(np.float64).max,
    ],
    ids=["float32", "float64"],
)
def test_rows_at_the_end_of_the_range_are_refused(cls, rows):
    with pytest.raises(ValueError, match="Scale X down"):
        planted(cls, max_iter=1).fit(rows)
    model = planted(cls, max_iter=1).fit(X.astype(rows.dtype))
    for method in (model.transform, model.score):
        with pytest.raises(ValueError, match=r"overflows float.* in \d+ of 1500 rows"):
            method(rows)
    codes = np.full((2, 24), abs(rows).max())
    codes[1] = 0
    model.components_[:] = 1
    with pytest.raises(ValueError, match=r"overflows float.* in 1 of 2 rows"):
        model.inverse_transform(codes)


@dictionaries
def test_the_row_that_overflowed_is_counted_over_all_batches(cls, monkeypatch):
    monkeypatch.setattr(_base, "_INFERENCE_ROWS", 100)
    model, rows = fitted(cls, max_iter=1), X.copy()
    rows[1234] = np.sign(X[1234]) * np.finfo(np.float32).max
    for method in (model.transform, model.score):
        with pytest.raises(ValueError, match=r"1 of 1500 rows, .*row 1234\."):
            method(rows)


@dictionaries
def test_a_reconstruction_that_overflows_is_told(cls, monkeypatch):
    monkeypatch.setattr(_base, "_INFERENCE_ROWS", 100)
    decode, batches = Dictionary.decode, itertools.count()

    def overflow(self, code):
        x_hat = decode(self, code)
        if next(batches) == 12:
            x_hat[34] = np.inf
        return x_hat

    model = fitted(cls, max_iter=1)
    monkeypatch.setattr(Dictionary, "decode", overflow)
    with pytest.raises(ValueError, match=r"reconstruction overflows .*row 1234\."):
        model.score(X)
