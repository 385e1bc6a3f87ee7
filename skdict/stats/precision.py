"""Average precision of every feature for every class."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from sklearn.utils import gen_batches

from skdict._utils.types import Codes

# Number of stored entries, and of cells (n_features, n_classes), at a time.
_BLOCK_ENTRIES = 2**22


def average_precisions(codes: Codes, labels: np.ndarray, n_classes: int) -> np.ndarray:
    r"""Average precision of every feature as the score of every class.

    Parameters
    ----------
    codes : {ndarray, csr_array, csc_array} of shape (n_samples, n_components)
        From `check_codes`.
    labels : ndarray of shape (n_samples,)
        Number of the class of each sample.
    n_classes : int
        Number of classes.

    Returns
    -------
    precisions : ndarray of shape (n_components, n_classes)
        In [0, 1]; 0 for a class without samples. That of a feature that is constant is
        the fraction of the samples that have the class.

    Notes
    -----
    As in :func:`sklearn.metrics.average_precision_score`,
    :math:`\sum_t (R_t - R_{t-1}) P_t` over the distinct values of the feature, from the
    largest down. Zeros are one such value, and negative codes come after them. The work
    grows with the number of stored entries, whatever the number of classes is.
    """
    n_components = codes.shape[1]
    n_entries = codes.nnz if sparse.issparse(codes) else codes.size
    columns = codes.tocsc() if sparse.issparse(codes) else codes
    width = _BLOCK_ENTRIES * n_components // max(n_entries, 1)
    width = max(1, min(width, _BLOCK_ENTRIES // n_classes))
    precisions = [
        _of_block(_stored(columns[:, some]), labels, n_classes)
        for some in gen_batches(n_components, width)
    ]
    return np.concatenate(precisions)


def _stored(block: Codes) -> sparse.csc_array:
    # scipy has no float16.
    block = sparse.csc_array(block, dtype=np.promote_types(block.dtype, np.float32))
    block.eliminate_zeros()
    return block


def _of_block(
    codes: sparse.csc_array, labels: np.ndarray, n_classes: int
) -> np.ndarray:
    n_samples, n_components = codes.shape
    sizes = np.bincount(labels, minlength=n_classes)
    n_stored = np.diff(codes.indptr)
    columns = np.repeat(np.arange(n_components), n_stored)
    order = np.lexsort((-codes.data, columns))
    values, classes = codes.data[order], labels[codes.indices][order]
    cells = columns * n_classes + classes
    shape = (n_components, n_classes)

    def count(cells: np.ndarray) -> np.ndarray:
        return np.bincount(cells, minlength=n_components * n_classes).reshape(shape)

    positive = values > 0
    n_zeros = n_samples - n_stored
    n_positive = np.bincount(columns[positive], minlength=n_components)
    hits_above = count(cells[positive])
    hits_at_zero = sizes - count(cells)

    # Number of samples with at least this value. Equal values share the last place.
    places = np.arange(1, len(values) + 1) - codes.indptr[columns]
    ends = np.ones(len(values), dtype=bool)
    ends[:-1] = (values[1:] != values[:-1]) | (columns[1:] != columns[:-1])
    lengths = np.diff(np.append(-1, np.flatnonzero(ends)))
    at_least = np.repeat(places[ends], lengths)
    at_least += np.where(positive, 0, n_zeros[columns])

    # Number of them that have the sample's class, by counting inside each cell.
    by_cell = np.argsort(cells, kind="stable")
    sorted_cells, sorted_places = cells[by_cell], at_least[by_cell]
    starts = np.ones(len(values), dtype=bool)
    starts[1:] = sorted_cells[1:] != sorted_cells[:-1]
    first = np.flatnonzero(starts)
    ranks = np.arange(1, len(values) + 1)
    ranks -= np.repeat(first, np.diff(np.append(first, len(values))))
    ends = np.ones(len(values), dtype=bool)
    ends[:-1] = starts[1:] | (sorted_places[1:] != sorted_places[:-1])
    lengths = np.diff(np.append(-1, np.flatnonzero(ends)))
    hits = np.repeat(ranks[ends], lengths)
    hits += np.where(positive[by_cell], 0, hits_at_zero.ravel()[sorted_cells])

    sums = np.bincount(
        sorted_cells, weights=hits / sorted_places, minlength=n_components * n_classes
    ).reshape(shape)
    at_zero = (n_positive + n_zeros)[:, None]
    # If all codes are negative, the numerator is 0, too.
    precision_at_zero = (hits_above + hits_at_zero) / np.maximum(at_zero, 1)
    return (sums + hits_at_zero * precision_at_zero) / np.maximum(sizes, 1)
