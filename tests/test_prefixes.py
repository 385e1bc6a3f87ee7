"""Levels of a Matryoshka dictionary."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.exceptions import NotFittedError

from skdict import MatryoshkaSAE, TopKSAE
from skdict.datasets import make_planted_dictionary
from skdict.evaluation import prefix_report
from skdict.metrics import explained_variance

X = make_planted_dictionary(800, 12, n_components=20, n_active=3, random_state=0).data
TRAIN, TEST = X[:600], X[600:]
SAE = MatryoshkaSAE(24, 3, prefixes=(6, 12), max_iter=5, random_state=0).fit(TRAIN)


def test_levels_against_a_loop():
    levels = prefix_report(SAE, TEST, random_state=0)
    assert levels["n_components"].tolist() == [6, 12, 24]
    W = SAE.components_
    for _, level in levels.iterrows():
        m = int(level["n_components"])
        codes = SAE.transform(TEST).toarray()[:, :m]
        rebuilt = codes @ W[:m] + SAE.pre_bias_
        assert_allclose(
            level["explained_variance"], explained_variance(TEST, rebuilt), atol=1e-5
        )
        assert_allclose(level["l0"], (codes != 0).sum(axis=1).mean())
        assert_allclose(level["dead_fraction"], (~codes.any(axis=0)).mean())
        G = np.abs(W[:m] @ W[:m].T)
        pairs = G[np.triu_indices(m, 1)]
        assert_allclose(level["coherence"], pairs.max(), rtol=1e-5)
        assert_allclose(level["mean_coherence"], pairs.mean(), rtol=1e-5)
        if m < 24:
            nearest = [max(w @ other for other in W[m:]) for w in W[:m]]
            assert_allclose(level["hedging"], np.mean(nearest), rtol=1e-5)
    assert levels["hedging"].isna().tolist() == [False, False, True]
    assert levels["hedging_null"].isna().tolist() == [False, False, True]


def test_hedging_is_seen():
    hedged = MatryoshkaSAE(24, 3, prefixes=(6,), max_iter=0, random_state=0).fit(TRAIN)
    before = prefix_report(hedged, TEST, random_state=0).loc[0]
    mixed = hedged.components_[:6] + hedged.components_[6:12]
    hedged.components_[:6] = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
    after = prefix_report(hedged, TEST, random_state=0).loc[0]
    assert after["hedging"] > before["hedging"] + 0.05
    assert after["hedging_null"] == before["hedging_null"]


def test_other_dictionaries_are_refused():
    with pytest.raises(
        ValueError, match="prefix_report must be an object implementing"
    ):
        prefix_report(TopKSAE(), TEST)
    with pytest.raises(NotFittedError):
        prefix_report(MatryoshkaSAE(), TEST)
