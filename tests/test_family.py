"""What each dictionary of the family promises beside what all have in common."""

import math
import pickle

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.model_selection import train_test_split
from skorch.callbacks import Callback

from skdict import (
    ICFL,
    KSVD,
    SAE,
    ArchetypalSAE,
    BatchTopKSAE,
    Codebook,
    GatedSAE,
    JumpReLUSAE,
    MatchingPursuitSAE,
    MatryoshkaSAE,
    TopKSAE,
    load,
    save,
)
from skdict.datasets import make_planted_dictionary
from skdict.models import (
    BatchTopKAutoencoder,
    CodebookModel,
    GatedAutoencoder,
    JumpReLUAutoencoder,
    KSVDDictionary,
    MatchingPursuit,
    MatryoshkaAutoencoder,
)
from skdict.models.dictionary import Clock

X = make_planted_dictionary(8000, 16, n_components=24, n_active=3, random_state=0).data
AUTOENCODERS = [TopKSAE, BatchTopKSAE, MatryoshkaSAE, JumpReLUSAE, GatedSAE, SAE]
TRAIN, TEST = train_test_split(X, random_state=0)
SMALL = X[:600]


def unit_rows(m, d=6, seed=0):
    atoms = np.random.default_rng(seed).standard_normal((m, d))
    return torch.from_numpy(atoms / np.linalg.norm(atoms, axis=1, keepdims=True))


def rows(n=50, d=6, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, d)))


def n_active(model, x):
    return model.transform(x).nnz / len(x)


# Sparsity


@pytest.mark.parametrize("k", [2.5, 6])
@pytest.mark.parametrize(
    "cls", [BatchTopKSAE, MatryoshkaSAE, JumpReLUSAE, GatedSAE, SAE]
)
def test_k_is_the_mean_of_held_out_rows(cls, k):
    model = cls(32, k, max_iter=20, random_state=0).fit(TRAIN)
    assert n_active(model, TEST) == pytest.approx(k, rel=0.05)


@pytest.mark.parametrize("factor", [0.7, 2])
@pytest.mark.parametrize("cls", AUTOENCODERS)
def test_training_may_have_more_active_latents_than_the_codes(cls, factor):
    class Watch(Callback):
        def on_train_end(self, net, **kwargs):
            module = net.module_
            if hasattr(module, "active"):  # a penalty leads it there
                self.active = float(module.active * module.known_excess)
            else:
                rows = torch.tensor(TRAIN[:500]) / net.scale
                code = module.train().encode(rows.to(module.atoms))
                self.active = float((code.values > 0).sum()) / len(rows)
                module.eval()

    watch = Watch()
    model = cls(32, 4, max_iter=20, tol=None, random_state=0, callbacks=[watch])
    model.set_params(training_factor=factor).fit(TRAIN)
    assert abs(watch.active - 4 * factor) < abs(watch.active - 4)
    assert n_active(model, TEST) == pytest.approx(4, rel=0.05)
    density = np.diff(model.transform(TRAIN).tocsc().indptr) / len(TRAIN)
    np.testing.assert_allclose(model.feature_density_, density, atol=0.02)


@pytest.mark.parametrize("cls", AUTOENCODERS)
def test_a_stream_learns_with_k_latents(cls):
    plain, more = (
        cls(32, 4, training_factor=factor, random_state=0) for factor in (1, 2)
    )
    for rows in (X[:500], X[500:1000]):
        plain.partial_fit(rows)
        more.partial_fit(rows)
    np.testing.assert_array_equal(plain.components_, more.components_)
    assert n_active(more, TEST) == n_active(plain, TEST)


@pytest.mark.parametrize(
    ("k", "factor", "wanted"),
    [
        (3, 1.5, 4.5),
        (3, 0.5, 1.5),
        (3, 1e308, 6),
        (8, 2, 8),
        (3, 1e-300, 1),
        (0.5, 0.1, 0.5),
    ],
)
def test_training_aims_at_one_latent_or_more_and_half_or_fewer(k, factor, wanted):
    model = BatchTopKAutoencoder(unit_rows(12), k, training_factor=factor)
    assert model.wanted == wanted
    model.in_stream = True
    assert model.wanted == k


@pytest.mark.parametrize(
    ("factor", "taken"), [(100, "4 are taken"), (1e-3, "1 are taken")]
)
@pytest.mark.parametrize("cls", AUTOENCODERS)
def test_a_training_factor_that_cannot_be_is_told(cls, factor, taken):
    model = cls(8, 2, training_factor=factor, max_iter=1, random_state=0)
    with pytest.warns(UserWarning, match=taken):
        model.fit(SMALL)
    model.partial_fit(SMALL)  # which learns with k


