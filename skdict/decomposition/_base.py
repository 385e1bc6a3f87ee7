"""What TopKSAE and ICFL share: all but the model and its optimiser."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from numbers import Integral, Real

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.utils import check_array, check_random_state
from sklearn.utils._array_api import check_same_namespace, get_namespace
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from skdict._validation import as_numpy, as_rows, like, validate_rows
from skdict.data import RowBatches, centre_and_spread, resolve_device
from skdict.modules import DictionaryModule
from skdict.ops import SparseCode
from skdict.ops.usage import random_unit_rows
from skdict.training import DictionaryNet, train

# Share of samples below which a feature counts as dead (the papers' threshold).
_DEAD_DENSITY = 1e-5
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
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left"), None],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "init": [StrOptions({"random", "samples"}), "array-like"],
        "warm_start": ["boolean"],
        "sparse_output": ["boolean"],
        "device": [str],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "callbacks": [list, tuple, None],
    }

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

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Learn the dictionary.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data. float16 and integers are converted to float32.
        y : Ignored
            Not used, present for the API's sake.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If ``X`` is empty or holds NaN or infinity, or if ``init`` or the
            dictionary of a warm start has another shape.
        """
        X = validate_rows(self, X, reset=True)
        rows = as_rows(X)
        mean, spread = centre_and_spread(rows)
        generator = self._new_generator()
        if self.warm_start and hasattr(self, "components_"):
            module = self._fitted_module()
            self._check_shape(tuple(module.atoms.shape), "The warm start's dictionary")
        else:
            module = self._start(rows, mean, spread, generator)
        net = self._start_net(
            module, rows, generator, scale=spread or 1.0, max_iter=self.max_iter
        )
        self.history_ = self._train(net, rows, spread, max_iter=self.max_iter)
        self.n_iter_ = len(self.history_)
        self._training_state = None
        return self._keep(net, X)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None):
        """Go on learning with one pass over ``X``.

        The first call fixes the scale of the data and the initial atoms, so it
        should be a fair sample. The state of the optimiser is kept between
        calls; the learning rate falls slowly instead of ending at zero.

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
            If ``X`` is empty, holds NaN or infinity, or has another number of
            features than before.
        """
        first = not hasattr(self, "components_")
        X = validate_rows(self, X, reset=first)
        rows = as_rows(X)
        mean, spread = centre_and_spread(rows)
        generator = self._new_generator()
        if first:
            module = self._start(rows, mean, spread, generator)
            self.history_, self.n_iter_, self._training_state = [], 0, None
        else:
            module = self._fitted_module()
        state = self._training_state
        scale = (spread or 1.0) if state is None else float(state["scale"])
        net = self._start_net(module, rows, generator, scale=scale, max_iter=None)
        if state is not None:
            net.restore(state)
        (record,) = self._train(net, rows, spread, max_iter=1)
        self.n_iter_ += 1
        self.history_ = [*self.history_, {**record, "epoch": self.n_iter_}]
        self._training_state = {"scale": np.array(scale), **net.state()}
        return self._keep(net, X)

    def transform(self, X):
        """Encode rows as sparse codes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to encode.

        Returns
        -------
        codes : CSR matrix or array of shape (n_samples, n_components)
            At most ``k`` non-zeros a row; a CSR matrix with sorted indices and no
            explicit zeros where ``sparse_output`` is True. float32 or float64 as
            the input.
        """
        X = self._validate_new(X)
        n_components = self.components_.shape[0]
        if self.sparse_output:
            parts = [code.to_csr(n_components) for _, _, code in self._encode(X)]
            return sp.vstack(parts, format="csr")
        dense = [code.to_dense(n_components) for _, _, code in self._encode(X)]
        return like(torch.cat(dense), X)

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
        """
        check_is_fitted(self)
        if not sp.issparse(X):
            check_same_namespace(
                X, self, attribute="components_", method="inverse_transform"
            )
        xp, _ = get_namespace(X)
        codes = check_array(
            X, accept_sparse="csr", dtype=[xp.float32, xp.float64], input_name="X"
        )
        if codes.shape[1] != self.components_.shape[0]:
            raise ValueError(
                f"The codes have {codes.shape[1]} columns, but this "
                f"{type(self).__name__} has {self.components_.shape[0]} components."
            )
        components, pre_bias = self.components_, self.pre_bias_
        if components.dtype != codes.dtype:
            components = xp.astype(components, codes.dtype)
            pre_bias = xp.astype(pre_bias, codes.dtype)
        return codes @ components + pre_bias

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
        for rows, x_hat, _ in self._encode(X):
            error = (rows - x_hat) / (spread or 1.0)
            squares += float(error.double().square().sum())
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

    def _encode(self, X) -> Iterator[tuple[Tensor, Tensor, SparseCode]]:
        """Rows, their reconstruction and their code, one batch after the other."""
        rows = as_rows(X)
        device = resolve_device(self.device)
        batches = RowBatches(rows, _INFERENCE_ROWS, device)
        module = self._fitted_module()
        with torch.no_grad():
            for i, batch in enumerate(batches):
                if i == 0:
                    module.to(batch).prepare_(len(rows))
                yield batch, *module(batch)

    # Training

    def _new_generator(self) -> torch.Generator:
        seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
        return torch.Generator().manual_seed(int(seed))

    def _start(
        self,
        rows: np.ndarray | Tensor,
        mean: Tensor,
        spread: float,
        generator: torch.Generator,
    ) -> DictionaryModule:
        """The model before its first step."""
        n_samples = len(rows)
        chosen = torch.randperm(n_samples, generator=generator)[:_START_ROWS]
        (sample,) = RowBatches(
            rows[chosen.numpy() if isinstance(rows, np.ndarray) else chosen],
            _START_ROWS,
            torch.device("cpu"),
            scale=spread or 1.0,
        )
        atoms = self._initial_atoms(sample - mean / (spread or 1.0), generator)
        module = self._new_module(atoms, sample, mean / (spread or 1.0))
        module.project_()
        module.rescale_(spread or 1.0)
        return module

    def _initial_atoms(self, centred: Tensor, generator: torch.Generator) -> Tensor:
        n_features = centred.shape[1]
        if not isinstance(self.init, str):
            atoms = check_array(
                as_numpy(self.init), dtype=as_numpy(centred).dtype, input_name="init"
            )
            self._check_shape(atoms.shape, "init")
            zero = ~atoms.any(axis=1)
            if zero.any():
                raise ValueError(
                    f"{zero.sum()} of the {len(atoms)} atoms of init are zero (the "
                    f"first is atom {zero.argmax()}): they have no direction."
                )
            return torch.tensor(atoms / abs(atoms).max(axis=1, keepdims=True))
        n_components = self._n_components(n_features)
        atoms = random_unit_rows((n_components, n_features), generator, centred.dtype)
        if self.init == "samples":
            # Rows at the centre have no direction, and there may be too few rows.
            rows = centred[centred.any(1)][:n_components]
            atoms[: len(rows)] = rows
        return atoms

    def _n_components(self, n_features: int) -> int:
        if self.n_components is not None:
            return self.n_components
        if not isinstance(self.init, str):
            return len(self.init)
        return 8 * n_features

    def _n_active(self, n_components: int, n_features: int) -> int:
        k = max(1, n_features // 10) if self.k is None else self.k
        return min(k, n_components)

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
    ) -> DictionaryNet:
        """The net of ``max_iter`` passes over the rows, or of an endless stream."""
        n_samples = len(rows)
        batch_size = min(self._batch_size(n_samples), n_samples)
        steps = -(-n_samples // batch_size)
        device = resolve_device(self.device)
        module.rescale_(1 / scale)
        return self._net(
            module.to(device),
            n_samples,
            lr=self.learning_rate,
            batch_size=batch_size,
            generator=generator,
            scale=scale,
            steps_left=None if max_iter is None else max_iter * steps,
        ).start()

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

    def _keep(self, net: DictionaryNet, X):
        """Turn what the net has learned into fitted attributes, like ``X``."""
        module = net.module_
        module.rescale_(net.scale)
        for name, parameter in self._attributes(module).items():
            setattr(self, name, like(parameter, X))
        density = net.fired.cpu().double() / net.rows_seen
        self.feature_density_ = like(density, X)
        self.dead_features_ = like(density < _DEAD_DENSITY, X)
        self.n_steps_ = net.n_steps
        return self

    @property
    def _n_features_out(self) -> int:
        return self.components_.shape[0]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.array_api_support = not self.sparse_output
        return tags
