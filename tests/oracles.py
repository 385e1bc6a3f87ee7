"""Slow and plain versions of what is tested, and data that several files draw."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

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


def algorithm_1(x, W, k, atoms_per_step=1, selection="positive", refit=False, tol=None):
    """Algorithm 1 on one row, as the paper prints it.

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
        lead = min([lead, *(score[order[n - 1]] - score[order[n:]])])
        support = order[:n]
        z[support] += np.linalg.lstsq(W[support].T, r)[0]
        if refit == "every_step":
            z = on_support(x, W, z)
        r = x - z @ W
    return (on_support(x, W, z) if refit else z), lead


def on_support(x, W, z):
    support = z.nonzero()[0]
    z = np.zeros_like(z)
    z[support] = np.linalg.lstsq(W[support].T, x)[0]
    return z
