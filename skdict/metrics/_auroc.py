"""The area under the ROC curve, of every feature for every class."""

import numpy as np
from scipy import sparse

from skdict._utils.sklearn_private import validate_params
from skdict.stats import centred_ranks, check_codes, encode_classes


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
