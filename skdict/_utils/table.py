"""Tables that users get."""

from __future__ import annotations

from typing import Any

import pandas as pd

__all__ = ["as_table"]


def as_table(
    columns: dict[str, Any], settings: dict[str, Any] | None = None
) -> pd.DataFrame:
    """Make a DataFrame of columns, and of settings that are the same in all rows.

    Settings are columns, too, because the `attrs` of a DataFrame get lost in files, in
    joins and in most operations.
    """
    return pd.DataFrame(columns | (settings or {}))