@pytest.mark.parametrize("cls", [JumpReLUAutoencoder, GatedAutoencoder])
def test_training_starts_with_as_many_latents_as_it_aims_at(cls):
    options = {"bandwidth": 0.4} if cls is JumpReLUAutoencoder else {"alpha": 0.05}
    model = cls(unit_rows(12), k=2, training_factor=1.5, **options)
    x = rows(500)
    model.start_(x, x.mean(0))
    n_active = float(model.objective(x, x).fired.sum()) / len(x)
    assert n_active == pytest.approx(3, rel=0.05)


@pytest.mark.parametrize("cls", [JumpReLUSAE, GatedSAE])
def test_epochs_are_judged_as_if_the_training_ended_with_them(cls):
    class Watch(Callback):
        def on_train_end(self, net, **kwargs):
            self.net = net

    watch = Watch()
    noise = np.random.default_rng(0).normal(size=(150, 40))
    params = {"n_components": 64, "max_iter": 100, "learning_rate": 0.02}
    model = cls(**params, k=3, tol=None, random_state=0, callbacks=[watch])
    model.fit(noise)
    rows, net = watch.net.validation_rows.X, watch.net
    error = (rows - model.inverse_transform(model.transform(rows))) ** 2
    explained = 1 - error.sum(1).mean() / net.scale**2 / net.variance
    judged = [record["validation_explained_variance"] for record in model.history_]
    assert judged[-1] < max(judged) == pytest.approx(explained, rel=1e-6)
    # It ends where held-out rows gain no more, unless nothing makes epochs comparable.
    ends = {"k": 3, "validation_fraction": 0.1}
    for given in (ends, ends | {"k": None}, ends | {"validation_fraction": None}):
        fit = cls(**params, **given, random_state=0).fit(noise)
        assert (fit.n_iter_ < 100) == (given is ends)


@pytest.mark.parametrize(
    "cls", [BatchTopKSAE, MatryoshkaSAE, JumpReLUSAE, GatedSAE, SAE]
)
def test_k_holds_before_any_training_too(cls):
    model = cls(64, 5, max_iter=0, random_state=0).fit(TRAIN)
    assert n_active(model, TEST) == pytest.approx(5, rel=0.05)


@pytest.mark.parametrize("cls", [JumpReLUSAE, GatedSAE])
def test_without_k_the_penalty_decides(cls):
    dense, sparse = (
        cls(32, alpha=alpha, max_iter=20, random_state=0).fit(SMALL)
        for alpha in (0.0, 0.1)
    )
    assert n_active(sparse, SMALL) < 0.8 * n_active(dense, SMALL)
    assert sparse.score(SMALL) < dense.score(SMALL)


# Thresholds


@pytest.fixture(scope="module")
def batch_topk():
    return BatchTopKSAE(32, 3, max_iter=5, random_state=0).fit(X)


def test_codes_of_a_row_do_not_depend_on_the_other_rows(batch_topk):
    x = X.astype(np.float64)
    alone = [batch_topk.transform(row[None]).toarray()[0] for row in x[:20]]
    np.testing.assert_allclose(batch_topk.transform(x).toarray()[:20], alone, atol=1e-9)


def test_codes_are_what_exceeds_the_threshold(batch_topk):
    z = (X - batch_topk.pre_bias_) @ batch_topk.encoder_components_.T
    z += batch_topk.encoder_bias_
    z[z <= batch_topk.threshold_] = 0
    np.testing.assert_allclose(batch_topk.transform(X).toarray(), z, atol=1e-5)


def test_the_threshold_survives(batch_topk, tmp_path):
    codes = batch_topk.transform(X[:50]).toarray()
    save(batch_topk, tmp_path / "sae.skops")
    for other in (pickle.loads(pickle.dumps(batch_topk)), load(tmp_path / "sae.skops")):
        assert other.threshold_ == batch_topk.threshold_ > 0
        np.testing.assert_array_equal(other.transform(X[:50]).toarray(), codes)


def test_no_latent_below_zero_is_active():
    # Of eight latents, about half are positive: fewer than k asks for.
    model = BatchTopKSAE(8, 7.9, max_iter=2, random_state=0).fit(SMALL)
    assert model.threshold_ == 0
    assert (model.transform(SMALL).data > 0).all()


