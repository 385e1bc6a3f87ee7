"""Truncator: shorter codes from one fit."""

import joblib
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import config_context
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skdict import ICFL, ControlPCAWhitener, TopKSAE, Truncator, load, save
from skdict.decomposition._truncator import _keep_largest
from skdict.metrics import explained_variance

X = np.random.default_rng(0).normal(size=(300, 12)).astype(np.float32)
DICTIONARIES = {
    "ICFL": ICFL(30, 9, max_iter=2, random_state=0),
    "matching pursuit": ICFL(30, 9, atoms_per_step=1, max_iter=2, random_state=0),
    "ICFL, refit": ICFL(30, 9, refit=True, max_iter=2, random_state=0),
    "TopKSAE": TopKSAE(30, 9, max_iter=2, random_state=0),
}


@pytest.mark.parametrize("k", [1, 3, 5, 9])
@pytest.mark.parametrize("name", DICTIONARIES)
def test_codes_are_those_of_the_same_dictionary_with_the_smaller_k(name, k):
    whole = DICTIONARIES[name]
    truncator = Truncator(whole, k).fit(X)
    same = type(whole)(**whole.get_params()).fit(X).set_params(k=k)
    np.testing.assert_array_equal(
        truncator.transform(X).toarray(), same.transform(X).toarray()
    )
    assert truncator.score(X) == same.score(X)
    assert truncator.estimator_.k == 9  # what was fitted is left as it was


def test_pursuit_steps_are_nested():
    """The code after two of three steps is the code for two steps."""
    fitted = Truncator(ICFL(30, 15, max_iter=2, random_state=0)).fit(X)
    residuals = [
        np.square(X - fitted.inverse_transform(codes)).sum(1)
        for codes in (fitted.set_params(k=k).transform(X) for k in (5, 10, 15))
    ]
    assert (np.diff(residuals, axis=0) <= 1e-5).all()
    assert not np.allclose(residuals[0], residuals[2])


def test_no_k_changes_nothing():
    fitted = Truncator(ICFL(30, 9, max_iter=2, random_state=0)).fit(X)
    codes = fitted.estimator_.transform(X)
    assert (fitted.transform(X) != codes).nnz == 0
    components = Truncator(PCA(5)).fit(X)
    np.testing.assert_array_equal(
        components.transform(X), components.estimator_.transform(X)
    )


@pytest.mark.parametrize(("given_k", "fitted_k"), [(9, 9), (None, 1)])
def test_codes_cannot_be_made_longer(given_k, fitted_k):
    fitted = Truncator(ICFL(30, given_k, max_iter=0), k=fitted_k).fit(X)
    fitted.transform(X)
    with pytest.raises(ValueError, match=f"larger than k={fitted_k}"):
        fitted.set_params(k=fitted_k + 1).transform(X)


@given(
    arrays(np.float64, (4, 6), elements=st.integers(-3, 3).map(float)),
    st.integers(1, 8),
)
@settings(deadline=None, max_examples=80)
def test_keeps_the_largest_magnitudes(codes, k):
    for given_codes in (codes, sp.csr_matrix(codes)):
        kept = _keep_largest(given_codes, k)
        assert sp.issparse(kept) == sp.issparse(given_codes)
        kept = kept.toarray() if sp.issparse(kept) else kept
        for before, after in zip(codes, kept, strict=True):
            order = sorted(range(6), key=lambda j: (-abs(before[j]), j))[:k]
            expected = np.zeros(6)
            expected[order] = before[order]
            np.testing.assert_array_equal(after, expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, bool])
@pytest.mark.parametrize("make", [np.asarray, sp.csr_array])
def test_zeros_of_integer_codes_are_the_smallest(dtype, make):
    """Negated, an unsigned zero is smaller than any other negated value."""
    codes = np.array([[0, 5, 3, 0], [0, 0, 0, 1]]).astype(dtype)
    kept = Truncator(FunctionTransformer(), 1).fit_transform(make(codes))
    kept = kept.toarray() if sp.issparse(kept) else kept
    assert kept.dtype == dtype
    np.testing.assert_array_equal(kept, codes * np.array([[0, 1, 0, 0], [0, 0, 0, 1]]))


