"""What a step does to the parameters, and what an epoch reports."""

import types

import joblib
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.testing import assert_allclose
from sklearn.metrics import r2_score
from skorch.callbacks import Callback, EarlyStopping, EpochScoring, GradientNormClipping

from skdict import TopKSAE
from skdict.models import (
    Clock,
    PursuitDictionary,
    ReLUAutoencoder,
    TopKAutoencoder,
)
from skdict.models.dictionary import half_squared_error
from skdict.ops import SlotCode
from skdict.training.callbacks import BestEpoch
from skdict.training.net import DictionaryNet
from skdict.training.schedule import Schedule
from skdict.training.state import restore, state_of

N, D, M, K = 40, 6, 15, 2


def draw(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype)


X = draw(N, D, seed=4)


def make_net(model, **params):
    params = {
        "generator": torch.Generator().manual_seed(0),
        "batch_size": 10,
        "n_steps": 100,
    } | params
    net = DictionaryNet(model, **params).start()
    with torch.no_grad():
        net.module_.pre_bias.copy_(draw(D, seed=1) / 10)
    return net


def pursuit(*, reset_similarity=0.9, reset_every=1000, **params):
    model = PursuitDictionary(
        F.normalize(draw(M, D)),
        K,
        reset_similarity=reset_similarity,
        reset_every=reset_every,
    )
    return make_net(model, **({"lr": 0.5} | params))


def topk(*, auxiliary_weight=1 / 32, dead_after=20, **params):
    model = TopKAutoencoder(
        F.normalize(draw(M, D)),
        K,
        auxiliary_weight=auxiliary_weight,
        dead_after=dead_after,
    )
    return make_net(model, **({"lr": 0.01} | params))


def relu(*, alpha=0.02, k=None, **params):
    model = ReLUAutoencoder(
        F.normalize(draw(M, D)), alpha=alpha, k=k, scale_encoder=True
    )
    return make_net(model, **({"lr": 0.01} | params))


def test_of_epochs_that_are_equally_good_the_first_is_kept():
    module = torch.nn.Linear(1, 1)
    module.keeps_best_epoch = True
    net = types.SimpleNamespace(held_out=X, module_=module, codes_changed=False)
    best = BestEpoch()
    best.on_train_begin(net)
    for epoch, net.watched in enumerate([0.5, 0.7, 0.7, 0.6]):
        with torch.no_grad():
            module.weight.fill_(epoch)
        best.on_epoch_end(net)
    best.on_train_end(net)
    assert module.weight.item() == 1


every_model = pytest.mark.parametrize("make", [pursuit, topk, relu])


def parameters(net):
    return {
        name: parameter.detach().clone()
        for name, parameter in net.module_.named_parameters()
    }


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def fit(net, X=X, *, max_iter=3):
    return net.train(X, max_iter)


def make_epoch(net, X):
    """One epoch over the rows, after those before it."""
    net.train(X, 1)


def record_rates(net):
    """Learning rates of the steps that the net is about to make."""
    rates = []
    step = net.optimizer_.step

    def spy(*args, **kwargs):
        (rate,) = {group["lr"] for group in net.optimizer_.param_groups}
        rates.append(rate)
        return step(*args, **kwargs)

    net.optimizer_.step = spy
    return rates


class Watch(Callback):
    """Calls a function with the net behind each epoch or step."""

    def __init__(self, function, method="on_batch_end"):
        self.function = function
        self.method = method

    def on_batch_end(self, net, training=False, **kwargs):
        if training and self.method == "on_batch_end":
            self.function(net)

    def on_epoch_end(self, net, **kwargs):
        if self.method == "on_epoch_end":
            self.function(net)


# Every net


def test_loss_is_half_the_squared_error_of_a_row():
    x_hat, x = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.zeros(2, 2)
    assert half_squared_error(x_hat, x) == 1.25


@every_model
def test_atoms_stay_on_the_unit_sphere(make):
    norms = []
    watch = Watch(lambda net: norms.append(net.module_.atoms.detach().norm(dim=1)))
    fit(make(callbacks=[watch]))
    assert len(norms) == 12
    for norm in norms:
        torch.testing.assert_close(norm, torch.ones(M, dtype=torch.float64))


@every_model
def test_all_parameters_learn_but_the_pre_bias_of_a_pursuit(make):
    net = make()
    before = parameters(net)
    fit(net)
    for name, after in parameters(net).items():
        learned = net.module_.get_parameter(name).requires_grad
        assert torch.equal(after, before[name]) is not learned, name


