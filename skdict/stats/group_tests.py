"""Tests of features against labels, with what may be exchanged under the null.

Rows of one image are not independent. Where all rows of an image share a label, the
labels of whole images are exchanged; where labels differ between the tokens of an
image, its label map is shifted over the grid. Only where that cannot be, for want of a
grid or because something else must stay in its place, are they exchanged inside the
image row by row.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from skdict._utils.arrays import blocks

from .activity import count_active, indicator
from .exact_tests import count_and_test
from .exchange import Exchange, is_of_images, number_images, of_units
from .labels import can_permute, cross
from .p_values import adjust
from .scores import null_statistics, score_counts
from .shift_tests import pearson_tail

# Cells of a dense block of (groups, features).
_BLOCK_CELLS = 2**22


@dataclass
class Tests:
    """The tests of all pairs; arrays of shape (n_levels, n_features)."""

    sizes: np.ndarray  # rows of each level
    counts: np.ndarray
    scores: np.ndarray
    p_values: np.ndarray
    q_values: np.ndarray
    tested: np.ndarray  # of each level, whether permutation moves it
    exchange: Exchange  # what was exchanged


class LabelTester:
    """Tests for one set of codes.

    Parameters
    ----------
    activity : csr_array of shape (n_rows, n_features), int8
        From `find_active`.
    units : sequence of ndarray of shape (n_rows,) of int, default=()
        What may share a label, the largest first: the patient of each row, the image.
    control : ndarray of shape (n_rows,) of int, default=None
        Which rows are controls; nothing is exchanged between them and the others.
    grid_shape : tuple of int (height, width), default=None
        The grid of an image's tokens, where the rows are such.
    """

    def __init__(self, activity, units=(), control=None, grid_shape=None):
        self.activity = activity
        # Units of one row each are rows.
        self.units = [ids for ids in units if len(np.unique(ids)) < len(ids)]
        self.control = control
        self.grid_shape = grid_shape

    def test(self, ids, strata=None):
        """Test every feature for every level; labels are exchanged inside `strata`."""
        sizes = np.bincount(ids)
        exchange = self._plan(ids, strata)
        if exchange.unit_ids is None:
            counts, p_values = count_and_test(self.activity, ids, sizes, exchange)
        else:
            unit_ids = exchange.unit_ids
            counts = count_active(self.activity, ids, len(sizes))
            p_values = _test_units(
                (indicator(unit_ids, unit_ids.max() + 1).T @ self.activity).tocsr(),
                np.bincount(unit_ids),
                *of_units(unit_ids, ids, exchange.group_ids),
                len(sizes),
            )
        tested = exchange.moved(ids)
        return Tests(
            sizes=sizes,
            counts=counts,
            scores=score_counts(counts, sizes, "average"),
            p_values=p_values,
            q_values=adjust(p_values, "bh", tested),
            tested=tested,
            exchange=exchange,
        )

    def best_under_null(self, ids, n_permutations, random_state):
        """The best score of all features for each level, in every permutation."""
        return null_statistics(
            lambda scores: scores.max(axis=1),
            self.activity,
            ids,
            "average",
            exchange=self._plan(ids),
            n_permutations=n_permutations,
            random_state=random_state,
        )

    def _plan(self, ids, strata=None):
        """What is exchanged: units where all rows of each share a level, else maps.

        A unit that lies in several strata is one in each of them.
        """
        within = _cross_all(self.control, strata)
        for units in self.units:
            if not can_permute(ids, units):
                return Exchange(within, _cross_all(units, within))
            within = _cross_all(units, within)
        grid_shape = self.grid_shape
        if grid_shape is not None and (
            within is None or is_of_images(within, grid_shape)
        ):
            return Exchange(number_images(len(ids), grid_shape), None, grid_shape)
        return Exchange(within)


def _cross_all(*numberings):
    """The combinations of the numberings that are not None; None if all are."""
    combined = None
    for ids in numberings:
        if ids is not None:
            combined = ids if combined is None else cross(combined, ids)
    return combined


def _test_units(counts, sizes, labels, strata, n_levels):
    """How probable sums as high are when the labels of groups are permuted.

    Parameters
    ----------
    counts : csr_array of shape (n_units, n_features)
        Active rows of each group.
    sizes : ndarray of shape (n_units,)
        Rows of each group.
    labels : ndarray of shape (n_units,)
        Level of each group.
    strata : ndarray of shape (n_units,) or None
        Inside which labels are permuted.
    n_levels : int

    Returns
    -------
    p_values : ndarray of shape (n_levels, n_features)

    Notes
    -----
    Tested is the number of active rows of a level beyond those expected at the
    feature's overall rate. Its mean, variance and third cumulant under the
    permutations are those of sampling without replacement; the tail is that of
    Pearson's type III distribution with the same three. Where a few groups hold all
    the activity, that tail is too thin: the p-value is then raised to the probability
    that the active groups of the level, all of them, get its label again, which is
    exact if there are no others.
    """
    strata = np.zeros(len(labels), np.intp) if strata is None else strata
    n_strata = strata.max() + 1
    N = np.bincount(strata, minlength=n_strata).astype(np.float64)
    places = labels * n_strata + strata
    n = np.bincount(places, minlength=n_levels * n_strata).reshape(n_levels, n_strata)
    drawn = n * (N - n) / (N * np.maximum(N - 1, 1))
    lean = drawn * (N - 2 * n) / np.maximum(N - 2, 1)
    of_strata, of_levels = indicator(strata, n_strata).T, indicator(labels, n_levels).T
    of_places = indicator(places, n_levels * n_strata).T

    p_values = np.empty((n_levels, counts.shape[1]))
    rates = counts.sum(axis=0) / sizes.sum()
    counts = counts.tocsc()
    for some in blocks(counts.shape[1], len(labels), _BLOCK_CELLS):
        active = counts[:, some].toarray()
        excess = active - sizes[:, None] * rates[some]
        observed = of_levels @ excess
        means = (of_strata @ excess) / N[:, None]
        excess -= means[strata]
        squares = excess * excess
        variance = drawn @ (of_strata @ squares)
        third = lean @ (of_strata @ (squares * excess))
        tail = pearson_tail(observed - n @ means, variance, third)
        n_active = (of_places @ (active > 0)).reshape(n_levels, n_strata, -1)
        p_values[:, some] = np.maximum(tail, _same_again(n_active, n, N))
    return p_values


def _same_again(m, n, N):
    """P(m given groups get the label of n of N groups), over all strata."""
    n, N = n[:, :, None], N[None, :, None]
    logs = gammaln(N - m + 1) - gammaln(n - m + 1) + gammaln(n + 1) - gammaln(N + 1)
    return np.exp(np.minimum(logs.sum(axis=1), 0.0))
