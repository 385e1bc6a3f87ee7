"""What all dictionary estimators share: everything but the model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.utils import Tags, check_array, check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from skdict._guards import learns, own_precision
from skdict._ranks import fails_together, ranks
from skdict._utils.checks import as_numpy, check_finite, check_floats
from skdict._utils.constraints import Callbacks, Interval
from skdict._utils.fitted import (
    Array,
    Count,
    Fitted,
    History,
    IfThere,
    Names,
    Number,
)
from skdict._utils.sklearn_private import (
    StrOptions,
    align_api_if_sparse,
    check_same_namespace,
    fit_context,
    get_namespace,
)
from skdict._utils.types import AnyArray, Codes, Data, Seed
from skdict._utils.warn import warn
from skdict.models import Dictionary
from skdict.ops import Code
from skdict.ops.atoms import random_unit_rows, unit_rows
from skdict.rows import (
    RowBatches,
    ScaledRows,
    StoredRows,
    Table,
    as_rows,
    by_blocks,
    centre_and_spread,
    draw_rows,
    epochs,
    like,
    resolve_device,
    to_device,
    validate_rows,
)
from skdict.training.checkpoint import (
    RECORD_KEYS,
    checkpoint_among,
    checkpoint_locked,
    problem_of,
)
from skdict.training.net import DictionaryNet
from skdict.training.state import restore, state_of, stream_rule
from skdict.training.together import Reader

# Fraction of samples below which a feature counts as dead (the papers' threshold).
_DEAD_DENSITY = 1e-5
# With fewer rows than this, an epoch cannot be judged.
_LEAST_HELD_OUT = 5
# Of stored rows no more than this are held out: they tell enough.
_MOST_HELD_OUT = 2**16
# Rows per batch at inference; the ops cut them further to fit the cache.
_INFERENCE_ROWS = 8192
# Rows from which the initial atoms and the pre-bias are taken.
_START_ROWS = 8192
# Limits of what "auto" takes as the rows of a step.
_LEAST_BATCH, _LARGEST_BATCH = 256, 4096


class DictionaryEstimator(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator, ABC
):
    """Base of the dictionary estimators.

    A subclass names its model in ``_model`` and builds it in ``_new_model``. The table
    of fitted attributes follows from the model's parameters and counters.
    """

    # Parameters of those that have a sparsity, and that descend a gradient.
    k: float | None = None
    warmup_steps: int = 0

    n_iter_: int
    n_steps_: int
    n_samples_seen_: int
    history_: list[dict[str, Any]]
    _scale: float
    _training_state: dict[str, Any] | None

    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "warmup_steps": [Interval(Integral, 0, None, closed="left")],
        "batch_size": [
            Interval(Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
        ],
        "max_iter": [Interval(Integral, 0, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left"), None],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither"), None],
        "init": [StrOptions({"random", "samples"}), "array-like"],
        "warm_start": ["boolean"],
        "sparse_output": ["boolean"],
        "device": [str],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "callbacks": [Callbacks(), None],
    }

    @property
    @abstractmethod
    def _model(self) -> type[Dictionary]:
        """Class of the model."""

    @property
    def _fitted(self) -> tuple[dict[str, Fitted], ...]:
        parameters = self._model.fitted.values()
        return (
            {
                "n_features_in_": Count("n_features", low=1),
                "feature_names_in_": IfThere(Names("n_features")),
                **{p.attribute: p.rule for p in parameters},
            },
            # A dictionary from another library's file may lack what follows.
            {
                "feature_density_": Array(("n_components",), low=0, high=1),
                "dead_features_": Array(("n_components",), kind="b"),
            },
            {
                "n_iter_": Count(),
                "n_steps_": Count(),
                "n_samples_seen_": Count(low=1),
                "_scale": Number(low=0),
                "history_": History(RECORD_KEYS),
                "_training_state": stream_rule(self._model),
            },
        )

    @abstractmethod
    def _new_model(self, atoms: Tensor, n_samples: int) -> Dictionary:
        """Build the model with these atoms; an epoch has ``n_samples`` rows."""

    @fit_context(prefer_skip_nested_validation=True)
    @learns
    def fit(self, X: Data, y: object = None) -> Self:
        """Learn the dictionary.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data. float16, bfloat16, integers and booleans become float32.
        y : Ignored
            Not used, present for the API's sake.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If ``X`` is empty, holds NaN or infinity or is too large for its dtype,
            if ``init`` or the dictionary of a warm start has a different shape, or if
            training diverges.
        """
        go_on = self.warm_start and self._has_begun
        with checkpoint_locked(self.callbacks):
            self._learn(X, y, streaming=False, go_on=go_on)
        return self

    @fit_context(prefer_skip_nested_validation=True)
    @learns
    def partial_fit(self, X: Data, y: object = None) -> Self:
        """Go on learning with one epoch over ``X``.

        The first call fixes the scale of the data and the initial atoms, so its rows
        should be a fair sample. The state of the optimiser is kept between calls. The
        learning rate falls slowly and never reaches zero; the steps of an earlier
        :meth:`fit` count.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            New rows.
        y : Ignored
            Not used, present for the API's sake.

        Returns
        -------
        self : object
            The estimator.

        Raises
        ------
        ValueError
            If ``X`` is empty, holds NaN or infinity, is too large for its dtype or
            has a different number of features than before, or if training diverges.

        Warns
        -----
        UserWarning
            If the rows lie over a hundred times farther from the pre-bias than those
            of the first call, or nearer. The scale of the first call is kept.
        """
        self._learn(X, y, streaming=True, go_on=self._has_begun)
        return self

    @fit_context(prefer_skip_nested_validation=True)
    @learns
    def _fit_among(self, X: Data, order: torch.Generator, read: Reader) -> None:
        """Fit as one of many: rows are drawn by `order`, and read by `read`."""
        go_on = self.warm_start and self._has_begun
        self._learn(X, None, streaming=False, go_on=go_on, order=order, read=read)

    @by_blocks
    @own_precision
    def transform(self, X: Data) -> Codes:
        """Encode rows as sparse codes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to encode.

        Returns
        -------
        codes : CSR matrix or array of shape (n_samples, n_components)
            With ``sparse_output=True``, CSR with sorted indices and no explicit zeros;
            scikit-learn's ``sparse_interface`` decides whether it is a matrix or an
            array. Otherwise a dense array. float32 or float64, as the input.

        Raises
        ------
        ValueError
            If ``X`` is empty, holds NaN or infinity, has a different number of features
            than in :meth:`fit`, or is so large that the codes overflow its dtype.
        """
        X = self._validate_new(X)
        n_components = self.components_.shape[0]
        if self.sparse_output:
            parts = [code.to_csr(n_components) for _, code, _ in self._encode(X)]
            return align_api_if_sparse(sp.vstack(parts, format="csr"))
        dense = [code.to_dense(n_components) for _, code, _ in self._encode(X)]
        return like(torch.cat(dense), X)

    @by_blocks
    @own_precision
    def inverse_transform(self, X: Codes) -> AnyArray:
        """Reconstruct rows from their codes: ``X @ components_ + pre_bias_``.

        Parameters
        ----------
        X : CSR matrix or array-like of shape (n_samples, n_components)
            Codes.

        Returns
        -------
        X_hat : array of shape (n_samples, n_features)
            The reconstruction.

        Raises
        ------
        ValueError
            If ``X`` is empty, holds NaN or infinity, has a different number of columns
            than there are components, or if the reconstruction overflows its dtype.
        """
        check_is_fitted(self)
        if not sp.issparse(X):
            check_same_namespace(
                X, self, attribute="components_", method="inverse_transform"
            )
        xp, _ = get_namespace(X)
        codes = check_floats(X, accept_sparse="csr", input_name="X")
        if codes.shape[1] != self.components_.shape[0]:
            raise ValueError(
                f"The codes have {codes.shape[1]} columns, but this "
                f"{type(self).__name__} has {self.components_.shape[0]} components."
            )
        components = self.components_
        pre_bias = getattr(self, self._attribute("pre_bias"))
        if components.dtype != codes.dtype:
            components = xp.astype(components, codes.dtype)
            pre_bias = xp.astype(pre_bias, codes.dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            X_hat = codes @ components + pre_bias
        check_finite(X_hat, "The reconstruction", f"overflows {X_hat.dtype}")
        return X_hat

    @own_precision
    def score(self, X: Data, y: object = None) -> float:
        """Explained variance of the reconstruction.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to encode and to reconstruct.
        y : Ignored
            Not used, present for the API's sake.

        Returns
        -------
        float
            ``1 - ||X - X_hat||^2 / ||X - mean||^2``, at most 1. Where all rows of
            ``X`` are equal: 1 if they are reconstructed exactly, otherwise 0.
        """
        X = self._validate_new(X)
        _, spread = centre_and_spread(as_rows(X))
        squares = 0.0
        for i, (rows, code, model) in enumerate(self._encode(X)):
            with torch.no_grad():
                error = rows - model.decode(code)
            finite = error.isfinite().all(1)
            check_batch(finite, error.dtype, "The reconstruction", i, X.shape[0])
            error = error.cpu().double() / (spread or 1.0)
            squares += float(error.square().sum())
        if spread == 0.0:
            return float(squares == 0.0)
        return 1 - squares / X.shape[0]

    # Inference

    def _validate_new(self, X: Data, method: str = "transform") -> AnyArray:
        """Check rows that are to be encoded."""
        check_is_fitted(self)
        X = validate_rows(self, X, reset=False)
        check_same_namespace(X, self, attribute="components_", method=method)
        return X

    def _encode(self, X: AnyArray) -> Iterator[tuple[Tensor, Code, Dictionary]]:
        """Yield each batch of rows, its code, and the model that encoded it."""
        rows = as_rows(X)
        batches = RowBatches(rows, _INFERENCE_ROWS, resolve_device(self.device))
        model = self._fitted_model().eval()
        for i, batch in enumerate(batches):
            with torch.no_grad():
                if i == 0:
                    model.to(batch).prepare_(len(rows))
                code = model.encode(batch)
            check_batch(
                code.finite_rows(), code.values.dtype, "The encoding", i, len(rows)
            )
            yield batch, code, model

    def _fitted_model(self, n_samples: int = 1) -> Dictionary:
        """Build the model with the fitted parameters."""
        attributes = {
            parameter.attribute: torch.tensor(
                as_numpy(getattr(self, parameter.attribute)), device="cpu"
            )
            for parameter in self._model.fitted.values()
        }
        model = self._new_model(attributes["components_"], n_samples)
        model.load_(attributes)
        return model

    # Training

    @fails_together
    def _learn(
        self,
        X: Data,
        y: Data,
        *,
        streaming: bool,
        go_on: bool,
        order: torch.Generator | None = None,
        read: Reader = epochs,
    ) -> None:
        """Train for all epochs of ``fit``, or for the one epoch of ``partial_fit``."""
        X = validate_rows(self, X, reset=not go_on)
        together = ranks()
        together.check_same((type(self).__name__, *X.shape, str(X.dtype)), "the fit")
        # A dictionary that was trained elsewhere has no stream to go on with.
        resumes = streaming and go_on and hasattr(self, "n_steps_")
        inputs, targets = self._inputs_and_targets(X, y, go_on=go_on, resumes=resumes)
        rows = inputs.rows
        max_iter = 1 if streaming else self.max_iter
        n_held_out = 0 if streaming else self._n_held_out(rows)
        n_samples = len(rows) - n_held_out
        n_epochs = 0 if streaming else max_iter
        batch_size = min(self._batch_size(n_samples, n_epochs), n_samples)
        if self.batch_size == "auto" and isinstance(rows, StoredRows):
            batch_size = min(batch_size, rows.buffer_rows)

        seed = shared_seed(self.random_state)
        checkpoint = checkpoint_among(self.callbacks)
        if checkpoint is not None:
            if streaming:
                raise ValueError(
                    "partial_fit writes no checkpoints: take the Checkpoint out of "
                    "callbacks, and save the estimator between the calls."
                )
            start = {p.attribute for p in self._model.fitted.values()} if go_on else ()
            problem = problem_of(
                self,
                seed,
                {attribute: getattr(self, attribute) for attribute in sorted(start)},
                {"X": inputs} if targets is inputs else {"X": inputs, "y": targets},
                batch_size,
                n_held_out,
            )
            seed = checkpoint.open_(problem, seed, together)
        generator = torch.Generator("cpu").manual_seed(seed)
        order = order or generator

        if go_on:
            model = self._fitted_model(n_samples)
            model.in_stream = streaming
            shape, width = tuple(model.atoms.shape), len(targets.mean)
            self._check_shape(shape, "The dictionary to go on from", width)
        if resumes:
            pre_bias = model.pre_bias.detach().clone()
            # Without a scale, all but the pre-bias was as it would be after it.
            model.rescale_(targets.gained)
            model.pre_bias.data.copy_(pre_bias)
            n_samples_seen = self.n_samples_seen_ + len(rows)
            weight = len(rows) / n_samples_seen
            model.follow_(pre_bias + (targets.mean - pre_bias) * weight)
        else:
            n_samples_seen = len(rows)
            if go_on:
                model.follow_(targets.mean)
            else:
                model = self._start(
                    inputs, targets, n_samples, generator, order, streaming=streaming
                )
                model.rescale_pairs_(inputs.divisor, targets.divisor)
        model.rescale_pairs_(1 / inputs.divisor, 1 / targets.divisor)

        held_out = None
        if n_held_out:
            held_out = draw_rows(rows, n_held_out, order).sort().values
        n_steps = max_iter * -(-n_samples // batch_size)
        if not streaming and 0 < n_steps <= self.warmup_steps:
            warn(
                f"The learning rate rises over warmup_steps={self.warmup_steps}, and "
                f"there are {n_steps} steps in all: it never reaches its full value."
            )
        net = DictionaryNet(
            model.to(to_device(rows[:0], resolve_device(self.device))),
            lr=self.learning_rate,
            warmup_steps=self.warmup_steps,
            batch_size=batch_size,
            generator=generator,
            order=order,
            read=read,
            scale=targets.divisor,
            variance=targets.variance,
            targets=None if targets is inputs else targets.rows,
            input_scale=inputs.divisor,
            n_steps=None if streaming else n_steps,
            held_out=held_out,
            tol=self._tolerance(model, n_held_out),
            n_iter_no_change=self.n_iter_no_change,
            verbose=self.verbose,
            callbacks=self.callbacks,
            ranks=together,
        ).start()
        if resumes:
            if self._training_state is None:
                net.clock.n_steps = self.n_steps_
            else:
                restore(net, self._training_state)
        history = net.train(rows, max_iter)
        if resumes:
            earlier = self.history_
            history = [{**record, "epoch": len(earlier) + 1} for record in history]
            history = [*earlier, *history]

        net.module_.rescale_pairs_(inputs.divisor, targets.divisor)
        self._keep(net, X)
        self.n_samples_seen_ = n_samples_seen
        self._scale = targets.scale
        self.history_, self.n_iter_ = history, len(history)
        self._training_state = state_of(net) if streaming else None

    def _inputs_and_targets(
        self, X: AnyArray, y: Data, *, go_on: bool, resumes: bool
    ) -> tuple[ScaledRows, ScaledRows]:
        """Pair the rows with what is to be rebuilt from them: the rows themselves."""
        before = getattr(self, "_scale", 0.0) if go_on else 0.0
        rows = ScaledRows(as_rows(X), before, ranks=ranks())
        if resumes:
            rows.keep_scale(self.pre_bias_, "pre_bias_")
        return rows, rows

    @property
    def _has_begun(self) -> bool:
        """Whether there is a fit to go on from."""
        return self.__sklearn_is_fitted__()

    def _tolerance(self, model: Dictionary, n_held_out: int) -> float | None:
        """Rise of the explained variance below which an epoch is flat."""
        if self.tol != "auto":
            return self.tol
        comparable = n_held_out or not model.is_judged_calibrated
        return 1e-3 if model.keeps_best_epoch and comparable else None

    @property
    def _has_encoder(self) -> bool:
        """Whether it learns an encoder beside its atoms."""
        return "encoder" in self._model.fitted

    def _attribute(self, parameter: str) -> str:
        """Name of the attribute that holds a parameter of the model."""
        return self._model.fitted[parameter].attribute

    def _start(
        self,
        inputs: ScaledRows,
        targets: ScaledRows,
        n_samples: int,
        generator: torch.Generator,
        order: torch.Generator,
        *,
        streaming: bool,
    ) -> Dictionary:
        """Build the model for its first step, on rows divided by the scale."""
        chosen = draw_rows(targets.rows, _START_ROWS, order)
        sample, mean = targets.sample(chosen), targets.mean / targets.divisor
        x = sample if inputs is targets else inputs.sample(chosen)
        if order is not generator:
            # Rows that many dictionaries share; which become atoms is for each to draw.
            mixed = torch.randperm(len(sample), generator=generator, device="cpu")
            x, sample = x[mixed], sample[mixed]
        atoms = self._initial_atoms(sample - mean, generator)
        self._check_sparsity(len(atoms))
        model = self._new_model(atoms, n_samples)
        model.in_stream = streaming
        model.start_pairs_(x, inputs.mean / inputs.divisor, sample, mean)
        model.project_()
        return model

    def _check_sparsity(self, n_components: int) -> None:
        """Warn if the parameters give codes that are not sparse."""
        if self.k is not None and self.k > n_components:
            warn(
                f"k={self.k} is larger than the {n_components} components: all of them "
                "may be active in a row, so the codes are not sparse."
            )

    def _initial_atoms(self, centred: Tensor, generator: torch.Generator) -> Tensor:
        if not isinstance(self.init, str):
            atoms = check_array(
                as_numpy(self.init), dtype=np.float64, input_name="init"
            )
            self._check_shape(atoms.shape, "init", centred.shape[1])
            zero = ~atoms.any(axis=1)
            if zero.any():
                raise ValueError(
                    f"{zero.sum()} of the {len(atoms)} atoms of init are zero (the "
                    f"first is atom {zero.argmax()}): they have no direction."
                )
            return unit_rows(torch.tensor(atoms, device="cpu")).to(centred.dtype)
        n_components = self._n_components
        shape = (n_components, centred.shape[1])
        atoms = random_unit_rows(shape, generator, centred.dtype)
        if self.init == "samples":
            # Rows at the centre have no direction. Where rows are too few, the
            # remaining atoms stay random.
            rows = centred[centred.any(1)][:n_components]
            atoms[: len(rows)] = unit_rows(rows)
        return atoms

    @property
    def _n_components(self) -> int:
        if self.n_components is not None:
            return self.n_components
        if not isinstance(self.init, str):
            return len(self.init)
        return 8 * self.n_features_in_

    def _check_shape(self, shape: tuple[int, ...], what: str, n_columns: int) -> None:
        expected = (self._n_components, n_columns)
        if shape != expected:
            symbols = ", ".join(map(str, self._model.fitted["atoms"].rule.shape))
            raise ValueError(
                f"{what} has shape {tuple(shape)}, but ({symbols}) is {expected}."
            )

    def _n_held_out(self, rows: Table) -> int:
        """Number of rows for validation. They are kept in memory."""
        if self.validation_fraction is None or self.max_iter == 0:
            return 0
        n_held_out = int(self.validation_fraction * len(rows))
        if isinstance(rows, StoredRows):
            n_held_out = min(n_held_out, rows.buffer_rows, _MOST_HELD_OUT)
        return n_held_out if n_held_out >= _LEAST_HELD_OUT else 0

    def _batch_size(self, n_samples: int, n_epochs: int) -> int:
        """Rows of a step; a stream has 0 epochs, because nobody knows its length."""
        if self.batch_size != "auto":
            return self.batch_size
        rows = n_samples // 16
        if n_epochs and self._model.least_steps:
            rows = min(rows, n_samples * n_epochs // self._model.least_steps)
        return min(max(rows, _LEAST_BATCH), _LARGEST_BATCH)

    def _keep(self, net: DictionaryNet, X: AnyArray) -> None:
        """Set the fitted attributes from the net, in the namespace of ``X``."""
        model = net.module_
        values = {
            parameter.attribute: model.get_parameter(name)
            for name, parameter in self._model.fitted.items()
        }
        sound = all(torch.isfinite(value).all() for value in values.values())
        # An atom whose norm overflows is scaled to zero.
        if not (sound and model.atoms.any(1).all()):
            raise ValueError(
                "Training diverged: the parameters are no longer finite. Lower "
                f"learning_rate={self.learning_rate}; in partial_fit, pass rows on "
                "the scale of the first ones."
            )
        for name, value in values.items():
            setattr(self, name, like(value, X))
        density = net.fired.cpu().double() / net.rows_seen
        self._keep_density(like(density, X))
        self.n_steps_ = net.clock.n_steps

    def _keep_density(self, density: AnyArray) -> None:
        """Set how often each feature fires, and which are dead."""
        self.feature_density_ = density
        self.dead_features_ = density < _DEAD_DENSITY

    def _inconsistency(self) -> str | None:
        """Say what is wrong with an estimator from a file, beyond its table's rules."""
        # The only callables in a file are types and ufuncs, and neither is a callback.
        if self.callbacks:
            return "callbacks are functions, which files do not hold"
        return None

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "components_")

    @property
    def _n_features_out(self) -> int:
        return self.components_.shape[0]

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.array_api_support = not self.sparse_output
        return tags