def test_a_stream_follows_the_threshold():
    model = BatchTopKSAE(32, 3, random_state=0)
    for part in np.split(X, 16):
        model.partial_fit(part)
    assert n_active(model, X) == pytest.approx(3, rel=0.1)
    model.partial_fit(3 * X[:500])
    assert n_active(model, X) < 3


def test_the_codes_of_a_gated_model_scale_with_the_rows():
    model = GatedAutoencoder(unit_rows(30), alpha=0.1)
    with torch.no_grad():
        model.encoder_bias.fill_(-0.2)
        model.magnitude_bias.fill_(0.5)
    before = model.encode(rows()).to_dense(30)
    model.rescale_(2)
    torch.testing.assert_close(model.encode(2 * rows()).to_dense(30), 2 * before)


@pytest.mark.parametrize("k", [0.5, 20], ids=["sparse", "dense"])
def test_the_threshold_follows_the_least_activation_that_is_kept(k):
    model = BatchTopKAutoencoder(unit_rows(30), k)
    with torch.no_grad():
        model.threshold.fill_(1)
    objective = model.objective(rows(), rows())
    model.maintain_(objective, Clock(1, None, torch.Generator()))
    kept = objective.code.to_dense(30)
    least = kept[kept > 0].min().detach()
    torch.testing.assert_close(model.threshold.detach(), 0.9 + 0.1 * least)


def test_jump_relu_gradients_are_those_of_the_paper():
    model = JumpReLUAutoencoder(unit_rows(9), alpha=0.3, bandwidth=0.4)
    model.warm_up.fill_(1)
    with torch.no_grad():
        model.threshold.uniform_(0.1, 0.5)
    x = rows()
    model.objective(x, x).loss.backward()
    # Equations 11 and 12 of the paper, written out.
    a, theta = x @ model.atoms.T.detach(), model.threshold.detach()
    z = a * (a > theta)
    grad_z = (z @ model.atoms.detach() - x) @ model.atoms.detach().T / len(x)
    kernel = ((a - theta).abs() <= 0.2) / 0.4
    expected = -(theta * grad_z + 0.3 / len(x)) * kernel
    torch.testing.assert_close(model.threshold.grad, expected.sum(0))
    assert torch.count_nonzero(model.threshold.grad) > 0
    torch.testing.assert_close(
        model.encoder.grad, (grad_z * (a > theta)).T @ x, rtol=1e-6, atol=1e-9
    )


def test_the_penalty_of_jump_relu_is_negative_far_below_k():
    alpha = 0.005
    model = JumpReLUAutoencoder(unit_rows(9), alpha=alpha, k=2, bandwidth=0.4)
    x = rows()
    model.warm_up.fill_(1)
    losses = []
    cases = [(4, 1, 2 * alpha), (1, 2, alpha), (2, 0, alpha), (1, 0, alpha - 0.04)]
    for active, excess, weight in cases:
        model.log_factor.fill_(math.log(2) if active == 4 else 0)
        model.active.fill_(active)
        model.excess.fill_(excess)
        assert float(model.weight) == pytest.approx(weight)
        losses.append(float(model.objective(x, x).loss.detach()))
    assert losses[0] > losses[1] == losses[2] > losses[3]


def test_thresholds_that_are_too_high_come_down():
    model = JumpReLUAutoencoder(unit_rows(9), k=2, bandwidth=0.4)
    x = rows(500)
    model.calibrate_([x], len(x))
    with torch.no_grad():
        model.threshold *= 2
    optimizer = torch.optim.SGD([model.threshold], lr=0.1)
    active = []
    for step in range(1, 201):
        objective = model.objective(x, x)
        optimizer.zero_grad()
        objective.loss.backward()
        optimizer.step()
        model.maintain_(objective, Clock(step, 200, torch.Generator()))
        active.append(float(objective.fired.sum()) / len(x))
    assert active[0] < 1
    assert active[-1] == pytest.approx(2, rel=0.1)


def test_thresholds_of_zero_are_calibrated_to_k():
    model = JumpReLUAutoencoder(unit_rows(9), k=2, bandwidth=0.4)
    x = rows(500)
    with torch.no_grad():
        model.threshold.zero_()
    assert model.calibrate_([x], len(x))
    assert (model.threshold > 0).all()
    n_active = float((model.encode(x).values > 0).sum())
    assert n_active == pytest.approx(2 * len(x), rel=0.01)


