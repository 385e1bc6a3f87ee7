"""The models against their equations, and their gradients against torch's own."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from skdict.models import Dictionary, PursuitDictionary, TopKAutoencoder
from skdict.models import pursuit as pursuit_module
from skdict.models.autoencoder import nth_largest
from skdict.ops import batched_omp
from skdict.ops.centre import geometric_median

N, D, M, K = 12, 6, 15, 4


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def pursuit(**params):
    return filled(PursuitDictionary(F.normalize(draw(M, D)), K, **params))


def topk():
    return filled(TopKAutoencoder(F.normalize(draw(M, D)), K))


def filled(model):
    """With other numbers than a model starts from."""
    values = {
        "components_": F.normalize(draw(M, D)),
        "pre_bias_": draw(D, seed=1),
        "encoder_components_": draw(M, D, seed=2),
        "encoder_bias_": draw(M, seed=3),
    }
    model.load_(values)
    return model


both = pytest.mark.parametrize("make", [pursuit, topk])
X = draw(N, D, seed=4)


@both
def test_parameters_go_by_these_names(make):
    model = make()
    names = {"atoms", "pre_bias"}
    if make is topk:
        names |= {"encoder", "encoder_bias"}
    assert set(dict(model.named_parameters())) == names
    assert set(model.fitted) == names
    assert set(model.state_dict()) == names | set(model.counters)
    assert isinstance(model, Dictionary)
    for name, (attribute, rule) in {
        name: (p.attribute, p.rule) for name, p in model.fitted.items()
    }.items():
        assert attribute.endswith("_")
        rule.check(model.get_parameter(name).detach().numpy(), name, {})


@both
def test_counters_begin_as_zeros(make):
    for name, rule in make().counters.items():
        value = make().get_buffer(name).numpy()
        assert not value.any()
        rule.check(value, name, {"n_components": M})


@both
def test_the_pre_bias_starts_at_the_mean_or_the_geometric_median(make):
    model, x = make(), torch.cat([X, X[:2] + 100])
    model.start_(x, x.mean(0))
    expected = geometric_median(x) if make is topk else x.mean(0)
    torch.testing.assert_close(model.pre_bias.detach(), expected)


def test_the_first_encoder_is_scaled_as_a_whole():
    model = topk()
    before = model.pre_activations(X).detach()
    model.scale_encoder_([(X, X)])
    factors = model.pre_activations(X).detach() / before
    torch.testing.assert_close(factors, factors[0, 0].expand(N, M))
    assert abs(factors[0, 0] - 1) > 0.1


@pytest.mark.parametrize(("n", "expected"), [(0, 5), (1, 4), (2, 2.5), (4, 0)])
def test_nth_largest_lies_half_way_to_the_next(n, expected):
    parts = torch.tensor([5.0, 1.0]), torch.tensor([3.0, 2.0])
    assert nth_largest(parts, n) == expected


def test_encoding_is_up_to_the_subclass():
    with pytest.raises(NotImplementedError):
        Dictionary(draw(M, D))(X)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"atoms_per_step": 1},
        {"selection": "absolute"},
        {"refit": True},
        {"refit": "every_step", "atoms_per_step": 2},
    ],
)
def test_pursuit_encodes_by_batched_omp(params):
    model = pursuit(**params)
    x_hat, code = model(X)
    expected = batched_omp(X - model.pre_bias, model.atoms, K, **params)
    assert torch.equal(code.indices, expected.indices)
    assert torch.equal(code.values, expected.values)
    dense = code.to_dense(M)
    torch.testing.assert_close(x_hat, dense @ model.atoms + model.pre_bias)
    torch.testing.assert_close(model.encode(X).to_dense(M), dense)


def test_topk_encodes_by_its_equation():
    model = topk()
    x_hat, code = model(X)
    z = F.relu((X - model.pre_bias) @ model.encoder.T + model.encoder_bias)
    z = z * torch.zeros_like(z).scatter_(1, z.topk(K, dim=1).indices, 1.0)
    torch.testing.assert_close(code.to_dense(M), z)
    torch.testing.assert_close(x_hat, z @ model.atoms + model.pre_bias)


def test_no_gradient_goes_through_the_pursuit():
    model = pursuit()
    x_hat, code = model(X)
    (x_hat - X).square().sum().backward()
    gradient = 2 * (x_hat - X).detach()
    torch.testing.assert_close(model.atoms.grad, code.to_dense(M).T @ gradient)
    assert model.pre_bias.grad is None
    assert not code.values.requires_grad


def test_gradients_of_the_autoencoder_are_those_of_its_equation():
    model = topk()
    parameters = list(model.parameters())
    x_hat, code = model(X)
    gradients = torch.autograd.grad((x_hat - X).square().sum(), parameters)
    z = F.relu((X - model.pre_bias) @ model.encoder.T + model.encoder_bias)
    z = z * (code.to_dense(M) != 0)
    x_hat = z @ model.atoms + model.pre_bias
    expected = torch.autograd.grad((x_hat - X).square().sum(), parameters)
    torch.testing.assert_close(gradients, expected)


@given(st.integers(0, 2**31))
def test_the_scale_of_the_first_encoder_is_the_least_squares(seed):
    model = TopKAutoencoder(F.normalize(draw(M, D, seed=seed)), K)
    with torch.no_grad():
        model.pre_bias.copy_(draw(D))
    rows = draw(30, D, seed=seed + 1)
    energy = (rows - model.pre_bias).square().sum()
    before = model(rows)[0]
    model.scale_encoder_([(rows, rows)])
    x_hat, code = model(rows)
    error = (rows - x_hat).square().sum()
    assert error <= (rows - before).square().sum() + 1e-9
    assert error <= energy + 1e-9
    # At the minimum, the error is orthogonal to what is rebuilt.
    rebuilt = code.decode(model.atoms)
    product = ((rows - x_hat) * rebuilt).sum()
    assert abs(float(product.detach())) <= 1e-9 * float(energy.detach())


def test_the_scale_of_an_encoder_that_never_fires_stays():
    model = topk()
    with torch.no_grad():
        model.encoder_bias -= 1e6
        before = model.encoder.clone()
    model.scale_encoder_([(X, X)])
    assert torch.equal(model.encoder, before)


def test_only_a_pursuit_follows_the_mean():
    for model in (pursuit(), topk()):
        before = model.pre_bias.detach().clone()
        model.follow_(before + 1)
        moved = not torch.equal(model.pre_bias.detach(), before)
        assert moved is isinstance(model, PursuitDictionary)


def test_encoder_starts_as_a_copy_of_the_atoms():
    model = TopKAutoencoder(draw(M, D), K)
    assert torch.equal(model.encoder, model.atoms)
    assert torch.equal(model.encoder_bias, torch.zeros(M, dtype=torch.float64))
    with torch.no_grad():
        model.encoder += 1
    assert torch.equal(model.atoms, draw(M, D))


@both
def test_project_puts_atoms_on_the_unit_sphere(make):
    model = make()
    directions = model.atoms.detach().clone()
    with torch.no_grad():
        model.atoms *= torch.linspace(0.1, 7, M)[:, None]
        model.atoms[3] = 0
    parameter = model.atoms
    model.project_()
    assert model.atoms is parameter
    directions[3] = 0
    torch.testing.assert_close(model.atoms.detach(), directions)


@both
def test_codes_follow_rows_that_are_rescaled(make):
    model = make()
    x_hat, code = model(X)
    model.rescale_(8.0)
    scaled_x_hat, scaled_code = model(8 * X)
    assert torch.equal(scaled_code.to_dense(M), 8 * code.to_dense(M))
    torch.testing.assert_close(scaled_x_hat, 8 * x_hat)


@both
def test_rows_stay_as_they_are(make):
    rows = X.clone()
    make()(rows)
    assert torch.equal(rows, X)


@pytest.mark.parametrize("n_rows", [1, 10**6])
@pytest.mark.parametrize("make", [lambda: pursuit(atoms_per_step=1), topk])
def test_prepared_module_encodes_alike(make, n_rows):
    model = make()
    expected = model.encode(X).to_dense(M)
    model.prepare_(n_rows)
    torch.testing.assert_close(model.encode(X).to_dense(M), expected)


def test_gram_matrix_is_kept_where_it_pays(monkeypatch):
    model = PursuitDictionary(F.normalize(draw(64, 48)), 40, atoms_per_step=1)
    model.prepare_(1)
    assert model.gram is None
    model.prepare_(10**6)
    torch.testing.assert_close(model.gram, model.atoms @ model.atoms.T)
    assert not model.gram.requires_grad
    used = []
    monkeypatch.setattr(
        pursuit_module, "batched_omp", lambda *a, gram, **k: used.append(gram)
    )
    model.encode(draw(3, 48))
    assert used[0] is model.gram


def test_projected_gradient_is_tangent_to_the_sphere():
    model = topk()
    gradient = draw(M, D, seed=5)
    model.atoms.grad = gradient.clone()
    model.precondition_(None)
    atoms = model.atoms.detach()
    radial = (gradient * atoms).sum(1, keepdim=True) * atoms
    torch.testing.assert_close(model.atoms.grad, gradient - radial)


def test_no_gradient_needs_no_projection():
    model = topk()
    model.precondition_(None)
    assert model.atoms.grad is None
