"""Dead and redundant atoms: how they are counted, redrawn and revived."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from oracles import PLANTED, X64, X, dictionaries, frozen, planted, same_fit

from skdict import ICFL, TopKSAE
from skdict.decomposition._base import FixedSparsity
from skdict.metrics import feature_density, mutual_coherence
from skdict.models import TopKAutoencoder, topk
from skdict.training.net import DictionaryNet

# What counts as dead


@dictionaries
def test_density_counts_the_last_pass(cls):
    model = frozen(cls, PLANTED.components, k=2).fit(X64)
    assert_array_equal(
        model.feature_density_, feature_density(model.transform(X64)), strict=True
    )
    assert_array_equal(model.dead_features_, model.feature_density_ == 0, strict=True)
    assert model.history_[0]["dead_fraction"] == model.dead_features_.mean()
    moved = planted(cls, max_iter=3).fit(X64)
    mean_active = moved.feature_density_.sum()
    assert 0 < mean_active <= (2.001 if issubclass(cls, FixedSparsity) else 24)


def test_unused_atoms_are_dead():
    # All rows on a half line: two atoms point away from all of them.
    rows = np.linspace(1, 2, 50)[:, None] * [[1.0, 0.0]]
    init = [[1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [-1.0, 0.0]]
    model = frozen(ICFL, init, k=1).fit(rows)
    assert_array_equal(model.dead_features_, [False, True, True, False])


def test_latents_that_relu_sets_to_zero_did_not_fire():
    # All four latents are among the k = 4 largest, but two are negative.
    rows = np.random.default_rng(0).normal(size=(200, 2))
    init = [[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]
    model = frozen(TopKSAE, init, k=4).fit(rows)
    assert model.feature_density_.sum() == pytest.approx(2)
    assert model.transform(rows).nnz == 400
    one_sided = np.abs(rows) + 10
    model = frozen(TopKSAE, init, k=4)
    model.partial_fit(rows)
    model.partial_fit(one_sided)
    assert_array_equal(model.feature_density_, [1, 0, 1, 0])
    assert_array_equal(model.dead_features_, [False, True, False, True])


# Resets


def test_redundant_atoms_are_redrawn():
    init = np.repeat(X64[:12], 2, axis=0)
    parameters = {"init": init, "k": 2, "tol": None, "random_state": 0}
    model = ICFL(max_iter=5, reset_every=1, **parameters).fit(X64)
    assert model.history_[0]["resets"] >= 6
    assert mutual_coherence(model.components_) < 0.99
    kept = ICFL(max_iter=5, reset_every=10**6, **parameters).fit(X64)
    assert [record["resets"] for record in kept.history_] == [0] * 5
    off = ICFL(max_iter=5, reset_every=1, reset_similarity=1.0, **parameters)
    assert sum(r["resets"] for r in off.fit(X64).history_) <= 12


def test_resets_come_every_so_many_steps_but_the_last():
    # Six steps a pass, and every pair of atoms counts as redundant.
    parameters = {"reset_similarity": 0.0, "batch_size": 250, "tol": None}
    model = planted(ICFL, reset_every=9, max_iter=5, **parameters).fit(X)
    resets = [record["resets"] > 0 for record in model.history_]
    # After steps 9 and 18; 27 is among the last 9 of 30.
    assert resets == [False, True, True, False, False]


# The auxiliary loss


def test_auxiliary_loss_revives_dead_latents():
    # Half of the latents are pushed where ReLU silences them for good.
    def revive(weight):
        model = planted(TopKSAE, max_iter=1).fit(X)
        model.encoder_bias_[::2] = -1.5
        model.set_params(warm_start=True, auxiliary_weight=weight, max_iter=30)
        return model.set_params(tol=None, learning_rate=0.02).fit(X)

    without, revived = revive(0), revive(1 / 32)
    assert without.dead_features_.mean() == 0.5
    assert revived.dead_features_.mean() < 0.2
    assert revived.score(X) > without.score(X) + 0.05


def test_auxiliary_loss_waits_for_dead_latents():
    def fit(**params):
        return TopKSAE(300, 2, max_iter=2, tol=None, random_state=0, **params).fit(X)

    off = fit(auxiliary_weight=0)
    same_fit(fit(dead_after=3.0), off)
    assert not np.array_equal(fit(dead_after=0.5).components_, off.components_)


def test_an_accelerator_is_asked_for_dead_latents_every_few_steps_only(monkeypatch):
    monkeypatch.setattr(TopKAutoencoder, "_is_on_cpu", False)
    monkeypatch.setattr(topk, "_LOOK_FOR_DEAD_EVERY", 3)
    model = TopKAutoencoder(torch.eye(8), 2, auxiliary_weight=1.0, dead_after=1)
    looked, dead = [], []
    maintain_ = model.maintain_

    def watch(objective, clock):
        before = model.dead
        result = maintain_(objective, clock)
        if model.dead is not before:
            looked.append(clock.n_steps)
            dead.append(len(model.dead))
        return result

    model.maintain_ = watch
    generator = torch.Generator().manual_seed(0)
    net = DictionaryNet(model, lr=1e-3, batch_size=4, generator=generator)
    net.start().train(torch.rand(32, 8), 1)
    assert looked == [3, 6]
    assert min(dead) > 0