@pytest.mark.parametrize(("k", "way"), [(2, 0.1), (None, 1.0)])
def test_thresholds_and_biases_go_a_tenth_of_the_way(k, way):
    model = JumpReLUAutoencoder(unit_rows(9), k=k, bandwidth=0.4)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}

    @torch.no_grad()
    def move(objective):
        for parameter in model.parameters():
            parameter += 1

    model.step_(rows(), rows(), move)
    moved = {name: p.detach() - before[name] for name, p in model.named_parameters()}
    for name, by in moved.items():
        expected = 1.0 if name in ("atoms", "encoder") else way
        torch.testing.assert_close(by, torch.full_like(by, expected))


@pytest.mark.parametrize("cls", [JumpReLUSAE, SAE])
def test_the_rate_is_constant_where_held_out_rows_judge(cls):
    def rates(**params):
        model = cls(32, max_iter=10, tol=None, random_state=0, **params).fit(SMALL)
        return [r["learning_rate"] / model.learning_rate for r in model.history_]

    falling = np.arange(9, -1, -1) / 10
    held = np.minimum(1, np.arange(9, -1, -1) / 2)
    np.testing.assert_allclose(rates(k=3), held, atol=1e-12)
    np.testing.assert_allclose(rates(), falling, atol=1e-12)
    np.testing.assert_allclose(
        rates(k=3, validation_fraction=None), falling, atol=1e-12
    )


def test_thresholds_are_never_negative():
    model = JumpReLUSAE(32, alpha=0.0, max_iter=30, random_state=0).fit(SMALL)
    assert (model.threshold_ >= 0).all()


def test_the_gate_learns_without_the_reconstruction_and_atoms_without_the_gate():
    model = GatedAutoencoder(unit_rows(9), alpha=0.2)
    model.warm_up.fill_(1)
    with torch.no_grad():
        model.encoder_bias.uniform_(-0.3, 0.3)
        model.log_gain.uniform_(-0.2, 0.2)
        model.magnitude_bias.uniform_(-0.1, 0.3)
        model.pre_bias.uniform_(-0.1, 0.1)
    x = rows()
    objective = model.objective(x, x)
    objective.loss.backward()
    linear = (x - model.pre_bias) @ model.encoder.T
    gate = linear + model.encoder_bias
    magnitude = (linear * model.log_gain.exp() + model.magnitude_bias).relu()
    z = magnitude * (gate > 0)
    by_gate = gate.relu() @ model.atoms.detach() + model.pre_bias.detach()
    loss = (
        (x - z @ model.atoms - model.pre_bias).square().sum() / 2
        + (x - by_gate).square().sum() / 2
        + 0.2 * gate.relu().sum()
    ) / len(x)
    torch.testing.assert_close(objective.loss, loss)
    names = ["atoms", "pre_bias", "encoder", "encoder_bias"]
    names += ["log_gain", "magnitude_bias"]
    parameters = [model.get_parameter(name) for name in names]
    for name, oracle in zip(names, torch.autograd.grad(loss, parameters), strict=True):
        torch.testing.assert_close(model.get_parameter(name).grad, oracle)


# Matryoshka


def test_every_prefix_is_a_dictionary(batch_topk):
    sae = MatryoshkaSAE(32, 3, prefixes=(8, 0.5), max_iter=5, random_state=0).fit(X)
    x = X[:100].astype(np.float64)
    codes = sae.transform(x)
    for n in (1, 8, 16, 32):
        prefix = sae.prefix(n)
        assert prefix.components_.shape == (n, 16)
        np.testing.assert_allclose(
            prefix.transform(x).toarray(), codes[:, :n].toarray(), atol=1e-9
        )
        assert len(prefix.get_feature_names_out()) == n
    assert sae.prefix(8).score(X) > batch_topk.score(X) - 1  # rebuilds on its own
    assert 0 < sae.prefix(8).score(X) < sae.prefix(16).score(X) < sae.score(X)
    for n in (0, 33):
        with pytest.raises(ValueError, match="from 1 to 32"):
            sae.prefix(n)


def test_the_first_atoms_of_a_matryoshka_rebuild_more_than_those_of_a_plain_one():
    nested, plain = (
        cls(32, 3, max_iter=20, random_state=0).fit(X)
        for cls in (MatryoshkaSAE, BatchTopKSAE)
    )
    codes = plain.transform(X).toarray()
    codes[:, 4:] = 0
    rest = X - plain.inverse_transform(codes)
    by_plain = 1 - (rest**2).sum() / ((X - X.mean(0)) ** 2).sum()
    assert nested.prefix(4).score(X) > by_plain + 0.05


