"""Numerics on torch tensors: pure functions, no estimators."""

from skdict.ops.code import Code, DenseCode
from skdict.ops.pursuit import batched_omp
from skdict.ops.ragged import RaggedCode
from skdict.ops.slots import SlotCode

__all__ = ["Code", "DenseCode", "RaggedCode", "SlotCode", "batched_omp"]
