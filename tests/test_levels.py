"""Differences between the levels of a factor, against plain NumPy."""

import numpy as np
import pytest
from scipy import sparse

from skdict.stats import levels as module


@pytest.mark.parametrize("cells", [1, 11, 10_000])
def test_blocks_of_levels_do_not_matter(monkeypatch, cells):
    rng = np.random.default_rng(0)
    dense = rng.normal(size=(60, 5)) * (rng.random((60, 5)) < 0.5)
    dense[:, -1] = 0  # a feature that never fires
    ids = np.r_[np.arange(7), rng.integers(0, 7, 53)]
    means = dense.mean(axis=0)
    monkeypatch.setattr(module, "_BLOCK_CELLS", cells)
    Z = sparse.csr_array(dense)
    groups = [ids == level for level in range(7)]
    between = sum(g.sum() * (dense[g].mean(0) - means) ** 2 for g in groups)
    largest = np.max([abs(dense[g].mean(0) - dense[~g].mean(0)) for g in groups], 0)
    np.testing.assert_allclose(module.squares_between(Z, ids, means), between)
    np.testing.assert_allclose(module.largest_differences(Z, ids, means), largest)
