"""Batched orthogonal matching pursuit, the encoder of ICFL.

Algorithm 1 of Donhauser et al. (ICML 2025), for all rows of a batch at once.
Symbols: ``W`` the dictionary, its rows the atoms; ``r`` the residual;
``c = W r`` the correlations; ``S`` the atoms picked in one step; ``z`` their
coefficients; ``G = W W^T`` the Gram matrix of the atoms.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from skdict.ops import compiled
from skdict.ops.chunks import fits_in_memory, rows_per_chunk
from skdict.ops.independence import independent_support, maybe_dependent
from skdict.ops.largest import largest
from skdict.ops.least_squares import GrowingFactor, solve_normal_equations
from skdict.ops.slots import SlotCode, active_products

Form = Literal["auto", "gram", "residual", "compiled"]
Selection = Literal["positive", "absolute"]
Refit = Literal[False, True, "every_step"]


@torch.no_grad()
def batched_omp(
    x: Tensor,
    dictionary: Tensor,
    k: int,
    *,
    atoms_per_step: int = 5,
    selection: Selection = "positive",
    span_distance: float = 0.0,
    refit: Refit = False,
    tol: float | None = None,
    form: Form = "auto",
    gram: Tensor | None = None,
) -> SlotCode:
    """Encode rows by batched orthogonal matching pursuit.

    Each step picks the ``atoms_per_step`` atoms that correlate most with the
    residual, solves least squares of the residual on those atoms alone and
    subtracts their part. Coefficients of an atom that is picked again add up.

    Parameters
    ----------
    x : Tensor of shape (n, d)
        Rows to encode, with the pre-bias already subtracted.
    dictionary : Tensor of shape (M, d)
        Atoms, one in each row. They need not have unit norm, but selection then
        favours the long ones, and their squared norms must be finite.
    k : int
        Largest number of non-zeros of a code; at most ``M`` are used.
    atoms_per_step : int, default=5
        Number of atoms picked in a step (the paper's L). There are
        ``ceil(k / atoms_per_step)`` steps (the paper's J); the last one picks fewer
        where ``k`` is not a multiple.
    selection : {"positive", "absolute"}, default="positive"
        Pick by the largest signed correlation (the paper) or by the largest
        magnitude (orthogonal matching pursuit).
    span_distance : float, default=0
        Least distance of a unit atom from the span of the better atoms of the same
        step. A closer one is left out and the next best is picked, among the best
        ``4 * atoms_per_step``; if they do not suffice, a slot stays empty. 0 is the
        paper's algorithm, in which nearly dependent atoms of a step may get large
        coefficients that cancel.
    refit : bool or "every_step", default=False
        True: after the last step, one least squares of ``x`` on all picked
        atoms. "every_step": after every step; with ``atoms_per_step=1`` and
        ``selection="absolute"`` this is orthogonal matching pursuit.
    tol : float, default=None
        A row stops as soon as ``||r|| <= tol * ||x||``. None: never.
    form : {"auto", "gram", "residual", "compiled"}, default="auto"
        "gram" keeps the correlations and updates them with rows of the Gram matrix; the
        residual is never formed. "residual" keeps the residual and correlates it with
        every atom at each step. "compiled" is the Gram form as one loop, compiled by
        numba; it remains the form above for ``refit="every_step"``, other devices than
        the CPU, and more than 32 atoms a step. The results agree up to rounding, which
        the Gram form lets grow where large coefficients cancel. "auto" takes the
        cheapest one, which depends on the sizes, and on whether numba is installed.
    gram : Tensor of shape (M, M), default=None
        ``dictionary @ dictionary.T`` if known; otherwise it is computed if needed.

    Returns
    -------
    SlotCode
        With ``min(k, M)`` slots in each row, sorted by atom, none repeated.

    Notes
    -----
    Where picked atoms depend on each other, the least squares is solved on their span:
    duplicates share their coefficient, and that of a zero atom is 0. Where two
    correlations of a float32 row tie to the last bit, the row may pick other atoms
    alone than in a batch, because matrix products of other shapes round differently.

    ``||r||^2`` is computed as ``||x||^2`` minus what each step explains. A ``tol``
    below the root of the rounding error (1e-3 in float32, 1e-7 in float64) therefore
    acts like 0. Rows are divided by their largest entry, so their magnitude does not
    matter.

    References
    ----------
    Donhauser et al., "Towards scientific discovery with dictionary learning:
    extracting biological concepts from microscopy foundation models", ICML 2025,
    Algorithm 1. Rubinstein et al., "Efficient implementation of the K-SVD
    algorithm using batch orthogonal matching pursuit", 2008, for the Gram form.

    Examples
    --------
    >>> import torch
    >>> from skdict.ops import batched_omp
    >>> atoms = torch.eye(3)
    >>> code = batched_omp(torch.tensor([[0.0, 3.0, 1.0]]), atoms, k=2)
    >>> code.to_dense(3)
    tensor([[0., 3., 1.]])
    """
    k = min(k, len(dictionary))
    wanted = form
    if form == "auto" and gram is None:
        form = choose_form(len(x), dictionary, k, atoms_per_step)
    if form == "residual":
        gram = None
    elif gram is None:
        gram = gram_matrix(dictionary)
    else:
        gram = gram.contiguous()
    # With "every_step", the steps of a row need more than its correlations.
    in_one_loop = (
        gram is not None
        and refit != "every_step"
        and compiled.takes(x, atoms_per_step)
        and (
            wanted == "compiled"
            or (wanted == "auto" and compiled.saves_time(len(x) * len(dictionary) * k))
        )
    )
    indices, values = [], []
    chunk = rows_per_chunk(x, len(dictionary))
    # One buffer for all chunks, because pages of new memory have to be mapped first.
    c = x.new_empty(min(chunk, len(x)), len(dictionary))
    for rows in x.split(chunk):
        scale = rows.abs().amax(1, keepdim=True).clamp(torch.finfo(x.dtype).tiny)
        residual = (
            _ResidualForm(rows / scale, dictionary, c[: len(rows)])
            if gram is None
            else _GramForm(rows / scale, dictionary, c[: len(rows)], gram)
        )
        code = _pursue(
            residual,
            k,
            atoms_per_step,
            selection,
            span_distance,
            refit,
            tol,
            in_one_loop,
        )
        indices.append(code.indices)
        values.append(code.values * scale)
    return SlotCode(torch.cat(indices), torch.cat(values))


@torch.no_grad()
def matching_pursuit(
    x: Tensor, dictionary: Tensor, k: int, *, gram: Tensor | None = None
) -> SlotCode:
    """Pick one atom a step, with its correlation with the residual.

    Parameters
    ----------
    x, dictionary, k, gram
        As in :func:`batched_omp`; the atoms have unit norm.

    Returns
    -------
    SlotCode
        In the order of the steps; an atom may be there more than once.
    """
    if gram is None and choose_form(len(x), dictionary, k, 1) == "gram":
        gram = gram_matrix(dictionary)
    code = SlotCode(x.new_empty(len(x), k, dtype=torch.int64), x.new_empty(len(x), k))
    n_rows = rows_per_chunk(x, len(dictionary))
    parts = (part.split(n_rows) for part in (x, code.indices, code.values))
    for rows, indices, values in zip(*parts, strict=True):
        c = x.new_empty(len(rows), len(dictionary))
        residual = (
            _ResidualForm(rows, dictionary, c)
            if gram is None
            else _GramForm(rows, dictionary, c, gram)
        )
        for step in range(k):
            correlations = residual.correlations()
            best = largest(correlations, 1)
            picked = SlotCode(best, correlations.gather(1, best))
            indices[:, step], values[:, step] = best[:, 0], picked.values[:, 0]
            if step < k - 1:
                residual.subtract(picked)
    return code


def _pursue(
    residual: _GramForm | _ResidualForm,
    k: int,
    atoms_per_step: int,
    selection: Selection,
    span_distance: float,
    refit: Refit,
    tol: float | None,
    in_one_loop: bool,
) -> SlotCode:
    """Algorithm 1 on one chunk of rows."""
    x = residual.x
    energy = x.square().sum(1)  # ||r||^2
    enough = -math.inf if tol is None else tol**2 * energy
    if in_one_loop and isinstance(residual, _GramForm):
        code = compiled.pursue(
            residual.correlations(),
            residual.gram,
            energy,
            torch.as_tensor(enough, dtype=x.dtype).expand_as(energy),
            k,
            atoms_per_step,
            absolute=selection == "absolute",
            span_distance=span_distance,
            subtract_last=refit is True,
        )
    else:
        code = _steps(
            residual,
            k,
            atoms_per_step,
            selection,
            span_distance,
            refit,
            energy,
            enough,
        )
    unused = k - code.indices.shape[1]  # slots left over if all rows stopped early
    code = SlotCode(
        F.pad(code.indices, (0, unused)), F.pad(code.values, (0, unused))
    ).coalesce()
    if refit is True:
        code = SlotCode(code.indices, code.values + _correction(residual, code))
    return code


def _steps(
    residual: _GramForm | _ResidualForm,
    k: int,
    atoms_per_step: int,
    selection: Selection,
    span_distance: float,
    refit: Refit,
    energy: Tensor,
    enough: Tensor | float,
) -> SlotCode:
    """The steps of Algorithm 1, each for all rows."""
    x = residual.x
    code = SlotCode(x.new_empty(len(x), 0, dtype=torch.int64), x.new_empty(len(x), 0))
    picked = GrowingFactor(x, k) if refit == "every_step" else None
    for n_picked in step_sizes(k, atoms_per_step):
        unfinished = energy > enough
        # Asked only where it can be: on an accelerator the answer is waited for.
        if isinstance(enough, Tensor) and not unfinished.any():
            break
        # The atoms with the largest <W_m, r(t)>.
        support, gram, c = _pick(residual, n_picked, selection, span_distance)
        code = SlotCode(
            torch.cat([code.indices, support], 1), F.pad(code.values, (0, n_picked))
        )
        if picked is None:
            # Least squares of r(t) on just those atoms.
            z = solve_normal_equations(gram, c)
        else:
            # On all atoms picked: this contains the least squares on the new ones.
            support = code.indices
            for active in (c.T != 0) & unfinished:
                others = support[:, : picked.size + 1]
                picked.append(residual.products(others[:, -1], others), active)
            c = residual.c.gather(1, support)
            z = picked.solve(c)
        z = z * unfinished[:, None]
        # z = z(1) + ... + z(t), and r(t+1) = r(t) - W z(t).
        code.values[:, -z.shape[1] :] += z
        # The residual is not needed after the last step, but for a refit.
        if code.indices.shape[1] < k or refit is True:
            residual.subtract(SlotCode(support, z))
            energy = energy - (z * c).sum(1)
    return code


def _pick(
    residual: _GramForm | _ResidualForm,
    n_picked: int,
    selection: Selection,
    span_distance: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Pick the atoms of one step.

    Returns them, their Gram matrices and their correlations with the residual.
    """
    c = residual.correlations()
    scores = c.abs() if selection == "absolute" else c
    support = largest(scores, n_picked)
    gram, c_picked = residual.gram_of(support), c.gather(1, support)
    if not span_distance or n_picked == 1:
        return support, gram, c_picked
    rows = maybe_dependent(gram, span_distance)
    if len(rows):
        picked, valid = independent_support(
            scores[rows],
            n_picked,
            span_distance,
            residual.square_norms(),
            residual.products,
        )
        support[rows] = picked
        # An empty slot becomes a zero atom, to which the solver gives nothing.
        gram[rows] = residual.gram_of(picked) * (valid[:, :, None] & valid[:, None, :])
        c_picked[rows] = c[rows[:, None], picked] * valid
    return support, gram, c_picked


def _correction(residual: _GramForm | _ResidualForm, code: SlotCode) -> Tensor:
    """Solve the least squares of ``r`` on all atoms of the code.

    A correction of the coefficients, instead of new ones, keeps rounding from making a
    good code worse.
    """
    active = code.values != 0
    # An empty slot becomes a zero atom, to which the solver gives nothing.
    gram = residual.gram_of(code.indices) * (active[:, :, None] & active[:, None, :])
    c = residual.correlations_with(code.indices) * active
    return solve_normal_equations(gram, c)


class _GramForm:
    """Correlations with the residual, updated with rows of the Gram matrix."""

    def __init__(self, x: Tensor, dictionary: Tensor, c: Tensor, gram: Tensor) -> None:
        self.x, self.gram = x, gram
        self.c = torch.mm(x, dictionary.T, out=c)

    def correlations(self) -> Tensor:
        return self.c

    def correlations_with(self, support: Tensor) -> Tensor:
        return self.c.gather(1, support)

    def subtract(self, code: SlotCode) -> None:
        code.subtract_from_(self.c, self.gram)

    def gram_of(self, support: Tensor) -> Tensor:
        # A flat index takes half the time of indexing rows and columns.
        place = support[:, :, None] * len(self.gram) + support[:, None, :]
        return self.gram.view(-1).take(place)

    def square_norms(self) -> Tensor:
        return self.gram.diagonal()

    def products(self, atom: Tensor, others: Tensor) -> Tensor:
        """Inner products of one atom a row with others."""
        return self.gram.view(-1).take(atom[:, None] * len(self.gram) + others)


class _ResidualForm:
    """The residual itself, correlated with every atom at each step."""

    def __init__(self, x: Tensor, dictionary: Tensor, c: Tensor) -> None:
        self.x, self.dictionary, self.c = x, dictionary, c
        self.r = x

    def correlations(self) -> Tensor:
        return torch.mm(self.r, self.dictionary.T, out=self.c)

    def correlations_with(self, support: Tensor) -> Tensor:
        return active_products(self.r, self.dictionary, support)

    def subtract(self, code: SlotCode) -> None:
        self.r = self.r - code.decode(self.dictionary)

    def gram_of(self, support: Tensor) -> Tensor:
        atoms = self.dictionary[support]
        return torch.bmm(atoms, atoms.mT)

    def square_norms(self) -> Tensor:
        return self.dictionary.square().sum(1)

    def products(self, atom: Tensor, others: Tensor) -> Tensor:
        """Inner products of one atom a row with others."""
        return active_products(self.dictionary[atom], self.dictionary, others)


def gram_matrix(dictionary: Tensor) -> Tensor:
    """Compute ``W W^T``; on the CPU one half of it, and copy the other."""
    if dictionary.device.type != "cpu":
        return dictionary @ dictionary.T
    m = len(dictionary)
    gram = dictionary.new_empty(m, m)
    for start in range(0, m, _GRAM_BLOCK):
        stop = min(start + _GRAM_BLOCK, m)
        torch.mm(
            dictionary[start:stop], dictionary[start:].T, out=gram[start:stop, start:]
        )
        gram[stop:, start:stop] = gram[start:stop, stop:].T
    return gram


_GRAM_BLOCK = 512


def step_sizes(k: int, atoms_per_step: int) -> Iterator[int]:
    """Atoms picked at each step: ``ceil(k / atoms_per_step)`` steps, ``k`` in all."""
    for picked in range(0, k, atoms_per_step):
        yield min(atoms_per_step, k - picked)


def choose_form(
    n_rows: int, dictionary: Tensor, k: int, atoms_per_step: int
) -> Literal["gram", "residual"]:
    """Choose the cheaper form for ``n_rows`` rows, if the Gram matrix is not known yet.

    Costs are counted in multiply-adds. The Gram form needs the Gram matrix, one product
    of the rows with the atoms, and ``k`` rows of the Gram matrix for each row; reading
    one of their numbers takes as long as several multiply-adds. The residual form needs
    one product per step, and is chosen if the Gram matrix is too large to keep.
    """
    n_components, n_features = dictionary.shape
    if not fits_in_memory(
        n_components**2 * dictionary.element_size(), dictionary.device
    ):
        return "residual"
    gram = (n_components + n_rows) * n_features + _READ_COST * n_rows * k
    n_steps = -(-k // atoms_per_step)
    residual = n_steps * n_rows * n_features
    return "gram" if gram < residual else "residual"


# Multiply-adds in the time that it takes to read one number of the Gram matrix.
_READ_COST = 16
