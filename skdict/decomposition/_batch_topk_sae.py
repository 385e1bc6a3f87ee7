"""The BatchTopK sparse autoencoder."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from skdict._utils.types import ArrayLike, Callbacks, Seed
from skdict.decomposition._base import (
    AUTOCAST,
    AUXILIARY_LOSS,
    TRAINING_FACTOR,
    MeanSparsity,
)
from skdict.decomposition._shared_docs import documented
from skdict.models import BatchTopKAutoencoder


@documented
class BatchTopKSAE(MeanSparsity):
    """Sparse autoencoder that keeps the ``k n`` largest latents of ``n`` rows.

    Rows that need more atoms than others get them; ``k`` is the mean. Outside of
    training a latent is active where it exceeds ``threshold_``, so that the code of a
    row does not depend on the other rows.

    Read more in the :ref:`User Guide <dictionaries>`.

    Parameters
    ----------
    n_components : shared
    k : float, default=None
        Mean number of non-zeros of a code. None: a tenth of the features, at least 1,
        at most ``n_components``. Larger values count as ``n_components``, with a
        warning.
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
    TopKSAE : As many non-zeros in every row.
    MatryoshkaSAE : The same with nested dictionaries.

    Notes
    -----
    ``z = BatchTopK(relu(W_enc (x - b_pre) + b_enc))``, ``x_hat = z W_dec + b_pre``;
    loss, start and auxiliary loss are those of :class:`TopKSAE`.

    During training, and in a stream of :meth:`partial_fit`, the threshold is the
    running mean of the least activation that was kept in a batch, as in [1]_. At the
    end of :meth:`fit` it is set anew, to the number that ``k`` activations a row exceed
    in the held-out rows, or where there are none, in all rows: the running mean alone
    leaves the mean number of non-zeros several per cent away from ``k``.

    References
    ----------
    .. [1] Bussmann, B., Leask, P. and Nanda, N. "BatchTopK Sparse Autoencoders". 2024.
       arXiv:2412.06410.

    Examples
    --------
    >>> from skdict import BatchTopKSAE
    >>> from skdict.datasets import make_planted_dictionary
    >>> X = make_planted_dictionary(2000, 16, random_state=0).data
    >>> sae = BatchTopKSAE(n_components=64, k=4, random_state=0).fit(X)
    >>> 3.8 < sae.transform(X).nnz / 2000 < 4.2
    True
    """

    _model = BatchTopKAutoencoder
    _parameter_constraints: dict = {
        **MeanSparsity._parameter_constraints,
        **AUTOCAST,
        **TRAINING_FACTOR,
        **AUXILIARY_LOSS,
    }

    def __init__(
        self,
        n_components: int | None = None,
        k: float | None = None,
        *,
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

    def _new_model(self, atoms: Tensor, n_samples: int) -> BatchTopKAutoencoder:
        return BatchTopKAutoencoder(
            atoms,
            self._n_active(*atoms.shape),
            scale_encoder=isinstance(self.init, str),
            autocast=self.autocast,
            training_factor=self.training_factor,
            auxiliary_weight=self.auxiliary_weight,
            dead_after=self.dead_after * n_samples,
        )
