"""How long imports take: the library, its light parts, and the libraries that it needs.

Each import runs in a process of its own, by turns, after a first one that fills the
caches of the file system. The script prints medians, without the start of Python
itself.

    python benchmarks/import_time.py
"""

import subprocess
import sys
from statistics import median

from _timing import machine

N_ROUNDS = 9
STATEMENTS = [
    "import skdict",
    "import skdict.metrics",
    "from skdict.metrics import *",
    "from skdict import ICFL",
    "import sklearn",
    "import torch, sklearn",
]
TIMED = """
from time import perf_counter
start = perf_counter()
{statement}
print(perf_counter() - start)
"""


def seconds(statement: str) -> float:
    command = [sys.executable, "-c", TIMED.format(statement=statement)]
    return float(subprocess.run(command, capture_output=True, check=True).stdout)


def main() -> None:
    for statement in STATEMENTS:
        seconds(statement)
    rounds = [[seconds(s) for s in STATEMENTS] for _ in range(N_ROUNDS)]
    for statement, times in zip(STATEMENTS, zip(*rounds, strict=True), strict=True):
        print(f"{statement:32} {median(times):7.3f} s")
    print("\n".join(machine()))


if __name__ == "__main__":
    main()
