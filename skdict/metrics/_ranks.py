"""Ranks of sparse codes, and the area under the ROC curve that follows from them."""

from itertools import pairwise

import numpy as np
from scipy import sparse
from sklearn.utils import gen_batches

from skdict._utils.sklearn_private import validate_params

from ._activity import check_codes
from ._labels import encode_classes

# Stored entries that are sorted at a time.
_BLOCK_ENTRIES = 2**22


@validate_params(
    {"codes": ["array-like", "sparse matrix"], "y": ["array-like"]},
    prefer_skip_nested_validation=True,
)
def auroc_scores(codes, y):
    r"""Area under the ROC curve of every feature for every class.

    The companion of `selectivity_scores` that needs no threshold: the probability
    that a sample of the class has a larger code than a sample of another class,
    ties counted half.

    Parameters
    ----------
    codes : {array-like, sparse matrix or array} of shape (n_samples, n_components)
        Codes of the samples. A sparse input is never densified.

    y : array-like of shape (n_samples,)
        Labels, of at least two classes.

    Returns
    -------
    scores : ndarray of shape (n_components, n_classes)
        Areas in [0, 1], 0.5 for a feature that does not tell the class; the classes
        stand in the order of ``np.unique(y)``.

    Raises
    ------
    ValueError
        If `codes` is empty or holds NaN or infinity, or if `y` has another length,
        missing labels or a single class.

    See Also
    --------
    selectivity_scores : Difference of the rates of activity.
    sklearn.metrics.roc_auc_score : The same for one feature and one class.

    Notes
    -----
    The area is the statistic of Mann and Whitney,

    .. math::

        A_{fc} = \frac{\sum_{i \in c} r_{fi} - n_c (n_c + 1) / 2}{n_c (n - n_c)},

    with :math:`r_{fi}` the mid-rank of sample `i` by the code of feature `f`. Signs
    count: negative codes rank below the zeros, which are all tied. A feature that
    fires on a tenth of the class, and nowhere else, has an area of 0.55 only, for
    nine tenths of its comparisons are ties: the area rewards features that fire on
    a large part of a class. Areas below 0.5 mark features that avoid the class.

    Examples
    --------
    >>> from skdict.metrics import auroc_scores
    >>> codes = [[1.0, 0.0], [2.0, 0.5], [0.0, 0.3], [0.0, 0.0]]
    >>> auroc_scores(codes, ["a", "a", "b", "b"])
    array([[1.   , 0.   ],
           [0.625, 0.375]])
    """
    codes = check_codes(codes)
    n_samples, n_components = codes.shape
    classes, labels = encode_classes(y, n_samples)
    sizes = np.bincount(labels)
    scores = np.empty((n_components, len(classes)))
    for some, ranks, rank_of_zero in centred_ranks(codes):
        # Entries of one feature and class become duplicates, which toarray() adds up.
        entries = (ranks.data, labels[ranks.indices], ranks.indptr)
        shape = (ranks.shape[1], len(classes))
        rank_sums = sparse.csr_array(entries, shape=shape).toarray()
        rank_sums += sizes * rank_of_zero[:, None]
        wins = rank_sums - sizes * (sizes + 1) / 2
        scores[some] = wins / (sizes * (n_samples - sizes))
    return scores


def centred_ranks(codes):
    """Yield the mid-ranks of blocks of features, less the rank of a zero code.

    Parameters
    ----------
    codes : {ndarray, csr_array} of shape (n_samples, n_components)
        From `check_codes`.

    Yields
    ------
    some : slice
        The features of the block.
    ranks : csc_array of shape (n_samples, n_features_of_the_block)
        Ranks from 1 to `n_samples` inside each column, less `rank_of_zero`: zero
        where the code is.
    rank_of_zero : ndarray of shape (n_features_of_the_block,)
        The mid-rank of the zeros.
    """
    if sparse.issparse(codes):
        # scipy has no float16.
        codes = codes.astype(np.promote_types(codes.dtype, np.float32)).tocsc()
        n_entries = codes.nnz
    else:
        n_entries = codes.size
    n_components = codes.shape[1]
    width = max(1, _BLOCK_ENTRIES * n_components // max(n_entries, 1))
    for some in gen_batches(n_components, width):
        block = codes[:, some]
        if not sparse.issparse(block):
            block = block.astype(np.promote_types(block.dtype, np.float32))
        block = sparse.csc_array(block)
        block.eliminate_zeros()
        yield some, *_centred_ranks_of(block)


def _centred_ranks_of(codes):
    n_samples, n_components = codes.shape
    per_column = np.diff(codes.indptr)
    columns = np.repeat(np.arange(n_components), per_column)
    # Column by column, which is several times faster than np.lexsort.
    order = np.concatenate(
        [
            start + np.argsort(codes.data[start:stop], kind="stable")
            for start, stop in pairwise(codes.indptr.tolist())
        ]
    )
    values = codes.data[order]
    # Runs of equal values in a column share the middle of their ranks. `order` moves
    # entries inside columns only, so `columns` is in order already.
    starts = np.ones(len(values), dtype=bool)
    starts[1:] = (values[1:] != values[:-1]) | (columns[1:] != columns[:-1])
    starts = np.flatnonzero(starts)
    lengths = np.diff(np.append(starts, len(values)))
    middle = starts + (lengths + 1) / 2 - codes.indptr[columns[starts]]

    n_zeros = n_samples - per_column
    n_negative = np.bincount(columns[codes.data < 0], minlength=n_components)
    rank_of_zero = n_negative + (n_zeros + 1) / 2
    sorted_ranks = np.repeat(middle, lengths)
    sorted_ranks += np.where(values > 0, n_zeros[columns], 0) - rank_of_zero[columns]
    ranks = np.empty(len(values))
    ranks[order] = sorted_ranks
    centred = sparse.csc_array((ranks, codes.indices, codes.indptr), shape=codes.shape)
    return centred, rank_of_zero
