"""A pipeline step that takes out the features that follow the batch."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from sklearn import config_context
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skdict import ICFL, FeatureSuppressor, load, save
from skdict.concepts import ablate
from skdict.datasets import make_planted_screen
from skdict.stats import VarianceInside, permutations


def planted(seed=0, n_samples=400, n_components=12):
    """Codes of which feature 3 follows the batch, 5 the class, and the classes are
    unequal over the batches."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n_samples)
    batch = (y + rng.integers(0, 3, n_samples)) % 4
    codes = rng.exponential(size=(n_samples, n_components))
    codes[rng.random(codes.shape) < 0.6] = 0
    codes[:, 3] += (batch == 2) * (rng.random(n_samples) < 0.5)
    codes[:, 5] += (y == 1) * (rng.random(n_samples) < 0.7)
    return codes, y, batch


CODES, Y, BATCH = planted()


def found(suppressor):
    return np.flatnonzero(suppressor.is_suppressed_).tolist()


def partial_eta_squared(column, batch, strata):
    """By least squares: what the batch explains after the strata."""
    strata_part = np.eye(strata.max() + 1)[strata]
    batch_part = np.eye(batch.max() + 1)[batch]

    def rest(design):
        fit = design @ np.linalg.lstsq(design, column, rcond=None)[0]
        return ((column - fit) ** 2).sum()

    inside = rest(strata_part)
    return 1 - rest(np.hstack([strata_part, batch_part])) / inside


@pytest.mark.parametrize("container", [np.asarray, sp.csr_matrix, sp.csr_array])
@pytest.mark.parametrize("scale", [1.0, 1e150, 1e-150])
def test_variance_is_that_of_the_linear_model(container, scale):
    variance = VarianceInside(container(CODES * scale), Y)
    eta, rank = variance.eta_squared(BATCH)
    expected = [partial_eta_squared(column, BATCH, Y) for column in CODES.T]
    np.testing.assert_allclose(eta, expected, rtol=1e-9)
    assert rank == 3


def test_variance_without_strata_is_that_of_the_f_test():
    eta, rank = VarianceInside(sp.csr_array(CODES)).eta_squared(BATCH)
    n_left = len(BATCH) - 1 - rank
    statistics = [
        scipy_stats.f_oneway(*(column[b == BATCH] for b in range(4))).statistic
        for column in CODES.T
    ]
    np.testing.assert_allclose(eta / rank / ((1 - eta) / n_left), statistics)


def test_constant_features_and_blocks(monkeypatch):
    codes = np.column_stack([CODES, np.full(len(Y), 0.1), np.zeros(len(Y)), Y + 0.1])
    expected, _ = VarianceInside(codes, Y).eta_squared(BATCH)
    assert (expected[-3:] == 0).all()
    monkeypatch.setattr("skdict.stats.variance._BLOCK_CELLS", 12)
    found, _ = VarianceInside(sp.csr_array(codes), Y).eta_squared(BATCH)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_names_of_batches_and_order_of_samples_do_not_matter(seed):
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(Y))
    names = rng.permutation(["a", "b", "c", "d"])
    first = FeatureSuppressor(n_permutations=0).fit(CODES, Y, batch=BATCH)
    other = FeatureSuppressor(n_permutations=0)
    other.fit(sp.csr_matrix(CODES[order]), Y[order], batch=names[BATCH[order]])
    np.testing.assert_allclose(other.omega_squared_, first.omega_squared_, atol=1e-12)


def test_p_values_are_those_of_the_largest_in_batches_exchanged_inside_classes():
    suppressor = FeatureSuppressor(n_permutations=19, random_state=0)
    suppressor.fit(CODES, Y, batch=BATCH)
    null = [
        max(partial_eta_squared(column, ids, Y) for column in CODES.T)
        for ids in permutations(BATCH, Y, 19, np.random.RandomState(0))
    ]
    eta = np.array([partial_eta_squared(column, BATCH, Y) for column in CODES.T])
    expected = (1 + (np.array(null)[:, None] >= eta).sum(axis=0)) / 20
    np.testing.assert_array_equal(suppressor.p_values_, expected)


def test_the_planted_feature_is_found_and_the_phenotype_is_kept():
    suppressor = FeatureSuppressor(random_state=0).fit(CODES, Y, batch=BATCH)
    assert found(suppressor) == [3]
    assert suppressor.p_values_[3] == 1 / 101
    np.testing.assert_array_equal(suppressor.transform(CODES), ablate(CODES, 3))
    np.testing.assert_array_equal(suppressor.inverse_transform(CODES), CODES)
    # The class is more frequent in some batches.
    without = FeatureSuppressor(within_classes=False, random_state=0)
    assert found(without.fit(CODES, Y, batch=BATCH)) == [3, 5]