def test_repeated_entries_are_one_code():
    codes = sp.csr_array(([1.0, 1.0, 1.5], [2, 2, 0], [0, 3]), shape=(1, 4))
    kept = Truncator(FunctionTransformer(), 1).fit_transform(codes)
    np.testing.assert_array_equal(kept.toarray(), [[0, 0, 2, 0]])
    assert codes.nnz == 3  # what was given is left as it was


@pytest.mark.parametrize("container", ["default", "pandas", "polars"])
def test_estimators_that_give_frames(container):
    expected = Truncator(PCA(4), 2).fit_transform(X)
    frames = PCA(4).set_output(transform=container)
    np.testing.assert_array_equal(Truncator(frames, 2).fit_transform(X), expected)
    with config_context(transform_output=container):
        truncator = Truncator(PCA(4), 2).fit(X)
        found = truncator.transform(X)
        assert np.isfinite(truncator.score(X))
    assert type(found).__module__.split(".")[0] == {"default": "numpy"}.get(
        container, container
    )
    np.testing.assert_array_equal(np.asarray(found), expected)


def test_codes_that_are_not_finite_are_refused():
    """They would be dropped in silence, being sorted last."""
    truncator = Truncator(FunctionTransformer(), 1).fit([[1.0, 2.0]])
    with pytest.raises(ValueError, match="codes contains NaN"):
        truncator.transform([[1.0, np.nan]])


def test_one_row_has_no_explained_variance():
    with pytest.raises(ValueError, match="at least two rows"):
        Truncator(PCA(4), 2).fit(X).score(X[:1])


def test_other_transformers_are_scored_by_explained_variance():
    fitted = Truncator(PCA(5, random_state=0), k=2).fit(X)
    codes = fitted.transform(X)
    assert np.all((codes != 0).sum(1) == 2)
    expected = explained_variance(X, fitted.inverse_transform(codes))
    assert fitted.score(X) == pytest.approx(expected, abs=1e-6)
    neurons = FunctionTransformer(feature_names_out="one-to-one", check_inverse=False)
    raw = Truncator(neurons, k=3).fit(X)
    assert np.all((raw.transform(X) != 0).sum(1) == 3)


class Counting(ICFL):
    """Says in a file how often it was fitted, whatever process that was in."""

    def __init__(
        self, n_components=None, k=None, *, max_iter=2, log="", random_state=0
    ):
        super().__init__(n_components, k, max_iter=max_iter, random_state=random_state)
        self.log = log

    def fit(self, X, y=None):
        with open(self.log, "a") as file:
            file.write(".")
        return super().fit(X, y)


@pytest.mark.parametrize("in_pipeline", [False, True])
def test_a_search_with_memory_fits_once_per_fold(tmp_path, in_pipeline):
    log = tmp_path / "fits"
    truncator = Truncator(
        Counting(30, 9, log=str(log)), memory=joblib.Memory(tmp_path, verbose=0)
    )
    grid = {"k": [1, 3, 5, 7, 9]}
    model = truncator
    if in_pipeline:
        model = make_pipeline(StandardScaler(), truncator)
        grid = {"truncator__k": grid["k"]}
    search = GridSearchCV(model, grid, cv=KFold(3), refit=False).fit(X)
    assert log.read_text() == "..."
    scores = search.cv_results_["mean_test_score"]
    assert np.all(np.diff(scores) > 0)


def test_a_folder_serves_as_memory(tmp_path):
    first = Truncator(ICFL(30, 5, max_iter=1), k=2, memory=str(tmp_path)).fit(X)
    again = Truncator(ICFL(30, 5, max_iter=1), k=3, memory=str(tmp_path)).fit(X)
    # Not seeded, so only what was kept can agree.
    np.testing.assert_array_equal(
        first.estimator_.components_, again.estimator_.components_
    )


