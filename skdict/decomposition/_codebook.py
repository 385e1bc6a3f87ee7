"""Codebook features."""

from __future__ import annotations

from numbers import Integral
from typing import Literal

from torch import Tensor

from skdict._utils.constraints import Interval
from skdict._utils.types import ArrayLike, Callbacks, Seed
from skdict.decomposition._base import FixedSparsity
from skdict.decomposition._shared_docs import documented
from skdict.models import CodebookModel


@documented
class Codebook(FixedSparsity):
    """Rows as sums of ``k`` code vectors, each taken once or not at all.

    Codes are zeros and ones: a feature is there or it is not. With ``k=1`` the code
    vectors are the centres of k-means.

    Read more in the :ref:`User Guide <dictionaries>`.

    Parameters
    ----------
    n_components : shared
    k : shared
    reset_every : int, default=20
        Steps between resets: code vectors that were not taken since the last one
        move to rows of the batch. No resets in the last ``reset_every`` steps.
    learning_rate : float, default=0.05
        Step towards the minimiser of each code vector.
    warmup_steps : shared
    batch_size : shared (16th)
    max_iter : shared
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
    components_ : ndarray of shape (n_components, n_features)
        The code vectors, of any norm.
    pre_bias_ : ndarray of shape (n_features,)
        Mean of the rows seen. Subtracted before encoding, added after decoding.
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
    ICFL : Coefficients are free.
    sklearn.cluster.MiniBatchKMeans : The case ``k=1``.

    Notes
    -----
    The code vectors nearest to ``(x - b) / k`` are taken, and their sum rebuilds ``x -
    b``. Each moves along its gradient divided by how often it is taken, which with
    ``k=1`` is online k-means.

    Departures from [1]_, which trains codebooks inside a network: the nearest code
    vectors are those of the least Euclidean distance to a ``k``-th of the row, where
    [1]_ takes the largest cosines; the learning rate is relative.

    Code vectors have norms of their own: the coefficient cannot carry the magnitude.

    References
    ----------
    .. [1] Tamkin, A., Taufeeque, M. and Goodman, N. "Codebook Features: Sparse and
       Discrete Interpretability for Neural Networks". 2023. arXiv:2310.17230.

    Examples
    --------
    >>> from skdict import Codebook
    >>> from skdict.datasets import make_planted_dictionary
    >>> X = make_planted_dictionary(2000, 16, random_state=0).data
    >>> codebook = Codebook(n_components=64, k=4, random_state=0).fit(X)
    >>> codes = codebook.transform(X)
    >>> set(codes.data.tolist())
    {1.0}
    """

    _model = CodebookModel
    _parameter_constraints: dict = {
        **FixedSparsity._parameter_constraints,
        "reset_every": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        n_components: int | None = None,
        k: int | None = None,
        *,
        reset_every: int = 20,
        learning_rate: float = 0.05,
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
        random_state: Seed = None,
        verbose: int = 0,
        callbacks: Callbacks = None,
    ) -> None:
        self.n_components = n_components
        self.k = k
        self.reset_every = reset_every
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

    def _new_model(self, atoms: Tensor, n_samples: int) -> CodebookModel:
        k = self._n_active(*atoms.shape)
        seeded = isinstance(self.init, str) and self.init == "samples"
        return CodebookModel(atoms, k, seeded=seeded, reset_every=self.reset_every)
