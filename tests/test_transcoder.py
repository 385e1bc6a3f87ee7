"""The transcoder: its equations, what it learns, and how scikit-learn uses it."""

import contextlib
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone, is_regressor
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback

from skdict import TopKSAE, Transcoder, load, save
from skdict.metrics import match_dictionaries
from skdict.models import (
    BatchTopKAutoencoder,
    GatedAutoencoder,
    JumpReLUAutoencoder,
    ReLUAutoencoder,
    TopKAutoencoder,
    transcoder,
)
from skdict.models.transcoder import nearest_rows
from skdict.training.net import DictionaryNet

ACTIVATIONS = ("topk", "batch_topk", "relu", "jump_relu", "gated")
AIMED = ACTIVATIONS[1:]  # k is the mean
AUTOENCODERS = {
    "topk": TopKAutoencoder,
    "batch_topk": BatchTopKAutoencoder,
    "relu": ReLUAutoencoder,
    "jump_relu": JumpReLUAutoencoder,
    "gated": GatedAutoencoder,
}
activations = pytest.mark.parametrize("activation", ACTIVATIONS)
skips = pytest.mark.parametrize("skip", [False, True], ids=["plain", "skip"])

D, OUT, M, K = 12, 7, 20, 3


def unit_rows(m, d, seed):
    rows = np.random.default_rng(seed).standard_normal((m, d))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def planted(n, seed=0, d=D, out=OUT, m=M, n_active=2):
    """Sparse codes, seen through two dictionaries."""
    rng = np.random.default_rng(seed)
    codes = np.zeros((n, m))
    active = rng.random((n, m)).argsort(1)[:, :n_active]
    np.put_along_axis(codes, active, rng.uniform(1, 2, (n, n_active)), 1)
    x = codes @ unit_rows(m, d, 1) + 5 + 0.05 * rng.standard_normal((n, d))
    y = codes @ unit_rows(m, out, 2) - 3 + 0.05 * rng.standard_normal((n, out))
    return x, y


X, Y = planted(600)


def make(activation="topk", **params):
    params = {"max_iter": 5, "random_state": 0} | params
    return Transcoder(M, K, activation=activation, **params)


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def model_of(activation, skip, n_features=D, n_targets=OUT):
    """A model whose parameters are all drawn."""
    options = {} if "topk" in activation else {"alpha": 0.3}
    if activation == "jump_relu":
        options["bandwidth"] = 0.4
    model = transcoder(activation, skip)(
        F.normalize(draw(M, n_targets)), n_features=n_features, k=K, **options
    )
    for seed, (name, parameter) in enumerate(model.named_parameters()):
        if name != "atoms":
            parameter.data = draw(*parameter.shape, seed=seed) / 3
        if name == "threshold":
            parameter.data.abs_()
    return model


def pre_activations(estimator, x):
    centred = x - estimator.input_bias_
    return centred @ estimator.encoder_components_.T + estimator.encoder_bias_


def codes_by_hand(estimator, x):
    """The equations, on dense arrays."""
    a = pre_activations(estimator, x)
    if estimator.activation == "topk":
        least = np.sort(a, axis=1)[:, -K][:, None]
        return np.where(a >= least, np.maximum(a, 0), 0)
    if estimator.activation in ("batch_topk", "jump_relu"):
        return np.where(a > estimator.threshold_, a, 0)
    if estimator.activation == "relu":
        return np.maximum(a, 0)
    linear = (a - estimator.encoder_bias_) * np.exp(estimator.log_gain_)
    return np.where(a > 0, np.maximum(linear + estimator.magnitude_bias_, 0), 0)


# Equations


