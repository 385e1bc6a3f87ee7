"""The models against their equations, and their gradients against torch's own."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from skdict import modules
from skdict.modules import DictionaryModule, PursuitDictionary, TopKAutoencoder
from skdict.ops import batched_omp

N, D, M, K = 12, 6, 15, 4


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def pursuit(**params):
    return PursuitDictionary(F.normalize(draw(M, D)), draw(D, seed=1), K, **params)


def topk():
    return TopKAutoencoder(
        F.normalize(draw(M, D)),
        draw(D, seed=1),
        K,
        encoder=draw(M, D, seed=2),
        encoder_bias=draw(M, seed=3),
    )


both = pytest.mark.parametrize("make", [pursuit, topk])
X = draw(N, D, seed=4)


@both
def test_parameters_go_by_these_names(make):
    module = make()
    names = {"atoms", "pre_bias"}
    if make is topk:
        names |= {"encoder", "encoder_bias"}
    assert set(dict(module.named_parameters())) == names
    assert set(module.state_dict()) == names
    assert isinstance(module, DictionaryModule)


def test_encoding_is_up_to_the_subclass():
    with pytest.raises(NotImplementedError):
        DictionaryModule(draw(M, D), draw(D), K)(X)


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
    module = pursuit(**params)
    x_hat, code = module(X)
    expected = batched_omp(X - module.pre_bias, module.atoms, K, **params)
    assert torch.equal(code.indices, expected.indices)
    assert torch.equal(code.values, expected.values)
    dense = code.to_dense(M)
    torch.testing.assert_close(x_hat, dense @ module.atoms + module.pre_bias)
    torch.testing.assert_close(module.encode(X).to_dense(M), dense)


def test_topk_encodes_by_its_equation():
    module = topk()
    x_hat, code = module(X)
    z = F.relu((X - module.pre_bias) @ module.encoder.T + module.encoder_bias)
    z = z * torch.zeros_like(z).scatter_(1, z.topk(K, dim=1).indices, 1.0)
    torch.testing.assert_close(code.to_dense(M), z)
    torch.testing.assert_close(x_hat, z @ module.atoms + module.pre_bias)


def test_no_gradient_goes_through_the_pursuit():
    module = pursuit()
    x_hat, code = module(X)
    (x_hat - X).square().sum().backward()
    gradient = 2 * (x_hat - X).detach()
    torch.testing.assert_close(module.atoms.grad, code.to_dense(M).T @ gradient)
    assert module.pre_bias.grad is None
    assert not code.values.requires_grad


def test_gradients_of_the_autoencoder_are_those_of_its_equation():
    module = topk()
    parameters = list(module.parameters())
    x_hat, code = module(X)
    gradients = torch.autograd.grad((x_hat - X).square().sum(), parameters)
    z = F.relu((X - module.pre_bias) @ module.encoder.T + module.encoder_bias)
    z = z * (code.to_dense(M) != 0)
    x_hat = z @ module.atoms + module.pre_bias
    expected = torch.autograd.grad((x_hat - X).square().sum(), parameters)
    torch.testing.assert_close(gradients, expected)


@given(st.integers(0, 2**31))
def test_the_scale_of_the_first_encoder_is_the_least_squares(seed):
    module = TopKAutoencoder(F.normalize(draw(M, D, seed=seed)), draw(D), K)
    rows = draw(30, D, seed=seed + 1)
    energy = (rows - module.pre_bias).square().sum()
    before = module(rows)[0]
    module.fit_scale_(rows)
    x_hat, code = module(rows)
    error = (rows - x_hat).square().sum()
    assert error <= (rows - before).square().sum() + 1e-9
    assert error <= energy + 1e-9
    # At the minimum, the error is orthogonal to what is rebuilt.
    rebuilt = code.decode(module.atoms)
    product = ((rows - x_hat) * rebuilt).sum()
    assert abs(float(product.detach())) <= 1e-9 * float(energy.detach())


def test_the_scale_of_an_encoder_that_never_fires_stays():
    module = topk()
    with torch.no_grad():
        module.encoder_bias -= 1e6
        before = module.encoder.clone()
    module.fit_scale_(X)
    assert torch.equal(module.encoder, before)


def test_only_a_pursuit_follows_the_mean():
    for module in (pursuit(), topk()):
        before = module.pre_bias.detach().clone()
        module.centre_(before + 1)
        moved = not torch.equal(module.pre_bias.detach(), before)
        assert moved is isinstance(module, PursuitDictionary)


def test_encoder_starts_as_a_copy_of_the_atoms():
    module = TopKAutoencoder(draw(M, D), draw(D), K)
    assert torch.equal(module.encoder, module.atoms)
    assert torch.equal(module.encoder_bias, torch.zeros(M, dtype=torch.float64))
    with torch.no_grad():
        module.encoder += 1
    assert torch.equal(module.atoms, draw(M, D))


@both
def test_project_puts_atoms_on_the_unit_sphere(make):
    module = make()
    directions = module.atoms.detach().clone()
    with torch.no_grad():
        module.atoms *= torch.linspace(0.1, 7, M)[:, None]
        module.atoms[3] = 0
    parameter = module.atoms
    module.project_()
    assert module.atoms is parameter
    directions[3] = 0
    torch.testing.assert_close(module.atoms.detach(), directions)


@both
def test_codes_follow_rows_that_are_rescaled(make):
    module = make()
    x_hat, code = module(X)
    module.rescale_(8.0)
    scaled_x_hat, scaled_code = module(8 * X)
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
    module = make()
    expected = module.encode(X).to_dense(M)
    module.prepare_(n_rows)
    torch.testing.assert_close(module.encode(X).to_dense(M), expected)


def test_gram_matrix_is_kept_where_it_pays(monkeypatch):
    module = PursuitDictionary(
        F.normalize(draw(64, 48)), draw(48), 40, atoms_per_step=1
    )
    module.prepare_(1)
    assert module.gram is None
    module.prepare_(10**6)
    torch.testing.assert_close(module.gram, module.atoms @ module.atoms.T)
    assert not module.gram.requires_grad
    used = []
    monkeypatch.setattr(modules, "batched_omp", lambda *a, gram, **k: used.append(gram))
    module.encode(draw(3, 48))
    assert used[0] is module.gram


def test_projected_gradient_is_tangent_to_the_sphere():
    module = topk()
    gradient = draw(M, D, seed=5)
    module.atoms.grad = gradient.clone()
    module.project_gradient_()
    atoms = module.atoms.detach()
    radial = (gradient * atoms).sum(1, keepdim=True) * atoms
    torch.testing.assert_close(module.atoms.grad, gradient - radial)


def test_no_gradient_needs_no_projection():
    module = topk()
    module.project_gradient_()
    assert module.atoms.grad is None