def test_metadata_reach_the_estimator():
    control = np.arange(len(X)) < 200
    with config_context(enable_metadata_routing=True):
        fitted = Truncator(ControlPCAWhitener(), k=2).fit(X, control=control)
    assert fitted.estimator_.n_control_samples_ == 200
    assert np.all((fitted.transform(X) != 0).sum(1) == 2)


def test_round_trip_through_a_file(tmp_path):
    fitted = Truncator(ICFL(30, 9, max_iter=1, random_state=0), k=4).fit(X)
    save(fitted, tmp_path / "truncator.skops")
    loaded = load(tmp_path / "truncator.skops")
    assert (loaded.transform(X) != fitted.transform(X)).nnz == 0


def test_names_are_those_of_the_estimator():
    fitted = Truncator(PCA(3), k=1).set_output(transform="pandas").fit(X)
    assert list(fitted.transform(X).columns) == ["pca0", "pca1", "pca2"]


@pytest.mark.parametrize("kind", ["frozen", "pipeline", "frozen pipeline"])
def test_dictionaries_inside_others_encode_with_the_smaller_k(kind):
    whole = ICFL(30, 9, max_iter=2, random_state=0)
    pipeline = make_pipeline(StandardScaler(), whole).fit(X)
    rows = X if kind == "frozen" else StandardScaler().fit_transform(X)
    estimator = {
        "frozen": FrozenEstimator(ICFL(**whole.get_params()).fit(X)),
        "pipeline": pipeline,
        "frozen pipeline": FrozenEstimator(pipeline),
    }[kind]
    expected = ICFL(**whole.get_params()).fit(rows).set_params(k=3).transform(rows)
    truncator = Truncator(estimator, 3).fit(X)
    np.testing.assert_array_equal(truncator.transform(X).toarray(), expected.toarray())
    assert whole.k == 9
    if kind != "frozen":
        X_hat = pipeline.inverse_transform(expected)
        assert truncator.score(X) == pytest.approx(explained_variance(X, X_hat))
    with pytest.raises(ValueError, match="k=10 is larger than k=9"):
        truncator.set_params(k=10).transform(X)


@pytest.mark.parametrize("of_pipeline", [False, True])
def test_a_search_over_k_of_what_is_fitted(of_pipeline):
    fitted = ICFL(30, 9, max_iter=2, random_state=0)
    fitted = (make_pipeline(StandardScaler(), fitted) if of_pipeline else fitted).fit(X)
    truncator = Truncator(FrozenEstimator(fitted))
    search = GridSearchCV(truncator, {"k": [2, 9]}, cv=KFold(2), error_score="raise")
    scores = search.fit(X).cv_results_["mean_test_score"]
    assert scores[0] < scores[1]
    assert search.best_estimator_.estimator_.estimator is fitted


@pytest.mark.parametrize("k", [0, 1.5, "two", True])
def test_k_is_checked(k):
    with pytest.raises(ValueError, match="'k' parameter of Truncator"):
        Truncator(PCA(3), k=k).fit(X)


@pytest.mark.parametrize("cls", [ICFL, TopKSAE])
@pytest.mark.parametrize("init", ["random", "samples"])
def test_no_passes_leave_the_first_atoms(cls, init):
    fitted = cls(30, 4, init=init, max_iter=0, random_state=0).fit(X)
    trained = cls(30, 4, init=init, max_iter=5, random_state=0).fit(X)
    assert (fitted.history_, fitted.n_iter_, fitted.n_steps_) == ([], 0, 0)
    np.testing.assert_allclose(np.linalg.norm(fitted.components_, axis=1), 1, rtol=1e-5)
    codes = fitted.transform(X)
    density = (codes != 0).mean(axis=0)
    np.testing.assert_allclose(fitted.feature_density_, np.ravel(density), atol=0.02)
    assert fitted.score(X) < trained.score(X)
    if init == "samples":
        rows = X - X.mean(axis=0)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        assert (fitted.components_ @ rows.T).max(axis=1).min() > 0.9999
