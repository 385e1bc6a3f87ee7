"""How much each feature contributes to the decision of a head, row by row."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp
from scipy.stats import qmc

from skdict._utils.arrays import blocks

from ._heads import Head
from ._linear import LinearDecoder

# Number of entries of the changed rows that are made at a time.
_BLOCK_ENTRIES = 2**22
# Relative step of the differences that stand for derivatives.
_STEP = 1e-4


class Explained:
    """Rows, their codes, and the scores of a head that are explained.

    Parameters
    ----------
    head : Head
        The head.
    decoder : LinearDecoder
        The rows, and how they change with their codes.
    codes : csr_array of shape (n_samples, n_components), float64
        Codes of the rows.
    label : label or None
        Class whose score is explained; None means that of the largest score.
    """

    def __init__(
        self, head: Head, decoder: LinearDecoder, codes: sp.csr_array, label: object
    ) -> None:
        self.head, self.decoder, self.codes = head, decoder, codes
        self.scores = head.scores(decoder.rows)
        self.outputs = head.choose(self.scores, label)
        self.of_rows = np.repeat(np.arange(codes.shape[0]), np.diff(codes.indptr))
        self.weights = head.affine(decoder.rows, decoder.without(codes))

    def score(self, rows: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Score changed rows, whose numbers in the table are given."""
        scores = self.head.scores(rows)
        return scores[np.arange(len(rows)), self.outputs[numbers]]

    def own(self) -> np.ndarray:
        """The explained score of each row."""
        return self.scores[np.arange(len(self.scores)), self.outputs]

    def scores_without(self, lost: sp.csr_array) -> np.ndarray:
        """All scores of the rows without some entries of their codes."""
        if self.weights is None:
            return self.head.scores(self.decoder.without(lost))
        change = lost @ (self.decoder.atoms @ self.weights)
        return self.scores - self.decoder.scale[:, None] * change

    def linear(self, atoms: np.ndarray | None = None) -> np.ndarray:
        """Contribution of every entry of the codes to the score of an affine head."""
        atoms = self.decoder.atoms if atoms is None else atoms
        per_feature = atoms @ self.weights
        gain = per_feature[self.codes.indices, self.outputs[self.of_rows]]
        return self.codes.data * gain * self.decoder.scale[self.of_rows]

    def entries(self) -> Iterator[slice]:
        """Yield the stored entries of the codes that are changed at a time."""
        n_features = self.decoder.rows.shape[1]
        return blocks(self.codes.nnz, n_features, _BLOCK_ENTRIES)

    def scores_moved(
        self, rows: np.ndarray, atoms: np.ndarray, factor: float
    ) -> np.ndarray:
        """Scores of the rows after each entry was changed by `factor` of its value."""
        scores = np.empty(self.codes.nnz)
        for some in self.entries():
            numbers = self.of_rows[some]
            change = factor * self.codes.data[some] * self.decoder.scale[numbers]
            moved = rows[numbers] + change[:, None] * atoms[self.codes.indices[some]]
            scores[some] = self.score(moved, numbers)
        return scores

    def slopes(self, rows: np.ndarray, atoms: np.ndarray) -> np.ndarray:
        """Value times derivative of the score, for every entry, at the given rows."""
        if not self.head.is_module:
            above, below = (
                self.scores_moved(rows, atoms, step) for step in (_STEP, -_STEP)
            )
            return (above - below) / (2 * _STEP)
        gradients = self.head.gradients(rows, self.outputs)
        slopes = np.empty(self.codes.nnz)
        for some in self.entries():
            numbers, features = self.of_rows[some], self.codes.indices[some]
            along = np.einsum("td,td->t", gradients[numbers], atoms[features])
            slopes[some] = self.codes.data[some] * self.decoder.scale[numbers] * along
        return slopes


def occlusion(explained: Explained, atoms: np.ndarray) -> np.ndarray:
    """What the score loses if a feature is taken out."""
    if explained.weights is not None:
        return explained.linear(atoms)
    own = explained.own()[explained.of_rows]
    return own - explained.scores_moved(explained.decoder.rows, atoms, -1.0)


def gradient_input(explained: Explained, atoms: np.ndarray) -> np.ndarray:
    """Value of a feature times the derivative of the score."""
    if explained.weights is not None:
        return explained.linear(atoms)
    return explained.slopes(explained.decoder.rows, atoms)


def integrated_gradients(
    explained: Explained, atoms: np.ndarray, n_steps: int
) -> np.ndarray:
    """Value times the mean derivative on the way from no features to all of them."""
    if explained.weights is not None:
        return explained.linear(atoms)
    decoder, codes = explained.decoder, explained.codes
    added = decoder.scale[:, None] * (codes @ atoms)
    # Gauss's nodes between 0 and 1.
    nodes, weights = np.polynomial.legendre.leggauss(n_steps)
    total = np.zeros(codes.nnz)
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        rows = decoder.rows - (1 - node) * added
        total += weight * explained.slopes(rows, atoms)
    return total


def sobol(
    explained: Explained, atoms: np.ndarray, n_masks: int, rng: np.random.RandomState
) -> np.ndarray:
    """Total Sobol index of every feature that is active in a row."""
    codes, decoder = explained.codes, explained.decoder
    if explained.weights is not None:
        squares = explained.linear(atoms) ** 2
        totals = np.bincount(explained.of_rows, squares, minlength=codes.shape[0])
        return squares / np.where(totals > 0, totals, 1.0)[explained.of_rows]
    indices = np.zeros(codes.nnz)
    n_active = np.diff(codes.indptr)
    widest = n_active.max(initial=0)
    if not widest:
        return indices
    masks = qmc.Sobol(2 * widest, rng=np.random.default_rng(rng.randint(2**31)))
    drawn = masks.random(n_masks)
    for i in np.flatnonzero(n_active):
        own = slice(codes.indptr[i], codes.indptr[i + 1])
        n = n_active[i]
        A, B = drawn[:, :n], drawn[:, widest : widest + n]
        # Row j of the second axis of `mixed` is A with feature j from B.
        mixed = np.repeat(A[:, None], n, axis=1)
        diagonal = np.arange(n)
        mixed[:, diagonal, diagonal] = B
        given = np.concatenate([A, B, mixed.reshape(-1, n)])
        parts = codes.data[own, None] * decoder.scale[i] * atoms[codes.indices[own]]
        scores = np.empty(len(given))
        for some in blocks(len(given), parts.shape[1], _BLOCK_ENTRIES):
            rows = decoder.rows[i] + (given[some] - 1) @ parts
            scores[some] = explained.score(rows, np.full(len(rows), i))
        changes = scores[2 * n_masks :].reshape(n_masks, n) - scores[:n_masks, None]
        # All masks are uniform by themselves, so that all of them tell the variance.
        variance = scores.var()
        if variance > 1e-24 * np.square(scores).max():
            totals = (changes**2).mean(axis=0) / (2 * variance)
            indices[own] = np.minimum(totals, 1.0)
    return indices
