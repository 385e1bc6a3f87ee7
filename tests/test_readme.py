"""The README's example runs as it stands, on small files of the reader's shape."""

import contextlib
import io
import re
from pathlib import Path

import numpy as np
import scipy.sparse

ROOT = Path(__file__).parents[1]


def test_python_example_runs(tmp_path, monkeypatch):
    blocks = re.findall(
        r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S
    )
    assert len(blocks) == 1

    rng = np.random.default_rng(0)
    labels = np.repeat(["untreated", "a", "b"], 100)
    directions = rng.normal(size=(3, 24))
    rows = rng.normal(size=(300, 24)) + 2 * np.repeat(directions, 100, axis=0)
    np.save(tmp_path / "embeddings.npy", rows.astype(np.float32))
    np.save(tmp_path / "labels.npy", labels)
    monkeypatch.chdir(tmp_path)

    namespace: dict = {}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(blocks[0], "README.md", "exec"), namespace)

    codes, pipe = namespace["codes"], namespace["pipe"]
    assert scipy.sparse.issparse(codes)
    assert codes.format == "csr"
    assert codes.shape[0] == 300
    assert np.diff(codes.indptr).max() <= 2  # a tenth of 24
    assert pipe.score(rows, labels) > 0.5
    assert "untreated" in printed.getvalue()


def test_links_lead_to_files():
    text = (ROOT / "README.md").read_text()
    paths = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert len(paths) >= 4
    assert [path for path in paths if not (ROOT / path).exists()] == []