@every_model
def test_generator_is_the_only_source_of_randomness(make):
    def run(seed, global_seed):
        torch.manual_seed(global_seed)
        np.random.seed(global_seed)  # noqa: NPY002
        state = torch.get_rng_state()
        net = make(
            generator=torch.Generator().manual_seed(seed),
            **({"reset_every": 3, "reset_similarity": 0.3} if make is pursuit else {}),
        )
        history = fit(net)
        assert torch.equal(torch.get_rng_state(), state)
        return parameters(net), [record["loss"] for record in history]

    first, again, other = run(0, 0), run(0, 1), run(1, 0)
    assert same(first[0], again[0])
    assert first[1] == again[1]
    assert not same(first[0], other[0])


@every_model
def test_rows_are_divided_by_the_scale(make):
    plain, scaled = make(), make(scale=8.0)
    fit(plain)
    fit(scaled, 8 * X)
    assert same(parameters(plain), parameters(scaled))


@every_model
def test_rows_may_be_read_only_and_stay_as_they_are(make):
    rows = X.numpy().copy()
    rows.flags.writeable = False
    net, same_net = make(), make()
    fit(net, rows)
    fit(same_net, X.clone())
    np.testing.assert_array_equal(rows, X.numpy())
    assert same(parameters(net), parameters(same_net))


@every_model
def test_an_epoch_counts_its_own_rows_only(make):
    seen = []
    net = make(lr=0.0)
    encode = net.module_.encode
    net.module_.encode = lambda x: seen.append(encode(x)) or seen[-1]
    fit(net)
    last = seen[8:12]
    fired = sum((code.to_dense(M) != 0).sum(0) for code in last)
    assert torch.equal(net.fired, fired)
    assert net.rows_seen == N
    x_hat, _ = net.module_(X)
    torch.testing.assert_close(
        net.squared_error, (x_hat - X).square().sum().detach(), rtol=1e-12, atol=0
    )


@every_model
def test_rate_falls_linearly_to_zero(make):
    net = make(n_steps=12, lr=0.6)
    rates = record_rates(net)
    fit(net)
    np.testing.assert_allclose(rates, 0.6 * np.arange(12, 0, -1) / 12, rtol=1e-12)
    assert net.learning_rate.rate(12) == 0
    assert net.clock.steps_left == 0


@every_model
def test_rate_of_a_stream_falls_with_the_root_of_the_steps(make):
    net = make(n_steps=None)
    net.clock.n_steps = 1500
    slow = net.module_.stream_steps
    rates = record_rates(net)
    (record,) = fit(net, max_iter=1)
    expected = [net.lr / (1 + s / slow) ** 0.5 for s in range(1500, 1505)]
    assert rates == pytest.approx(expected[:4])
    assert record["learning_rate"] == pytest.approx(expected[4])
    assert net.clock.n_steps == 1504


def test_rate_does_not_depend_on_how_often_it_is_asked_for():
    net = topk(n_steps=12)
    fit(net, max_iter=1)
    assert net.learning_rate.rate(5) == net.learning_rate.rate(5) == 0.01 * 7 / 12


@every_model
def test_all_groups_of_parameters_have_the_rate_of_the_step(make):
    net = make(n_steps=12, lr=0.6)
    (group,) = net.optimizer_.param_groups
    parameters = group["params"]
    group["params"] = parameters[:1]
    net.optimizer_.add_param_group({"params": parameters[1:]})
    seen = []
    watch = Watch(
        lambda net: seen.append({g["lr"] for g in net.optimizer_.param_groups})
    )
    net.callbacks_.append(("watch", watch))
    fit(net)
    assert seen == [{0.6 * (left / 12)} for left in range(12, 0, -1)]


@every_model
def test_a_stream_goes_on_in_other_nets_as_if_in_one(make):
    params = {"n_steps": None, "batch_size": 5}
    if make is pursuit:
        params |= {"reset_every": 7, "reset_similarity": 0.3}
    batches = X.split(10)
    one = make(**params)
    for batch in batches:
        make_epoch(one, batch)
    state, learned = None, {}
    for batch in batches:
        net = make(**params | {"generator": torch.Generator().manual_seed(99)})
        if state is None:
            net.generator.manual_seed(0)
        else:
            net.module_.load_state_dict(learned, strict=False)
            restore(net, state)
        make_epoch(net, batch)
        state, learned = state_of(net), parameters(net)
    assert same(parameters(net), parameters(one))
    assert net.clock.n_steps == one.clock.n_steps == 8
    assert joblib.hash(state) == joblib.hash(state_of(one))


@every_model
def test_state_does_not_change_with_the_net(make):
    net = make(n_steps=None)
    fit(net)
    state = state_of(net)
    before = joblib.hash(state)
    other = make(n_steps=None)
    restore(other, state)
    fit(net)
    fit(other)
    assert joblib.hash(state) == before


