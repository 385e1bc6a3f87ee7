"""Names for what public functions take and give, in their signatures.

Python has no type for an array of any namespace, and the packages whose tables and
tensors are accepted are not all installed. Those names are therefore aliases of Any:
they tell the reader what is meant, and leave the check to the run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike

# Rows, labels or masks as users have them: lists, arrays, DataFrames, Series, tensors.
Data: TypeAlias = Any
# An array in the namespace and on the device of what came in.
AnyArray: TypeAlias = Any
# Codes, dense or sparse.
Codes: TypeAlias = Any
CSR: TypeAlias = sp.csr_matrix | sp.csr_array
# Seeds as sklearn.utils.check_random_state takes them.
Seed: TypeAlias = int | np.random.RandomState | None
# What a user may pass as ``callbacks``: skorch callbacks, or functions of a record.
Callbacks: TypeAlias = Sequence[Callable[[dict[str, Any]], Any] | Any] | None

__all__ = ["CSR", "AnyArray", "ArrayLike", "Callbacks", "Codes", "Data", "Seed"]
