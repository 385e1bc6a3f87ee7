"""Matching pursuit with gradients through the code."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from skdict._utils.types import ArrayLike, Callbacks, Seed
from skdict.decomposition._base import FixedSparsity
from skdict.decomposition._shared_docs import documented
from skdict.models import MatchingPursuit


@documented
class MatchingPursuitSAE(FixedSparsity):
    """Sparse autoencoder whose encoder is matching pursuit.

    ``k`` times, the atom that correlates most with the residual is taken, and its part
    is subtracted. There is no encoder to learn: gradients flow through the coefficients
    into the atoms. On the same atoms the codes are those of ``ICFL(atoms_per_step=1)``.

    Read more in the :ref:`User Guide <dictionaries>`.

    Parameters
    ----------
    n_components : shared
    k : shared
    learning_rate : float, default=3e-3
        Of Adam, on rows that are divided by their spread.
    warmup_steps : shared
    batch_size : shared
    max_iter : shared (constant)
    tol : shared
    n_iter_no_change : shared
    validation_fraction : shared
    init : shared
    warm_start : shared
    sparse_output : shared
    device : shared
    random_state : shared
    verbose : shared
    callbacks : shared

    Attributes
    ----------
    components_ : shared
    pre_bias_ : shared
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
    ICFL : Takes several atoms a step, and holds the codes fixed while atoms learn.

    Notes
    -----
    With ``d_t`` the atom of step ``t``, the coefficients solve the triangular system
    ``z_t = <d_t, x - b> - sum_(s < t) <d_t, d_s> z_s``, through which the gradient
    flows; which atoms are taken has none. The loss is half the squared error [1]_.

    Where rows are held out, the learning rate is constant for four fifths of the steps.

    Departures from [1]_: there are always ``k`` steps, an atom may be taken again, and
    where all correlations are negative, the largest is taken, as in :class:`ICFL`.

    References
    ----------
    .. [1] Costa, V. et al. "From Flat to Hierarchical: Extracting Sparse
       Representations with Matching Pursuit". NeurIPS 2025. arXiv:2506.03093.

    Examples
    --------
    >>> from skdict import MatchingPursuitSAE
    >>> from skdict.datasets import make_planted_dictionary
    >>> X = make_planted_dictionary(2000, 16, random_state=0).data
    >>> sae = MatchingPursuitSAE(n_components=64, k=4, random_state=0).fit(X)
    >>> sae.transform(X).shape
    (2000, 64)
    """

    _model = MatchingPursuit
    _parameter_constraints: dict = {
        **FixedSparsity._parameter_constraints,
    }

    def __init__(
        self,
        n_components: int | None = None,
        k: int | None = None,
        *,
        learning_rate: float = 3e-3,
        warmup_steps: int = 0,
        batch_size: int | Literal["auto"] = "auto",
        max_iter: int = 100,
        tol: float | None = 1e-3,
        n_iter_no_change: int = 5,
        validation_fraction: float | None = 0.1,
        init: Literal["random", "samples"] | ArrayLike = "random",
        warm_start: bool = False,
        sparse_output: bool = True,
        device: str = "auto",
        random_state: Seed = None,
        verbose: int = 0,
        callbacks: Callbacks = None,
    ) -> None:
        self.n_components = n_components
        self.k = k
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
        self.random_state = random_state
        self.verbose = verbose
        self.callbacks = callbacks

    def _new_model(self, atoms: Tensor, n_samples: int) -> MatchingPursuit:
        return MatchingPursuit(atoms, self._n_active(*atoms.shape))
