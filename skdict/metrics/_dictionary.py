"""Similarity of the atoms of one dictionary, and of two."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.utils import gen_batches

from skdict._utils.arrays import unit_rows
from skdict._utils.checks import check_finite, check_numbers
from skdict._utils.sklearn_private import validate_params
from skdict._utils.types import Data

_BLOCK_ATOMS = 1024


@validate_params({"components": ["array-like"]}, prefer_skip_nested_validation=True)
def mutual_coherence(components: Data) -> float:
    """Largest absolute cosine similarity between two different atoms.

    Parameters
    ----------
    components : array-like of shape (n_components, n_features)
        Atoms, one in each row, of any length.

    Returns
    -------
    coherence : float
        In [0, 1]; 0 for orthogonal atoms and for a single atom, 1 if an atom occurs
        twice. The cosine with a zero atom is 0.

    Raises
    ------
    ValueError
        If `components` is empty or holds NaN or infinity.

    See Also
    --------
    mean_coherence : The mean absolute cosine.
    match_dictionaries : Pairs of atoms of two dictionaries.

    Examples
    --------
    >>> from skdict.metrics import mutual_coherence
    >>> mutual_coherence([[1.0, 0.0], [0.0, 1.0], [-3.0, 4.0]])
    0.8
    """
    atoms = _check_atoms(components, "components")
    return float(min(max(cosines.max() for cosines in _cosines(atoms)), 1.0))


@validate_params({"components": ["array-like"]}, prefer_skip_nested_validation=True)
def mean_coherence(components: Data) -> float:
    r"""Mean absolute cosine similarity of two different atoms.

    A sign of a wrong number of active features. Where `k` is smaller than the number of
    features that are really active, atoms mix features that occur together, and the
    mean cosine rises; some studies find it least near the right `k`.

    Parameters
    ----------
    components : array-like of shape (n_components, n_features)
        Atoms, one in each row, of any length.

    Returns
    -------
    coherence : float
        In [0, 1]; 0 for orthogonal atoms and for a single atom. The cosine with a zero
        atom is 0.

    Raises
    ------
    ValueError
        If `components` is empty or holds NaN or infinity.

    See Also
    --------
    mutual_coherence : The largest absolute cosine.
    skdict.inspection.SparsityCurveDisplay : Draws it against `k`.

    Notes
    -----
    With unit atoms :math:`w_1, \dots, w_M`,

    .. math::

        c = \frac{2}{M (M - 1)} \sum_{i < j} |\langle w_i, w_j \rangle|,

    the decoder cosine of Chanin and Garriga-Alonso [1]_. Independent random atoms in d
    dimensions have about :math:`\sqrt{2 / (\pi d)}`. Compare dictionaries of one size
    on the same rows only.

    References
    ----------
    .. [1] D. Chanin, A. Garriga-Alonso, "Sparse but wrong: incorrect L0 leads to
       incorrect features in sparse autoencoders", 2025, arXiv:2508.16560.

    Examples
    --------
    >>> from skdict.metrics import mean_coherence
    >>> round(mean_coherence([[1.0, 0.0], [0.0, 1.0], [-3.0, 4.0]]), 3)  # 0, 0.6, 0.8
    0.467
    """
    atoms = _check_atoms(components, "components")
    n = len(atoms)
    if n == 1:
        return 0.0
    total = 0.0
    for cosines in _cosines(atoms):
        # Pairs of atoms of the block stand in it twice, all others once.
        twice, once = cosines[:, : len(cosines)], cosines[:, len(cosines) :]
        total += float(twice.sum() + 2 * once.sum())
    return min(total / (n * (n - 1)), 1.0)


@validate_params(
    {"components_a": ["array-like"], "components_b": ["array-like"]},
    prefer_skip_nested_validation=True,
)
def match_dictionaries(
    components_a: Data, components_b: Data
) -> tuple[np.ndarray, np.ndarray]:
    """Pair the atoms of two dictionaries so that the sum of cosines is largest.

    Parameters
    ----------
    components_a : array-like of shape (n_components_a, n_features)
        Atoms of the first dictionary, one in each row, of any length.

    components_b : array-like of shape (n_components_b, n_features)
        Atoms of the second dictionary.

    Returns
    -------
    pairs : ndarray of shape (min(n_components_a, n_components_b), 2)
        Row `i` holds the index of an atom of `components_a` and that of its partner
        in `components_b`, sorted by the first. No atom occurs twice; atoms of the
        larger dictionary without a partner are left out.

    cosines : ndarray of shape (min(n_components_a, n_components_b),)
        Cosine similarity of each pair; the cosine with a zero atom is 0.

    Raises
    ------
    ValueError
        If either input is empty or holds NaN or infinity, or if the numbers of
        features differ.

    See Also
    --------
    mutual_coherence : Similarity of the atoms of one dictionary.

    Notes
    -----
    ``cosines.mean()`` is the usual measure of the agreement of two dictionaries, for
    example of two seeds: 1 for the same atoms in any order. Random dictionaries do not
    give 0, because each atom is paired with a similar one: compare with the value for
    random atoms of the same shape.

    Cosines keep their sign: an atom and its opposite do not match, because codes are
    mostly positive. :func:`scipy.optimize.linear_sum_assignment` finds the optimal
    pairs, in a time that grows with the third power of the number of atoms.

    Examples
    --------
    >>> from skdict.metrics import match_dictionaries
    >>> A = [[1.0, 0.0], [0.0, 1.0]]
    >>> B = [[0.0, 2.0], [1.0, 0.0], [-1.0, 0.0]]
    >>> pairs, cosines = match_dictionaries(A, B)
    >>> pairs
    array([[0, 1],
           [1, 0]])
    >>> float(cosines.mean())
    1.0
    """
    A = _check_atoms(components_a, "components_a")
    B = _check_atoms(components_b, "components_b")
    if A.shape[1] != B.shape[1]:
        raise ValueError(
            "components_a and components_b must have the same number of features, got "
            f"{A.shape[1]} and {B.shape[1]}."
        )
    cosines = np.clip(A @ B.T, -1.0, 1.0)
    rows, columns = linear_sum_assignment(cosines, maximize=True)
    return np.column_stack((rows, columns)), cosines[rows, columns]


def _cosines(atoms: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the absolute cosines of each block of atoms with itself and later ones.

    The whole table may not fit in memory. The cosine of an atom with itself becomes 0.
    """
    for rows in gen_batches(len(atoms), _BLOCK_ATOMS):
        cosines = np.abs(atoms[rows] @ atoms[rows.start :].T)
        np.fill_diagonal(cosines, 0.0)
        yield cosines


def _check_atoms(components: Data, name: str) -> np.ndarray:
    components = check_numbers(components, ensure_all_finite=False, input_name=name)
    check_finite(components, name)
    return unit_rows(components)[0]
