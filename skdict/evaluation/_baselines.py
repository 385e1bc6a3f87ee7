"""Dictionaries that a good one has to beat."""

from __future__ import annotations

from numbers import Integral, Real

from sklearn.base import clone
from sklearn.decomposition import PCA, FastICA, MiniBatchDictionaryLearning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skdict._utils.constraints import Interval
from skdict._utils.sklearn_private import HasMethods, validate_params
from skdict.decomposition import ICFL, Truncator


@validate_params(
    {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "k": [Interval(Integral, 1, None, closed="left")],
        "preprocessing": [HasMethods(["fit", "transform"]), None],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def baseline_dictionaries(
    n_components, k, *, preprocessing=None, alpha=0.3, random_state=None
):
    """Make the dictionaries that a learned one should be compared with.

    Parameters
    ----------
    n_components : int
        Number of atoms, that of the dictionary to compare with.

    k : int
        Most non-zeros of a code.

    preprocessing : transformer or Pipeline, default=None
        Put in front of every dictionary, so that all see the same rows. Cloned.

    alpha : float, default=0.3
        L1 penalty with which MiniBatchDictionaryLearning is trained. It suits rows of
        unit norm; at 1, scikit-learn's default, none of their codes has a non-zero.

    random_state : int, RandomState instance or None, default=None
        Seed of all of them. :func:`compare_dictionaries` sets its own.

    Returns
    -------
    dictionaries : dict of str to estimator
        - "random atoms": drawn uniformly from the unit sphere, with the pursuit of
          :class:`~skdict.ICFL` as the encoder, as for the next.
        - "data atoms": rows of the training data, centred, at unit length.
        - "PCA", "ICA": of the components, the `k` with the largest magnitude in each
          row. There are at most as many components as features, and at least
          `n_components` of them cannot be had: all there are serve.
        - "MiniBatchDictionaryLearning": scikit-learn's, encoding by OMP.
        - "neurons": the features as they are, the `k` largest in magnitude of a row.

    See Also
    --------
    compare_dictionaries : Takes them.
    skdict.Truncator : Cuts the codes of PCA, ICA and neurons to `k`.

    Notes
    -----
    The first two show what the encoder does without any learning: pursuit with many
    random atoms rebuilds rows well. They are ICFL with ``max_iter=0``.

    Examples
    --------
    >>> from sklearn.preprocessing import Normalizer
    >>> from skdict.evaluation import baseline_dictionaries
    >>> baselines = baseline_dictionaries(640, 8, preprocessing=Normalizer())
    >>> list(baselines)[:3]
    ['random atoms', 'data atoms', 'PCA']
    """
    seed = {"random_state": random_state}
    dictionaries = {
        "random atoms": ICFL(n_components, k, init="random", max_iter=0, **seed),
        "data atoms": ICFL(n_components, k, init="samples", max_iter=0, **seed),
        "PCA": Truncator(PCA(**seed), k),
        "ICA": Truncator(
            # FastICA's own whitening divides by the variance of directions without
            # any; a float drops these.
            make_pipeline(
                PCA(1 - 1e-5, whiten=True, **seed),
                FastICA(whiten=False, max_iter=500, tol=1e-3, **seed),
            ),
            k,
        ),
        "MiniBatchDictionaryLearning": MiniBatchDictionaryLearning(
            n_components,
            alpha=alpha,
            max_iter=10,
            transform_algorithm="omp",
            transform_n_nonzero_coefs=k,
            **seed,
        ),
        "neurons": Truncator(FunctionTransformer(feature_names_out="one-to-one"), k),
    }
    if preprocessing is None:
        return dictionaries
    return {
        name: make_pipeline(clone(preprocessing), dictionary)
        for name, dictionary in dictionaries.items()
    }