@every_model
def test_evaluation_mode_wherever_nothing_is_learned(make):
    net = make(held_out=torch.arange(5))
    modes = []
    encode = net.module_.encode
    net.module_.encode = lambda x: modes.append(net.module_.training) or encode(x)
    fit(net, max_iter=1)
    # Four steps, one batch held out, and four batches that are looked at in the end.
    n_looks = 4 if net.module_.keeps_best_epoch else 0
    assert modes == [True] * 4 + [False] * (1 + n_looks)


# PursuitDictionary


def expected_step(module, batch, curvature, rate):
    """One step from its equation: atoms and the running curvature."""
    x_hat, code = module(batch)
    z, error = code.to_dense(M), (x_hat - batch).detach()
    now = z.square().mean(0)
    curvature = 0.95 * curvature + 0.05 * now
    divisor = torch.maximum(now, curvature)
    divisor[divisor == 0] = 1.0
    gradient = z.T @ error / len(batch)
    atoms = module.atoms.detach() - rate * gradient / divisor[:, None]
    return F.normalize(atoms), curvature


def test_pursuit_step_is_gradient_descent_over_the_curvature():
    net = pursuit(batch_size=N, n_steps=None, lr=0.5)
    model = net.module_
    curvature = torch.zeros(M, dtype=torch.float64)
    pre_bias = model.pre_bias.clone()
    for batch in (X, X[:5], 0 * X):
        rate = 0.5 / (1 + net.clock.n_steps / model.stream_steps) ** 0.5
        atoms, curvature = expected_step(model, batch, curvature, rate)
        make_epoch(net, batch)
        torch.testing.assert_close(model.atoms.detach(), atoms)
        assert torch.equal(model.pre_bias, pre_bias)
        torch.testing.assert_close(model.curvature, curvature)


def test_a_rate_of_one_finds_the_atom_of_rows_that_share_it():
    atom = F.normalize(draw(1, D, seed=7))
    rows = draw(30, 1, seed=8).abs() * atom
    net = pursuit(batch_size=30, lr=1.0)
    with torch.no_grad():
        net.module_.pre_bias.zero_()
        net.module_.atoms[:] = F.normalize(draw(1, D, seed=9)) + 0 * net.module_.atoms
        net.module_.atoms[1:] *= -1
        net.module_.atoms[0] = F.normalize(atom + 0.3 * net.module_.atoms[:1])
    net.module_.k = 1
    make_epoch(net, rows)
    torch.testing.assert_close(net.module_.atoms[:1].detach(), atom)


def crowded(**params):
    """A net two of whose atoms coincide, and whose others are far apart."""
    net = pursuit(**params)
    with torch.no_grad():
        net.module_.atoms[:6] = torch.eye(D)
        net.module_.atoms[6:12] = -torch.eye(D)
        net.module_.atoms[12:] = F.normalize(torch.tensor([[1.0, 1, 1, 0, 0, 0]]))
        net.module_.atoms[13] = F.normalize(torch.tensor([0.0, 0, 0, 1, 1, 1]), dim=0)
    return net


@pytest.mark.parametrize(("fired", "lost"), [((3, 5), 12), ((5, 3), 14), ((4, 4), 14)])
def test_of_a_redundant_pair_the_less_used_atom_is_redrawn(fired, lost):
    net = crowded()
    model = net.module_
    before = model.atoms.detach().clone()
    model.fired_since_reset[[12, 14]] = torch.tensor(fired)
    model.curvature += 2
    assert model.redraw_(net.generator) == 1
    after = model.atoms.detach()
    others = torch.arange(M) != lost
    assert torch.equal(after[others], before[others])
    assert after[lost] @ before[lost] < 0.9
    torch.testing.assert_close(after[lost].norm(), after.new_ones(()))
    assert (model.fired_since_reset == 0).all()
    assert model.curvature.tolist() == [0.0 if m == lost else 2.0 for m in range(M)]
    assert model.redraw_(net.generator) == 0


@pytest.mark.parametrize(("reset_similarity", "n_resets"), [(0.94, 1), (0.96, 0)])
def test_atoms_are_redundant_above_the_similarity(reset_similarity, n_resets):
    net = crowded(reset_similarity=reset_similarity)
    with torch.no_grad():
        net.module_.atoms[14] *= 0.95
        net.module_.atoms[14] += (1 - 0.95**2) ** 0.5 * net.module_.atoms[13]
    assert net.module_.redraw_(net.generator) == n_resets


def test_new_atoms_differ_from_each_other():
    net = crowded()
    with torch.no_grad():
        net.module_.atoms[:] = net.module_.atoms[0].clone()
    assert net.module_.redraw_(net.generator) == M - 1
    cosines = net.module_.atoms.detach() @ net.module_.atoms.detach().T
    assert (cosines.fill_diagonal_(0) < 1 - 1e-6).all()


