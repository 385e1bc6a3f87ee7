"""What a step does to the parameters, and what a pass reports."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from skdict.modules import PursuitDictionary, TopKAutoencoder
from skdict.ops import SparseCode
from skdict.training import PursuitNet, TopKNet, train
from skdict.training.net import half_squared_error

N, D, M, K = 40, 6, 15, 2


def draw(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype)


X = draw(N, D, seed=4)


def pursuit(**params):
    params = {
        "generator": torch.Generator().manual_seed(0),
        "batch_size": 10,
        "steps_left": 100,
        "lr": 0.5,
        "reset_similarity": 0.9,
        "reset_every": 1000,
    } | params
    module = PursuitDictionary(F.normalize(draw(M, D)), draw(D, seed=1) / 10, K)
    return PursuitNet(module, **params).start()


def topk(**params):
    params = {
        "generator": torch.Generator().manual_seed(0),
        "batch_size": 10,
        "steps_left": 100,
        "lr": 0.01,
        "auxiliary_weight": 1 / 32,
        "dead_after": 20,
    } | params
    module = TopKAutoencoder(F.normalize(draw(M, D)), draw(D, seed=1) / 10, K)
    return TopKNet(module, **params).start()


both = pytest.mark.parametrize("make", [pursuit, topk])


def parameters(net):
    return {
        name: parameter.detach().clone()
        for name, parameter in net.module_.named_parameters()
    }


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def fit(net, X=X, **params):
    params = {
        "max_iter": 3,
        "variance": 1.0,
        "tol": None,
        "n_iter_no_change": 2,
        "verbose": 0,
        "callbacks": None,
    } | params
    return train(net, X, **params)


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


# Every net


def test_loss_is_half_the_squared_error_of_a_row():
    x_hat, x = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.zeros(2, 2)
    assert half_squared_error((x_hat, None), x) == 1.25


@both
def test_atoms_stay_on_the_unit_sphere(make):
    net = make()
    norms = []
    net.after_step = lambda fired: norms.append(net.module_.atoms.norm(dim=1).clone())
    fit(net)
    assert len(norms) == 12
    for norm in norms:
        torch.testing.assert_close(norm, torch.ones(M, dtype=torch.float64))


@both
def test_all_parameters_learn_but_the_pre_bias_of_a_pursuit(make):
    net = make()
    before = parameters(net)
    fit(net)
    for name, after in parameters(net).items():
        learned = net.module_.get_parameter(name).requires_grad
        assert torch.equal(after, before[name]) is not learned, name


@both
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


@both
def test_rows_are_divided_by_the_scale(make):
    plain, scaled = make(), make(scale=8.0)
    fit(plain)
    fit(scaled, 8 * X)
    assert same(parameters(plain), parameters(scaled))


@both
def test_rows_may_be_read_only_and_stay_as_they_are(make):
    rows = X.numpy().copy()
    rows.flags.writeable = False
    net, same_net = make(), make()
    fit(net, rows)
    fit(same_net, X.clone())
    np.testing.assert_array_equal(rows, X.numpy())
    assert same(parameters(net), parameters(same_net))


@both
def test_a_pass_counts_its_own_rows_only(make):
    net = make(lr=0.0)
    seen = []
    infer = net.infer
    net.infer = lambda batch: seen.append(infer(batch)) or seen[-1]
    fit(net)
    last = [code for _, code in seen[8:]]
    fired = sum((code.to_dense(M) != 0).sum(0) for code in last)
    assert torch.equal(net.fired, fired)
    assert net.rows_seen == N
    x_hat, _ = net.module_(X)
    torch.testing.assert_close(
        net.squared_error, (x_hat - X).square().sum().detach(), rtol=1e-12, atol=0
    )


@both
def test_rate_falls_linearly_to_zero(make):
    net = make(steps_left=12, lr=0.6)
    rates = record_rates(net)
    fit(net)
    np.testing.assert_allclose(rates, 0.6 * np.arange(12, 0, -1) / 12, rtol=1e-12)
    assert net.learning_rate == pytest.approx(0, abs=1e-12)
    assert net.steps_left == 0


@both
def test_rate_of_a_stream_falls_with_the_root_of_the_steps(make):
    net = make(steps_left=None)
    net.n_steps = 1500
    slow = net._stream_steps
    rates = record_rates(net)
    (record,) = fit(net, max_iter=1)
    assert rates == pytest.approx(
        [net.lr / (1 + s / slow) ** 0.5 for s in range(1500, 1504)]
    )
    assert record["learning_rate"] == rates[-1]
    assert net.n_steps == 1504


@both
def test_a_stream_goes_on_in_other_nets_as_if_in_one(make):
    params = {"steps_left": None, "batch_size": 5}
    if make is pursuit:
        params |= {"reset_every": 7, "reset_similarity": 0.3}
    batches = X.split(10)
    one = make(**params)
    for batch in batches:
        one.fit_loop(batch, epochs=1)
    state, learned = None, {}
    for batch in batches:
        net = make(**params | {"generator": torch.Generator().manual_seed(99)})
        if state is None:
            net.generator.manual_seed(0)
        else:
            net.module_.load_state_dict(learned)
            net.restore(state)
        net.fit_loop(batch, epochs=1)
        state, learned = net.state(), parameters(net)
        assert all(isinstance(value, np.ndarray) for value in state.values())
    assert same(parameters(net), parameters(one))
    assert net.n_steps == one.n_steps == 8
    assert state.keys() == one.state().keys()
    for name, value in one.state().items():
        np.testing.assert_array_equal(state[name], value, strict=True)


@both
def test_state_does_not_change_with_the_net(make):
    net = make(steps_left=None)
    fit(net)
    state = net.state()
    copies = {name: value.copy() for name, value in state.items()}
    other = make(steps_left=None).restore(state)
    fit(net)
    fit(other)
    for name, value in copies.items():
        np.testing.assert_array_equal(state[name], value)


# PursuitNet


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
    net = pursuit(batch_size=N, steps_left=None, lr=0.5)
    module = net.module_
    curvature = torch.zeros(M, dtype=torch.float64)
    pre_bias = module.pre_bias.clone()
    for batch in (X, X[:5], 0 * X):
        rate = 0.5 / (1 + net.n_steps / net._stream_steps) ** 0.5
        atoms, curvature = expected_step(module, batch, curvature, rate)
        net.fit_loop(batch, epochs=1)
        torch.testing.assert_close(module.atoms.detach(), atoms)
        assert torch.equal(module.pre_bias, pre_bias)
        torch.testing.assert_close(net.curvature, curvature)


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
    net.fit_loop(rows, epochs=1)
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
    before = net.module_.atoms.detach().clone()
    net.fired_since_reset[[12, 14]] = torch.tensor(fired)
    net.curvature += 2
    with torch.no_grad():
        net.redraw_redundant()
    after = net.module_.atoms.detach()
    others = torch.arange(M) != lost
    assert torch.equal(after[others], before[others])
    assert after[lost] @ before[lost] < 0.9
    torch.testing.assert_close(after[lost].norm(), after.new_ones(()))
    assert net.n_resets == 1
    assert (net.fired_since_reset == 0).all()
    assert net.curvature.tolist() == [0.0 if m == lost else 2.0 for m in range(M)]
    with torch.no_grad():
        net.redraw_redundant()
    assert net.n_resets == 1


@pytest.mark.parametrize(("reset_similarity", "n_resets"), [(0.94, 1), (0.96, 0)])
def test_atoms_are_redundant_above_the_similarity(reset_similarity, n_resets):
    net = crowded(reset_similarity=reset_similarity)
    with torch.no_grad():
        net.module_.atoms[14] *= 0.95
        net.module_.atoms[14] += (1 - 0.95**2) ** 0.5 * net.module_.atoms[13]
        net.redraw_redundant()
    assert net.n_resets == n_resets


def test_new_atoms_differ_from_each_other():
    net = crowded()
    with torch.no_grad():
        net.module_.atoms[:] = net.module_.atoms[0].clone()
        net.redraw_redundant()
    assert net.n_resets == M - 1
    cosines = net.module_.atoms.detach() @ net.module_.atoms.detach().T
    assert (cosines.fill_diagonal_(0) < 1 - 1e-6).all()


def test_usage_is_counted_between_resets():
    net = pursuit(reset_every=4, steps_left=12)
    at_resets = []
    redraw = net.redraw_redundant
    net.redraw_redundant = lambda: (
        at_resets.append((net.n_steps, net.fired_since_reset.clone())),
        redraw(),
    )
    passes = []
    fit(net, callbacks=[lambda record: passes.append(net.fired.clone())])
    # None at step 12: fewer than `reset_every` steps are left.
    assert [step for step, _ in at_resets] == [4, 8]
    for (_, fired), of_pass in zip(at_resets, passes, strict=False):
        assert torch.equal(fired, of_pass)


@pytest.mark.parametrize(
    ("steps_left", "expected"),
    [(12, [3, 6, 9]), (13, [3, 6, 9]), (None, [3, 6, 9, 12])],
)
def test_no_reset_leaves_a_new_atom_without_time_to_learn(steps_left, expected):
    net = pursuit(reset_every=3, steps_left=steps_left)
    steps = []
    net.redraw_redundant = lambda: steps.append(net.n_steps)
    fit(net)
    assert steps == expected


def test_resets_are_reported_per_pass():
    net = crowded(reset_every=4, steps_left=None, lr=1e-6)
    assert [record["resets"] for record in fit(net)] == [1, 0, 0]


# TopKNet


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
    module = topk().module_
    adam = torch.optim.Adam(module.parameters())
    for rate in (0.01, 0.01 * 99 / 100):
        x_hat, _ = module(X)
        adam.zero_grad()
        ((x_hat - X).square().sum(1).mean() / 2).backward()
        module.project_gradient_()
        adam.param_groups[0]["lr"] = rate
        adam.step()
        module.project_()
        net.fit_loop(X, epochs=1)
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(net.module_.get_parameter(name), parameter)


def test_a_latent_is_dead_after_so_many_rows_without_firing():
    net = topk(dead_after=20, auxiliary_weight=1.0)
    asked = []
    net._auxiliary_loss = lambda x, x_hat: (
        asked.append(net.dead.tolist()) or x_hat.sum() * 0
    )
    x = torch.zeros(10, D, dtype=torch.float64)
    fired = torch.ones(M, dtype=torch.int64)
    for silent in ([], [1, 2], [1, 2], [1], [1], []):
        fired[:] = 1
        fired[silent] = 0
        net.get_loss((x, None), x, fired=fired)
    assert asked == [[1, 2], [1], [1]]
    assert net.rows_since_fired.tolist() == [0] * M


@pytest.mark.parametrize("dead", [[2], [0, 3, 5], [1, 4, 6, 9, 11]])
def test_auxiliary_loss_is_half_the_share_of_the_residual_dead_latents_miss(dead):
    net = topk(auxiliary_weight=0.25)
    module = net.module_
    with torch.no_grad():
        module.encoder += draw(M, D, seed=5)
        module.encoder_bias += draw(M, seed=6)
    fired = torch.ones(M, dtype=torch.int64)
    fired[dead] = 0
    net.rows_since_fired[dead] = 1000
    y_pred = module(X)
    auxiliary = (
        net.get_loss(y_pred, X, fired=fired) - half_squared_error(y_pred, X)
    ) / 0.25

    residual = (X - y_pred[0]).detach()
    z = (X - module.pre_bias) @ module.encoder[dead].T + module.encoder_bias[dead]
    strongest = z.topk(min(len(dead), module.k), dim=1)
    z = SparseCode(strongest.indices, strongest.values).to_dense(len(dead))
    expected = (residual - z @ module.atoms[dead]).square().sum()
    expected = expected / residual.square().sum() / 2
    torch.testing.assert_close(auxiliary, expected)

    names = ["encoder", "encoder_bias", "atoms"]
    learned = [module.get_parameter(name) for name in names]
    gradients = torch.autograd.grad(auxiliary, learned, retain_graph=True)
    expected_gradients = torch.autograd.grad(expected, learned)
    live = torch.ones(M, dtype=torch.bool)
    live[dead] = False
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        assert gradient[live].abs().max() < 1e-12
        assert (gradient[dead] != 0).any()
        torch.testing.assert_close(gradient, expected_gradient)
    (gradient,) = torch.autograd.grad(auxiliary, module.pre_bias, allow_unused=True)
    assert gradient is None or gradient.abs().max() < 1e-12


def test_auxiliary_loss_of_a_perfect_reconstruction_is_finite():
    net = topk(auxiliary_weight=1.0)
    net.rows_since_fired[:] = 1000
    fired = torch.zeros(M, dtype=torch.int64)
    assert net.get_loss((X, None), X, fired=fired).isfinite()


def test_no_auxiliary_loss_where_its_weight_is_zero():
    net = topk(auxiliary_weight=0.0, dead_after=10)
    net._auxiliary_loss = None
    fit(net)
    assert net.rows_since_fired.max() > 0


def test_dead_latents_come_back():
    def dead_share(weight):
        net = topk(auxiliary_weight=weight, steps_left=None, lr=0.05)
        with torch.no_grad():
            net.module_.encoder_bias[5:] = -10.0
        return fit(net, max_iter=100)[-1]["dead_share"]

    assert dead_share(0.0) == 10 / 15
    assert dead_share(1.0) < 5 / 15


# The loop


@both
def test_record_of_a_pass(make):
    net = make(scale=2.0, lr=0.0)
    history = fit(net, 2 * X, variance=3.0)
    x_hat, code = net.module_(X)
    error = float((x_hat - X).detach().square().sum(1).mean())
    dead = float(((code.to_dense(M) != 0).sum(0) == 0).double().mean())
    assert [record["epoch"] for record in history] == [1, 2, 3]
    for record in history:
        assert record["loss"] == pytest.approx(4 * error)
        assert record["explained_variance"] == pytest.approx(1 - error / 3)
        assert record["dead_share"] == pytest.approx(dead)
        assert record["resets"] == 0
        assert record["learning_rate"] == 0
        assert record["seconds"] > 0
        assert all(type(value) in (int, float) for value in record.values())


@both
def test_rows_without_spread_are_explained_if_rebuilt_exactly(make):
    net = make(lr=0.0)
    with torch.no_grad():
        net.module_.pre_bias.fill_(0.5)
    exact = torch.full((N, D), 0.5, dtype=torch.float64)
    assert fit(net, exact, variance=0.0)[0]["explained_variance"] == 1.0
    assert fit(net, exact + X, variance=0.0)[0]["explained_variance"] == 0.0


@both
@pytest.mark.parametrize("max_iter", [1, 7])
def test_ends_after_max_iter(make, max_iter):
    net = make(steps_left=4 * max_iter)
    assert len(fit(net, max_iter=max_iter)) == max_iter


def scripted(monkeypatch, net, explained):
    """Let the passes of the net explain so much of the variance."""
    values = iter(explained)

    def fit_loop(X, epochs):
        net.squared_error = torch.tensor(1 - next(values))
        net.first_error = net.last_error = net.squared_error
        net.rows_seen = 1
        for _ in range(-(-len(X) // net.batch_size)):
            rates.append(net._next_learning_rate())

    rates = []
    monkeypatch.setattr(net, "fit_loop", fit_loop)
    return rates


@pytest.mark.parametrize(
    ("explained", "n_passes"),
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
def test_winds_down_once_flat(monkeypatch, explained, n_passes):
    net = topk(steps_left=20 * 4, lr=1.0)
    rates = scripted(monkeypatch, net, explained)
    history = fit(net, max_iter=20, tol=0.01, n_iter_no_change=3)
    assert len(history) == n_passes
    before = 4 * min(n_passes - 3, 17)
    falling = 1 - np.arange(before) / 80
    winding_down = (1 - before / 80) * np.arange(12, 0, -1) / 12
    np.testing.assert_allclose(rates, np.concatenate([falling, winding_down]))
    assert net.steps_left == 0


@both
def test_held_out_rows_are_validated_on_and_never_learned_from(make):
    held_out = torch.tensor([3, 17, 39])
    # Far away, they would be seen at once in whatever learns from them.
    rows = X.clone()
    rows[held_out] += 100.0
    others = torch.ones(N, dtype=torch.bool)
    others[held_out] = False
    net, alone = make(held_out=held_out, batch_size=37), make(batch_size=37)
    history = fit(net, rows, max_iter=1, variance=2.0)
    fit(alone, rows[others], max_iter=1)
    assert same(parameters(net), parameters(alone))
    error = (net.module_(rows[held_out])[0] - rows[held_out]).square().sum(1).mean()
    assert history[0]["validation_explained_variance"] == pytest.approx(
        1 - float(error.detach()) / 2
    )


@both
def test_the_pass_that_is_best_on_held_out_rows_is_kept(monkeypatch, make):
    net = make(held_out=torch.arange(8))
    errors, seen = iter([0.5, 0.1, 0.3, 0.2]), []
    fit_loop = net.fit_loop

    def scripted_loop(X, epochs):
        fit_loop(X, epochs=epochs)
        net.validation_error = torch.tensor(next(errors))
        seen.append(parameters(net))

    monkeypatch.setattr(net, "fit_loop", scripted_loop)
    fit(net, max_iter=4)
    assert same(parameters(net), seen[1])
    assert not same(seen[1], seen[3])
    # What fires is counted anew, with these parameters and on the rows learned from.
    code = net.module_.encode(X[8:])
    assert torch.equal(net.fired, (code.to_dense(M) != 0).sum(0))
    assert net.rows_seen == N - 8


def test_winding_down_starts_from_the_best_pass(monkeypatch):
    net = topk(held_out=torch.arange(8), batch_size=32, steps_left=20, lr=1e-9)
    errors, seen = iter([0.9, 0.5, 0.6, 0.6] + [0.7] * 10), []
    fit_loop = net.fit_loop

    def scripted_loop(X, epochs):
        seen.append(float(net.module_.encoder_bias.detach()[0]))
        fit_loop(X, epochs=epochs)
        with torch.no_grad():
            net.module_.encoder_bias += 0.001
        net.validation_error = torch.tensor(next(errors))

    monkeypatch.setattr(net, "fit_loop", scripted_loop)
    fit(net, max_iter=20, tol=0.01, n_iter_no_change=2)
    # Flat after four passes, so the state behind the second comes back.
    np.testing.assert_allclose(seen, [0, 0.001, 0.002, 0.003, 0.002, 0.003], atol=1e-6)


@pytest.mark.parametrize(("last", "diverged"), [(11.0, True), (9.0, False)])
def test_an_error_that_has_grown_is_refused(monkeypatch, last, diverged):
    net = topk()
    scripted(monkeypatch, net, [-5.0] * 3)
    fit_loop = net.fit_loop

    def grow(X, epochs):
        fit_loop(X, epochs)
        net.first_error, net.last_error = torch.tensor(1.0), torch.tensor(last)

    monkeypatch.setattr(net, "fit_loop", grow)
    if diverged:
        with pytest.raises(
            ValueError, match=r"diverged: .* 6 times .* Lower learning_rate="
        ):
            fit(net)
    else:
        assert len(fit(net)) == 3


def test_without_tol_a_flat_loss_goes_on(monkeypatch):
    net = topk(steps_left=20 * 4)
    scripted(monkeypatch, net, [0.1] * 20)
    assert len(fit(net, max_iter=20, tol=None)) == 20


def test_a_stream_does_not_wind_down(monkeypatch):
    net = topk(steps_left=None)
    scripted(monkeypatch, net, [0.1] * 20)
    assert len(fit(net, max_iter=20, tol=0.01)) == 20


@pytest.mark.parametrize("answer", [True, np.True_])
def test_a_callback_that_returns_true_stops_after_all_were_called(answer):
    first, second = [], []
    callbacks = [
        lambda record: first.append(record) or (answer if len(first) == 2 else False),
        second.append,
    ]
    history = fit(topk(), callbacks=callbacks)
    assert history == first == second
    assert len(history) == 2


@pytest.mark.parametrize("answer", [None, False, 1, "yes"])
def test_any_other_answer_goes_on(answer):
    assert len(fit(topk(), callbacks=[lambda record: answer])) == 3


@both
@pytest.mark.parametrize("where", ["callback", "step"])
def test_keyboard_interrupt_gets_through(make, where):
    net = make()

    def interrupt(*args):
        raise KeyboardInterrupt

    if where == "step":
        net.after_step = interrupt
    with pytest.raises(KeyboardInterrupt):
        fit(net, callbacks=[interrupt] if where == "callback" else None)


def test_progress_bar_counts_the_steps(capsys):
    fit(topk(batch_size=15), verbose=1)
    shown = capsys.readouterr().err
    assert "9/9" in shown
    for name in ("loss=", "ev=", "dead="):
        assert name in shown


def test_progress_bar_ends_with_an_early_end(capsys):
    history = fit(topk(), max_iter=25, tol=10.0, n_iter_no_change=2, verbose=1)
    assert len(history) == 1 + 2 + 2
    assert "20/20" in capsys.readouterr().err


def test_silent_by_default(capsys):
    fit(topk())
    assert capsys.readouterr() == ("", "")
