"""The relaxed archetypal sparse autoencoder."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Literal

from torch import Tensor

from skdict._utils.constraints import Interval
from skdict._utils.types import ArrayLike, Callbacks, Seed
from skdict.decomposition._base import AUTOCAST, AUXILIARY_LOSS, FixedSparsity
from skdict.decomposition._shared_docs import documented
from skdict.models import ArchetypalAutoencoder


@documented
class ArchetypalSAE(FixedSparsity):
    """TopK autoencoder whose atoms point into the convex hull of the rows.

    Each atom is the direction of a weighted mean of ``archetypes_``, centres of
    clusters of the rows, plus a relaxation of bounded length. Atoms thus stay near what
    occurs in the data, and fits from different seeds agree more.

    Read more in the :ref:`User Guide <dictionaries>`.

    Parameters
    ----------
    n_components : shared
    k : shared
    n_archetypes : int or None, default=None
        Number of clusters of the rows. None: as many as components. It is limited by
        the number of rows to start with, at most 8192.
    delta : float, default=1.0
        Largest norm of a relaxation, for rows that are divided by their spread. 0 keeps
        the atoms in the hull.
    auxiliary_weight : shared
    dead_after : shared
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
    archetypes_ : ndarray of shape (n_archetypes, n_features)
        Centres of clusters of the rows, less the pre-bias.
    mixture_ : ndarray of shape (n_components, n_archetypes)
        Weights of the archetypes in each atom; rows add up to one.
    relaxation_ : ndarray of shape (n_components, n_features)
        What is added to the mixtures.
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
    TopKSAE : The same without the hull.

    Notes
    -----
    ``components_`` are the unit rows of ``mixture_ @ archetypes_ + relaxation_``, where
    the rows of ``mixture_`` are not negative and add up to one, and no row of
    ``relaxation_`` is longer than ``delta`` times the spread of the rows [1]_. Both
    hold after every step. Encoder and losses are those of :class:`TopKSAE`.

    Departures from [1]_: atoms have unit norm, where [1]_ learns one factor for all of
    them; archetypes are relative to the pre-bias as it starts; a first atom is mixed
    from the archetypes nearest to a sample.

    Much of the agreement between seeds comes from archetypes that are alike [2]_:
    compare with fits from the same ``init``.

    References
    ----------
    .. [1] Fel, T. et al. "Archetypal SAE: Adaptive and Stable Dictionary Learning for
       Concept Extraction in Large Vision Models". ICML 2025. arXiv:2502.12892.

    .. [2] arXiv:2606.02061.

    Examples
    --------
    >>> from skdict import ArchetypalSAE
    >>> from skdict.datasets import make_planted_dictionary
    >>> X = make_planted_dictionary(2000, 16, random_state=0).data
    >>> sae = ArchetypalSAE(n_components=64, k=4, random_state=0).fit(X)
    >>> sae.mixture_.shape
    (64, 64)
    """

    _model = ArchetypalAutoencoder
    _parameter_constraints: dict = {
        **FixedSparsity._parameter_constraints,
        "n_archetypes": [Interval(Integral, 1, None, closed="left"), None],
        "delta": [Interval(Real, 0, None, closed="left")],
        **AUTOCAST,
        **AUXILIARY_LOSS,
    }

    def __init__(
        self,
        n_components: int | None = None,
        k: int | None = None,
        *,
        n_archetypes: int | None = None,
        delta: float = 1.0,
        auxiliary_weight: float = 1 / 32,
        dead_after: float = 1.0,
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
        self.n_archetypes = n_archetypes
        self.delta = delta
        self.auxiliary_weight = auxiliary_weight
        self.dead_after = dead_after
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

    def _new_model(self, atoms: Tensor, n_samples: int) -> ArchetypalAutoencoder:
        return ArchetypalAutoencoder(
            atoms,
            self._n_active(*atoms.shape),
            n_archetypes=self.n_archetypes,
            delta=self.delta,
            scale_encoder=isinstance(self.init, str),
            autocast=self.autocast,
            auxiliary_weight=self.auxiliary_weight,
            dead_after=self.dead_after * n_samples,
        )