def test_the_loss_is_the_mean_over_the_prefixes():
    model = MatryoshkaAutoencoder(unit_rows(9), 2, prefixes=[2, 5, 9])
    x = rows()
    objective = model.objective(x, x)
    z = objective.code.to_dense(9)
    errors = [(x - z[:, :m] @ model.atoms[:m]).square().sum(1) for m in (2, 5, 9)]
    torch.testing.assert_close(objective.loss, torch.stack(errors).mean() / 2)


@pytest.mark.parametrize("prefixes", [[0], [33], [1.5], [-0.1], [True], ["8"]])
def test_prefixes_are_numbers_of_atoms_or_fractions(prefixes):
    with pytest.raises(ValueError, match="prefixes"):
        MatryoshkaSAE(32, 3, prefixes=prefixes).fit(SMALL)


# The others


def test_absolute_selection_keeps_the_largest_magnitudes_with_their_signs():
    sae = TopKSAE(32, 3, selection="absolute", max_iter=3, random_state=0).fit(SMALL)
    x = SMALL.astype(np.float64)
    z = (x - sae.pre_bias_) @ sae.encoder_components_.T + sae.encoder_bias_
    order = np.abs(z).argsort(axis=1)
    np.put_along_axis(z, order[:, :-3], 0, axis=1)
    np.testing.assert_allclose(sae.transform(x).toarray(), z, atol=1e-6)
    assert (z < 0).any()
    assert (z > 0).any()


def test_matching_pursuit_is_icfl_with_one_atom_a_step():
    x = X.astype(np.float64)
    sae = MatchingPursuitSAE(40, 4, max_iter=3, random_state=0).fit(x)
    icfl = ICFL(init=sae.components_, k=4, atoms_per_step=1, max_iter=0).fit(x)
    icfl.pre_bias_ = sae.pre_bias_
    np.testing.assert_allclose(
        sae.transform(x).toarray(), icfl.transform(x).toarray(), atol=1e-9
    )


def test_gradients_flow_through_matching_pursuit():
    model = MatchingPursuit(unit_rows(9), 4)
    x = rows()
    model.objective(x, x).loss.backward()
    atoms = model.atoms.detach().clone().requires_grad_()
    pre_bias = model.pre_bias.detach().clone().requires_grad_()
    residual = x - pre_bias
    for _ in range(4):  # the unrolled loop
        best = (residual @ atoms.T).argmax(1)
        z = (residual * atoms[best]).sum(1, keepdim=True)
        residual = residual - z * atoms[best]
    (residual.square().sum() / 2 / len(x)).backward()
    torch.testing.assert_close(model.atoms.grad, atoms.grad)
    torch.testing.assert_close(model.pre_bias.grad, pre_bias.grad)


@pytest.mark.parametrize("delta", [0.0, 0.3])
def test_archetypal_atoms_stay_in_the_hull_at_every_step(delta):
    model = ArchetypalSAE(24, 3, n_archetypes=30, delta=delta, max_iter=3)
    seen = []

    class Look(Callback):
        def on_batch_end(self, net, **kwargs):
            module = net.module_
            mixture, relaxation = module.mixture, module.relaxation
            torch.testing.assert_close(mixture.sum(1), torch.ones(24))
            assert mixture.min() >= 0
            assert relaxation.norm(dim=1).max() <= delta * (1 + 1e-6)
            points = mixture @ module.archetypes + relaxation
            torch.testing.assert_close(
                module.atoms, torch.nn.functional.normalize(points)
            )
            seen.append(mixture.clone())

    model.set_params(callbacks=[Look()], random_state=0).fit(SMALL)
    assert len(seen) > 3
    assert (seen[-1] - seen[0]).abs().max() > 1e-3
    made = model.mixture_ @ model.archetypes_ + model.relaxation_
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    np.testing.assert_allclose(model.components_, made, atol=1e-5)


def test_a_relaxation_shorter_than_delta_stays_as_it_is():
    model = ArchetypalSAE(12, 3, n_archetypes=15, delta=0.3, max_iter=1, random_state=0)
    module = model.fit(SMALL)._fitted_model()
    with torch.no_grad():
        before = module.relaxation.mul_(0.1).clone()
    module.project_()
    torch.testing.assert_close(module.relaxation.detach(), before, rtol=0, atol=0)


def test_archetypal_atoms_made_of_nothing_stay_as_they_are():
    model = ArchetypalSAE(12, 3, n_archetypes=2, delta=0.0, max_iter=1, random_state=0)
    module = model.fit(SMALL)._fitted_model()
    before = module.atoms.detach().clone()
    with torch.no_grad():
        module.archetypes[1] = -module.archetypes[0]
        module.mixture[:6] = 0.5  # the two cancel
        module.relaxation.zero_()
    module.project_()
    torch.testing.assert_close(module.atoms[:6].detach(), before[:6], rtol=0, atol=0)
    assert module.relaxation.isfinite().all()
    assert module.atoms.isfinite().all()