def record_resets(net):
    """Steps after which atoms are looked over, and how often they have fired then."""
    resets = []
    redraw = net.module_.redraw_

    def spy(generator):
        fired = net.module_.fired_since_reset.clone()
        resets.append((net.clock.n_steps, fired))
        return redraw(generator)

    net.module_.redraw_ = spy
    return resets


def test_usage_is_counted_between_resets():
    epochs = []
    watch = Watch(lambda net: epochs.append(net.fired.clone()), "on_epoch_end")
    net = pursuit(reset_every=4, n_steps=12, callbacks=[watch])
    resets = record_resets(net)
    fit(net)
    # None at step 12: fewer than `reset_every` steps are left.
    assert [step for step, _ in resets] == [4, 8]
    for (_, fired), of_epoch in zip(resets, epochs, strict=False):
        assert torch.equal(fired, of_epoch)


@pytest.mark.parametrize(
    ("n_steps", "expected"),
    [(12, [3, 6, 9]), (13, [3, 6, 9]), (None, [3, 6, 9, 12])],
)
def test_no_reset_leaves_a_new_atom_without_time_to_learn(n_steps, expected):
    net = pursuit(reset_every=3, n_steps=n_steps)
    resets = record_resets(net)
    fit(net)
    assert [step for step, _ in resets] == expected


def test_resets_are_reported_per_epoch():
    net = crowded(reset_every=4, n_steps=None, lr=1e-6)
    assert [record["resets"] for record in fit(net)] == [1, 0, 0]


# TopKAutoencoder


def test_gradient_of_the_decoder_is_tangent_to_the_sphere():
    net = topk()
    radial = []
    step = net.optimizer_.step

    def spy():
        atoms = net.module_.atoms
        assert atoms.grad.norm() > 1e-3
        radial.append((atoms.grad * atoms).sum(1))
        return step()

    net.optimizer_.step = spy
    fit(net)
    assert len(radial) == 12
    assert all(part.abs().max() < 1e-12 for part in radial)


def test_topk_step_is_a_step_of_adam():
    net = topk(batch_size=N, auxiliary_weight=0.0)
    model = topk().module_
    adam = torch.optim.Adam(model.parameters())
    for rate in (0.01, 0.01 * 99 / 100):
        adam.zero_grad()
        objective = model.objective(X, X)
        half_squared_error(objective.reconstruction, X).backward()
        model.precondition_(objective)
        adam.param_groups[0]["lr"] = rate
        adam.step()
        model.project_()
    net.train(X, 2)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(net.module_.get_parameter(name), parameter)


def objective_of(model, x, silent):
    """The objective of a batch on which all latents but the silent ones fired."""
    fired = torch.ones(M, dtype=torch.int64)
    fired[silent] = 0
    objective = model.objective(x, x)._replace(fired=fired)
    silence = model._silence(objective)
    return objective._replace(counters={"rows_since_fired": silence})


def test_a_latent_is_dead_after_so_many_rows_without_firing():
    model = topk(dead_after=20, auxiliary_weight=1.0).module_
    clock = Clock(1, None, torch.Generator())
    dead = []
    for silent in ([], [1, 2], [1, 2], [1], [1], []):
        objective = objective_of(model, X[:10], silent)
        dead.append(model._dead_latents(objective).tolist())
        model.maintain_(objective, clock)
    assert dead == [[], [], [1, 2], [1], [1], []]
    assert model.rows_since_fired.tolist() == [0] * M


@pytest.mark.parametrize("dead", [[2], [0, 3, 5], [1, 4, 6, 9, 11]])
def test_auxiliary_loss_is_half_the_share_of_the_residual_dead_latents_miss(
    monkeypatch, dead
):
    model = topk(auxiliary_weight=0.25).module_
    with torch.no_grad():
        model.encoder += draw(M, D, seed=5)
        model.encoder_bias += draw(M, seed=6)
    monkeypatch.setattr(model, "_dead_latents", lambda objective: torch.tensor(dead))
    objective = model.objective(X, X)
    plain = half_squared_error(objective.reconstruction, X)
    auxiliary = (objective.loss - plain) / 0.25

    residual = (X - objective.reconstruction).detach()
    z = (X - model.pre_bias) @ model.encoder[dead].T + model.encoder_bias[dead]
    strongest = z.topk(min(len(dead), model.k), dim=1)
    z = SlotCode(strongest.indices, strongest.values).to_dense(len(dead))
    expected = (residual - z @ model.atoms[dead]).square().sum()
    expected = expected / residual.square().sum() / 2
    torch.testing.assert_close(auxiliary, expected)

    names = ["encoder", "encoder_bias", "atoms"]
    learned = [model.get_parameter(name) for name in names]
    gradients = torch.autograd.grad(auxiliary, learned, retain_graph=True)
    expected_gradients = torch.autograd.grad(expected, learned)
    live = torch.ones(M, dtype=torch.bool)
    live[dead] = False
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        assert gradient[live].abs().max() < 1e-12
        assert (gradient[dead] != 0).any()
        torch.testing.assert_close(gradient, expected_gradient)
    (gradient,) = torch.autograd.grad(auxiliary, model.pre_bias, allow_unused=True)
    assert gradient is None or gradient.abs().max() < 1e-12


