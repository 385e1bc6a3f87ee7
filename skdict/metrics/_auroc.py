"""Area under the ROC curve of every feature for every class."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from skdict._utils.sklearn_private import validate_params
from skdict._utils.types import Codes, Data
from skdict.stats import centred_ranks, check_codes, encode_classes


@validate_params(
    {"codes": ["array-like", "sparse matrix"], "y": ["array-like"]},
    prefer_skip_nested_validation=True,
)
def auroc_scores(codes: Codes, y: Data) -> np.ndarray:
    r"""Area under the ROC curve of every feature for every class.

    The area is the probability that a sample of the class has a larger code than a
    sample of another class; ties count as one half. Unlike `selectivity_scores` it
    needs no threshold.

    Parameters
    ----------
    codes : {array-like, sparse matrix or array} of shape (n_samples, n_components)
        Codes of the samples. A sparse input is never densified. The blocks of a Dask
        array are computed in each pass over them, a few at a time. As many features
        are ranked in a pass as the working memory has room for.

    y : array-like of shape (n_samples,)
        Labels, of at least two classes.

    Returns
    -------
    scores : ndarray of shape (n_components, n_classes)
        Areas in [0, 1]; 0.5 if the feature says nothing about the class. The classes
        are in the order of ``np.unique(y)``.

    Raises
    ------
    ValueError
        If `codes` is empty or holds NaN or infinity, or if `y` has a different length,
        missing labels or a single class.

    See Also
    --------
    selectivity_scores : Difference between rates of activity.
    sklearn.metrics.roc_auc_score : The same for one feature and one class.

    Notes
    -----
    The area is the statistic of Mann and Whitney,

    .. math::

        A_{fc} = \frac{\sum_{i \in c} r_{fi} - n_c (n_c + 1) / 2}{n_c (n - n_c)},

    with :math:`r_{fi}` the mid-rank of sample `i` by the code of feature `f`. Negative
    codes rank below zeros, and zeros are ties. The area rewards features that fire on
    a large part of a class: a feature that fires on a tenth of the class, and nowhere
    else, has an area of only 0.55, because nine tenths of its comparisons are ties.
    Areas below 0.5 mark features that avoid the class.

    Examples
    --------
    >>> from skdict.metrics import auroc_scores
    >>> codes = [[1.0, 0.0], [2.0, 0.5], [0.0, 0.3], [0.0, 0.0]]
    >>> auroc_scores(codes, ["a", "a", "b", "b"])
    array([[1.   , 0.   ],
           [0.625, 0.375]])
    """
    codes = check_codes(codes, deferred=True)
    n_samples, n_components = codes.shape
    classes, labels = encode_classes(y, n_samples)
    sizes = np.bincount(labels)
    scores = np.empty((n_components, len(classes)))
    for some, ranks, rank_of_zero in centred_ranks(codes):
        # Entries of one feature and class become duplicates, which toarray() adds.
        entries = (ranks.data, labels[ranks.indices], ranks.indptr)
        shape = (ranks.shape[1], len(classes))
        rank_sums = sparse.csr_array(entries, shape=shape).toarray()
        rank_sums += sizes * rank_of_zero[:, None]
        wins = rank_sums - sizes * (sizes + 1) / 2
        scores[some] = wins / (sizes * (n_samples - sizes))
    return scores
