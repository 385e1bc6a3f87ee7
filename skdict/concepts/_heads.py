"""What a head says about rows: scikit-learn estimators and torch modules alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
from sklearn import config_context

from skdict._utils.arrays import blocks
from skdict._utils.labels import equals, labels_or_missing
from skdict._utils.steps import plain, steps_of, takes_frames

# Number of entries of rows that a head gets at a time.
_BLOCK_ENTRIES = 2**22
# A head is affine if an affine map gives its scores up to this fraction of their size.
_AFFINE = 1e-6
_AFFINE_FLOAT32 = 1e-4
# Rows on which that is tried.
_N_TRIED = 200
_RESPONSES = ("decision_function", "predict_proba", "predict")


class Head:
    """Scores of a head for rows.

    Parameters
    ----------
    head : estimator or torch module
        A fitted scikit-learn classifier or regressor, or a module from rows to scores.
    response : {"auto", "decision_function", "predict_proba", "predict"}
        What of an estimator is explained.
    """

    def __init__(self, head: Any, response: str = "auto") -> None:
        self.head = head
        self.is_module = hasattr(head, "forward") and hasattr(head, "parameters")
        if self.is_module:
            if response != "auto":
                raise ValueError(
                    "The scores of a torch module are what it returns: response must "
                    f"be 'auto', got {response!r}."
                )
            return
        if response == "auto":
            there = [name for name in _RESPONSES if hasattr(head, name)]
            response = there[0] if there else _RESPONSES[0]
        if not hasattr(head, response):
            raise ValueError(
                f"{type(head).__name__} has no {response}: pass a fitted scikit-learn "
                "estimator or a torch module that takes embeddings."
            )
        if isinstance(getattr(head, "classes_", None), list):
            raise ValueError(
                f"{type(head).__name__} has several outputs, each with classes of its "
                "own: pass a head of one of them."
            )
        self.response = response
        # Whatever output is configured, steps inside a head pass on what they did when
        # they were fitted.
        self.head = plain(head)

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """Score rows, as a table of shape (n_rows, n_outputs)."""
        parts = [
            self._scores(rows[some])
            for some in blocks(len(rows), rows.shape[1], _BLOCK_ENTRIES)
        ]
        scores = np.concatenate(parts) if parts else np.empty((0, 1))
        if not np.isfinite(scores).all():
            raise ValueError("The head gives NaN or infinity for some rows.")
        return scores

    def _scores(self, rows: np.ndarray) -> np.ndarray:
        if self.is_module:
            import torch

            with torch.no_grad(), _evaluating(self.head):
                scores = self.head(self._tensor(rows))
            if not isinstance(scores, torch.Tensor):
                raise ValueError(
                    "A torch module must return one tensor of scores, got "
                    f"{type(scores).__name__}."
                )
            scores = scores.detach().cpu().double().numpy()
        else:
            given: Any = rows
            if takes_frames(self.head):
                given = pd.DataFrame(rows, columns=self.head.feature_names_in_)
            with config_context(transform_output="default"):
                scores = getattr(self.head, self.response)(given)
            if self.response == "predict" and hasattr(self.head, "classes_"):
                # Labels are no scores: each row votes for a class.
                scores = np.asarray(scores)[:, None] == np.asarray(self.head.classes_)
            scores = np.asarray(scores, np.float64)
        if scores.ndim == 1 and getattr(self, "response", "") == "decision_function":
            # One score for two classes: it speaks for the second.
            return np.stack([-scores, scores], axis=1)
        scores = scores.reshape(len(rows), -1) if scores.ndim == 1 else scores
        if scores.ndim != 2:
            raise ValueError(
                "The head must give one or several scores for each row, got an array "
                f"of shape {scores.shape} for {len(rows)} rows."
            )
        if hasattr(self.head, "classes_") and not self.is_module:
            self._check_classes(scores.shape[1])
        return scores

    def _check_classes(self, n_outputs: int) -> None:
        n_classes = len(self.classes(n_outputs))
        shape = getattr(steps_of(self.head)[-1], "decision_function_shape", "ovr")
        of_pairs = self.response == "decision_function" and shape == "ovo"
        if n_outputs != n_classes or (of_pairs and n_classes > 2):
            raise ValueError(
                f"The head has {n_classes} classes and {n_outputs} scores, which are "
                "not those of the classes: pass decision_function_shape='ovr', if it "
                "has this parameter, or another response."
            )

    def classes(self, n_outputs: int) -> np.ndarray:
        """Name the outputs: the classes, or their numbers if there are none."""
        given = None if self.is_module else getattr(self.head, "classes_", None)
        if given is None:
            return np.arange(n_outputs)
        # Those of a column of pandas are objects.
        return labels_or_missing(given, "classes_ of the head")[0]

    def gradients(self, rows: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """Gradient of one score of each row, by automatic differentiation."""
        import torch

        gradients = np.empty(rows.shape)
        for some in blocks(len(rows), rows.shape[1], _BLOCK_ENTRIES):
            with torch.enable_grad(), _evaluating(self.head):
                tensor = self._tensor(rows[some]).requires_grad_()
                scores = self.head(tensor)
                scores = scores.reshape(len(tensor), -1)
                chosen = torch.as_tensor(outputs[some], device=scores.device)
                total = scores.gather(1, chosen[:, None]).sum()
                (gradient,) = torch.autograd.grad(total, tensor)
            gradients[some] = gradient.detach().cpu().double().numpy()
        return gradients

    def choose(self, scores: np.ndarray, label: Any) -> np.ndarray:
        """Choose the score of each row that is explained.

        Returns
        -------
        outputs : ndarray of shape (n_rows,)
            That of the label; None means the largest.
        """
        if label is None:
            return scores.argmax(axis=1)
        classes = self.classes(scores.shape[1])
        found = np.flatnonzero(equals(classes, label, "label"))
        if not len(found) or scores.shape[1] == 1:
            raise ValueError(
                f"The head has no class {label!r}; its classes are {classes.tolist()}."
            )
        return np.full(len(scores), found[0])

    def affine(self, rows: np.ndarray, *others: np.ndarray) -> np.ndarray | None:
        """Find the weights of a head that is an affine map.

        Parameters
        ----------
        rows, *others : ndarray of shape (n_rows, n_features)
            Rows on which it is tried whether the head is one.

        Returns
        -------
        weights : ndarray of shape (n_features, n_outputs) or None
        """
        n_features = rows.shape[1]
        step = np.abs(rows).max() or 1.0
        probes = np.concatenate([np.zeros((1, n_features)), step * np.eye(n_features)])
        at_probes = self.scores(probes)
        weights = (at_probes[1:] - at_probes[0]) / step
        tolerance = _AFFINE_FLOAT32 if self._is_single() else _AFFINE
        for tried in (rows, *others):
            some = tried[:: max(1, len(tried) // _N_TRIED)]
            expected = some @ weights + at_probes[0]
            # What is added up, so that large terms that cancel are no mistake.
            size = np.abs(some) @ np.abs(weights) + np.abs(at_probes[0])
            if (np.abs(self.scores(some) - expected) > tolerance * size).any():
                return None
        return weights

    def _is_single(self) -> bool:
        return self.is_module and self._like().dtype.itemsize < 8

    def _like(self) -> Any:
        """A tensor of the dtype and on the device of the module."""
        import torch

        tensors = [*self.head.parameters(), *self.head.buffers()]
        floats = [t for t in tensors if t.is_floating_point()]
        return floats[0] if floats else torch.zeros(())

    def _tensor(self, rows: np.ndarray) -> Any:
        import torch

        like = self._like()
        return torch.as_tensor(rows, dtype=like.dtype, device=like.device)


@contextmanager
def _evaluating(module: Any) -> Iterator[None]:
    """Put a module in evaluation mode, and every part of it back into its own."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
