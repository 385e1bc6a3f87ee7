"""SAE: what no other dictionary has."""

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV, train_test_split

from skdict import SAE
from skdict.datasets import make_planted_dictionary
from skdict.metrics import feature_density

X = make_planted_dictionary(12000, 16, n_components=24, n_active=2, random_state=0).data
TRAIN, TEST = train_test_split(X, random_state=0)


def mean_active(model, rows):
    return feature_density(model.transform(rows)).sum()


@pytest.mark.slow
@pytest.mark.parametrize("k", [3, 6.5, 12])
@pytest.mark.parametrize("seed", [0, 1])
def test_wanted_number_is_met_within_five_per_cent_on_held_out_rows(k, seed):
    model = SAE(64, k, random_state=seed).fit(TRAIN)
    assert mean_active(model, TEST) == pytest.approx(k, rel=0.05)


def test_a_larger_penalty_gives_fewer_non_zeros_and_a_larger_error():
    models = [SAE(32, alpha=a, max_iter=20, random_state=0).fit(X) for a in (0.02, 0.2)]
    fewer, more = models[1], models[0]
    assert mean_active(fewer, X) < 0.8 * mean_active(more, X)
    assert fewer.score(X) < more.score(X)


def best_factor(model):
    """By what to multiply the codes of all rows, so that they rebuild these best."""
    x_hat = model.transform(X) @ model.components_
    return ((X - model.pre_bias_) * x_hat).sum() / (x_hat**2).sum()


def test_no_factor_of_all_coefficients_rebuilds_the_rows_better():
    params = {"max_iter": 5, "validation_fraction": None, "random_state": 0}
    assert best_factor(SAE(32, 4, **params).fit(X)) == pytest.approx(1, abs=1e-4)
    # The penalty makes them too small, where nothing is set in the end.
    assert best_factor(SAE(32, **params).fit(X)) > 1.05
    stream = SAE(32, 4, **params)
    for part in np.split(X, 60):
        stream.partial_fit(part)
    assert best_factor(stream) > 1.05


def test_codes_are_the_equation():
    model = SAE(32, 4, max_iter=3, random_state=0).fit(X)
    z = (X - model.pre_bias_) @ model.encoder_components_.T + model.encoder_bias_
    np.testing.assert_allclose(model.transform(X).toarray(), z.clip(0), atol=1e-5)


def test_the_scale_of_the_rows_does_not_matter():
    model = SAE(32, alpha=0.1, max_iter=3, random_state=0)
    codes = model.fit(X).transform(X).toarray()
    np.testing.assert_array_equal(
        model.fit(8 * X).transform(8 * X).toarray(), 8 * codes
    )


def test_k_is_searched_like_any_parameter():
    search = GridSearchCV(SAE(32, max_iter=10, random_state=0), {"k": [1.5, 8]}, cv=2)
    assert search.fit(X[:600]).best_params_ == {"k": 8}