def test_auxiliary_loss_of_a_perfect_reconstruction_is_finite():
    model = topk(auxiliary_weight=1.0).module_
    residual = torch.zeros_like(X)
    assert model._auxiliary_loss(X, residual, torch.arange(M)).isfinite()


def test_no_auxiliary_loss_where_its_weight_is_zero(monkeypatch):
    net = topk(auxiliary_weight=0.0, dead_after=10)
    monkeypatch.setattr(net.module_, "_auxiliary_loss", None)
    fit(net)
    assert net.module_.rows_since_fired.max() > 0


def test_objective_has_no_side_effects():
    model = topk(auxiliary_weight=1.0, dead_after=1).module_
    before = {name: value.clone() for name, value in model.state_dict().items()}
    losses = [model.objective(X, X).loss for _ in range(2)]
    assert torch.equal(*losses)
    assert same(dict(model.state_dict()), before)


def test_dead_latents_come_back():
    def dead_fraction(weight):
        net = topk(auxiliary_weight=weight, n_steps=None, lr=0.05)
        with torch.no_grad():
            net.module_.encoder_bias[5:] = -10.0
        return fit(net, max_iter=100)[-1]["dead_fraction"]

    assert dead_fraction(0.0) == 10 / 15
    assert dead_fraction(1.0) < 5 / 15


# ReLUAutoencoder


@pytest.mark.parametrize(
    ("n_steps", "expected"),
    [
        (40, [0.075, 0.15, 0.225] + [0.3] * 5),  # a tenth of the steps, then all of it
        (None, 0.003 * np.arange(1, 9)),  # in a stream, the first hundred steps
    ],
)
def test_penalty_is_the_mean_l1_norm_after_the_warm_up(n_steps, expected):
    net = relu(alpha=0.3, k=None, n_steps=n_steps, lr=1e-12)
    model = net.module_
    penalties = []

    def record(net):
        objective = model.objective(X, X)
        plain = half_squared_error(objective.reconstruction, X)
        norm = objective.code.values.sum(1).mean()
        penalties.append(float(((objective.loss - plain) / norm).detach()))

    net.callbacks_.append(("record", Watch(record)))
    net.train(X, 2)
    np.testing.assert_allclose(penalties, expected, atol=1e-12)


def test_weight_of_the_penalty_follows_the_wanted_number():
    def factor(k):
        net = relu(k=k, n_steps=100, lr=1e-9)
        fit(net)
        return float(net.module_.log_factor.exp())

    active = float((relu().module_.encode(X).values > 0).sum(1).double().mean())
    assert factor(active / 2) > 1.05
    assert factor(2 * active) < 0.95
    assert factor(None) == 1


def test_held_out_rows_that_activate_more_latents_raise_the_weight():
    def log_factor(k, excess):
        net = relu(k=k, n_steps=100, lr=1e-9)
        net.module_.excess.fill_(excess)
        fit(net)
        return float(net.module_.log_factor)

    assert log_factor(4, 2.0) == pytest.approx(log_factor(2, 0.0))


def test_weight_of_the_penalty_is_finite_where_nothing_is_active():
    net = relu(k=2.0)
    with torch.no_grad():
        net.module_.encoder_bias.fill_(-100.0)
    fit(net, max_iter=1)
    assert -1 < net.module_.log_factor < 0


def test_held_out_rows_that_activate_more_lower_the_target():
    model = relu(k=4).module_
    model.active.fill_(2.0)
    model.watch_(torch.full((M,), 10), 25)  # 15 * 10 / 25 = 6 of them a row
    assert model.excess == 3


# The loop


@every_model
def test_record_of_an_epoch(make):
    net = make(scale=2.0, lr=0.0, variance=3.0)
    history = fit(net, 2 * X)
    x_hat, code = net.module_(X)
    error = float((x_hat - X).detach().square().sum(1).mean())
    dead = float(((code.to_dense(M) != 0).sum(0) == 0).double().mean())
    assert [record["epoch"] for record in history] == [1, 2, 3]
    for record in history:
        assert record["loss"] == pytest.approx(4 * error)
        assert record["explained_variance"] == pytest.approx(1 - error / 3)
        assert record["dead_fraction"] == pytest.approx(dead)
        assert record["resets"] == 0
        assert record["learning_rate"] == 0
        assert record["seconds"] > 0
        assert all(type(value) in (int, float) for value in record.values())