def test_archetypal_gradients_are_those_of_its_atoms():
    model = ArchetypalSAE(12, 3, n_archetypes=15, max_iter=1, random_state=0)
    module = model.fit(SMALL.astype(np.float64))._fitted_model()
    x = torch.from_numpy(SMALL[:40].astype(np.float64))
    objective = module.objective(x, x)
    objective.loss.backward()
    gradient = module.atoms.grad.clone()
    mixture, relaxation = (
        module.get_parameter(name).detach().clone().requires_grad_()
        for name in ("mixture", "relaxation")
    )
    points = mixture @ module.archetypes + relaxation
    torch.nn.functional.normalize(points).backward(gradient)
    module.precondition_(objective)
    torch.testing.assert_close(module.mixture.grad, mixture.grad)
    torch.testing.assert_close(module.relaxation.grad, relaxation.grad)


@pytest.mark.parametrize("update", ["ksvd", "mod"])
def test_closed_form_updates_never_raise_the_error(update):
    x = rows(200)
    model = KSVDDictionary(unit_rows(12), 3, refit=True, update=update)
    code = model.encode(x)

    def error():
        z = code.to_dense(12)
        w = model.atoms.detach().numpy()
        if update == "ksvd":  # coefficients move with their atom
            fits = [
                np.linalg.lstsq(w[row != 0].T, target, rcond=None)[1]
                for row, target in zip(z.numpy(), x.numpy(), strict=True)
            ]
            return sum(float(fit.sum()) for fit in fits)
        best = torch.linalg.lstsq(z, x).solution
        assert_same_directions(best, model.atoms.detach())
        return float((x - z @ best).square().sum())

    def assert_same_directions(best, atoms):
        if not torch.equal(atoms, unit_rows(12)):
            cosines = torch.nn.functional.cosine_similarity(best, atoms)
            assert cosines.min() > 1 - 1e-4

    before = error()
    model.step_(x, x, descend=None)
    model.project_()
    assert error() <= before * (1 + 1e-9)


@pytest.mark.parametrize("step", [0.5, 1.0])
def test_ksvd_equals_a_plain_loop_over_the_atoms(step):
    x = rows(200)
    model = KSVDDictionary(unit_rows(12), 3, step=step)
    z = model.encode(x).to_dense(12).numpy()
    atoms = unit_rows(12).numpy().copy()
    for j in range(12):
        uses = z[:, j] != 0
        left = (x.numpy() - z @ atoms)[uses] + np.outer(z[uses, j], atoms[j])
        direction = left.T @ z[uses, j]
        moved = (1 - step) * atoms[j] + step * direction / np.linalg.norm(direction)
        atoms[j] = moved / np.linalg.norm(moved)
        z[uses, j] = left @ atoms[j]
    model.step_(x, x, descend=None)
    np.testing.assert_allclose(model.atoms.detach(), atoms, rtol=0, atol=1e-10)


def test_atoms_that_move_in_part_keep_their_length():
    model = KSVDDictionary(unit_rows(12), 3, step=0.5)
    before = model.atoms.detach().clone()
    model.step_(rows(200), rows(200), descend=None)
    assert (model.atoms - before).norm(dim=1).min() > 0.01
    torch.testing.assert_close(model.atoms.norm(dim=1), torch.ones(12).double())


@pytest.mark.parametrize("update", ["ksvd", "mod"])
def test_the_first_atom_moves_by_the_step(update):
    def first(step):
        model = KSVDDictionary(unit_rows(12), 3, update=update, step=step)
        model.step_(rows(200), rows(200), descend=None)
        model.project_()
        return model.atoms.detach()[0]

    half_way = first(0.0) + first(1.0)
    assert half_way.norm() < 1.99
    torch.testing.assert_close(first(0.5), half_way / half_way.norm())


def test_atoms_in_closed_form_where_none_is_used():
    model = KSVD(8, 2, update="mod", max_iter=2, random_state=0).fit(np.ones((40, 5)))
    assert model.transform(np.ones((40, 5))).nnz == 0
    np.testing.assert_allclose(np.linalg.norm(model.components_, axis=1), 1, rtol=1e-6)