def test_in_a_screen_it_takes_out_the_plates_and_no_phenotype():
    screen = make_planted_screen(n_cells=4, n_phenotypes=6, random_state=0)
    plates, wells = screen.metadata["plate"], screen.metadata["well"]
    suppressor = FeatureSuppressor(random_state=0).fit(
        screen.codes, screen.metadata["perturbation"], batch=plates, groups=wells
    )
    assert screen.kinds[suppressor.is_suppressed_].tolist() == 8 * ["plate"]
    # Without the classes, phenotypes that are not on all plates are taken for them.
    suppressor.set_params(within_classes=False).fit(screen.codes, batch=plates)
    assert "phenotype" in screen.kinds[suppressor.is_suppressed_]


def test_the_null_holds_its_level():
    rng = np.random.default_rng(0)
    n_found = 0
    for seed in range(100):
        codes = rng.random((40, 6)) * (rng.random((40, 6)) < 0.5)
        y, batch = rng.integers(0, 2, 40), rng.integers(0, 3, 40)
        suppressor = FeatureSuppressor(
            alpha=0.2, min_omega_squared=0, n_permutations=19, random_state=seed
        ).fit(codes, y, batch=batch)
        n_found += suppressor.is_suppressed_.any()
    # At most 20 % of 100 runs: two standard deviations are 8.
    assert 8 <= n_found <= 28


def test_groups_are_exchanged_as_a_whole():
    """Wells differ by themselves, so batches of few wells differ by chance."""
    n_found = {"rows": 0, "groups": 0}
    rng = np.random.default_rng(0)
    for seed in range(20):
        wells = np.repeat(np.arange(12), 10)
        codes = rng.normal(size=(12, 4))[wells] + 0.1 * rng.normal(size=(120, 4))
        batch = wells % 2
        for name, groups in [("rows", None), ("groups", wells)]:
            suppressor = FeatureSuppressor(n_permutations=39, random_state=seed)
            suppressor.fit(codes, batch=batch, groups=groups)
            n_found[name] += suppressor.is_suppressed_.any()
    assert n_found["rows"] >= 15
    assert n_found["groups"] <= 4


def test_the_strongest_are_taken_out_first():
    def limited(limit):
        suppressor = FeatureSuppressor(
            min_omega_squared=0, max_features=limit, n_permutations=0
        )
        return suppressor.fit(CODES, Y, batch=BATCH)

    suppressor = limited(None)
    assert suppressor.p_values_ is None
    order = np.argsort(-suppressor.omega_squared_)
    n_found = (suppressor.omega_squared_ >= 0).sum()
    for limit, n in [(None, n_found), (0, 0), (1, 1), (2, 2), (0.25, 3), (99, n_found)]:
        assert found(limited(limit)) == sorted(order[:n])


def test_without_a_batch_nothing_is_taken_out():
    with pytest.warns(UserWarning, match="No batch was passed to fit"):
        suppressor = FeatureSuppressor().fit(CODES, Y)
    np.testing.assert_array_equal(suppressor.transform(CODES), CODES)


@pytest.mark.parametrize(
    ("y", "batch", "message"),
    [
        (Y, np.zeros(400), "batch has the value 0 for all samples"),
        (Y, Y, "No class has samples of two batches"),
        (Y, BATCH[:9], "There are 400 rows, but batch has length 9"),
        (np.arange(400) // 2, np.arange(400), "leave no variance inside classes"),
    ],
)
def test_batches_that_say_nothing(y, batch, message):
    with pytest.raises(ValueError, match=message):
        FeatureSuppressor().fit(CODES, y, batch=batch)


def test_a_search_chooses_how_many_features_are_taken_out(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 5))
    y, batch = rng.integers(0, 2, 120), rng.integers(0, 3, 120)
    X[:, 0] += 2 * y
    X[:, 1] += 3 * batch
    with config_context(enable_metadata_routing=True):
        pipe = make_pipeline(
            ICFL(8, 3, max_iter=1, random_state=0),
            FeatureSuppressor(n_permutations=9, random_state=0),
            LogisticRegression(),
        )
        grid = {"featuresuppressor__max_features": [0, 2]}
        search = GridSearchCV(pipe, grid, cv=2).fit(X, y, batch=batch)
        chosen = search.best_estimator_
    assert chosen[1].p_values_ is not None
    save(chosen, tmp_path / "pipe.skops")
    restored = load(tmp_path / "pipe.skops")
    np.testing.assert_array_equal(restored.predict(X), chosen.predict(X))
