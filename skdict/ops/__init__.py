"""Numerics on torch tensors: pure functions, no estimators."""

from skdict.ops.pursuit import batched_omp
from skdict.ops.sparse_code import SparseCode

__all__ = ["SparseCode", "batched_omp"]
