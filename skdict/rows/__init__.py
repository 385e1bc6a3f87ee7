"""Rows: checked, turned into tensors, and read in whole batches."""

from skdict.rows.batches import RowBatches
from skdict.rows.devices import as_tensor, resolve_device, to_device
from skdict.rows.moments import centre_and_spread, working_scale
from skdict.rows.scaled import ScaledRows
from skdict.rows.validation import as_rows, like, validate_rows, validate_targets

__all__ = [
    "RowBatches",
    "ScaledRows",
    "as_rows",
    "as_tensor",
    "centre_and_spread",
    "like",
    "resolve_device",
    "to_device",
    "validate_rows",
    "validate_targets",
    "working_scale",
]