@skips
@activations
def test_codes_and_predictions_are_those_of_the_equations(activation, skip):
    model = make(activation, skip_connection=skip).fit(X, Y)
    z = codes_by_hand(model, X)
    assert_allclose(model.transform(X).toarray(), z, atol=1e-9)
    y = z @ model.components_ + model.bias_
    assert_allclose(model.inverse_transform(model.transform(X)), y, atol=1e-9)
    if skip:
        y = y + (X - model.input_bias_) @ model.skip_components_.T
    assert_allclose(model.predict(X), y, atol=1e-9)
    assert model.components_.shape == (M, OUT)
    assert_allclose(np.linalg.norm(model.components_, axis=1), 1)
    assert model.encoder_components_.shape == (M, D)
    assert_allclose(model.input_bias_, X.mean(0))
    assert hasattr(model, "skip_components_") is skip


@skips
@pytest.mark.parametrize("activation", ["topk", "batch_topk", "relu", "jump_relu"])
def test_gradients_are_those_of_the_squared_error(activation, skip):
    model, x, y = model_of(activation, skip), draw(40, D, seed=8), draw(40, OUT, seed=9)
    model.objective(x, y).loss.backward()
    z = model.encode(x).to_dense(M)
    a = (x - model.input_bias) @ model.encoder.T + model.encoder_bias
    y_hat = (a * (z != 0)) @ model.atoms + model.pre_bias
    if skip:
        y_hat = y_hat + (x - model.input_bias) @ model.skip.T
    loss = (y_hat - y).square().sum(1).mean() / 2
    names = ["atoms", "pre_bias", "encoder", "encoder_bias", *["skip"] * skip]
    parameters = [model.get_parameter(name) for name in names]
    for name, oracle in zip(names, torch.autograd.grad(loss, parameters), strict=True):
        torch.testing.assert_close(model.get_parameter(name).grad, oracle)
    assert model.input_bias.grad is None


@skips
def test_the_gate_of_a_gated_one_learns_with_decoder_and_skip_held_fixed(skip):
    model, x, y = model_of("gated", skip), draw(40, D, seed=8), draw(40, OUT, seed=9)
    model.warm_up.fill_(1)
    objective = model.objective(x, y)
    objective.loss.backward()
    centred = x - model.input_bias
    linear = centred @ model.encoder.T
    gate = linear + model.encoder_bias
    z = (linear * model.log_gain.exp() + model.magnitude_bias).relu() * (gate > 0)
    bent = centred @ model.skip.T if skip else torch.zeros_like(y)
    by_gate = gate.relu() @ model.atoms.detach() + (model.pre_bias + bent).detach()
    loss = (
        (y - z @ model.atoms - model.pre_bias - bent).square().sum() / 2
        + (y - by_gate).square().sum() / 2
        + model.weight * gate.relu().sum()
    ) / len(x)
    torch.testing.assert_close(objective.loss, loss)
    learned = {n: p for n, p in model.named_parameters() if p.requires_grad}
    oracles = torch.autograd.grad(loss, list(learned.values()))
    for parameter, oracle in zip(learned.values(), oracles, strict=True):
        torch.testing.assert_close(parameter.grad, oracle)


@activations
def test_the_autoencoder_is_the_case_of_targets_that_are_the_rows(activation):
    model = model_of(activation, False, n_features=OUT)
    model.input_bias.data.copy_(model.pre_bias)
    options = {"alpha": 0.3} if "topk" not in activation else {}
    if activation == "jump_relu":
        options["bandwidth"] = 0.4
    autoencoder = AUTOENCODERS[activation](model.atoms.detach(), k=K, **options)
    autoencoder.load_state_dict(
        {n: v for n, v in model.state_dict().items() if n != "input_bias"}
    )
    x = draw(40, OUT, seed=8)
    ours, theirs = model.objective(x, x), autoencoder.objective(x, x)
    assert torch.equal(ours.code.to_dense(M), theirs.code.to_dense(M))
    torch.testing.assert_close(ours.loss, theirs.loss)
    ours.loss.backward()
    theirs.loss.backward()
    for name, parameter in autoencoder.named_parameters():
        if name != "pre_bias" and parameter.requires_grad:  # it centres the rows, too
            torch.testing.assert_close(model.get_parameter(name).grad, parameter.grad)


