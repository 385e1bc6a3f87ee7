"""Iterative Codebook Feature Learning."""

from __future__ import annotations

import copy
import math
from numbers import Real
from typing import Literal, Self

from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from skdict._utils.constraints import Interval
from skdict._utils.types import ArrayLike, Callbacks, Seed
from skdict._utils.warn import warn
from skdict.decomposition._base import PURSUIT, FixedSparsity
from skdict.decomposition._shared_docs import documented
from skdict.models import PursuitDictionary
from skdict.ops.pursuit import Refit, Selection


@documented
class ICFL(FixedSparsity):
    """Iterative Codebook Feature Learning: a dictionary with a pursuit encoder.

    A row is approximated by a sparse sum of unit atoms, ``x ~ z W + b``, where
    ``z`` has at most ``k`` non-zeros and ``b`` is the mean row. Batched orthogonal
    matching pursuit finds ``z``; gradient descent with ``z`` held fixed learns
    ``W``. As any atom that aligns with some row is used and thus updated, few
    features die.

    Read more in the :ref:`User Guide <dictionaries>`.

    Parameters
    ----------
    n_components : shared
    k : shared
    atoms_per_step : int, default=5
        Number of atoms picked at once (the paper's L). There are
        ``ceil(k / atoms_per_step)`` steps (the paper's J); the last one picks fewer
        where ``k`` is not a multiple. 1 is matching pursuit.
    selection : {"positive", "absolute"}, default="positive"
        Pick the atoms whose correlation with the residual is largest (the paper), or
        largest in magnitude. Coefficients may be negative in either case.
    span_distance : float, default=0.2
        Least distance of an atom from the span of the better atoms of the same step
        (0.2 is an angle of 12 degrees). A closer one is left out in favour of the next
        best, in training and in :meth:`transform`. Without it, where there are more
        atoms than causes in the rows, two atoms may become nearly equal and get large
        coefficients of opposite signs. 0 is the paper's algorithm.
    refit : bool or "every_step", default=False
        True: solve one joint least squares on the final support, in training and in
        :meth:`transform`. The error is smaller, and it takes about twice the time.
        "every_step": solve it after every step; with ``atoms_per_step=1`` this is
        orthogonal matching pursuit, the most exact and the slowest.
        :meth:`with_encoder` chooses another encoder for fitted atoms.
    positive_code : bool, default=False
        Set coefficients that come out negative to zero, in training and in
        :meth:`transform`, so that rows may have fewer than ``k`` non-zeros. A feature
        then has one meaning, not two opposite ones.
    training_factor : float, default=1
        In training, a code has up to ``ceil(training_factor * k)`` non-zeros, picked in
        as many steps as the ``k`` of :meth:`transform`. There are no more than half of
        the features of ``X``, unless ``k`` is larger. With 2, atoms are purer: on
        planted features, more of them are one feature each and fewer are doubles.
        ``loss`` and ``explained_variance`` in ``history_`` are those of the codes in
        training.
    reset_similarity : float, default=0.9
        Of two atoms with a larger cosine similarity, the one that fired less is
        redrawn uniformly from the unit sphere.
    reset_every : int, default=100
        Steps between resets. No resets in the last ``reset_every`` steps: a new
        atom would not have time to learn.
    learning_rate : float, default=0.5
        Step along the gradient of each atom, divided by the curvature along that
        atom. It therefore needs no tuning to the data's scale, to ``k`` or to how
        often atoms fire. 1 moves an atom to its minimiser if it shares no row with
        another. Values between 0.1 and 1 differ little.
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
    components_ : shared
    pre_bias_ : ndarray of shape (n_features,)
        Mean of the rows seen. It is subtracted before encoding and added after
        decoding.
    feature_density_ : shared
    dead_features_ : shared
    n_iter_ : shared
    n_steps_ : shared
    n_samples_seen_ : int
        Number of rows of which ``pre_bias_`` is the mean: those of :meth:`fit` and of
        later calls of :meth:`partial_fit`.
    history_ : shared
    n_features_in_ : shared
    feature_names_in_ : shared

    See Also
    --------
    TopKSAE : The sparse autoencoder with which the paper compares.
    ControlPCAWhitener : The preprocessing of the paper.
    Reconstructor : Gives the reconstruction inside a Pipeline.
    sklearn.decomposition.MiniBatchDictionaryLearning : L1-penalised relative.

    Notes
    -----
    The encoder is Algorithm 1 of [1]_. From the residual ``r(1) = x - b``, each
    step ``t`` picks the ``L`` atoms with the largest ``<W_m, r(t)>``, solves the
    least squares of ``r(t)`` on them for ``z(t)``, and sets
    ``r(t+1) = r(t) - z(t) W``; the code is ``sum_t z(t)``. The paper picks the ``L``
    best atoms whatever their angles; ``span_distance`` is an addition of ours.

    The dictionary descends the gradient of the mean of ``||x - z W - b||^2 / 2``
    over a batch; the gradient of atom ``m`` is divided by the mean of ``z_m^2``. The
    paper does not name its optimiser (learning rate 5e-5); on all data sets tried, this
    step beat Adam and needed no tuning.

    The paper learns ``b``; here it is the mean of the rows. With codes held fixed, the
    gradient of ``b`` does not vanish: in a long training a learned ``b`` would drift
    away from the rows, and the explained variance would fall. Atoms keep unit norm; the
    paper does not say whether its atoms do. It starts them at random, after which more
    features are dead than after a start at samples.

    Where two correlations of a row tie to the last bit in float32, the row may get
    another support alone than in a batch. float64 rows resolve such ties.

    References
    ----------
    .. [1] Donhauser, K. et al. "Towards scientific discovery with dictionary
       learning: extracting biological concepts from microscopy foundation models".
       ICML 2025. arXiv:2412.16247.

    Examples
    --------
    >>> from skdict import ICFL
    >>> from skdict.datasets import make_planted_dictionary
    >>> data = make_planted_dictionary(
    ...     2000, 16, n_components=24, n_active=2, random_state=0
    ... )
    >>> icfl = ICFL(n_components=24, k=2, random_state=0).fit(data.data)
    >>> codes = icfl.transform(data.data)
    >>> codes.shape, codes.nnz <= 2 * 2000
    ((2000, 24), True)
    >>> icfl.score(data.data) > 0.8
    True
    """

    _parameter_constraints: dict = {
        **FixedSparsity._parameter_constraints,
        **PURSUIT,
        "span_distance": [Interval(Real, 0, 1, closed="left")],
        "positive_code": ["boolean"],
        "training_factor": [Interval(Real, 0, None, closed="neither")],
    }

    _model = PursuitDictionary

    def __init__(
        self,
        n_components: int | None = None,
        k: int | None = None,
        *,
        atoms_per_step: int = 5,
        selection: Selection = "positive",
        span_distance: float = 0.2,
        refit: Refit = False,
        positive_code: bool = False,
        training_factor: float = 1,
        reset_similarity: float = 0.9,
        reset_every: int = 100,
        learning_rate: float = 0.5,
        warmup_steps: int = 0,
        batch_size: int | Literal["auto"] = "auto",
        max_iter: int = 30,
        tol: float | None = 1e-3,
        n_iter_no_change: int = 5,
        validation_fraction: float | None = None,
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
        self.atoms_per_step = atoms_per_step
        self.selection = selection
        self.span_distance = span_distance
        self.refit = refit
        self.positive_code = positive_code
        self.training_factor = training_factor
        self.reset_similarity = reset_similarity
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

    def with_encoder(
        self,
        *,
        k: int | None = None,
        atoms_per_step: int | None = None,
        selection: Selection | None = None,
        span_distance: float | None = None,
        refit: Refit | None = None,
        positive_code: bool | None = None,
    ) -> Self:
        """Make a copy that encodes with another pursuit on the same atoms.

        Parameters
        ----------
        k : int, default=None
            Largest number of non-zeros of a code, as in the constructor; it may exceed
            the one of :meth:`fit`. None, here and below, keeps the value.
        atoms_per_step : int, default=None
            Number of atoms picked at once; 1 is matching pursuit.
        selection : {"positive", "absolute"}, default=None
            How atoms are picked.
        span_distance : float, default=None
            Least distance of an atom from the span of the better ones of its step.
        refit : bool or "every_step", default=None
            Least squares on all picked atoms: once at the end, or after every step.
        positive_code : bool, default=None
            Whether negative coefficients become zero.

        Returns
        -------
        icfl : ICFL
            A fitted copy that shares the arrays of this one. ``feature_density_``,
            ``dead_features_`` and ``history_`` stay those of the training.

        Raises
        ------
        InvalidParameterError
            If a value is out of its range. It is a ValueError.

        Notes
        -----
        ``clone`` of the copy is unfitted, as always. Where a search or a comparison
        clones its estimators, wrap the copy in
        :class:`sklearn.frozen.FrozenEstimator`.

        Examples
        --------
        Orthogonal matching pursuit on the atoms that batched pursuit has learned:

        >>> from skdict import ICFL
        >>> from skdict.datasets import make_planted_dictionary
        >>> X = make_planted_dictionary(2000, 16, random_state=0).data
        >>> icfl = ICFL(k=5, random_state=0).fit(X)
        >>> omp = icfl.with_encoder(
        ...     atoms_per_step=1, selection="absolute", refit="every_step"
        ... )
        >>> omp.score(X) > icfl.score(X)
        True
        """
        check_is_fitted(self)
        given = {
            "k": k,
            "atoms_per_step": atoms_per_step,
            "selection": selection,
            "span_distance": span_distance,
            "refit": refit,
            "positive_code": positive_code,
        }
        other = copy.copy(self).set_params(
            **{name: value for name, value in given.items() if value is not None}
        )
        other._validate_params()
        # Training is over, so training_factor does not matter.
        FixedSparsity._check_sparsity(other, len(self.components_))
        return other

    def _check_sparsity(self, n_components: int) -> None:
        super()._check_sparsity(n_components)
        k = self._n_active(n_components, self.n_features_in_)
        most = self._training_k(k, n_components)
        if self.training_factor * k > most:
            warn(
                f"training_factor={self.training_factor} asks for more than {most} "
                f"atoms of a code in training, which {n_components} components and "
                f"{self.n_features_in_} features do not allow: {most} are taken."
            )

    def _training_k(self, k: int, n_components: int) -> int:
        """Largest number of non-zeros of a code in training."""
        # Nearly as many atoms as dimensions rebuild any row, whatever they are.
        most = max(k, min(n_components, self.n_features_in_ // 2))
        return math.ceil(min(self.training_factor * k, most))

    def _new_model(self, atoms: Tensor, n_samples: int) -> PursuitDictionary:
        k = self._n_active(*atoms.shape)
        in_training = self._training_k(k, len(atoms))
        return PursuitDictionary(
            atoms,
            k,
            atoms_per_step=self.atoms_per_step,
            selection=self.selection,
            span_distance=self.span_distance,
            refit=self.refit,
            positive_code=self.positive_code,
            training_k=None if in_training == k else in_training,
            reset_similarity=self.reset_similarity,
            reset_every=self.reset_every,
        )
