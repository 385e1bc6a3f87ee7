"""Checks of the tables of runs that displays draw."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd


def check_runs(
    runs: pd.DataFrame, columns: Iterable[str], name: str = "runs"
) -> pd.DataFrame:
    """Check that a table of runs has rows, and values in all of the columns."""
    if not isinstance(runs, pd.DataFrame):
        raise TypeError(
            f"{name} must be a DataFrame, got {type(runs).__name__}. pandas.concat "
            "makes one of several."
        )
    lacking = [column for column in columns if column not in runs]
    if lacking:
        raise ValueError(f"{name} lacks the columns {lacking}; it has {[*runs]}.")
    if runs.empty:
        raise ValueError(f"{name} has no rows to draw.")
    for column in columns:
        without = np.flatnonzero(runs[column].isna())
        if without.size:
            raise ValueError(
                f"{without.size} of {len(runs)} rows of {name} have no {column!r} (the "
                f"first is row {without[0]})."
            )
    return runs
