"""A planted screen with what goes wrong in a real one."""

from __future__ import annotations

import itertools
from numbers import Integral, Real

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.utils import Bunch, check_random_state

from skdict._utils.constraints import Interval
from skdict._utils.sklearn_private import align_api_if_sparse, validate_params
from skdict._utils.types import Seed

__all__ = ["make_planted_screen"]

_COUNT = [Interval(Integral, 1, None, closed="left")]
_AMOUNT = [Interval(Real, 0, None, closed="left")]
_FRACTION = [Interval(Real, 0, 1, closed="both")]


@validate_params(
    {
        "n_plates": _COUNT,
        "n_rows": _COUNT,
        "n_columns": _COUNT,
        "n_cells": _COUNT,
        "n_features": _COUNT,
        "n_phenotypes": _COUNT,
        "n_perturbations": _COUNT,
        "n_states": [Interval(Integral, 2, None, closed="left")],
        "n_doses": _COUNT,
        "n_plates_each": _COUNT,
        "control_fraction": [Interval(Real, 0, 1, closed="neither")],
        "inactive_fraction": _FRACTION,
        "rare_fraction": _FRACTION,
        "response_rate": [Interval(Real, 0, 1, closed="right")],
        "imbalance": _AMOUNT,
        "correlation": _FRACTION,
        "effect": _AMOUNT,
        "plate_effect": _AMOUNT,
        "edge_effect": _AMOUNT,
        "noise": _AMOUNT,
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_planted_screen(
    n_plates: int = 8,
    n_rows: int = 8,
    n_columns: int = 12,
    n_cells: int = 10,
    *,
    n_features: int = 64,
    n_phenotypes: int = 12,
    n_perturbations: int = 30,
    n_states: int = 20,
    n_doses: int = 3,
    n_plates_each: int = 4,
    control_fraction: float = 0.2,
    inactive_fraction: float = 0.2,
    rare_fraction: float = 0.25,
    response_rate: float = 0.2,
    imbalance: float = 0.5,
    correlation: float = 0.5,
    effect: float = 1.5,
    plate_effect: float = 1.0,
    edge_effect: float = 1.0,
    noise: float = 0.15,
    random_state: Seed = None,
) -> Bunch:
    r"""Generate the cells of a perturbation screen whose every cause is known.

    Cells grow in the wells of plates. Perturbations give some of them a phenotype, the
    more the higher the dose; some perturbations do nothing, some act on few cells only.
    Plates and the edge of a plate leave their own marks, and no perturbation is on all
    plates, so that a mark of a plate can be taken for a phenotype.

    Parameters
    ----------
    n_plates : int, default=8
        Number of plates, the experimental batches.

    n_rows, n_columns : int, default=8, 12
        Wells of a plate.

    n_cells : int, default=10
        Cells of a well: rows of `data`.

    n_features : int, default=64
        Dimension of a cell's embedding.

    n_phenotypes : int, default=12
        Number of phenotypes. Every phenotype has an atom of its own.

    n_perturbations : int, default=30
        Number of perturbations. Active ones have one phenotype each, by turns, so that
        several have the same where there are more perturbations than phenotypes.

    n_states : int, default=20
        Atoms of the cells' own states, of which three are active in every cell,
        whatever was done to it.

    n_doses : int, default=3
        Doses of a perturbation, from 1/2 to 1 of the largest effect in equal steps; a
        well has one dose.

    n_plates_each : int, default=4
        Number of plates that have wells of a perturbation, at most `n_plates`.

    control_fraction : float, default=0.2
        Fraction of the wells of each plate that hold controls.

    inactive_fraction : float, default=0.2
        Fraction of the perturbations that do nothing.

    rare_fraction : float, default=0.25
        Fraction of the phenotypes that show in few cells.

    response_rate : float, default=0.2
        Fraction of the cells that show a rare phenotype, at the highest dose.

    imbalance : float, default=0.5
        The wells of perturbation i, counted from 1, are proportional to
        ``i**-imbalance``; 0 gives all as many.

    correlation : float, default=0.5
        States come in pairs. Where the first of a pair is active, the second is too
        with this probability.

    effect, plate_effect, edge_effect : float, default=1.5, 1.0, 1.0
        Mean coefficients of a phenotype at the highest dose, of the mark of a plate and
        of the mark of the edge. States have a mean coefficient of 1.

    noise : float, default=0.15
        Standard deviation of the noise in each dimension, as a fraction of the root
        mean square of all other parts of the rows.

    random_state : int, RandomState instance or None, default=None
        Seed of the draws.

    Returns
    -------
    screen : :class:`~sklearn.utils.Bunch`
        data : ndarray of shape (n_samples, n_features), float32
            Embeddings of the cells.
        metadata : DataFrame of n_samples rows
            `plate`, `well` (names such as "P1" and "P1-B03"), `row`, `column`, `edge`,
            `perturbation` ("control" for controls), `dose` (0 for controls) and
            `control`.
        phenotype : ndarray of shape (n_samples,), int
            The phenotype that a cell shows; -1 for none.
        components : ndarray of shape (n_components, n_features), float32
            All atoms, of unit length: phenotypes, states, plates, the edge.
        codes : CSR matrix or array of shape (n_samples, n_components), float32
            Coefficients that made the rows.
        kinds : ndarray of shape (n_components,), str
            "phenotype", "state", "plate" or "edge".
        perturbations : DataFrame
            One row for each perturbation: `perturbation`, `phenotype` (-1 for those
            that do nothing), `rare`.
        pairs : DataFrame
            Pairs of perturbations with the same phenotype, columns `first` and
            `second`: the known relationships.

    Raises
    ------
    ValueError
        If a plate has too few wells, or `n_plates_each` is larger than `n_plates`.

    See Also
    --------
    make_planted_dictionary : Rows of planted atoms without an experiment around them.

    Notes
    -----
    A cell of plate p with perturbation t at dose :math:`\delta` is

    .. math::

        x = \sum_{s \in S} u_s d_s + \delta\, e\, u\, r\, d_{h(t)}
            + v_p d_p + [\text{edge}]\, v\, d_{edge} + \varepsilon,

    where S are the cell's states, h(t) the phenotype of t and r whether the cell
    responds: always, or for a rare phenotype with probability
    ``dose * response_rate``. All u and v are uniform in 0.5 to 1.5 times their mean;
    v is drawn for each cell, so that plates and edge are features that vary, and no
    mere shift.

    Examples
    --------
    >>> from skdict.datasets import make_planted_screen
    >>> screen = make_planted_screen(n_cells=2, random_state=0)
    >>> screen.data.shape  # 8 plates of 96 wells with 2 cells each
    (1536, 64)
    >>> screen.metadata.loc[0, ["plate", "well"]].tolist()
    ['P1', 'P1-A01']
    >>> int((screen.perturbations["phenotype"] == -1).sum())
    6
    """
    if n_plates_each > n_plates:
        raise ValueError(
            f"n_plates_each={n_plates_each} is larger than n_plates={n_plates}."
        )
    rng = check_random_state(random_state)
    wells = _lay_out(n_plates, n_rows, n_columns)
    perturbations = _perturbations(
        n_perturbations, n_phenotypes, inactive_fraction, rare_fraction
    )
    treated = _assign(
        wells, n_perturbations, n_plates_each, control_fraction, imbalance, rng
    )
    wells["control"] = treated < 0
    names = np.append(perturbations["perturbation"].to_numpy(), "control")
    wells.insert(5, "perturbation", names[treated])
    doses = np.linspace(0.5, 1, n_doses) if n_doses > 1 else np.ones(1)
    wells.insert(6, "dose", np.where(treated < 0, 0, rng.choice(doses, len(wells))))

    cells = wells.loc[wells.index.repeat(n_cells)].reset_index(drop=True)
    n = len(cells)
    phenotype = np.append(perturbations["phenotype"].to_numpy(), -1)[
        np.repeat(treated, n_cells)
    ]
    rare = np.append(perturbations["rare"].to_numpy(), False)[
        np.repeat(treated, n_cells)
    ]
    dose = cells["dose"].to_numpy()
    responds = ~rare | (rng.uniform(size=n) < dose * response_rate)
    phenotype = np.where(responds, phenotype, -1)

    sizes = {
        "phenotype": n_phenotypes,
        "state": n_states,
        "plate": n_plates,
        "edge": 1,
    }
    kinds = np.repeat(list(sizes), list(sizes.values()))
    starts = dict(zip(sizes, np.cumsum([0, *sizes.values()]), strict=False))
    atoms = rng.standard_normal((len(kinds), n_features))
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)

    everywhere = np.arange(n)
    shown = np.flatnonzero(phenotype >= 0)
    at_edge = np.flatnonzero(cells["edge"].to_numpy())
    state_rows, states = _draw_states(n, n_states, correlation, rng)
    plate = np.repeat(np.repeat(np.arange(n_plates), n_rows * n_columns), n_cells)
    entries = [  # rows, atoms, mean coefficients
        (shown, phenotype[shown], effect * dose[shown]),
        (state_rows, starts["state"] + states, np.ones(len(states))),
        (everywhere, starts["plate"] + plate, np.full(n, plate_effect)),
        (at_edge, np.full(len(at_edge), starts["edge"]), edge_effect),
    ]
    codes = sum(
        sparse.csr_matrix(
            (mean * rng.uniform(0.5, 1.5, len(rows)), (rows, columns)),
            shape=(n, len(kinds)),
        )
        for rows, columns, mean in entries
    )
    codes.eliminate_zeros()
    X = codes @ atoms
    X += rng.normal(scale=noise * np.sqrt(np.mean(X**2)), size=X.shape)

    return Bunch(
        data=X.astype(np.float32),
        metadata=cells,
        phenotype=phenotype,
        components=atoms.astype(np.float32),
        codes=align_api_if_sparse(codes.astype(np.float32)),
        kinds=kinds,
        perturbations=perturbations,
        pairs=_pairs(perturbations),
    )


def _lay_out(n_plates: int, n_rows: int, n_columns: int) -> pd.DataFrame:
    plate, row, column = (
        part.ravel()
        for part in np.meshgrid(
            np.arange(n_plates), np.arange(n_rows), np.arange(n_columns), indexing="ij"
        )
    )
    places = zip(plate.tolist(), row.tolist(), column.tolist(), strict=True)
    names = [f"P{p + 1}-{_letters(r)}{c + 1:02d}" for p, r, c in places]
    edge = (row % (n_rows - 1 or 1) == 0) | (column % (n_columns - 1 or 1) == 0)
    return pd.DataFrame(
        {
            "plate": [f"P{p + 1}" for p in plate],
            "well": names,
            "row": row,
            "column": column,
            "edge": edge,
        }
    )


def _letters(row: int) -> str:
    """A to Z, then AA, as on plates of 1536 wells."""
    return (_letters(row // 26 - 1) if row >= 26 else "") + chr(ord("A") + row % 26)


def _perturbations(
    n_perturbations: int,
    n_phenotypes: int,
    inactive_fraction: float,
    rare_fraction: float,
) -> pd.DataFrame:
    n_inactive = round(inactive_fraction * n_perturbations)
    n_rare = round(rare_fraction * n_phenotypes)
    # Inactive ones are spread over the order, as the number of wells falls with it.
    inactive = np.zeros(n_perturbations, bool)
    inactive[np.linspace(0, n_perturbations - 1, n_inactive).astype(int)] = True
    phenotype = np.full(n_perturbations, -1)
    phenotype[~inactive] = np.arange(n_perturbations - n_inactive) % n_phenotypes
    return pd.DataFrame(
        {
            "perturbation": [f"T{i + 1:02d}" for i in range(n_perturbations)],
            "phenotype": phenotype,
            "rare": phenotype >= n_phenotypes - n_rare,
        }
    )


def _assign(
    wells: pd.DataFrame,
    n_perturbations: int,
    n_plates_each: int,
    control_fraction: float,
    imbalance: float,
    rng: np.random.RandomState,
) -> np.ndarray:
    """Perturbation of each well, -1 for controls, in random places of the plates."""
    plates = wells["plate"].to_numpy()
    n_plates = len(np.unique(plates))
    n_wells = len(wells) // n_plates
    n_controls = max(1, round(control_fraction * n_wells))
    n_treated = n_wells - n_controls
    weights = np.arange(1.0, n_perturbations + 1) ** -imbalance
    # Perturbation i is on plates i, i + 1, ..., so that each plate has about as many.
    treated = np.full(len(wells), -1)
    for p in range(n_plates):
        here = np.flatnonzero(
            (p - np.arange(n_perturbations)) % n_plates < n_plates_each
        )
        if len(here) > n_treated:
            raise ValueError(
                f"A plate has {n_treated} wells without controls, but {len(here)} "
                "perturbations: take larger plates, fewer perturbations or a smaller "
                "n_plates_each."
            )
        if not len(here):
            continue
        # One well for each, the rest by weight.
        share = weights[here] / weights[here].sum() * (n_treated - len(here))
        count = 1 + np.floor(share).astype(int)
        behind = np.argsort(np.floor(share) - share, kind="stable")
        count[behind[: n_treated - count.sum()]] += 1
        places = rng.permutation(n_wells)[:n_treated] + p * n_wells
        treated[places] = np.repeat(here, count)
    return treated


def _draw_states(
    n: int, n_states: int, correlation: float, rng: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and states of the cells' own features, without repetition in a row."""
    drawn = rng.randint(n_states, size=(n, 3))
    partner = drawn[:, 0] ^ 1
    follows = (rng.uniform(size=n) < correlation) & (partner < n_states)
    drawn[follows, 1] = partner[follows]
    rows = np.repeat(np.arange(n), 3)
    pairs = np.unique(np.column_stack((rows, drawn.ravel())), axis=0)
    return pairs[:, 0], pairs[:, 1]


def _pairs(perturbations: pd.DataFrame) -> pd.DataFrame:
    active = perturbations[perturbations["phenotype"] >= 0]
    same = [
        pair
        for _, names in active.groupby("phenotype")["perturbation"]
        for pair in itertools.combinations(names, 2)
    ]
    return pd.DataFrame(same, columns=["first", "second"])
