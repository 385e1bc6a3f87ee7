"""What test_parallel.py lets two processes do: fit everything, and keep the results.

``python -m torch.distributed.run --nproc-per-node 2 tests/two_ranks.py FOLDER`` writes
a file for each process; the test itself fits the same alone.
"""

import os
import sys
from pathlib import Path

import numpy as np
from oracles import CLASSES, X64, planted
from sklearn import config_context

from skdict import ICFL, SAE, ControlPCAWhitener, TopKSAE, Transcoder
from skdict.decomposition import fit_many
from skdict.rows import StoredRows

# More rows than a batch, in an odd number, so that parts and batches differ in size.
ROWS = X64[:1501]
CONTROL = np.arange(len(ROWS)) % 3 > 0
# A working memory in MiB that has no room for all rows, and buffers of 300 rows.
SMALL = 8 * 300 * ROWS.shape[1] * 8 / 2**20


def new(cls, **params):
    # Atoms are redrawn and latents found dead in the few steps.
    names = cls().get_params()
    few = {"reset_every": 4, "reset_similarity": 0.6, "dead_after": 0.3}
    given = {name: value for name, value in few.items() if name in names}
    sizes = {"max_iter": 3, "batch_size": 400}
    return planted(cls, **(sizes | given | params))


def fits(folder):
    """Yield the names of estimators, and for each a function that fits it."""
    for cls in CLASSES:
        yield (
            cls.__name__,
            lambda cls=cls: new(cls, validation_fraction=0.2).fit(ROWS),
        )
        yield (
            f"{cls.__name__} stored",
            lambda cls=cls: stored(new(cls, max_iter=2), folder),
        )
        yield (
            f"{cls.__name__} stream",
            lambda cls=cls: new(cls).partial_fit(ROWS[:800]).partial_fit(ROWS[800:]),
        )
    for activation in ("topk", "gated"):
        yield (
            f"Transcoder {activation}",
            lambda activation=activation: Transcoder(
                24, 2, activation=activation, max_iter=2, random_state=0
            ).fit(ROWS, ROWS[:, ::-1].copy()),
        )
    for shrinkage in (None, "auto"):
        yield (
            f"whitener {shrinkage}",
            lambda shrinkage=shrinkage: ControlPCAWhitener(shrinkage=shrinkage).fit(
                ROWS + 1e6, control=CONTROL
            ),
        )
    yield (
        "fit_many",
        lambda: fit_many(
            [new(SAE, validation_fraction=None), new(ICFL)], ROWS, random_state=0
        )[1],
    )
    yield "float32", lambda: new(TopKSAE).fit(ROWS.astype(np.float32))


def stored(estimator, folder):
    path = folder / "rows"
    rows = np.memmap(path, ROWS.dtype, "r", shape=ROWS.shape)
    with config_context(working_memory=SMALL):
        assert not StoredRows(rows).fits
        return estimator.fit(rows)


def state(estimator):
    """Everything numerical that has been fitted."""
    found = {}
    for name, value in vars(estimator).items():
        if name == "history_":
            for key in value[0]:
                found[f"history {key}"] = np.array([record[key] for record in value])
        elif name == "_training_state" and value is not None:
            for key, counter in value["model"].items():
                found[f"counter {key}"] = counter
        elif name.endswith("_") and isinstance(value, np.ndarray | float | int):
            found[name] = np.asarray(value)
    return found


if __name__ == "__main__":
    folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
    results = {}
    for name, fit in fits(folder):
        found = state(fit())
        results |= {f"{name}: {key}": value for key, value in found.items()}
    # No seed: that of the first process holds.
    results["unseeded"] = TopKSAE(24, 2, max_iter=1).fit(ROWS).components_
    # A callback that stops one process stops all.
    last = new(ICFL, callbacks=[lambda record: rank == 1 and record["epoch"] == 2])
    results["n_iter_"] = last.fit(ROWS).n_iter_
    messages = []
    for rows, batch_size in ((ROWS[: 100 + rank], 100), (ROWS, 1)):
        try:
            new(ICFL, batch_size=batch_size).fit(rows)
        except ValueError as error:
            messages.append(str(error))
    results["messages"] = np.array(messages)
    np.savez(folder / f"{rank}.npz", **results)
