"""Slow and plain versions of what is tested, and data that several files draw."""

import copy
import functools

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from skdict import ICFL, KSVD, SAE, BatchTopKSAE, Codebook, TopKSAE
from skdict.datasets import make_planted_dictionary
from skdict.decomposition._base import FixedSparsity
from skdict.decomposition._registry import DICTIONARIES

# Values on both sides of the thresholds that the tests take, and on them.
code_values = st.sampled_from([0.0, 0.0, 0.0, -0.0, 0.25, 0.5, -0.5, 2.0, -3.0])


@st.composite
def labelled_codes(draw, max_classes=4):
    """Codes of a few features, and labels of which each class has a row."""
    n_classes = draw(st.integers(2, max_classes))
    extra = draw(st.lists(st.integers(0, n_classes - 1), max_size=12))
    y = np.array(draw(st.permutations([*range(n_classes), *extra])))
    shape = (len(y), draw(st.integers(1, 6)))
    codes = draw(hnp.arrays(np.float64, shape, elements=code_values))
    return codes, y


def algorithm_1(
    x,
    W,
    k,
    atoms_per_step=1,
    selection="positive",
    refit=False,
    tol=None,
    span_distance=0,
):
    """Algorithm 1 on one row, as the paper prints it, but for `span_distance`.

    Also the least lead of the atoms picked over the others, below which the pick is
    a matter of rounding: atoms just picked all correlate with the residual by 0.
    """
    r, z, lead = x, np.zeros(len(W)), np.inf
    k = min(k, len(W))
    for n_picked in range(0, k, atoms_per_step):
        if tol is not None and np.linalg.norm(r) <= tol * np.linalg.norm(x):
            break
        c = W @ r
        score = np.abs(c) if selection == "absolute" else c
        order = np.argsort(-score)
        n = min(atoms_per_step, k - n_picked)
        if span_distance:
            support, n_seen, margin = far_from_span(W, order[: 4 * n], n, span_distance)
            lead = min([lead, margin, *-np.diff(score[order])[:n_seen]])
        else:
            support = order[:n]
            lead = min([lead, *(score[order[n - 1]] - score[order[n:]])])
        z[support] += np.linalg.lstsq(W[support].T, r)[0]
        if refit == "every_step":
            z = on_support(x, W, z)
        r = x - z @ W
    return (on_support(x, W, z) if refit else z), lead


def far_from_span(W, candidates, n, distance):
    """Up to n of the candidates, in order, each far from the span of those before.

    Also how many were looked at, and the least difference between such a distance and
    the one asked for.
    """
    support, n_seen, margin = [], 0, np.inf
    for atom in candidates:
        if len(support) == n:
            break
        n_seen += 1
        span = W[support].T
        rest = (
            W[atom] - span @ np.linalg.lstsq(span, W[atom])[0] if support else W[atom]
        )
        away = np.linalg.norm(rest) / np.linalg.norm(W[atom])
        margin = min(margin, abs(away - distance))
        if away >= distance:
            support.append(atom)
    return support, n_seen, margin


def on_support(x, W, z):
    support = z.nonzero()[0]
    z = np.zeros_like(z)
    z[support] = np.linalg.lstsq(W[support].T, x)[0]
    return z


# Dictionaries that several files fit, and rows for them

PLANTED = make_planted_dictionary(1500, 16, n_components=24, n_active=2, random_state=0)
X = PLANTED.data
X64 = X.astype(np.float64)
FEW = X64[:60, :8]

CLASSES = [entry.estimator for entry in DICTIONARIES]
dictionaries = pytest.mark.parametrize("cls", CLASSES)
# One of each kind, for what the base class and the net do alike for all: codes in slots
# by a pursuit and by an encoder, ragged codes, dense codes with a penalty, and atoms in
# closed form.
KINDS = [ICFL, TopKSAE, BatchTopKSAE, SAE, KSVD]
kinds = pytest.mark.parametrize("cls", KINDS)
fixed_sparsity = pytest.mark.parametrize(
    "cls", [cls for cls in CLASSES if issubclass(cls, FixedSparsity)]
)

VARIANTS = {
    "ICFL": ICFL(random_state=0),
    "ICFL, refit": ICFL(refit=True, atoms_per_step=1, random_state=0),
    "ICFL, absolute": ICFL(selection="absolute", atoms_per_step=2, random_state=0),
    "TopKSAE": TopKSAE(random_state=0),
}
variants = pytest.mark.parametrize("variant", VARIANTS)


def make_variant(variant, **params):
    """A variant of the dictionaries, unfitted."""
    return clone(VARIANTS[variant]).set_params(**params)


def planted(cls, **params):
    """A dictionary of the size of `PLANTED`, unfitted."""
    # Those that do not end early need not go on for long here.
    shorter = {} if cls().tol else {"max_iter": 25}
    return cls(24, 2, **({"random_state": 0} | shorter | params))


@functools.cache
def _fitted(cls, params):
    return planted(cls, **dict(params)).fit(X)


def fitted(cls, **params):
    """A copy of `planted(cls, **params).fit(X)`, which is fitted once in a process."""
    return copy.deepcopy(_fitted(cls, tuple(sorted(params.items()))))


def steps_per_epoch(cls):
    """Steps of an epoch over `X` with the default batches."""
    return 1 if cls is KSVD else 6


def frozen(cls, init, **params):
    """A dictionary whose atoms do not move from `init` in its only epoch."""
    parameters = {"max_iter": 1, "learning_rate": 1e-300, "random_state": 0} | params
    parameters["validation_fraction"] = None
    if issubclass(cls, TopKSAE):
        parameters["auxiliary_weight"] = 0
    return cls(init=init, **parameters)


def same_fit(a, b):
    """Assert that two fits are equal to the bit."""
    assert_array_equal(a.components_, b.components_, strict=True)
    assert_array_equal(a.pre_bias_, b.pre_bias_, strict=True)
    assert_array_equal(a.feature_density_, b.feature_density_, strict=True)


def close_atoms(a, b, rtol):
    assert_allclose(a.components_, b.components_, rtol=0, atol=rtol)


def dense(codes):
    return codes.toarray() if sp.issparse(codes) else codes


def recovered(model, data):
    """Fraction of the planted atoms that some learnt atom matches."""
    cosines = data.components @ model.components_.T
    return (cosines.max(axis=1) > 0.9).mean()


def assert_sound(model, rows):
    """Assert that all that the model says of finite rows is finite and well formed."""
    codes = dense(model.transform(rows))
    if isinstance(model, FixedSparsity):
        k = max(1, rows.shape[1] // 10) if model.k is None else model.k
        assert ((codes != 0).sum(axis=1) <= k).all()
    for name, array in {
        "codes": codes,
        "reconstruction": model.inverse_transform(codes),
        "score": model.score(rows),
        "history": [r["explained_variance"] for r in model.history_],
        **{name: value for name, value in vars(model).items() if name[-1] == "_"},
    }.items():
        if name not in ("history_", "feature_names_in_"):
            assert np.isfinite(array).all(), name
    norms = np.linalg.norm(model.components_.astype(np.float64), axis=1)
    if isinstance(model, Codebook):
        assert norms.all()
    else:
        assert_allclose(norms, 1, atol=1e-6)
