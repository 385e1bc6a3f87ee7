"""Tests of checkpoints: a killed fit goes on as if nothing had happened."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("interrupted_fits.py")


def test_killed_fits_end_with_the_same_atoms(tmp_path):
    command = [sys.executable, str(SCRIPT), str(tmp_path), "0", "3"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    lines = [line.split() for line in run.stdout.splitlines()]
    assert len(lines) == 8
    assert all(line[2] == "True" for line in lines), run.stdout
    killed, unfinished, writing = (sum(int(x[i]) for x in lines) for i in (3, 4, 5))
    assert killed >= 20
    assert unfinished >= 20
    assert writing >= 3
