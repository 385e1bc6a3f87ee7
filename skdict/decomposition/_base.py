"""What TopKSAE and ICFL share: all but the model and its optimiser."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from numbers import Integral, Real

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from skdict._guards import learns, own_precision
from skdict._utils.checks import check_floats
from skdict._utils.constraints import Callbacks, Interval
from skdict._utils.fitted import (
    Array,
    Count,
    Fitted,
    History,
    IfThere,
    Names,
    Number,
    OrNone,
    Record,
)
from skdict._utils.sklearn_private import (
    StrOptions,
    align_api_if_sparse,
    check_same_namespace,
    fit_context,
    get_namespace,
)
from skdict._utils.warn import warn
from skdict.modules import DictionaryModule
from skdict.ops import SparseCode
from skdict.ops.usage import random_unit_rows
from skdict.rows import (
    RowBatches,
    as_numpy,
    as_rows,
    centre_and_spread,
    check_finite,
    like,
    resolve_device,
    to_device,
    validate_rows,
)
from skdict.training import DictionaryNet, train

# Share of samples below which a feature counts as dead (the papers' threshold).
_DEAD_DENSITY = 1e-5
# What the records of a history have in common.
_RECORD_KEYS = (
    "epoch",
    "loss",
    "explained_variance",
    "dead_share",
    "resets",
    "learning_rate",
    "seconds",
)
# Fewer rows than this are no measure of an epoch.
_LEAST_HELD_OUT = 5
# Rows per batch at inference; the ops cut them further to fit the cache.
_INFERENCE_ROWS = 8192
# Rows from which the initial atoms and the pre-bias are taken.
_START_ROWS = 8192


class _SparseDictionary(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator
):
    """Base of the dictionary estimators."""

    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "k": [Interval(Integral, 1, None, closed="left"), None],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
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

    _fitted: tuple[dict[str, Fitted], ...] = (
        {
            "n_features_in_": Count("n_features", low=1),
            "feature_names_in_": IfThere(Names("n_features")),
            "components_": Array(("n_components", "n_features")),
            "pre_bias_": Array(("n_features",)),
            "feature_density_": Array(("n_components",), low=0, high=1),
            "dead_features_": Array(("n_components",), kind="b"),
            "n_iter_": Count(),
            "n_steps_": Count(),
            "n_samples_seen_": Count(low=1),
            "_scale": Number(low=0),
            "history_": History(_RECORD_KEYS),
        },
    )

    @abstractmethod
    def _new_module(
        self, atoms: Tensor, rows: Tensor, mean: Tensor
    ) -> DictionaryModule:
        """The model before its first step; ``rows`` is a sample of the data."""

    @abstractmethod
    def _fitted_module(self) -> DictionaryModule:
        """The model with the fitted parameters."""

    @abstractmethod
    def _net(self, module: DictionaryModule, n_samples: int, **kwargs) -> DictionaryNet:
        """The net that trains the model on passes over ``n_samples`` rows."""

    @abstractmethod
    def _attributes(self, module: DictionaryModule) -> dict[str, Tensor]:
        """The parameters of the model by the names of the fitted attributes."""

    @fit_context(prefer_skip_nested_validation=True)
    @learns
    def fit(self, X, y=None):
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
            if ``init`` or the dictionary of a warm start has another shape, or if
            training diverges.
        """
        go_on = self.warm_start and self.__sklearn_is_fitted__()
        X = validate_rows(self, X, reset=not go_on)
        rows = as_rows(X)
        mean, spread = centre_and_spread(rows)
        # Rows that do not vary say nothing of the scale.
        scale = _working_scale(mean, spread) or (self._scale if go_on else 0.0)
        generator = self._new_generator()
        if go_on:
            module = self._last_module()
            module.centre_(mean)
        else:
            module = self._start(rows, mean, scale or 1.0, generator)
        held_out = self._held_out(len(rows), generator)
        net = self._start_net(
            module,
            rows,
            generator,
            scale=scale or 1.0,
            max_iter=self.max_iter,
            held_out=held_out,
        )
        history = self._train(net, rows, spread, max_iter=self.max_iter)
        self._keep(net, X)
        self.n_samples_seen_ = len(rows)
        self._scale = scale
        self.history_, self.n_iter_ = history, len(history)
        self._training_state = None
        return self

    @fit_context(prefer_skip_nested_validation=True)
    @learns
    def partial_fit(self, X, y=None):
        """Go on learning with one pass over ``X``.

        The first call fixes the scale of the data and the initial atoms, so it
        should be a fair sample. The state of the optimiser is kept between
        calls; the learning rate falls slowly instead of ending at zero, after
        :meth:`fit` from where so many steps would have brought it.

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
            has another number of features than before, or if training diverges.
        """
        first = not self.__sklearn_is_fitted__()
        X = validate_rows(self, X, reset=first)
        rows = as_rows(X)
        mean, spread = centre_and_spread(rows)
        generator = self._new_generator()
        history = [] if first else self.history_
        state = None if first else self._training_state
        # Zero until rows have varied, in a call or from call to call.
        scale = 0.0 if first else self._scale
        if not (first or scale or spread):
            pre_bias = torch.as_tensor(as_numpy(self.pre_bias_), device="cpu")
            spread = float((mean.double() - pre_bias.double()).norm())
        scale = scale or _working_scale(mean, spread)
        if first:
            module = self._start(rows, mean, scale or 1.0, generator)
        else:
            module = self._last_module()
            seen = self.n_samples_seen_ + len(rows)
            before = module.pre_bias.detach()
            module.centre_(before + (mean - before) * (len(rows) / seen))
        net = self._start_net(
            module, rows, generator, scale=scale or 1.0, max_iter=None
        )
        if state is not None:
            net.restore(state)
        elif not first:
            net.n_steps = self.n_steps_
        (record,) = self._train(net, rows, spread, max_iter=1)
        self._keep(net, X)
        self.n_samples_seen_ = len(rows) + (0 if first else self.n_samples_seen_)
        self.n_iter_ = len(history) + 1
        self.history_ = [*history, {**record, "epoch": self.n_iter_}]
        self._scale = scale
        self._training_state = net.state()
        return self

    @own_precision
    def transform(self, X):
        """Encode rows as sparse codes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to encode.

        Returns
        -------
        codes : CSR matrix or array of shape (n_samples, n_components)
            At most ``k`` non-zeros a row; CSR with sorted indices and no explicit
            zeros where ``sparse_output`` is True, a matrix or an array as
            scikit-learn's ``sparse_interface`` has it. float32 or float64 as the
            input.

        Raises
        ------
        ValueError
            If ``X`` is empty, holds NaN or infinity, has another number of features
            than in :meth:`fit`, or is so large that the codes overflow its dtype.
        """
        X = self._validate_new(X)
        n_components = self.components_.shape[0]
        if self.sparse_output:
            parts = [code.to_csr(n_components) for _, code, _ in self._encode(X)]
            return align_api_if_sparse(sp.vstack(parts, format="csr"))
        dense = [code.to_dense(n_components) for _, code, _ in self._encode(X)]
        return like(torch.cat(dense), X)

    @own_precision
    def inverse_transform(self, X):
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
            If ``X`` is empty, holds NaN or infinity, has another number of columns
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
        components, pre_bias = self.components_, self.pre_bias_
        if components.dtype != codes.dtype:
            components = xp.astype(components, codes.dtype)
            pre_bias = xp.astype(pre_bias, codes.dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            X_hat = codes @ components + pre_bias
        check_finite(X_hat, f"The reconstruction overflows {X_hat.dtype}")
        return X_hat

    @own_precision
    def score(self, X, y=None):
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
        for i, (rows, code, module) in enumerate(self._encode(X)):
            with torch.no_grad():
                error = rows - module.decode(code)
            _check_batch(error, "The reconstruction", i, X.shape[0])
            error = error.cpu().double() / (spread or 1.0)
            squares += float(error.square().sum())
        if spread == 0.0:
            return float(squares == 0.0)
        return 1 - squares / X.shape[0]

    # Inference

    def _validate_new(self, X):
        """Rows to encode, checked."""
        check_is_fitted(self)
        X = validate_rows(self, X, reset=False)
        check_same_namespace(X, self, attribute="components_", method="transform")
        return X

    def _encode(self, X) -> Iterator[tuple[Tensor, SparseCode, DictionaryModule]]:
        """Rows and their code, one batch after the other, and what encoded them."""
        rows = as_rows(X)
        device = resolve_device(self.device)
        batches = RowBatches(rows, _INFERENCE_ROWS, device)
        module = self._fitted_module()
        for i, batch in enumerate(batches):
            with torch.no_grad():
                if i == 0:
                    module.to(batch).prepare_(len(rows))
                code = module.encode(batch)
            _check_batch(code.values, "The encoding", i, len(rows))
            yield batch, code, module

    # Training

    def _new_generator(self) -> torch.Generator:
        seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
        return torch.Generator("cpu").manual_seed(int(seed))

    def _start(
        self,
        rows: np.ndarray | Tensor,
        mean: Tensor,
        scale: float,
        generator: torch.Generator,
    ) -> DictionaryModule:
        """The model before its first step."""
        n_samples = len(rows)
        chosen = torch.randperm(n_samples, generator=generator, device="cpu")
        chosen = chosen[:_START_ROWS]
        (sample,) = RowBatches(
            rows[_index_for(rows, chosen)],
            _START_ROWS,
            torch.device("cpu"),
            scale=scale,
        )
        atoms = self._initial_atoms(sample - mean / scale, generator)
        self._warn_of_dense_codes(len(atoms))
        module = self._new_module(atoms, sample, mean / scale)
        module.project_()
        module.rescale_(scale)
        return module

    def _warn_of_dense_codes(self, n_components: int) -> None:
        if self.k is not None and self.k > n_components:
            warn(
                f"k={self.k} is larger than the {n_components} components: all of them "
                "may be active in a row, so the codes are not sparse."
            )

    def _last_module(self) -> DictionaryModule:
        """The fitted model, to go on from."""
        module = self._fitted_module()
        self._check_shape(tuple(module.atoms.shape), "The dictionary to go on from")
        return module

    def _initial_atoms(self, centred: Tensor, generator: torch.Generator) -> Tensor:
        n_features = centred.shape[1]
        if not isinstance(self.init, str):
            atoms = check_array(
                as_numpy(self.init), dtype=np.float64, input_name="init"
            )
            self._check_shape(atoms.shape, "init")
            zero = ~atoms.any(axis=1)
            if zero.any():
                raise ValueError(
                    f"{zero.sum()} of the {len(atoms)} atoms of init are zero (the "
                    f"first is atom {zero.argmax()}): they have no direction."
                )
            return _unit_rows(torch.tensor(atoms, device="cpu")).to(centred.dtype)
        n_components = self._n_components(n_features)
        atoms = random_unit_rows((n_components, n_features), generator, centred.dtype)
        if self.init == "samples":
            # Rows at the centre have no direction, and there may be too few rows.
            rows = centred[centred.any(1)][:n_components]
            atoms[: len(rows)] = _unit_rows(rows)
        return atoms

    def _n_components(self, n_features: int) -> int:
        if self.n_components is not None:
            return self.n_components
        if not isinstance(self.init, str):
            return len(self.init)
        return 8 * n_features

    def _n_active(self, n_components: int, n_features: int) -> int:
        return min(self.k or default_k(n_features), n_components)

    def _check_shape(self, shape: tuple[int, ...], what: str) -> None:
        expected = (self._n_components(self.n_features_in_), self.n_features_in_)
        if shape != expected:
            raise ValueError(
                f"{what} has shape {tuple(shape)}, but (n_components, n_features) is "
                f"{expected}."
            )

    def _start_net(
        self,
        module: DictionaryModule,
        rows: np.ndarray | Tensor,
        generator: torch.Generator,
        *,
        scale: float,
        max_iter: int | None,
        held_out: Tensor | None = None,
    ) -> DictionaryNet:
        """The net of ``max_iter`` passes over the rows, or of an endless stream."""
        n_samples = len(rows) if held_out is None else len(rows) - len(held_out)
        batch_size = min(self._batch_size(n_samples), n_samples)
        steps = -(-n_samples // batch_size)
        device = resolve_device(self.device)
        module.rescale_(1 / scale)
        return self._net(
            module.to(to_device(rows[:1], device)),
            n_samples,
            lr=self.learning_rate,
            batch_size=batch_size,
            generator=generator,
            scale=scale,
            steps_left=None if max_iter is None else max_iter * steps,
            held_out=held_out,
        ).start()

    def _held_out(self, n_samples: int, generator: torch.Generator) -> Tensor | None:
        """Rows for validation, in ascending order."""
        if self.validation_fraction is None or self.max_iter == 0:
            return None
        n_held_out = int(self.validation_fraction * n_samples)
        if n_held_out < _LEAST_HELD_OUT:
            return None
        order = torch.randperm(n_samples, generator=generator, device="cpu")
        return order[:n_held_out].sort().values

    def _batch_size(self, n_samples: int) -> int:
        if self.batch_size != "auto":
            return self.batch_size
        return min(max(n_samples // 16, 256), 4096)

    def _train(
        self,
        net: DictionaryNet,
        rows: np.ndarray | Tensor,
        spread: float,
        *,
        max_iter: int,
    ) -> list[dict]:
        return train(
            net,
            rows,
            max_iter=max_iter,
            variance=(spread / net.scale) ** 2,
            tol=self.tol,
            n_iter_no_change=self.n_iter_no_change,
            verbose=self.verbose,
            callbacks=self.callbacks,
        )

    def _keep(self, net: DictionaryNet, X) -> None:
        """Turn what the net has learned into fitted attributes, like ``X``."""
        module = net.module_
        module.rescale_(net.scale)
        parameters = self._attributes(module)
        sound = all(torch.isfinite(value).all() for value in parameters.values())
        # An atom whose norm overflows is scaled to zero.
        if not (sound and module.atoms.any(1).all()):
            raise ValueError(
                "Training diverged: the parameters are no longer finite. Lower "
                f"learning_rate={self.learning_rate}; in partial_fit, pass rows on "
                "the scale of the first ones."
            )
        for name, parameter in parameters.items():
            setattr(self, name, like(parameter, X))
        density = net.fired.cpu().double() / net.rows_seen
        self.feature_density_ = like(density, X)
        self.dead_features_ = like(density < _DEAD_DENSITY, X)
        self.n_steps_ = net.n_steps

    def _inconsistency(self) -> str | None:
        """What is wrong with an estimator from a file that its table cannot say."""
        # Only types and ufuncs come out of a file, and they are no callbacks.
        if self.callbacks:
            return "callbacks are functions, which files do not hold"
        return None

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "components_")

    @property
    def _n_features_out(self) -> int:
        return self.components_.shape[0]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.array_api_support = not self.sparse_output
        return tags


class _GeneratorState(Fitted):
    """The state of a generator of torch."""

    def check(self, value, name, sizes):
        Array(("n_bytes",), kind="u").check(value, name, {})
        try:
            torch.Generator("cpu").set_state(torch.tensor(value, device="cpu"))
        except (RuntimeError, TypeError) as error:
            raise ValueError(f"{name} is no state of a generator: {error}") from error


def stream_state(**arrays: Array) -> dict[str, Fitted]:
    """The table of what :meth:`partial_fit` keeps from call to call.

    Parameters
    ----------
    **arrays : Array
        What the net of the model adds; "__" stands for the dots of the names.
    """
    return {
        "_training_state": OrNone(
            Record(
                {
                    "generator": _GeneratorState(),
                    "n_steps": Array((), kind="i", low=0),
                    **{name.replace("__", "."): rule for name, rule in arrays.items()},
                }
            )
        )
    }


def _check_batch(values: Tensor, what: str, i: int, n_rows: int) -> None:
    """Raise a ValueError if a row of the ``i``-th batch at inference overflowed."""
    bad = ~torch.isfinite(values).all(1)
    if bad.any():
        raise ValueError(
            f"{what} overflows {_name(values.dtype)} in {bad.sum()} of {n_rows} rows "
            f"(the first is row {i * _INFERENCE_ROWS + int(bad.int().argmax())})."
        )


def _index_for(rows: np.ndarray | Tensor, index: Tensor) -> np.ndarray | Tensor:
    """The index of rows in the form that their array takes."""
    return index.numpy() if isinstance(rows, np.ndarray) else index.to(rows.device)


def default_k(n_features: int) -> int:
    """Non-zeros of a code where the user leaves them open."""
    return max(1, n_features // 10)


def _working_scale(mean: Tensor, spread: float) -> float:
    """What rows are divided by for training; 0 where they do not vary.

    Their spread, unless that would take them out of the range of their dtype:
    because they vary by subnormal numbers, or by next to nothing beside the mean.
    """
    info = torch.finfo(mean.dtype)
    if spread > info.max:
        raise ValueError(
            f"The rows are too large for {_name(mean.dtype)}: their spread of "
            f"{spread:.3g} overflows it. Scale X down."
        )
    if spread == 0:
        return 0.0
    return max(spread, float(mean.abs().max()) * info.eps**2, info.tiny)


def _unit_rows(rows: Tensor) -> Tensor:
    """Rows, none of them zero, scaled to unit norm whatever their magnitude."""
    return F.normalize(rows / rows.abs().amax(1, keepdim=True))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