def test_dead_latents_rebuild_the_residual_of_the_target():
    model = model_of("topk", True)
    model.auxiliary_weight, model.dead_after = 0.5, 500
    model.rows_since_fired[:] = 0
    with torch.no_grad():
        model.encoder_bias[-4:] = -100  # they never fire
    model.rows_since_fired[-4:] = 1000
    x, y = draw(40, D, seed=8), draw(40, OUT, seed=9)
    objective = model.objective(x, y)
    residual = y - objective.reconstruction
    a = (x - model.input_bias) @ model.encoder[-4:].T + model.encoder_bias[-4:]
    strongest = a.topk(K).indices
    z = torch.zeros_like(a).scatter(1, strongest, a.gather(1, strongest))
    error = (residual - z @ model.atoms[-4:]).square().sum()
    expected = 0.5 * error / residual.square().sum() / 2
    plain = residual.square().sum(1).mean() / 2
    torch.testing.assert_close(objective.loss, plain + expected)


# Where it starts


def test_each_atom_finds_its_own_row():
    targets = draw(50, OUT)
    atoms = F.normalize(targets[:M])
    assert_array_equal(nearest_rows(atoms, targets), np.arange(M))
    shuffled = F.normalize(targets[torch.tensor([3, 5, 60 - 20, 41])])
    for atom, row in zip(shuffled, (3, 5, 40, 41), strict=True):
        assert nearest_rows(atom[None], targets) == row


def test_atoms_of_one_direction_choose_different_rows():
    nearest = nearest_rows(torch.ones(10, 1), torch.arange(-9.0, 21)[:, None])
    assert len(set(nearest.tolist())) == 10
    assert (nearest >= 10).all()  # where targets are positive


def test_there_may_be_fewer_rows_than_atoms():
    assert nearest_rows(unit(8), draw(3, 4)).max() < 3


def unit(m):
    return F.normalize(draw(m, 4, seed=1))


def test_rows_as_targets_start_like_the_autoencoder():
    ours = Transcoder(M, K, max_iter=0, random_state=0).fit(X, X)
    sae = TopKSAE(M, K, max_iter=0, random_state=0).fit(X)
    assert_array_equal(ours.components_, sae.components_)
    norms = np.linalg.norm(ours.encoder_components_, axis=1, keepdims=True)
    assert_allclose(ours.encoder_components_ / norms, sae.components_, atol=1e-9)
    assert np.ptp(norms) < 1e-9  # one factor
    assert r2_score(X, ours.predict(X)) > 0


def test_no_latent_is_turned_round_by_the_scale_of_the_first_encoder():
    model = model_of("topk", False)
    before, x = model.encoder.detach().clone(), draw(40, D, seed=8)
    opposite = model.pre_bias - model.encode(x).decode(model.atoms)
    model.scale_encoder_([(x, opposite.detach())])
    torch.testing.assert_close(model.encoder.detach(), before)


@skips
def test_codes_of_relu_are_scaled_to_what_the_skip_connection_leaves(skip):
    params = {"skip_connection": skip, "validation_fraction": None}
    model = make("relu", max_iter=20, **params).fit(X, Y)
    y_hat = model.transform(X) @ model.components_
    left = Y - model.bias_
    if skip:
        left -= (X - model.input_bias_) @ model.skip_components_.T
    assert (left * y_hat).sum() / (y_hat**2).sum() == pytest.approx(1, abs=1e-4)


@activations
def test_the_first_prediction_is_better_than_the_bias(activation):
    model = make(activation, max_iter=0).fit(X, Y)
    errors = np.square(Y - model.predict(X)).sum()
    assert errors < np.square(Y - model.bias_).sum()