@every_model
def test_rows_without_spread_are_explained_if_rebuilt_exactly(make):
    def explained(rows):
        net = make(lr=0.0, variance=0.0)
        with torch.no_grad():
            net.module_.pre_bias.fill_(0.5)
        return fit(net, rows)[0]["explained_variance"]

    exact = torch.full((N, D), 0.5, dtype=torch.float64)
    assert explained(exact) == 1.0
    assert explained(exact + X) == 0.0


@every_model
@pytest.mark.parametrize("max_iter", [1, 7])
def test_ends_after_max_iter(make, max_iter):
    net = make(n_steps=4 * max_iter)
    assert len(fit(net, max_iter=max_iter)) == max_iter


def scripted(monkeypatch, net, explained):
    """Let the epochs of the net explain this fraction of the variance, one by one."""
    values = iter(explained)

    def run_single_epoch(iterator, training, **kwargs):
        if not training:
            return
        net.squared_error = torch.tensor(1 - next(values))
        net.first_error = net.last_error = net.squared_error
        net.rows_seen = 1
        for _ in range(len(iterator)):
            rates.append(net.learning_rate.rate(net.clock.n_steps))
            net.clock.n_steps += 1

    rates = []
    monkeypatch.setattr(net, "run_single_epoch", run_single_epoch)
    return rates


@pytest.mark.parametrize(
    ("explained", "n_epochs"),
    [
        ([0.1] * 20, 1 + 3 + 3),
        ([0.1, 0.2, 0.3, 0.4, 0.5] + [0.5] * 15, 5 + 3 + 3),
        ([0.1, 0.2] + [0.1] * 18, 2 + 3 + 3),
        # Small rises add up to one that counts.
        ([0.1, 0.107, 0.107, 0.114] + [0.114] * 16, 4 + 3 + 3),
        # Rises that do not count.
        (list(0.1 + np.arange(20) / 1000), 1 + 3 + 3),
        # It is too late for a wind-down of three passes.
        (list(np.arange(16) / 20) + [0.0] * 4, 20),
        (list(np.arange(20) / 20), 20),
    ],
)
def test_winds_down_once_flat(monkeypatch, explained, n_epochs):
    net = topk(n_steps=20 * 4, lr=1.0, tol=0.01, n_iter_no_change=3)
    rates = scripted(monkeypatch, net, explained)
    history = fit(net, max_iter=20)
    assert len(history) == n_epochs
    before = 4 * min(n_epochs - 3, 17)
    falling = 1 - np.arange(before) / 80
    winding_down = (1 - before / 80) * np.arange(12, 0, -1) / 12
    np.testing.assert_allclose(rates, np.concatenate([falling, winding_down]))
    assert net.clock.steps_left == 0


def test_without_a_tolerance_what_stays_the_same_is_flat(monkeypatch):
    net = topk(n_steps=20 * 4, tol=0.0, n_iter_no_change=3)
    scripted(monkeypatch, net, [0.1, 0.2, 0.201] + [0.201] * 17)
    assert len(fit(net, max_iter=20)) == 3 + 3 + 3


@every_model
def test_held_out_rows_are_validated_on_and_never_learned_from(make):
    held_out = torch.tensor([3, 17, 39])
    # Far away, they would be seen at once in whatever learns from them.
    rows = X.clone()
    rows[held_out] += 100.0
    others = torch.ones(N, dtype=torch.bool)
    others[held_out] = False
    net = make(held_out=held_out, batch_size=37, variance=2.0)
    alone = make(batch_size=37)
    history = fit(net, rows, max_iter=1)
    fit(alone, rows[others], max_iter=1)
    assert same(parameters(net), parameters(alone))
    # The validation draws no random numbers, which would shuffle the next epoch.
    assert torch.equal(net.generator.get_state(), alone.generator.get_state())
    error = (net.module_(rows[held_out])[0] - rows[held_out]).square().sum(1).mean()
    assert history[0]["validation_explained_variance"] == pytest.approx(
        1 - float(error.detach()) / 2
    )


