"""Answers of a judge in a file, so that none is asked for twice."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import pandas as pd

from skdict._utils.sklearn_private import validate_params

from ._scores import QUERY, check_answers


@validate_params(
    {"judge": [callable], "path": [str, os.PathLike], "name": [str]},
    prefer_skip_nested_validation=True,
)
def cached_judge(
    judge: Callable[[pd.DataFrame], Sequence[float]],
    path: str | os.PathLike,
    *,
    name: str = "",
) -> Callable[[pd.DataFrame], np.ndarray]:
    """Keep the answers of a judge in a file, so that a run can be interrupted.

    The answers to each batch are in the file before the next batch is asked. If a run
    is started again, the questions that have been answered are not asked.

    Parameters
    ----------
    judge : callable
        As for :func:`score_explanations`.

    path : str or path-like
        The file, a database of SQLite. It is made if there is none.

    name : str, default=""
        What else an answer depends on: the data set, the model, the prompt. Answers
        under another name are not used.

    Returns
    -------
    cached : callable
        A judge that asks `judge` for what the file does not hold.

    See Also
    --------
    score_explanations : Asks the judge.

    Notes
    -----
    A question is known by its task, its explanation and the number of its row. If rows
    get other numbers, use another name.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import pandas as pd
    >>> from skdict.concepts import cached_judge
    >>> def judge(queries):
    ...     print(f"asked {len(queries)}")
    ...     return [True] * len(queries)
    >>> queries = pd.DataFrame(
    ...     {"task": "detection", "explanation": "red", "row": [1, 2, 3]}
    ... )
    >>> with TemporaryDirectory() as folder:
    ...     cached = cached_judge(judge, Path(folder) / "answers.sqlite")
    ...     first, again = cached(queries[:2]), cached(queries)
    asked 2
    asked 1
    >>> again.tolist()
    [1.0, 1.0, 1.0]
    """
    path = os.fspath(path)

    def cached(queries: pd.DataFrame) -> np.ndarray:
        keys = [_key(name, *row) for row in queries[QUERY].itertuples(index=False)]
        with closing(_open(path)) as file:
            known = {key: _read(file, key) for key in keys}
            new = [i for i, key in enumerate(keys) if known[key] is None]
            if new:
                asked = queries.iloc[new].reset_index(drop=True)
                answers = check_answers(judge(asked), len(new)).tolist()
                found = {keys[i]: a for i, a in zip(new, answers, strict=True)}
                with file:  # all of a batch or none
                    file.executemany(
                        "INSERT OR REPLACE INTO answers VALUES (?, ?)", found.items()
                    )
                known |= found
        return np.array([known[key] for key in keys], dtype=np.float64)

    return cached


def _open(path: str) -> sqlite3.Connection:
    try:
        file = sqlite3.connect(path)
    except sqlite3.Error as error:
        raise OSError(f"{path} cannot be opened: {error}.") from error
    try:
        file.execute(
            "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer REAL)"
        )
    except sqlite3.Error as error:
        file.close()
        raise OSError(f"{path} cannot hold answers: {error}.") from error
    return file


def _key(name: str, task: str, explanation: str, row: Any) -> str:
    # 1 and 1.0 are the same row, 1 and 1.5 are not.
    row = row if isinstance(row, str) or row != int(row) else int(row)
    text = json.dumps([name, task, explanation, row])
    return hashlib.sha256(text.encode()).hexdigest()


def _read(file: sqlite3.Connection, key: str) -> float | None:
    found = file.execute("SELECT answer FROM answers WHERE key = ?", [key]).fetchone()
    return None if found is None else found[0]
