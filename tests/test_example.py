"""The example of the README's first command, in its quick form."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

EXAMPLE = Path(__file__).parents[1] / "examples" / "tissue_concepts.py"


@pytest.mark.slow
def test_tissue_example(tmp_path):
    run = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLE, "--quick", "--figures", tmp_path],
        env={**os.environ, "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert "not an experimental control" in run.stdout
    assert "TopKSAE is ahead of ICFL" in run.stdout
    assert {path.name for path in tmp_path.glob("*.png")} == {
        "tissue_concepts.png",
        "selectivity_curves.png",
        "cosine_against_k.png",
    }
    runs = pd.read_csv(tmp_path / "all_runs.csv")
    assert runs["cosine"].between(0, 1).all()
    assert (runs["active features (L0)"] <= runs["k"]).all()
    assert (runs["mean best selectivity"] > runs["selectivity, null 95 %"]).all()
    probes = ["probe on x", "probe on codes", "probe on reconstruction"]
    assert (runs[probes] > 0.5).all(axis=None)  # 1/3 by chance
    # The table shows every measure of every run.
    assert [m for m in runs.columns[4:] if f"\n{m} " not in run.stdout] == []
    at_8 = runs[(runs["k"] == 8) & (runs["scaler"] == "whitened")]
    cosine = at_8.groupby("dictionary")["cosine"].mean()
    assert cosine["ICFL"] > cosine["TopKSAE"]
