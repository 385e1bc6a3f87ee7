"""The planted screen holds what it says it holds."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

from skdict.datasets import make_planted_screen

SCREEN = make_planted_screen(n_cells=20, random_state=0)
CELLS, CODES = SCREEN.metadata, sparse.csr_matrix(SCREEN.codes)
OF_KIND = {kind: np.flatnonzero(SCREEN.kinds == kind) for kind in set(SCREEN.kinds)}


def active(kind):
    return CODES[:, OF_KIND[kind]].toarray() != 0


def test_rows_are_their_codes_but_for_the_noise():
    noise = SCREEN.data - CODES @ SCREEN.components
    signal = np.sqrt(np.mean((CODES @ SCREEN.components) ** 2))
    assert noise.std() == pytest.approx(0.15 * signal, rel=0.01)
    exact = make_planted_screen(n_cells=1, noise=0, random_state=0)
    assert_allclose(exact.data, exact.codes @ exact.components, atol=1e-5)
    assert_allclose(np.linalg.norm(SCREEN.components, axis=1), 1, rtol=1e-6)


def test_a_well_has_one_perturbation_and_one_dose():
    wells = CELLS.groupby("well")
    assert (wells.size() == 20).all()
    for column in ("plate", "perturbation", "dose", "control", "edge", "row"):
        assert (wells[column].nunique() == 1).all()
    assert wells.ngroups == 8 * 96
    assert set(CELLS["dose"]) == {0, 0.5, 0.75, 1}
    assert_array_equal(CELLS["control"], CELLS["perturbation"] == "control")
    assert_array_equal(CELLS["control"], CELLS["dose"] == 0)
    controls = CELLS[CELLS["control"]].groupby("plate")["well"].nunique()
    assert (controls == round(0.2 * 96)).all()


def test_no_perturbation_is_on_more_plates_than_asked():
    treated = CELLS[~CELLS["control"]]
    assert (treated.groupby("perturbation")["plate"].nunique() == 4).all()
    sizes = treated.groupby("perturbation")["well"].nunique()
    assert sizes["T01"] > 2 * sizes["T30"]


def test_marks_of_plates_and_edges():
    plate = pd.factorize(CELLS["plate"])[0]
    assert_array_equal(active("plate"), plate[:, None] == np.arange(8))
    assert_array_equal(active("edge")[:, 0], CELLS["edge"])
    inner = CELLS[~CELLS["edge"]]
    assert set(inner["row"]) == set(range(1, 7))
    assert set(inner["column"]) == set(range(1, 11))


def test_phenotypes_follow_perturbation_and_dose():
    shown = active("phenotype")
    assert_array_equal(shown.any(axis=1), SCREEN.phenotype >= 0)
    assert_array_equal(np.nonzero(shown)[1], SCREEN.phenotype[SCREEN.phenotype >= 0])
    table = SCREEN.perturbations.set_index("perturbation")
    expected = table["phenotype"].reindex(CELLS["perturbation"]).fillna(-1).to_numpy()
    rare = table["rare"].astype(bool).reindex(CELLS["perturbation"], fill_value=False)
    rare = rare.to_numpy()
    assert_array_equal(SCREEN.phenotype[~rare], expected[~rare])
    responds = SCREEN.phenotype[rare] >= 0
    assert_array_equal(SCREEN.phenotype[rare][responds], expected[rare][responds])
    dose = CELLS["dose"].to_numpy()
    for level in (0.5, 1):
        assert responds[dose[rare] == level].mean() == pytest.approx(
            0.2 * level, abs=0.05
        )
        strength = CODES[np.flatnonzero((SCREEN.phenotype >= 0) & (dose == level))]
        mean = strength[:, OF_KIND["phenotype"]].sum() / strength.shape[0]
        assert mean == pytest.approx(1.5 * level, rel=0.03)
    assert (table["phenotype"] == -1).sum() == 6


def test_states_come_in_pairs():
    states = active("state")
    assert states.any(axis=1).all()
    assert (states.sum(axis=1) <= 3).all()
    together = states[:, ::2] & states[:, 1::2]
    alone = make_planted_screen(n_cells=20, correlation=0, random_state=0)
    independent = sparse.csr_matrix(alone.codes)[:, OF_KIND["state"]].toarray() != 0
    independent = independent[:, ::2] & independent[:, 1::2]
    assert together.mean() > 2 * independent.mean()


@pytest.mark.parametrize("n_phenotypes", [3, 12])
def test_pairs_are_all_that_share_a_phenotype(n_phenotypes):
    screen = make_planted_screen(n_cells=1, n_phenotypes=n_phenotypes, random_state=0)
    table = screen.perturbations.set_index("perturbation")["phenotype"]
    first, second = (table[screen.pairs[side]].to_numpy() for side in screen.pairs)
    assert_array_equal(first, second)
    assert (first >= 0).all()
    counts = table[table >= 0].value_counts()
    assert len(screen.pairs) == (counts * (counts - 1) // 2).sum()


def test_the_seed_decides():
    same = make_planted_screen(n_cells=20, random_state=0)
    assert_array_equal(same.data, SCREEN.data)
    pd.testing.assert_frame_equal(same.metadata, CELLS)
    assert (make_planted_screen(n_cells=20, random_state=1).data != SCREEN.data).any()


@settings(max_examples=25)
@given(st.data())
def test_any_sizes(data):
    draw = data.draw
    n_plates = draw(st.integers(1, 4))
    n_rows, n_columns = draw(st.integers(1, 4)), draw(st.integers(8, 30))
    screen = make_planted_screen(
        n_plates,
        n_rows,
        n_columns,
        draw(st.integers(1, 3)),
        n_features=5,
        n_phenotypes=draw(st.integers(1, 4)),
        n_perturbations=draw(st.integers(1, 5)),
        n_states=draw(st.integers(2, 5)),
        n_doses=draw(st.integers(1, 3)),
        n_plates_each=draw(st.integers(1, n_plates)),
        control_fraction=draw(st.sampled_from([0.1, 0.3])),
        inactive_fraction=draw(st.sampled_from([0, 0.5, 1])),
        imbalance=draw(st.sampled_from([0, 1])),
        random_state=0,
    )
    assert len(screen.data) == len(screen.metadata) == screen.codes.shape[0]
    assert screen.codes.shape[1] == len(screen.components) == len(screen.kinds)
    assert np.isfinite(screen.data).all()
    assert not screen.metadata.isna().any(axis=None)
    assert screen.metadata["well"].nunique() == n_plates * n_rows * n_columns


def test_impossible_layouts_are_refused():
    with pytest.raises(ValueError, match="n_plates_each=9 is larger than n_plates=8"):
        make_planted_screen(n_plates_each=9)
    with pytest.raises(ValueError, match=r"A plate has 3 wells .* 14 perturbations"):
        make_planted_screen(n_rows=2, n_columns=2)