@pytest.mark.parametrize(
    "held_out", [torch.tensor([3, 17, 39]), None], ids=["held out", "all"]
)
def test_a_model_is_calibrated_on_the_held_out_rows_or_on_all(held_out):
    seen = []
    net = relu(k=2.0, held_out=held_out)

    def watch(batches, n_rows):
        assert not net.module_.training
        seen.append((torch.cat(list(batches)), n_rows))

    net.module_.calibrate_ = watch
    fit(net, max_iter=1)
    ((rows, n_rows),) = seen
    expected = X if held_out is None else X[held_out]
    assert torch.equal(rows, expected)
    assert n_rows == len(expected)


def script_validation(monkeypatch, net, errors, after=lambda: None):
    """Let the held-out rows have these errors, epoch by epoch."""
    errors, run_single_epoch = iter(errors), net.run_single_epoch

    def run(iterator, training, **kwargs):
        run_single_epoch(iterator, training=training, **kwargs)
        if training:
            after()
        else:
            net.validation_error = torch.tensor(next(errors))

    monkeypatch.setattr(net, "run_single_epoch", run)


@pytest.mark.parametrize("make", [pursuit, topk])
def test_the_epoch_that_is_best_on_held_out_rows_is_kept(monkeypatch, make):
    net, seen = make(held_out=torch.arange(8)), []
    script_validation(
        monkeypatch, net, [0.5, 0.1, 0.3, 0.2], lambda: seen.append(parameters(net))
    )
    fit(net, max_iter=4)
    assert same(parameters(net), seen[1])
    assert not same(seen[1], seen[3])
    # What fires is counted anew, with these parameters and on the rows learned from.
    code = net.module_.encode(X[8:])
    assert torch.equal(net.fired, (code.to_dense(M) != 0).sum(0))
    assert net.rows_seen == N - 8


def test_with_a_penalty_the_last_epoch_is_kept(monkeypatch):
    # A sparser code explains less, and is what the penalty asks for.
    net, seen = relu(held_out=torch.arange(8)), []
    script_validation(
        monkeypatch, net, [0.5, 0.1, 0.3], lambda: seen.append(parameters(net))
    )
    fit(net, max_iter=3)
    assert same(parameters(net), seen[-1])


def test_epochs_in_which_a_penalty_still_rises_are_not_flat(monkeypatch):
    # It rises over a tenth of the steps, and has risen when epoch 10 ends, the first of
    # three flat ones. In three more the rate falls.
    n_epochs = {}
    for make in (relu, topk):
        net = make(
            held_out=torch.arange(8),
            batch_size=32,
            n_steps=100,
            lr=1e-9,
            tol=0.01,
            n_iter_no_change=3,
        )
        script_validation(monkeypatch, net, [0.5] * 100)
        n_epochs[make] = len(fit(net, max_iter=100))
    assert n_epochs == {relu: 9 + 3 + 3, topk: 1 + 3 + 3}


def test_winding_down_starts_from_the_best_epoch(monkeypatch):
    net = topk(
        held_out=torch.arange(8),
        batch_size=32,
        n_steps=20,
        lr=1e-9,
        tol=0.01,
        n_iter_no_change=2,
    )
    seen = []

    def move():
        seen.append(float(net.module_.encoder_bias.detach()[0]))
        with torch.no_grad():
            net.module_.encoder_bias += 0.001

    script_validation(monkeypatch, net, [0.9, 0.5, 0.6, 0.6] + [0.7] * 10, move)
    fit(net, max_iter=20)
    # Flat after four epochs, so the state behind the second comes back.
    np.testing.assert_allclose(seen, [0, 0.001, 0.002, 0.003, 0.002, 0.003], atol=1e-6)


@pytest.mark.parametrize(("last", "diverged"), [(11.0, True), (9.0, False)])
def test_an_error_that_has_grown_is_refused(monkeypatch, last, diverged):
    net = topk(n_steps=12)
    scripted(monkeypatch, net, [-5.0] * 3)
    run_single_epoch = net.run_single_epoch

    def grow(iterator, **kwargs):
        run_single_epoch(iterator, **kwargs)
        net.first_error, net.last_error = torch.tensor(1.0), torch.tensor(last)

    monkeypatch.setattr(net, "run_single_epoch", grow)
    if diverged:
        with pytest.raises(
            ValueError, match=r"diverged: .* 6 times .* Lower learning_rate="
        ):
            fit(net)
    else:
        assert len(fit(net)) == 3


def test_without_tol_a_flat_loss_goes_on(monkeypatch):
    net = topk(n_steps=20 * 4, tol=None)
    scripted(monkeypatch, net, [0.1] * 20)
    assert len(fit(net, max_iter=20)) == 20


def test_a_stream_does_not_wind_down(monkeypatch):
    net = topk(n_steps=None, tol=0.01)
    scripted(monkeypatch, net, [0.1] * 20)
    assert len(fit(net, max_iter=20)) == 20


