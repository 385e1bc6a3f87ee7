"""Loads files whose attributes were changed, and uses what it gets.

Run by test_fitted.py in a process of its own, so that an abort is seen:

    python tests/fuzzed_files.py ESTIMATOR,ESTIMATOR,... [EVERY [ATTRIBUTE]]

With EVERY = 10 every tenth change is tried, in turn for each attribute.
Each line of the output is a change that was made, written before it is tried. Lines
that start with "BAD" say what ended in something else than a result or a ValueError;
lines that start with "DONE" say for one estimator how many changes were tried.
"""

import copy
import itertools
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import skops.io
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from skdict import (
    ICFL,
    ControlCenterScaler,
    ControlPCAWhitener,
    FeatureSuppressor,
    InMemory,
    Reconstructor,
    RowwiseTransformer,
    TopKSAE,
    Transcoder,
    Truncator,
    load,
)
from skdict.decomposition import _registry

X = np.random.default_rng(0).normal(size=(40, 5))
CONTROL = np.arange(40) % 2 == 0
BATCH = np.repeat(["a", "b"], 20)
SMALL = {"max_iter": 2, "random_state": 0, "batch_size": 16}


def scaler_without_batches():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No batch is given")
        return ControlCenterScaler().fit(X, control=CONTROL)


def fitted_and_streamed(cls):
    name, make = cls.__name__, lambda: cls(7, 3, **SMALL)
    return {
        name: lambda: make().fit(X),
        f"{name}-stream": lambda: make().partial_fit(X).partial_fit(X),
    }


DICTIONARIES = [entry.estimator for entry in _registry.DICTIONARIES]
ESTIMATORS = {
    **{n: make for cls in DICTIONARIES for n, make in fitted_and_streamed(cls).items()},
    "icfl-refit": lambda: ICFL(7, 3, refit=True, **SMALL).fit(X.astype(np.float32)),
    "sae-dense": lambda: TopKSAE(7, 3, sparse_output=False, **SMALL).fit(X),
    "whitener": lambda: ControlPCAWhitener().fit(X, control=CONTROL),
    "whitener-zca": lambda: ControlPCAWhitener(3, method="zca").fit(X, control=CONTROL),
    "whitener-stream": lambda: ControlPCAWhitener(shrinkage="auto").partial_fit(
        X, control=CONTROL
    ),
    "whitener-early": lambda: ControlPCAWhitener().partial_fit(
        X, control=np.arange(40) == 0
    ),
    "suppressor": lambda: FeatureSuppressor(
        min_omega_squared=0, n_permutations=9, random_state=0
    ).fit(X, batch=BATCH),
    "scaler": lambda: ControlCenterScaler(min_controls=2).fit(
        X, control=CONTROL, batch=BATCH
    ),
    "scaler-plain": lambda: scaler_without_batches(),
    "scaler-stream": lambda: ControlCenterScaler().partial_fit(
        X, control=CONTROL, batch=BATCH
    ),
    "scaler-early": lambda: ControlCenterScaler().partial_fit(
        X, control=CONTROL & False, batch=BATCH
    ),
    "reconstructor": lambda: Reconstructor(ICFL(7, 3, **SMALL)).fit(X),
    "rowwise": lambda: RowwiseTransformer(Normalizer()).fit(X),
    "in-memory": lambda: InMemory().fit(X),
    "transcoder": lambda: Transcoder(7, 3, **SMALL).fit(X, X[:, 0]),
    "transcoder-stream": lambda: (
        Transcoder(7, 3, activation="batch_topk", skip_connection=True, **SMALL)
        .partial_fit(X, X[:, :2])
        .partial_fit(X, X[:, :2])
    ),
    "truncator": lambda: Truncator(TopKSAE(7, 3, **SMALL), k=2).fit(X),
    "truncator-pca": lambda: Truncator(PCA(3), k=2).fit(X),
    "pipeline": lambda: make_pipeline(Normalizer(), TopKSAE(7, 3, **SMALL)).fit(X),
}
# Where the attributes that are changed lie in the estimator.
INSIDE = {"pipeline": lambda e: e[-1], "truncator": lambda e: e.estimator_}

# One change of this many is tried; of estimators that hold little, one of fewer.
EVERY = {
    "suppressor": 41,
    "reconstructor": 7,
    "truncator-pca": 7,
    "rowwise": 5,
    "in-memory": 3,
}

DELETED = object()


def dicts_of(estimator):
    """The dicts whose entries are changed, by their place."""
    found = {"": vars(estimator)}
    for name, value in vars(estimator).items():
        if isinstance(value, dict):
            found[f"{name}."] = value
        if name == "history_" and value:
            found["history_[0]."] = value[0]
    return found