def test_ksvd_explains_more_than_gradient_steps_with_the_same_encoder():
    pursuit = {"atoms_per_step": 1, "selection": "absolute", "refit": "every_step"}
    icfl = ICFL(32, 3, random_state=0, **pursuit).fit(TRAIN)
    assert KSVD(32, 3, random_state=0).fit(TRAIN).score(TEST) > icfl.score(TEST) - 0.01


def test_codebook_of_one_is_k_means():
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((12, 8)) * 3)[rng.integers(12, size=2000)]
    x += rng.standard_normal(x.shape) / 2
    book = Codebook(12, 1, random_state=0).fit(x)
    codes = book.transform(x)
    assert set(codes.data) == {1.0}
    centres = book.components_ + book.pre_bias_
    distances = ((x[:, None] - centres) ** 2).sum(2)
    np.testing.assert_array_equal(codes.indices, distances.argmin(1))
    inertia = KMeans(12, n_init=5, random_state=0).fit(x).inertia_
    assert distances.min(1).sum() < 1.1 * inertia


def test_the_code_vectors_of_a_row_make_up_together_for_what_it_lacks():
    model, x = CodebookModel(unit_rows(3), 3, seeded=False), rows(1)

    def descend(objective):
        objective.loss.backward()
        model.precondition_(objective)
        model.atoms.data -= model.atoms.grad

    model.step_(x, x, descend)
    torch.testing.assert_close(model(x)[0].detach(), x)


def test_code_vectors_are_redrawn_at_centred_rows():
    model = CodebookModel(unit_rows(30), 2, seeded=False)
    with torch.no_grad():
        model.pre_bias.fill_(10)
    x = rows() + 10
    model.step_(x, x, lambda objective: None)
    model.fired_since_reset[::2] = 1
    useless, drawn = model.useless_atoms(torch.Generator().manual_seed(0))
    assert torch.equal(useless, torch.arange(30) % 2 == 1)
    assert torch.cdist(drawn, (x - 10) / 2).amin(1).max() < 1e-6


def test_codes_of_a_codebook_are_the_code_vectors_nearest_to_a_part_of_the_row():
    atoms = unit_rows(12) * torch.linspace(0.2, 2, 12)[:, None]
    code = CodebookModel(atoms, 3, seeded=False).encode(rows())
    nearest = torch.cdist(rows() / 3, atoms).topk(3, largest=False).indices
    assert torch.equal(code.indices.sort().values, nearest.sort().values)


def test_codes_of_a_codebook_are_k_ones():
    codes = Codebook(32, 4, max_iter=3, random_state=0).fit(SMALL).transform(SMALL)
    assert set(codes.data) == {1.0}
    assert set(np.diff(codes.indptr)) == {4}


@pytest.mark.parametrize("refit", [False, True])
def test_positive_codes_are_the_pursuit_without_its_negative_coefficients(refit):
    icfl = ICFL(32, 4, refit=refit, positive_code=True, max_iter=5, random_state=0)
    codes = icfl.fit(X).transform(X)
    assert (codes.data > 0).all()
    signed = icfl.with_encoder(positive_code=False).transform(X).toarray()
    assert (signed < 0).any()
    np.testing.assert_array_equal(codes.toarray(), signed.clip(min=0))
    other = ICFL(32, 4, refit=refit, max_iter=5, random_state=0).fit(X)
    assert not np.array_equal(icfl.components_, other.components_)


