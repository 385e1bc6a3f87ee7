"""From codes back to embeddings, through the steps before the dictionary."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer, StandardScaler

from skdict import (
    ICFL,
    ControlCenterScaler,
    ControlPCAWhitener,
    FeatureSuppressor,
    RowwiseTransformer,
)
from skdict.concepts import ablate, decode, steer

rng = np.random.default_rng(0)
X = rng.normal(size=(80, 6)) * [1, 2, 3, 1, 1, 2] + 5
CONTROL = np.arange(80) < 50
BATCH = np.arange(80) % 2


def icfl():
    return ICFL(10, 3, max_iter=1, random_state=0)


def whitened(*steps, n_components=None):
    pipe = make_pipeline(ControlPCAWhitener(n_components), *steps, icfl())
    return pipe.fit(X, controlpcawhitener__control=CONTROL)


def test_the_edit_goes_through_the_inverse_of_the_whitener():
    pipe = whitened()
    codes = pipe.transform(X)
    edited = ablate(codes, [0, 3])
    whitener, dictionary = pipe[0], pipe[-1]
    white = codes @ dictionary.components_ + dictionary.pre_bias_
    delta = (edited - codes).toarray() @ dictionary.components_
    # By hand: the axes, stretched by their standard deviations.
    back = np.sqrt(whitener.explained_variance_)[:, None] * whitener.components_
    np.testing.assert_allclose(decode(pipe, edited, X), X + delta @ back)
    np.testing.assert_allclose(
        decode(pipe, edited), (white + delta) @ back + whitener.mean_
    )
    np.testing.assert_allclose(
        decode(pipe, edited, X, to="dictionary"), whitener.transform(X) + delta
    )
    np.testing.assert_allclose(
        decode(pipe, edited, X, keep_error=False), decode(pipe, edited)
    )


@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
@pytest.mark.parametrize("wrap", [lambda n: n, RowwiseTransformer], ids=["", "rowwise"])
def test_norms_come_from_the_rows(norm, wrap):
    pipe = whitened(wrap(Normalizer(norm)))
    codes = pipe.transform(X)
    white = pipe[0].transform(X)
    order = {"l1": 1, "l2": 2, "max": np.inf}[norm]
    norms = np.linalg.norm(white, ord=order, axis=1)
    moved = steer(codes, 2, 0.1)
    step = 0.1 * norms[:, None] * pipe[-1].components_[2]
    expected = pipe[0].inverse_transform(white + step)
    np.testing.assert_allclose(decode(pipe, moved, X), expected)
    with pytest.raises(ValueError, match="divided the rows by their norms"):
        decode(pipe, moved)
    np.testing.assert_allclose(
        decode(pipe, moved, to="dictionary"), pipe[-1].inverse_transform(moved)
    )


def test_codes_that_were_not_edited_give_the_rows_themselves():
    pipe = whitened(Normalizer(), n_components=3)  # three axes are dropped
    codes = pipe.transform(X)
    np.testing.assert_array_equal(decode(pipe, codes, X), X)
    dense = decode(pipe, codes.toarray(), X)
    np.testing.assert_allclose(dense, X)


def test_metadata_reach_the_steps_that_ask_for_them():
    pipe = make_pipeline(ControlCenterScaler(), icfl())
    pipe.fit(X, controlcenterscaler__control=CONTROL, controlcenterscaler__batch=BATCH)
    batch = {"batch": BATCH}
    centred = pipe[0].transform(X, batch=BATCH)
    codes = pipe[-1].transform(centred)
    edited = ablate(codes, 1)
    expected = pipe[0].inverse_transform(
        centred
        + pipe[-1].inverse_transform(edited)
        - pipe[-1].inverse_transform(codes),
        batch=BATCH,
    )
    np.testing.assert_allclose(decode(pipe, edited, X, params=batch), expected)


def test_a_suppressor_at_the_end_takes_its_features_out_of_the_rows():
    pipe = make_pipeline(StandardScaler(), icfl(), FeatureSuppressor(random_state=0))
    shifted = X + 2 * BATCH[:, None] * [1, 0, 0, 0, 0, 0]
    pipe.fit(shifted, featuresuppressor__batch=BATCH)
    suppressed = pipe[-1].is_suppressed_
    assert 0 < suppressed.sum() < 10
    clean = decode(pipe, pipe.transform(shifted), shifted)
    before = pipe[:-1]
    expected = decode(before, ablate(before.transform(shifted), suppressed), shifted)
    np.testing.assert_allclose(clean, expected)
    gap = [
        abs(np.subtract(*(Z[b == BATCH].mean(axis=0) for b in (0, 1))))
        for Z in (shifted, clean)
    ]
    assert gap[1][0] < 0.6 * gap[0][0]


class NoInverse(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        return X


def test_what_cannot_be_decoded():
    pipe = whitened()
    codes = pipe.transform(X)
    with pytest.raises(ValueError, match="X has 79 rows, but codes has 80"):
        decode(pipe, codes, X[:79])
    classifier = make_pipeline(*pipe, LogisticRegression().fit(codes, CONTROL))
    with pytest.raises(ValueError, match="last step is LogisticRegression"):
        decode(classifier[1:], codes)
    with pytest.raises(ValueError, match="NoInverse has no inverse_transform"):
        decode(make_pipeline(NoInverse(), icfl()).fit(X), codes)


def test_a_frame_gives_an_array_whatever_is_configured():
    from sklearn import config_context

    pipe = make_pipeline(FunctionTransformer(inverse_func=None), icfl()).fit(X)
    codes = sp.csr_array(pipe.transform(X))
    expected = decode(pipe, codes, X)
    with config_context(transform_output="pandas"):
        found = decode(pipe, codes, X)
    assert type(found) is np.ndarray
    np.testing.assert_array_equal(found, expected)
