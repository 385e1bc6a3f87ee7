"""The example of the README's first command, in its quick form."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

EXAMPLE = Path(__file__).parents[1] / "examples" / "plot_tissue_concepts.py"


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
    at_8 = runs[(runs["k"] == 8) & (runs["scaler"] == "whitened")]
    cosine = at_8.groupby("dictionary")["cosine"].mean()
    assert cosine["ICFL"] > cosine["TopKSAE"]
