"""Baseline dictionaries."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

from sklearn.base import clone
from sklearn.decomposition import PCA, FastICA, MiniBatchDictionaryLearning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skdict._utils.constraints import Interval
from skdict._utils.sklearn_private import HasMethods, validate_params
from skdict._utils.types import Seed
from skdict.decomposition import ICFL, Truncator

# Of an atom with its start, in a soft-frozen decoder.
_SOFT_COSINE = 0.8


@validate_params(
    {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "k": [Interval(Integral, 1, None, closed="left")],
        "dictionary": [HasMethods(["fit", "get_params"]), None],
        "preprocessing": [HasMethods(["fit", "transform"]), None],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def baseline_dictionaries(
    n_components: int,
    k: int,
    *,
    dictionary: Any = None,
    preprocessing: Any = None,
    alpha: float = 0.3,
    random_state: Seed = None,
) -> dict[str, Any]:
    """Make the dictionaries with which a learned one should be compared.

    Parameters
    ----------
    n_components : int
        Number of atoms of the learned dictionary.

    k : int
        Largest number of non-zeros of a code.

    dictionary : dictionary, default=None
        The dictionary of interest, such as ``TopKSAE(640, 8)``, without the steps
        before it. It is cloned for baselines that learn in the same way, but for a part
        that stays random. None omits them.

    preprocessing : transformer or Pipeline, default=None
        Steps in front of every dictionary, so that all get the same rows. It is cloned.

    alpha : float, default=0.3
        L1 penalty with which MiniBatchDictionaryLearning is trained. It suits rows of
        unit norm; with 1, the default of scikit-learn, all their codes are zero.

    random_state : int, RandomState instance or None, default=None
        Seed of all dictionaries. :func:`compare_dictionaries` sets its own.

    Returns
    -------
    dictionaries : dict of str to estimator
        - "random atoms": atoms drawn uniformly from the unit sphere, with the pursuit
          of :class:`~skdict.ICFL` as the encoder.
        - "data atoms": rows of the training data, centred and of unit length, with the
          same encoder.
        - "PCA", "ICA": all components, of which the `k` with the largest magnitude are
          kept in each row. `n_components` does not apply, because there are at most as
          many components as features.
        - "MiniBatchDictionaryLearning": that of scikit-learn, encoding by OMP.
        - "neurons": the features of a row, of which the `k` with the largest magnitude
          are kept.

        and with `dictionary`, started from random atoms,

        - "frozen decoder": its atoms stay as they are, and the rest learns.
        - "soft-frozen decoder": no atom gets a cosine below 0.8 with its start.
        - "frozen encoder": the weights of its encoder stay. Only if it has an encoder
          beside the atoms, as sparse autoencoders have.

    See Also
    --------
    compare_dictionaries : Compares them.
    beats_baselines : Says whether a dictionary is better than all of them.
    skdict.training.FrozenAtoms : Keeps the atoms of any dictionary.
    skdict.Truncator : Cuts the codes of PCA, ICA and neurons to `k`.

    Notes
    -----
    The first two show what the encoder achieves without learning: pursuit with many
    random atoms reconstructs rows well. They are ICFL with ``max_iter=0``.

    The frozen ones are those of Korznikov et al. [1]_, who find that they come close to
    trained autoencoders in interpretability, sparse probing and editing. Without a
    gradient, as in K-SVD, a frozen decoder leaves random atoms with the encoder.

    References
    ----------
    .. [1] A. Korznikov et al. "Sanity checks for sparse autoencoders: do SAEs beat
       random baselines?" 2026. arXiv:2602.14111.

    Examples
    --------
    >>> from sklearn.preprocessing import Normalizer
    >>> from skdict.evaluation import baseline_dictionaries
    >>> baselines = baseline_dictionaries(640, 8, preprocessing=Normalizer())
    >>> list(baselines)[:3]
    ['random atoms', 'data atoms', 'PCA']
    >>> from skdict import TopKSAE
    >>> list(baseline_dictionaries(640, 8, dictionary=TopKSAE(640, 8)))[-3:]
    ['frozen decoder', 'soft-frozen decoder', 'frozen encoder']
    """
    seed: dict[str, Any] = {"random_state": random_state}
    dictionaries: dict[str, Any] = {
        "random atoms": ICFL(n_components, k, init="random", max_iter=0, **seed),
        "data atoms": ICFL(n_components, k, init="samples", max_iter=0, **seed),
        "PCA": Truncator(PCA(**seed), k),
        "ICA": Truncator(
            # FastICA's own whitening would divide by the variance of directions without
            # any. A float for PCA's n_components drops them.
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
    if dictionary is not None:
        dictionaries |= _frozen(dictionary, random_state)
    if preprocessing is None:
        return dictionaries
    return {
        name: make_pipeline(clone(preprocessing), dictionary)
        for name, dictionary in dictionaries.items()
    }


def _frozen(dictionary: Any, random_state: Seed) -> dict[str, Any]:
    parameters = dictionary.get_params(deep=False)
    lacking = {"callbacks", "init"} - parameters.keys()
    if lacking:
        raise ValueError(
            "dictionary must be one of this library, such as TopKSAE(640, 8), but "
            f"{dictionary!r} has no parameters {sorted(lacking)}. Pass the steps "
            "before it as preprocessing."
        )
    # skorch imports torch, and takes a second.
    from skdict.training import FrozenAtoms, FrozenEncoder

    callbacks: dict[str, Any] = {
        "frozen decoder": FrozenAtoms(),
        "soft-frozen decoder": FrozenAtoms(_SOFT_COSINE),
    }
    if getattr(dictionary, "_has_encoder", False):
        callbacks["frozen encoder"] = FrozenEncoder()
    return {
        name: clone(dictionary).set_params(
            init="random",
            random_state=random_state,
            callbacks=[*(parameters["callbacks"] or ()), callback],
        )
        for name, callback in callbacks.items()
    }
