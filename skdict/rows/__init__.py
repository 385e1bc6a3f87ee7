"""Rows: checked, turned into tensors, and read in whole batches."""

from skdict.rows.batches import Batches, RowBatches, epochs, load
from skdict.rows.deferred import by_blocks, map_row_blocks
from skdict.rows.devices import as_tensor, resolve_device, to_device
from skdict.rows.moments import centre_and_spread, working_scale
from skdict.rows.scaled import ScaledRows
from skdict.rows.stored import (
    Part,
    RememberingRows,
    StoredRows,
    Table,
    check_part,
    draw_rows,
    in_memory,
    is_deferred,
    is_stored,
    take,
    whole_or_stored,
)
from skdict.rows.validation import as_rows, like, validate_rows, validate_targets

__all__ = [
    "Batches",
    "Part",
    "RememberingRows",
    "RowBatches",
    "ScaledRows",
    "StoredRows",
    "Table",
    "as_rows",
    "as_tensor",
    "by_blocks",
    "centre_and_spread",
    "check_part",
    "draw_rows",
    "epochs",
    "in_memory",
    "is_deferred",
    "is_stored",
    "like",
    "load",
    "map_row_blocks",
    "resolve_device",
    "take",
    "to_device",
    "validate_rows",
    "validate_targets",
    "whole_or_stored",
    "working_scale",
]