def changed(value, others):
    """The value as nobody saved it."""
    yield "deleted", DELETED
    for thing in (None, True, 3, -1, 0, 10**30, 0.5, -0.5, np.nan, np.inf, "", "text"):
        yield repr(thing)[:10], thing
    for thing in ([], {}, [None], [[1.0], [1.0, 2.0]], [3] * 7, {"a": 1}, (1, 2), b"x"):
        yield repr(thing)[:10], thing
    for shape in ((), (1,), (7,), (5, 5), (7, 5), (9, 5), (2, 2, 2), (0,), (0, 5)):
        yield f"ones{shape}", np.ones(shape)
    yield "scalar", np.float32(2)
    yield "strings", np.array(["a", "b"])
    yield "objects", np.array(["a", None, 3], dtype=object)
    yield "masked", np.ma.array([1.0, 2.0], mask=[True, False])
    if isinstance(value, np.ndarray):
        yield "transposed", value.T.copy()
        yield "longer", np.concatenate([np.atleast_1d(value)] * 2)
        yield "wider", np.repeat(np.atleast_2d(value), 2, axis=1)
        yield "shorter", np.atleast_1d(value)[:-1]
        yield "deeper", value[None]
        yield "object", value.astype(object)
        yield "text", value.astype(str)
        yield "swapped-bytes", value.astype(value.dtype.newbyteorder())
        if value.dtype.kind in "fibu":
            for dtype in ("f2", "f4", "f8", "c16", "i8", "i4", "u1", "?"):
                yield dtype, value.astype(dtype)
            number = value.astype(np.float64)
            for factor in (-1.0, 0.0, 1e300, 1e30, 1e-300, np.inf, np.nan):
                with np.errstate(all="ignore"):
                    yield f"times {factor}", number * factor
            yield "maximal", np.full_like(number, np.finfo(float).max)
            yield "reversed", value[::-1].copy() if value.ndim else value
            if value.dtype.kind in "iu":
                yield "large integers", np.full_like(value, np.iinfo(value.dtype).max)
    for name, other in others.items():
        if type(other) is type(value) and other is not value:
            yield f"as {name}", other


def uses_of(estimator, codes, whether_fit):
    yield "repr", lambda: repr(estimator)
    yield "clone", lambda: clone(estimator)
    yield "names", lambda: estimator.get_feature_names_out()
    yield "transform", lambda: make_dense(estimator.transform(X))
    yield "float32", lambda: make_dense(estimator.transform(X.astype(np.float32)))
    if isinstance(estimator, ControlCenterScaler):
        yield "batch", lambda: estimator.transform(X, batch=BATCH)
        yield "own", lambda: estimator.transform(X, batch=BATCH, control=CONTROL)
        yield "back", lambda: estimator.inverse_transform(X, batch=BATCH)
    yield "inverse", lambda: estimator.inverse_transform(codes)
    if hasattr(estimator, "score"):
        yield "score", lambda: estimator.score(X)
    controls = {}
    if isinstance(estimator, ControlPCAWhitener | ControlCenterScaler):
        controls["control"] = CONTROL
    if isinstance(estimator, ControlCenterScaler):
        controls["batch"] = BATCH
    if hasattr(estimator, "partial_fit"):
        yield "partial_fit", lambda: estimator.partial_fit(X, **controls)
        yield "then", lambda: make_dense(estimator.transform(X))
    if whether_fit:
        yield "fit", lambda: estimator.fit(X, **controls)
        yield "fitted", lambda: make_dense(estimator.transform(X))


def make_dense(codes):
    return codes.toarray() if hasattr(codes, "toarray") else codes


def try_file(path, place, codes):
    """None, or what went wrong."""
    try:
        estimator = load(path)
    except ValueError:
        return None
    except Exception as error:
        return f"load: {type(error).__name__}: {error}"
    is_parameter = place in clone(estimator).get_params(deep=False)
    for name, use in uses_of(estimator, codes, is_parameter):
        try:
            use()
        except ValueError:
            pass
        except AttributeError as error:
            if name in ("names", "inverse") and "has no attribute" in str(error):
                continue  # of a class that has no such method
            return f"{name}: {type(error).__name__}: {error}"
        except Exception as error:
            return f"{name}: {type(error).__name__}: {error}"
    return None


def main(names, every=None, only=None):
    warnings.simplefilter("ignore")
    for name in names.split(","):
        n_tried = try_estimator(name, int(every or EVERY.get(name, 61)), only)
        print(f"DONE {name} {n_tried}", flush=True)


def try_estimator(name, every, only):
    """Number of the changes that were tried."""
    whole = ESTIMATORS[name]()
    inside = INSIDE.get(name, lambda e: e)
    codes = whole.transform(X) if "early" not in name else X
    counter, n_tried = itertools.count(), 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.skops"
        for place, entries in dicts_of(inside(whole)).items():
            for key, value in list(entries.items()):
                if only is not None and only != f"{place}{key}":
                    continue
                for how, new in changed(value, entries):
                    if next(counter) % every:
                        continue
                    other = copy.deepcopy(whole)
                    target = dicts_of(inside(other))[place]
                    if new is DELETED:
                        del target[key]
                    else:
                        target[key] = new
                    path.write_bytes(skops.io.dumps(other))
                    print(f"{name} {place}{key}: {how}", flush=True)
                    problem = try_file(path, key, codes)
                    n_tried += 1
                    if problem is not None:
                        print(
                            f"BAD {name} {place}{key}: {how}: {problem}"[:300],
                            flush=True,
                        )
    return n_tried


if __name__ == "__main__":
    main(*sys.argv[1:])
