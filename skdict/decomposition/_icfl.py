"""Iterative Codebook Feature Learning."""

from __future__ import annotations

from numbers import Integral, Real
from typing import ClassVar

import torch
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor

from skdict._validation import as_numpy
from skdict.decomposition._base import _SparseDictionary
from skdict.modules import PursuitDictionary
from skdict.training import PursuitNet


class ICFL(_SparseDictionary):
    _parameter_constraints: ClassVar[dict] = {
        **_SparseDictionary._parameter_constraints,
        "atoms_per_step": [Interval(Integral, 1, None, closed="left")],
        "selection": [StrOptions({"positive", "absolute"})],
        "refit": ["boolean"],
        "reset_similarity": [Interval(Real, 0, 1, closed="both")],
        "reset_every": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        n_components=None,
        k=None,
        *,
        atoms_per_step=5,
        selection="positive",
        refit=False,
        reset_similarity=0.9,
        reset_every=100,
        learning_rate=0.5,
        batch_size="auto",
        max_iter=30,
        tol=1e-3,
        n_iter_no_change=5,
        init="random",
        warm_start=False,
        sparse_output=True,
        device="auto",
        random_state=None,
        verbose=0,
        callbacks=None,
    ):
        self.n_components = n_components
        self.k = k
        self.atoms_per_step = atoms_per_step
        self.selection = selection
        self.refit = refit
        self.reset_similarity = reset_similarity
        self.reset_every = reset_every
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

    def _module(self, atoms: Tensor, pre_bias: Tensor) -> PursuitDictionary:
        return PursuitDictionary(
            atoms,
            pre_bias,
            self._n_active(*atoms.shape),
            atoms_per_step=self.atoms_per_step,
            selection=self.selection,
            refit=self.refit,
        )

    def _new_module(self, atoms, rows, mean):
        return self._module(atoms, mean)

    def _fitted_module(self):
        return self._module(
            torch.tensor(as_numpy(self.components_)),
            torch.tensor(as_numpy(self.pre_bias_)),
        )

    def _net(self, module, n_samples, **kwargs):
        return PursuitNet(
            module,
            reset_similarity=self.reset_similarity,
            reset_every=self.reset_every,
            **kwargs,
        )

    def _attributes(self, module):
        return {"components_": module.atoms, "pre_bias_": module.pre_bias}
