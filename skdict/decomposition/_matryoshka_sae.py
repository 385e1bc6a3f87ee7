"""Nested sparse autoencoders."""

from __future__ import annotations

import copy
import operator
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, Literal

from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from skdict._utils.types import ArrayLike, Callbacks, Seed
from skdict.decomposition._base import (
    AUTOCAST,
    AUXILIARY_LOSS,
    TRAINING_FACTOR,
    MeanSparsity,
)
from skdict.decomposition._shared_docs import documented
from skdict.models import MatryoshkaAutoencoder


@documented
class MatryoshkaSAE(MeanSparsity):
    """Sparse autoencoder whose first atoms are dictionaries by themselves.

    Every prefix of the atoms learns to rebuild the rows alone. The first atoms thus
    become general, the later ones specific, and a specific atom takes less away
    from the general one that contains it.

    Read more in the :ref:`User Guide <dictionaries>`.

    Parameters
    ----------
    n_components : shared
    k : float, default=None
        Mean number of non-zeros of a code. None: a tenth of the features, at least 1,
        at most ``n_components``. Larger values count as ``n_components``, with a
        warning.
    prefixes : sequence of int and float, default=(1/32, 1/8, 1/2)
        Lengths of the prefixes beside all atoms, as numbers of atoms or as fractions
        of them below 1. Those that round to nothing or to the same number count
        once.
    auxiliary_weight : shared
    dead_after : shared
    training_factor : shared
    learning_rate : float, default=3e-3
        Of Adam, on rows that are divided by their spread.
    warmup_steps : shared
    batch_size : shared
    max_iter : shared
    tol : shared
    n_iter_no_change : shared
    validation_fraction : shared
    init : shared
    warm_start : shared
    sparse_output : shared
    device : shared
    autocast : shared
    random_state : shared
    verbose : shared
    callbacks : shared

    Attributes
    ----------
    components_ : shared
    pre_bias_ : shared
    encoder_components_ : shared
    encoder_bias_ : shared
    threshold_ : ndarray of shape ()
        Activations above it count.
    feature_density_ : shared
    dead_features_ : shared
    n_iter_ : shared
    n_steps_ : shared
    n_samples_seen_ : shared
    history_ : shared
    n_features_in_ : shared
    feature_names_in_ : shared

    See Also
    --------
    BatchTopKSAE : The same without the prefixes.

    Notes
    -----
    The loss is the mean over the prefixes ``m`` of
    ``||x - z[:m] W_dec[:m] - b_pre||^2 / 2`` [1]_. The code is that of
    :class:`BatchTopKSAE`, and the auxiliary loss is that of :class:`TopKSAE`: it
    rebuilds what all atoms leave. Narrow first prefixes mix features that occur
    together (hedging).

    References
    ----------
    .. [1] Bussmann, B. et al. "Learning Multi-Level Features with Matryoshka Sparse
       Autoencoders". ICML 2025. arXiv:2503.17547.

    Examples
    --------
    >>> from skdict import MatryoshkaSAE
    >>> from skdict.datasets import make_planted_dictionary
    >>> X = make_planted_dictionary(2000, 16, random_state=0).data
    >>> sae = MatryoshkaSAE(n_components=64, k=4, random_state=0).fit(X)
    >>> small = sae.prefix(32)
    >>> small.transform(X).shape
    (2000, 32)
    >>> small.score(X) < sae.score(X)
    True
    """

    _model = MatryoshkaAutoencoder
    _parameter_constraints: dict = {
        **MeanSparsity._parameter_constraints,
        "prefixes": ["array-like"],
        **AUTOCAST,
        **TRAINING_FACTOR,
        **AUXILIARY_LOSS,
    }

    def __init__(
        self,
        n_components: int | None = None,
        k: float | None = None,
        *,
        prefixes: Sequence[float] = (1 / 32, 1 / 8, 1 / 2),
        auxiliary_weight: float = 1 / 32,
        dead_after: float = 1.0,
        training_factor: float = 1,
        learning_rate: float = 3e-3,
        warmup_steps: int = 0,
        batch_size: int | Literal["auto"] = "auto",
        max_iter: int = 100,
        tol: float | None = 1e-3,
        n_iter_no_change: int = 5,
        validation_fraction: float | None = 0.1,
        init: Literal["random", "samples"] | ArrayLike = "samples",
        warm_start: bool = False,
        sparse_output: bool = True,
        device: str = "auto",
        autocast: bool = False,
        random_state: Seed = None,
        verbose: int = 0,
        callbacks: Callbacks = None,
    ) -> None:
        self.n_components = n_components
        self.k = k
        self.prefixes = prefixes
        self.auxiliary_weight = auxiliary_weight
        self.dead_after = dead_after
        self.training_factor = training_factor
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.validation_fraction = validation_fraction
        self.init = init
        self.warm_start = warm_start
        self.sparse_output = sparse_output
        self.device = device
        self.autocast = autocast
        self.random_state = random_state
        self.verbose = verbose
        self.callbacks = callbacks

    def prefix(self, n_components: int) -> MatryoshkaSAE:
        """Return the dictionary of the first atoms.

        Parameters
        ----------
        n_components : int
            Number of atoms. The lengths in ``prefixes`` are those that were trained.

        Returns
        -------
        sae : MatryoshkaSAE
            A fitted copy. Its codes are the first columns of this one's, so a row has
            fewer than ``k`` non-zeros. ``history_`` is that of the whole training.

        Raises
        ------
        ValueError
            If there are not that many atoms.
        TypeError
            If ``n_components`` is no integer.
        """
        check_is_fitted(self)
        n = len(self.components_)
        try:
            operator.index(n_components)
        except TypeError:
            raise TypeError(
                f"n_components must be a whole number of atoms, got {n_components!r}."
            ) from None
        if not 0 < n_components <= n:
            raise ValueError(
                f"n_components must be from 1 to {n}, the number of atoms, got "
                f"{n_components!r}."
            )
        shorter = copy.copy(self)
        shorter.n_components = int(n_components)
        shorter.prefixes = [
            m for m in _lengths(self.prefixes, n) if m < shorter.n_components
        ]
        per_atom = [
            parameter.attribute
            for parameter in self._model.fitted.values()
            if parameter.rule.shape[:1] == ("n_components",)
        ]
        for name in [*per_atom, "feature_density_", "dead_features_"]:
            if hasattr(self, name):
                setattr(shorter, name, getattr(self, name)[:n_components])
        if hasattr(self, "_training_state"):
            shorter._training_state = None
        return shorter

    def _new_model(self, atoms: Tensor, n_samples: int) -> MatryoshkaAutoencoder:
        return MatryoshkaAutoencoder(
            atoms,
            self._n_active(*atoms.shape),
            prefixes=_lengths(self.prefixes, len(atoms)),
            scale_encoder=isinstance(self.init, str),
            autocast=self.autocast,
            training_factor=self.training_factor,
            auxiliary_weight=self.auxiliary_weight,
            dead_after=self.dead_after * n_samples,
        )


def _lengths(prefixes: Sequence[Any], n_components: int) -> list[int]:
    """Numbers of atoms of the prefixes, increasing, the last that of all atoms."""
    lengths = {n_components}
    for prefix in prefixes:
        is_count = isinstance(prefix, Integral) and not isinstance(prefix, bool)
        if not is_count and not (isinstance(prefix, Real) and 0 < float(prefix) < 1):
            raise ValueError(
                f"prefixes holds {prefix!r}: numbers of atoms are integers, and "
                "fractions of them lie between 0 and 1."
            )
        length = int(prefix) if is_count else round(prefix * n_components)
        if is_count and not 0 < length <= n_components:
            raise ValueError(
                f"prefixes holds {length}, but there are {n_components} atoms."
            )
        lengths.add(length)
    return sorted(lengths - {0})