def test_init_takes_atoms_of_the_targets():
    atoms = unit_rows(M, OUT, 3)
    model = make(init=5 * atoms, max_iter=0).fit(X, Y)
    assert_allclose(model.components_, atoms)
    with pytest.raises(ValueError, match=r"init has shape .*\(n_components, n_targets"):
        make(init=unit_rows(M, D, 3)).fit(X, Y)
    assert make(init="random").fit(X, Y).score(X, Y) > 0


def test_as_many_atoms_as_eight_times_the_features():
    assert len(Transcoder(max_iter=0).fit(X, Y[:, :1]).components_) == 8 * D


# What is learned


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_planted_map_is_recovered(activation):
    x, y = planted(12_000, seed=3)
    x, x_test, y, y_test = train_test_split(x, y, random_state=0)
    model = Transcoder(2 * M, 2, activation=activation, max_iter=40, random_state=0)
    model.fit(x, y)
    # An L1 penalty makes the codes smaller, and the prediction with them.
    assert model.score(x_test, y_test) > (0.5 if activation == "relu" else 0.7)
    cosines = unit_rows(M, OUT, 2) @ model.components_.T
    assert (cosines.max(1) > 0.9).mean() > 0.8


def test_the_skip_connection_learns_a_linear_map():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1500, 6)) + 4
    a = rng.standard_normal((6, 3))
    y = x @ a + 2
    options = {"activation": "batch_topk", "learning_rate": 0.03, "tol": None}
    options |= {"max_iter": 60, "random_state": 0}
    model = Transcoder(4, 1e-3, skip_connection=True, **options).fit(x, y)
    assert model.score(x, y) > 0.999
    assert_allclose(model.skip_components_, a.T, atol=0.05)
    assert model.transform(x).nnz < 10
    assert Transcoder(4, 1e-3, **options).fit(x, y).score(x, y) < 0.1


@pytest.mark.parametrize("activation", AIMED)
@pytest.mark.parametrize("k", [1.5, 4])
def test_k_is_the_mean_of_held_out_rows(activation, k):
    x, y = planted(6000, seed=4)
    x, x_test, y, _ = train_test_split(x, y, random_state=0)
    model = Transcoder(32, k, activation=activation, max_iter=20, random_state=0)
    n_active = model.fit(x, y).transform(x_test).nnz / len(x_test)
    assert n_active == pytest.approx(k, rel=0.05)


def test_topk_keeps_at_most_k():
    assert np.diff(make().fit(X, Y).transform(X).indptr).max() == K
    with pytest.raises(ValueError, match=r"whole number of latents, but k=2\.5"):
        make().set_params(k=2.5).fit(X, Y)


