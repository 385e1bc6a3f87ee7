"""Checks of the tables of runs that displays draw."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd


def check_runs(runs: pd.DataFrame, columns: Iterable[str]) -> pd.DataFrame:
    """Check that a table of runs has rows, and values in all of the columns."""
    if not isinstance(runs, pd.DataFrame):
        raise TypeError(
            f"runs must be a DataFrame, got {type(runs).__name__}. pandas.concat makes "
            "one of several."
        )
    lacking = [column for column in columns if column not in runs]
    if lacking:
        raise ValueError(f"runs lacks the columns {lacking}; it has {[*runs]}.")
    if runs.empty:
        raise ValueError("There are no runs to draw.")
    for column in columns:
        without = np.flatnonzero(runs[column].isna())
        if without.size:
            raise ValueError(
                f"{without.size} of {len(runs)} runs have no {column!r} (the first is "
                f"in row {without[0]})."
            )
    return runs