@pytest.mark.parametrize("answer", [True, np.True_])
def test_a_callback_that_returns_true_stops_after_all_were_called(answer):
    first, second = [], []
    callbacks = [
        lambda record: first.append(record) or (answer if len(first) == 2 else False),
        second.append,
    ]
    history = fit(topk(callbacks=callbacks))
    assert history == first == second
    assert len(history) == 2


@pytest.mark.parametrize("answer", [None, False, 1, "yes"])
def test_any_other_answer_goes_on(answer):
    assert len(fit(topk(callbacks=[lambda record: answer]))) == 3


@every_model
@pytest.mark.parametrize("where", ["callable", "callback", "step"])
def test_keyboard_interrupt_gets_through(make, where):
    def interrupt(*args):
        raise KeyboardInterrupt

    callbacks = {
        "callable": [interrupt],
        "callback": [Watch(interrupt, "on_epoch_end")],
        "step": [],
    }
    net = make(callbacks=callbacks[where])
    if where == "step":
        net.module_.maintain_ = interrupt
    with pytest.raises(KeyboardInterrupt):
        fit(net)


# Callbacks of skorch


@every_model
def test_epoch_scoring_sees_rows_and_reconstructions(make):
    scores = [
        EpochScoring("r2", name="train_r2", on_train=True),
        EpochScoring("neg_mean_squared_error", name="valid_mse"),
        EpochScoring(lambda net, X, y: float(len(y)), name="rows", use_caching=False),
    ]
    scores[2].scoring = lambda net, X, y: float(len(net.predict(X)))
    net = make(held_out=torch.arange(6), lr=0.0, callbacks=scores)
    history = fit(net, max_iter=2)
    x_hat = net.module_(X)[0].detach()
    mse = float((x_hat - X)[:6].square().mean())
    for record in history:
        assert record["train_r2"] == pytest.approx(
            r2_score(X[6:], x_hat[6:], multioutput="uniform_average")
        )
        assert record["valid_mse"] == pytest.approx(-mse)
        assert record["rows"] == 6


def test_early_stopping_of_skorch_ends_the_training(capsys):
    monitor = EarlyStopping("loss", patience=2)
    assert len(fit(topk(lr=0.0, callbacks=[monitor]), max_iter=9)) == 3


def test_gradients_are_seen_before_the_step():
    clipped = topk(lr=0.01, callbacks=[GradientNormClipping(0.0)])
    before = parameters(clipped)
    fit(clipped)
    for name, after in parameters(clipped).items():
        torch.testing.assert_close(after, before[name])


def test_a_class_of_callbacks_and_twice_the_same_are_taken():
    net = topk(callbacks=[Watch(lambda net: None), Watch(lambda net: None), Callback])
    assert len(fit(net)) == 3


def test_the_net_keeps_no_record_of_the_batches_of_earlier_epochs():
    net = topk()
    fit(net)
    assert [len(record["batches"]) for record in net.history] == [0, 0, 4]


# The bar


def test_progress_bar_counts_the_steps(capsys):
    fit(topk(batch_size=15, verbose=1))
    shown = capsys.readouterr().err
    assert "9/9" in shown
    for name in ("loss=", "ev=", "dead="):
        assert name in shown


def test_progress_bar_ends_with_an_early_end(capsys):
    history = fit(topk(tol=10.0, n_iter_no_change=2, verbose=1), max_iter=25)
    assert len(history) == 1 + 2 + 2
    assert "20/20" in capsys.readouterr().err


def test_silent_by_default(capsys):
    fit(topk())
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("last_step", [None, 40])
def test_warmup_raises_the_rate_linearly(last_step):
    plain = Schedule(0.3, 0, last_step, 20)
    warm = Schedule(0.3, 0, last_step, 20, warmup_steps=8)
    ratios = [warm.rate(step) / plain.rate(step) for step in range(12)]
    assert_allclose(ratios, [min(1, (step + 1) / 9) for step in range(12)])
    if last_step is not None:
        assert warm.wind_down(3, 10).rate(3) == warm.rate(3)


def test_warmup_reaches_the_optimiser_and_goes_on_in_a_stream():
    X = np.random.default_rng(0).standard_normal((512, 6))
    rates = []

    class Watch(Callback):
        def on_batch_end(self, net, **kwargs):
            rates.append(net.optimizer_.param_groups[0]["lr"])

    sae = TopKSAE(12, 2, batch_size=128, warmup_steps=6, callbacks=[Watch()])
    for _ in range(2):
        sae.partial_fit(X)
    rates = [rate * (1 + step / 500) ** 0.5 / 3e-3 for step, rate in enumerate(rates)]
    assert_allclose(rates, [1 / 7, 2 / 7, 3 / 7, 4 / 7, 5 / 7, 6 / 7, 1, 1])
