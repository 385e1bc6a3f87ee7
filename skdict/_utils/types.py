"""Names for what public functions take and give, in their signatures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike

# Rows, labels or masks as users have them: lists, arrays, DataFrames, Series, tensors.
Data: TypeAlias = ArrayLike | Any
# Codes, dense or sparse.
Codes: TypeAlias = ArrayLike | sp.spmatrix | sp.sparray | Any
# What is given back: an array of the namespace that came in, or a CSR matrix.
CSR: TypeAlias = sp.csr_matrix | sp.csr_array
Seed: TypeAlias = int | np.random.RandomState | np.random.Generator | None
# What a user may pass as ``callbacks``: skorch callbacks, or functions of a record.
Callbacks: TypeAlias = Sequence[Callable[[dict[str, Any]], Any] | Any] | None

__all__ = ["CSR", "ArrayLike", "Callbacks", "Codes", "Data", "Seed"]