@pytest.mark.parametrize(("factor", "atoms_per_step"), [(2, 3), (1.5, 3), (0.5, 2)])
def test_training_may_pick_more_atoms_than_the_codes_have(factor, atoms_per_step):
    icfl = ICFL(32, 4, training_factor=factor, random_state=0)
    icfl.set_params(atoms_per_step=atoms_per_step, max_iter=5).fit(X)
    codes = icfl.transform(X)
    assert codes.nnz == 4 * len(X)
    density = np.diff(codes.tocsc().indptr) / len(X)
    np.testing.assert_allclose(icfl.feature_density_, density, atol=1e-12)
    model = icfl._fitted_model().train()
    batch = torch.tensor(X[:50], dtype=torch.float32)
    in_training = model.encode(batch)
    assert in_training.values.shape[1] == 4 * factor
    same_steps = icfl.with_encoder(
        k=int(4 * factor),
        atoms_per_step=math.ceil(4 * factor / -(-4 // atoms_per_step)),
    )
    np.testing.assert_array_equal(
        in_training.to_dense(32).numpy(),
        same_steps._fitted_model().eval().encode(batch).to_dense(32).numpy(),
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_with_more_atoms_than_causes_coefficients_stay_of_the_length_of_rows(seed):
    rows = make_planted_dictionary(
        2000, 32, n_components=8, n_active=3, random_state=seed
    ).data
    largest = {}
    for distance in (0, 0.2):
        icfl = ICFL(32, 5, span_distance=distance, max_iter=20, random_state=seed)
        codes = icfl.fit(rows).transform(rows)
        largest[distance] = abs(codes.data).max() / np.linalg.norm(rows, axis=1).mean()
    assert largest[0] > 4
    assert largest[0.2] < 3


def test_a_training_factor_of_one_changes_nothing():
    fits = [
        ICFL(32, 6, training_factor=factor, max_iter=3, random_state=0).fit(X)
        for factor in (1, 0.99)  # both mean six atoms
    ]
    np.testing.assert_array_equal(fits[0].components_, fits[1].components_)


@pytest.mark.parametrize(
    "kind",
    [TopKSAE, BatchTopKSAE, MatryoshkaSAE, JumpReLUSAE, GatedSAE, SAE, ArchetypalSAE],
)
def test_autocast_only_moves_what_is_nearly_equal(kind):
    rows = X.astype(np.float32)
    half = kind(128, k=3, autocast=True, max_iter=3, random_state=0).fit(rows)
    codes = half.transform(rows)
    exact = half.set_params(autocast=False).transform(rows)
    assert codes.dtype == np.float32
    fired, fired_exact = codes.toarray() != 0, exact.toarray() != 0
    agreement = (fired & fired_exact).sum() / (fired | fired_exact).sum()
    assert 0.97 < agreement < 1
    same = fired & fired_exact
    np.testing.assert_allclose(
        codes.toarray()[same], exact.toarray()[same], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("kind", [SAE, GatedSAE, JumpReLUSAE])
def test_more_active_latents_than_there_are_is_told(kind):
    with pytest.warns(UserWarning, match="k=13 is larger than the 12 components"):
        kind(12, k=13, max_iter=1, random_state=0).fit(SMALL)


@pytest.mark.parametrize("kind", [SAE, GatedSAE, JumpReLUSAE])
def test_no_bias_is_moved_where_all_latents_may_be_active(kind):
    model = kind(12, k=12, max_iter=3, learning_rate=1e-3, random_state=0)
    assert model.fit(SMALL).score(SMALL) > 0


@pytest.mark.parametrize(
    ("n_components", "k", "factor", "most"),
    [(24, 6, 4, 8), (24, 6, 1e308, 8), (6, 4, 2, 6), (24, 12, 2, 12)],
)
def test_half_of_the_features_is_the_most_in_training(n_components, k, factor, most):
    icfl = ICFL(n_components, k, training_factor=factor, max_iter=1, random_state=0)
    with pytest.warns(UserWarning, match=f"allow: {most} are taken"):
        icfl.fit(SMALL)
    codes = icfl._fitted_model().train().encode(torch.tensor(SMALL[:9]).float())
    assert codes.values.shape[1] == most


def test_no_row_has_more_atoms_in_training_than_tell_something():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(480, 12)) + 2 * rng.normal(size=(3, 12))[[0, 1, 2] * 160]
    for seed in range(4):
        icfl = ICFL(640, 8, refit=True, positive_code=True, random_state=seed)
        with pytest.warns(UserWarning, match="8 are taken"):
            icfl.set_params(training_factor=2).fit(rows)
        assert icfl.score(rows) > 0.9


def test_a_warmup_that_never_ends_is_told():
    with pytest.warns(UserWarning, match="never reaches its full value"):
        TopKSAE(24, 3, warmup_steps=100, max_iter=2).fit(SMALL)


@pytest.mark.parametrize("n_components", [0.5, "8", None])
def test_a_prefix_is_a_whole_number_of_atoms(n_components):
    sae = MatryoshkaSAE(24, k=3, max_iter=1, random_state=0).fit(SMALL)
    with pytest.raises(TypeError, match="whole number of atoms"):
        sae.prefix(n_components)


def test_density_of_a_small_stream_is_that_of_the_codes():
    rows = X[:100]  # too few to be calibrated by
    icfl = ICFL(24, 3, training_factor=2, random_state=0).partial_fit(rows)
    density = np.diff(icfl.transform(rows).tocsc().indptr) / len(rows)
    np.testing.assert_allclose(icfl.feature_density_, density)


def test_another_encoder_does_not_warn_of_the_training(recwarn):
    icfl = ICFL(24, 3, training_factor=2, max_iter=1, random_state=0).fit(SMALL)
    icfl.with_encoder(k=12)
    assert not recwarn.list