@skips
@activations
@pytest.mark.parametrize(("of_x", "of_y"), [(2.0**30, 2.0**-20), (2.0**-40, 2.0**40)])
def test_neither_scale_matters(activation, skip, of_x, of_y):
    model = make(activation, skip_connection=skip).fit(X, Y)
    scaled = clone(model).fit(of_x * X, of_y * Y)
    assert_allclose(scaled.predict(of_x * X), of_y * model.predict(X), rtol=1e-9)
    codes, expected = (m.transform(x) for m, x in [(scaled, of_x * X), (model, X)])
    # Codes are in the units of the targets.
    assert_allclose(codes.toarray(), of_y * expected.toarray(), rtol=1e-9)
    assert_allclose(scaled.components_, model.components_, rtol=1e-9)
    assert [r["explained_variance"] for r in scaled.history_] == pytest.approx(
        [r["explained_variance"] for r in model.history_]
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("factor", [1e-25, 1e25])
def test_extreme_targets(dtype, factor):
    y = (Y * factor).astype(dtype)
    model = make(skip_connection=True).fit(X.astype(dtype), y)
    assert model.predict(X.astype(dtype)).dtype == dtype
    assert r2_score(y / factor, model.predict(X.astype(dtype)) / factor) > 0


def test_scales_that_no_encoder_can_bridge_are_refused():
    x, y = (X * 1e-25).astype(np.float32), (Y * 1e25).astype(np.float32)
    with pytest.raises(ValueError, match=r"spread of y is .* times that of X"):
        make().fit(x, y)


def test_constant_rows_and_constant_targets():
    flat = make().fit(np.ones((50, 4)), Y[:50])
    assert_allclose(flat.predict(np.ones((2, 4))), [flat.bias_] * 2, atol=0.5)
    flat = make().fit(X[:50], np.full((50, 2), 3.0))
    assert_allclose(flat.predict(X[:50]), 3.0)
    assert flat.history_[-1]["explained_variance"] == 1


class Watch(Callback):
    """Explained variances, computed anew from the net's parameters."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def on_train_begin(self, net, **kwargs):
        self.seen = []

    def on_epoch_end(self, net, **kwargs):
        rows = net.held_out.numpy()
        x = torch.from_numpy(self.x[rows] / net.input_scale)
        with torch.no_grad():
            y_hat = net.module_.eval()(x)[0].numpy() * net.scale
        spread = np.square(self.y - self.y.mean(0)).sum(1).mean()
        error = np.square(self.y[rows] - y_hat).sum(1).mean()
        self.seen.append((1 - error / spread, net.history[-1]["loss"] / spread))


def test_history_is_that_of_the_targets():
    watch = Watch(X, Y)
    history = make(callbacks=[watch]).fit(X, Y).history_
    for record, (validation, loss) in zip(history, watch.seen, strict=True):
        assert record["validation_explained_variance"] == pytest.approx(validation)
        assert record["explained_variance"] == pytest.approx(1 - loss)


def test_rows_and_targets_come_in_the_same_order():
    class Look(Callback):
        def on_batch_begin(self, net, batch=None, **kwargs):
            x, y = batch
            torch.testing.assert_close(
                y[:, 0] * net.scale, 2 * x[:, 0] * net.input_scale
            )
            sizes.append(len(x))

    sizes = []
    make(callbacks=[Look()], max_iter=2, batch_size=32).fit(X, 2 * X[:, :2])
    assert sum(sizes) == 2 * len(X)


def test_a_net_rebuilds_the_rows_unless_it_is_given_targets():
    model = TopKAutoencoder(F.normalize(draw(M, D)), K)
    net = DictionaryNet(
        model, lr=1e-3, batch_size=8, generator=torch.Generator().manual_seed(0)
    ).start()
    for x, target in net.get_iterator(net.get_dataset(draw(20, D))):
        assert x is target


# As scikit-learn uses it


def test_targets_of_one_dimension_are_predicted_in_one():
    model = make().fit(X, Y[:, 0])
    assert model.predict(X).shape == (len(X),)
    assert model.inverse_transform(model.transform(X)).shape == (len(X), 1)
    column = make().fit(X, Y[:, :1])
    assert column.predict(X).shape == (len(X), 1)
    assert_array_equal(column.predict(X)[:, 0], model.predict(X))


@pytest.mark.parametrize("kind", [list, pd.DataFrame, np.float32, "int"])
def test_kinds_of_targets(kind):
    y = Y.round().astype(int) if kind == "int" else Y
    expected = make().fit(X, y.astype(float)).predict(X)
    given = (
        y.tolist()
        if kind is list
        else y.astype(kind)
        if kind != pd.DataFrame
        else pd.DataFrame(y)
    )
    assert_allclose(make().fit(X, given).predict(X), expected, rtol=1e-3, atol=1e-3)


def test_it_is_a_regressor_and_a_transformer():
    model = make().fit(X, Y)
    assert is_regressor(model)
    assert model.score(X, Y) == r2_score(Y, model.predict(X))
    weight = np.arange(len(X))
    assert model.score(X, Y, weight) == r2_score(
        Y, model.predict(X), sample_weight=weight
    )
    assert_array_equal(
        make().fit_transform(X, Y).toarray(), model.transform(X).toarray()
    )
    assert list(model.get_feature_names_out()[:2]) == ["transcoder0", "transcoder1"]


def test_pipelines_and_searches():
    pipeline = make_pipeline(StandardScaler(), make())
    search = GridSearchCV(pipeline, {"transcoder__k": [1, 3]}, cv=3).fit(X, Y)
    assert search.best_params_ == {"transcoder__k": 3}
    assert search.predict(X).shape == Y.shape
    probe = make_pipeline(make(), LinearRegression()).fit(X, Y)
    assert probe.score(X, Y) > 0.3


def test_set_output():
    model = make(sparse_output=False).set_output(transform="pandas").fit(X, Y)
    frame = model.transform(X)
    assert isinstance(frame, pd.DataFrame)
    assert list(frame.columns) == list(model.get_feature_names_out())
    assert isinstance(model.predict(X), np.ndarray)


def test_tensors_in_tensors_out():
    x, y = torch.from_numpy(X), torch.from_numpy(Y)
    with config_context(array_api_dispatch=True):
        model = make(sparse_output=False, skip_connection=True).fit(x, y)
        assert isinstance(model.components_, torch.Tensor)
        found = model.predict(x)
        with pytest.raises(ValueError, match=r"Transcoder\.predict"):
            model.predict(X)
    expected = make(skip_connection=True).fit(X, Y).predict(X)
    assert_allclose(found.numpy(), expected, rtol=1e-6)


def test_targets_are_read_and_never_written(tmp_path):
    np.save(tmp_path / "y.npy", Y)
    np.save(tmp_path / "x.npy", X)
    x, y = (np.load(tmp_path / f"{n}.npy", mmap_mode="r") for n in "xy")
    assert_array_equal(make().fit(x, y).predict(X), make().fit(X, Y).predict(X))
    assert_array_equal(np.load(tmp_path / "y.npy"), Y)


@skips
@activations
def test_files_and_pickles(tmp_path, activation, skip):
    model = make(activation, skip_connection=skip).fit(X, Y)
    stream = make(activation, skip_connection=skip).partial_fit(X, Y)
    stream.partial_fit(X[:300], Y[:300])
    for estimator in (model, stream):
        save(estimator, tmp_path / "model.skops")
        expected = clone(estimator).set_params(warm_start=True)
        vars(expected).update(vars(estimator))
        expected = pickle.loads(pickle.dumps(estimator)).partial_fit(X, Y)
        restored = load(tmp_path / "model.skops")
        assert_array_equal(restored.predict(X), estimator.predict(X))
        assert_array_equal(restored.partial_fit(X, Y).predict(X), expected.predict(X))


def test_files_with_the_parameters_of_another_activation_are_refused(tmp_path):
    model = make("jump_relu").fit(X, Y)
    for change in ({"activation": "gated"}, {"activation": "batch_topk"}):
        other = pickle.loads(pickle.dumps(model)).set_params(**change)
        with pytest.raises(ValueError, match="is inconsistent"):
            save(other, tmp_path / "model.skops")


# Streams, and fits that go on


@skips
@activations
def test_a_stream_learns(activation, skip):
    model = make(activation, skip_connection=skip, batch_size=32)
    x, y = planted(3000, seed=5)
    scores = [
        model.partial_fit(x[rows], y[rows]).score(x, y)
        for rows in np.array_split(np.arange(3000), 10)
    ]
    assert scores[-1] > max(0.2, scores[0])
    assert model.n_iter_ == 10
    assert model.n_samples_seen_ == 3000
    assert_allclose(model.input_bias_, x[:300].mean(0))


@pytest.mark.parametrize(("of_x", "of_y"), [(2.0**30, 2.0**-20), (2.0**-40, 2.0**40)])
def test_neither_scale_matters_in_a_stream(of_x, of_y):
    model, scaled = make(skip_connection=True), make(skip_connection=True)
    for rows in np.split(np.arange(600), 6):
        model.partial_fit(X[rows], Y[rows])
        scaled.partial_fit(of_x * X[rows], of_y * Y[rows])
    assert_allclose(scaled.input_bias_, of_x * X[:100].mean(0))
    assert_allclose(scaled.predict(of_x * X), of_y * model.predict(X), rtol=1e-9)


@activations
@pytest.mark.parametrize("factors", [(0, 1), (1, 0), (0, 0)])
def test_a_stream_begins_with_the_first_rows_and_targets_that_vary(activation, factors):
    model = make(activation).partial_fit(factors[0] * X, factors[1] * Y)
    assert np.isfinite(model.predict(X)).all()
    model.partial_fit(X[:300], Y[:300]).partial_fit(X[300:], Y[300:])
    expected = make(activation)
    expected.partial_fit(X[:300], Y[:300]).partial_fit(X[300:], Y[300:])
    assert_array_equal(model.predict(X), expected.predict(X))


def test_a_stream_in_other_units_is_told():
    for x, y, told in ((1e4 * X, Y, "X.*input_bias_"), (X, 1e4 * Y, r"y.*bias_")):
        model = make().partial_fit(X - X.mean(0), Y - Y.mean(0))
        told = pytest.warns(UserWarning, match=f"rows of {told}")
        with told, contextlib.suppress(ValueError):  # some diverge
            model.partial_fit(x, y)


def test_warm_start_goes_on():
    model = make(warm_start=True).fit(X, Y)
    before = model.score(X, Y), model.components_
    model.fit(X, Y)
    assert model.score(X, Y) > before[0] - 0.02
    assert match_dictionaries(before[1], model.components_)[1].mean() > 0.9


def test_another_activation_needs_another_fit():
    model = make("batch_topk", warm_start=True).fit(X, Y)
    for activation in ("jump_relu", "gated"):
        model.set_params(activation=activation)
        for use in (model.transform, lambda x: model.partial_fit(x, Y)):
            with pytest.raises(ValueError, match="they were others in fit"):
                use(X)
    model.set_params(activation="topk", warm_start=False).fit(X, Y)
    assert not hasattr(model, "threshold_")


# Errors


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "requires y to be passed"),
        (Y[:-1], "inconsistent numbers of samples"),
        (Y[:, :, None], "dim 3"),
        (Y[:, :0], r"0 feature\(s\)"),
        (["a"] * len(Y), "y"),
        (np.where(np.arange(len(Y)) == 7, np.nan, 1.0), "Input y .* 1 of 600 .* row 7"),
        (np.full((len(Y), 2), np.inf), "Input y contains NaN or infinity in 600"),
    ],
)
def test_targets_that_are_refused(method, y, message):
    model = make().fit(X, Y)
    before = dict(vars(model))
    with pytest.raises(ValueError, match=message):
        getattr(model, method)(X, y)
    assert vars(model) == before


def test_targets_that_the_dtype_of_the_rows_cannot_hold():
    with pytest.raises(ValueError, match="Input y overflows float32 in 600 of 600"):
        make().fit(X.astype(np.float32), 1e100 + Y)


def test_another_number_of_targets_is_refused():
    model = make(warm_start=True).fit(X, Y)
    for method in (model.fit, model.partial_fit):
        with pytest.raises(ValueError, match=r"y has 2 targets, .* fitted with 7"):
            method(X, Y[:, :2])


def test_a_prediction_that_overflows_is_refused():
    model = make(skip_connection=True).fit(X.astype(np.float32), Y)
    model.skip_components_ = np.full_like(model.skip_components_, 100)
    with pytest.raises(ValueError, match="The prediction overflows float32 in 3 of 3"):
        model.predict(np.full((3, D), 1e37, dtype=np.float32))