# Constraints of parameters that several dictionaries have.
AUXILIARY_LOSS = {
    "auxiliary_weight": [Interval(Real, 0, None, closed="left")],
    "dead_after": [Interval(Real, 0, None, closed="neither")],
}
AUTOCAST = {"autocast": ["boolean"]}
AUTO_TOL = {
    "tol": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"}), None],
}
TRAINING_FACTOR = {
    "training_factor": [Interval(Real, 0, None, closed="neither")],
}
PENALTY = {
    "alpha": [Interval(Real, 0, None, closed="left")],
    "k": [Interval(Real, 0, None, closed="neither"), None],
}
PURSUIT = {
    "atoms_per_step": [Interval(Integral, 1, None, closed="left")],
    "selection": [StrOptions({"positive", "absolute"})],
    "refit": ["boolean", StrOptions({"every_step"})],
    "reset_similarity": [Interval(Real, 0, 1, closed="both")],
    "reset_every": [Interval(Integral, 1, None, closed="left")],
}


class WantedSparsity(DictionaryEstimator):
    """Base of the estimators whose model always has a number ``k``."""

    def _n_active(self, n_components: int, n_features: int) -> float:
        return min(self.k or default_k(n_features), n_components)


class FixedSparsity(WantedSparsity):
    """Base of the estimators whose codes have at most ``k`` non-zeros per row."""

    k: int | None
    _parameter_constraints: dict = {
        **DictionaryEstimator._parameter_constraints,
        "k": [Interval(Integral, 1, None, closed="left"), None],
    }

    def _n_active(self, n_components: int, n_features: int) -> int:
        return int(super()._n_active(n_components, n_features))


class MeanSparsity(WantedSparsity):
    """Base of the estimators whose codes have ``k`` non-zeros a row in the mean."""

    _parameter_constraints: dict = {
        **DictionaryEstimator._parameter_constraints,
        "k": [Interval(Real, 0, None, closed="neither"), None],
    }


def shared_seed(random_state: Seed) -> int:
    """Draw a seed, the same for all processes that train together."""
    seed = check_random_state(random_state).randint(np.iinfo(np.int32).max)
    # Without a seed of the user, that of the first process holds for all.
    same = torch.tensor(int(seed), device="cpu")
    ranks().follow_first_([same])
    return int(same)


def default_k(n_features: int) -> int:
    """Number of non-zeros of a code where the user sets none."""
    return max(1, n_features // 10)


def check_batch(
    finite: Tensor, dtype: torch.dtype, what: str, i: int, n_rows: int
) -> None:
    """Raise a ValueError if a row of the ``i``-th batch at inference overflowed."""
    bad = ~finite
    if bad.any():
        raise ValueError(
            f"{what} overflows {str(dtype).removeprefix('torch.')} in {bad.sum()} of "
            f"{n_rows} rows, the first of them row "
            f"{i * _INFERENCE_ROWS + int(bad.int().argmax())}."
        )
