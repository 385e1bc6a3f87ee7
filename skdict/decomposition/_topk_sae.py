"""The TopK sparse autoencoder."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from skdict._utils.sklearn_private import StrOptions
from skdict._utils.types import ArrayLike, Callbacks, Seed
from skdict.decomposition._base import (
    AUTOCAST,
    AUXILIARY_LOSS,
    TRAINING_FACTOR,
    FixedSparsity,
)
from skdict.decomposition._shared_docs import documented
from skdict.models import TopKAutoencoder


@documented
class TopKSAE(FixedSparsity):
    """TopK sparse autoencoder, whose dead latents learn what the others leave.

    ``z = TopK(relu(W_enc (x - b_pre) + b_enc))`` and ``x_hat = z W_dec + b_pre``.
    The model of Gao et al. (2024), with the changes that small tables need (see Notes);
    the baseline in the paper of :class:`ICFL`.

    Read more in the :ref:`User Guide <dictionaries>`.

    Parameters
    ----------
    n_components : shared
    k : shared
    selection : {"positive", "absolute"}, default="positive"
        Keep the largest activations behind ReLU, or those of the largest magnitude
        with their signs, without ReLU (AbsTopK [1]_): a direction and its opposite
        then share an atom.
    auxiliary_weight : shared
    dead_after : shared
    training_factor : shared
    learning_rate : float, default=3e-3
        Learning rate of Adam, on rows divided by their spread.
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
    ICFL : Dictionary whose encoder is a pursuit, not learned.
    Reconstructor : Gives the reconstruction inside a Pipeline.

    Notes
    -----
    Decoder rows have unit norm; the part of their gradient that the projection
    would undo is removed. The encoder starts as the decoder (tied), the pre-bias as
    the geometric median of a sample. A latent that ReLU sets to zero has not fired,
    even if it is among the ``k`` largest. Gradients are exact, and summed from the
    active latents only.

    Departures from Gao et al.: Atoms start as samples, and one factor scales the first
    encoder so that it rebuilds the rows best (nothing is scaled with an array as
    ``init``). Up to ``k`` dead latents rebuild the residual of a row, not half as many
    as there are features. A latent counts as dead after an epoch, not after 10 million
    rows. The learning rate is higher and falls to zero, and held-out rows decide when
    training ends.

    References
    ----------
    Gao, L. et al. "Scaling and evaluating sparse autoencoders". 2024.
    arXiv:2406.04093.

    .. [1] Zhu, X. et al. "AbsTopK: Rethinking Sparse Autoencoders For Bidirectional
       Features". 2025. arXiv:2510.00404.

    Makhzani, A. and Frey, B. "k-Sparse autoencoders". 2013. arXiv:1312.5663.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skdict import TopKSAE
    >>> X, _ = load_digits(return_X_y=True)
    >>> sae = TopKSAE(n_components=128, k=8, random_state=0).fit(X)
    >>> sae.transform(X).shape
    (1797, 128)
    >>> sae.score(X) > 0.7
    True
    """

    _parameter_constraints: dict = {
        **FixedSparsity._parameter_constraints,
        "selection": [StrOptions({"positive", "absolute"})],
        **AUTOCAST,
        **TRAINING_FACTOR,
        **AUXILIARY_LOSS,
    }

    _model = TopKAutoencoder

    def __init__(
        self,
        n_components: int | None = None,
        k: int | None = None,
        *,
        selection: Literal["positive", "absolute"] = "positive",
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
        self.selection = selection
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

    def _new_model(self, atoms: Tensor, n_samples: int) -> TopKAutoencoder:
        return TopKAutoencoder(
            atoms,
            self._n_active(*atoms.shape),
            scale_encoder=isinstance(self.init, str),
            autocast=self.autocast,
            training_factor=self.training_factor,
            selection=self.selection,
            auxiliary_weight=self.auxiliary_weight,
            dead_after=self.dead_after * n_samples,
        )
