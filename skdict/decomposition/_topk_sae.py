"""The TopK sparse autoencoder."""

from __future__ import annotations

from numbers import Real
from typing import ClassVar

import torch
from sklearn.utils._param_validation import Interval

from skdict._validation import as_numpy
from skdict.decomposition._base import _SparseDictionary
from skdict.modules import TopKAutoencoder
from skdict.ops.centre import geometric_median
from skdict.training import TopKNet


class TopKSAE(_SparseDictionary):
    _parameter_constraints: ClassVar[dict] = {
        **_SparseDictionary._parameter_constraints,
        "auxiliary_weight": [Interval(Real, 0, None, closed="left")],
        "dead_after": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        n_components=None,
        k=None,
        *,
        auxiliary_weight=1 / 32,
        dead_after=1.0,
        learning_rate=3e-3,
        batch_size="auto",
        max_iter=100,
        tol=1e-3,
        n_iter_no_change=5,
        init="samples",
        warm_start=False,
        sparse_output=True,
        device="auto",
        random_state=None,
        verbose=0,
        callbacks=None,
    ):
        self.n_components = n_components
        self.k = k
        self.auxiliary_weight = auxiliary_weight
        self.dead_after = dead_after
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.init = init
        self.warm_start = warm_start
        self.sparse_output = sparse_output
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.callbacks = callbacks

    def _new_module(self, atoms, rows, mean):
        # Tied: the encoder starts as the decoder, both on unit rows.
        atoms = torch.nn.functional.normalize(atoms)
        return TopKAutoencoder(
            atoms, geometric_median(rows), self._n_active(*atoms.shape)
        )

    def _fitted_module(self):
        atoms, pre_bias, encoder, encoder_bias = (
            torch.tensor(as_numpy(array))
            for array in (
                self.components_,
                self.pre_bias_,
                self.encoder_components_,
                self.encoder_bias_,
            )
        )
        return TopKAutoencoder(
            atoms,
            pre_bias,
            self._n_active(*atoms.shape),
            encoder=encoder,
            encoder_bias=encoder_bias,
        )

    def _net(self, module, n_samples, **kwargs):
        return TopKNet(
            module,
            auxiliary_weight=self.auxiliary_weight,
            dead_after=self.dead_after * n_samples,
            **kwargs,
        )

    def _attributes(self, module):
        return {
            "components_": module.atoms,
            "pre_bias_": module.pre_bias,
            "encoder_components_": module.encoder,
            "encoder_bias_": module.encoder_bias,
        }
