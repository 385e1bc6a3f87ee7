"""Tests of the tables of fitted attributes, and of files that break them."""

import fuzzed_files
import numpy as np
import processes
import pytest
import skops.io
import torch
from fuzzed_files import BATCH, CONTROL, ESTIMATORS, X
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import Normalizer

import skdict
from skdict import (
    ICFL,
    ControlCenterScaler,
    ControlPCAWhitener,
    Reconstructor,
    TokenExtractor,
    TopKSAE,
    Truncator,
    load,
    save,
)
from skdict._utils.fitted import (
    Array,
    Count,
    Flag,
    History,
    IfThere,
    Labels,
    Names,
    Number,
    OrNone,
    Record,
    Transformer,
    check_fitted,
)
from skdict.ops import SlotCode

PUBLIC = [
    getattr(skdict, name)
    for name in skdict.__all__
    if hasattr(getattr(skdict, name), "_parameter_constraints")
    and hasattr(getattr(skdict, name), "transform")
]


# The rules


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        (Array(("a", 2)), np.zeros((3, 2))),
        (Array(("a", "a")), np.zeros((3, 3), np.float32)),
        (Array(()), np.array(1.0)),
        (Array(("a",), kind="i", low=0), np.array([0, 2])),
        (Array(("a",), kind="i"), np.array([-1], np.int32)),
        (Array(("a",), kind="b"), np.array([True])),
        (Array(("a",), kind="u"), np.array([255], np.uint8)),
        (Array(("a",), low=0, high=1), np.array([0.0, 1.0])),
        (Array(("a",), above=0), np.array([5e-324])),
        (Count(), 0),
        (Count(low=1), np.int64(3)),
        (Count(), 2**63 - 1),
        (Number(low=0), 0.0),
        (Number(), np.float32(-1)),
        (Flag(), False),
        (Names("a"), np.array(["x", "y"], dtype=object)),
        (Labels("a"), np.array(["a", "b"])),
        (Labels("a"), np.array([-1.5, 2])),
        (Labels("a"), np.array([b"x"])),
        (Labels("a"), np.array(["2020-01-01", "2021-01-01"], "M8[D]")),
        (Record({"a": Flag(), "b": Count()}), {"b": 1, "a": True}),
        (Record({"a": Flag(), "b": IfThere(Count())}), {"a": True}),
        (History(("a",)), [{"a": 1}, {"a": np.inf, "b": np.float64(2)}]),
        (History(("a",)), []),
        (OrNone(Flag()), None),
        (OrNone(Flag()), True),
        (Transformer(("fit", "transform")), PCA()),
    ],
    ids=str,
)
def test_what_rules_accept(rule, value):
    rule.check(value, "name", {})


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        (Array(("a", 2)), np.zeros((2, 3))),
        (Array(("a", "a")), np.zeros((2, 3))),
        (Array(("a",)), np.zeros((2, 3))),
        (Array(("a",)), np.zeros(0)),
        (Array(("a", "b")), np.zeros((0, 3))),
        (Array(("a",)), [1.0]),
        (Array(("a",)), None),
        (Array(()), np.float64(1)),
        (Array(("a",)), np.ma.array([1.0])),
        (Array(("a", "b")), np.matrix([[1.0]])),
        (Array(("a",)), np.array([1.0, np.nan])),
        (Array(("a",)), np.array([-np.inf])),
        (Array(("a",)), np.array([1 + 0j])),
        (Array(("a",)), np.array([1.0], dtype=object)),
        (Array(("a",)), np.array(["1"])),
        (Array(("a",)), np.array([1], dtype=np.float16)),
        (Array(("a",)), np.array([1], dtype=np.float64).astype(">f8")),
        (Array(("a",)), np.array([1])),
        (Array(("a",), kind="i"), np.array([1.0])),
        (Array(("a",), kind="i"), np.array([1], dtype=np.uint64)),
        (Array(("a",), kind="i", low=0), np.array([3, -1])),
        (Array(("a",), kind="b"), np.array([1])),
        (Array(("a",), low=0, high=1), np.array([0.0, 1.5])),
        (Array(("a",), above=0), np.array([1.0, 0.0])),
        (Count(), -1),
        (Count(), True),
        (Count(), 1.0),
        (Count(), 2**63),
        (Count(), "1"),
        (Count(), None),
        (Number(), np.nan),
        (Number(), np.inf),
        (Number(low=0), -1.0),
        (Number(), True),
        (Number(), 10**400),
        (Number(), 1j),
        (Flag(), 1),
        (Flag(), None),
        (Flag(), np.array([True, False])),
        (Names("a"), np.array(["x"])),
        (Names("a"), np.array(["x", 1], dtype=object)),
        (Names("a"), np.array([["x"]], dtype=object)),
        (Names("a"), ["x"]),
        (Labels("a"), np.array(["b", "a"])),
        (Labels("a"), np.array(["a", "a"])),
        (Labels("a"), np.array([1.0, np.nan])),
        (Labels("a"), np.array([np.nan])),
        (Labels("a"), np.array(["NaT"], "M8[D]")),
        (Labels("a"), np.array(["a"], dtype=object)),
        (Labels("a"), np.array([], dtype=str)),
        (Labels("a"), np.array([["a"]])),
        (Labels("a"), np.array([1j])),
        (Labels("a"), ["a"]),
        (Record({"a": Flag()}), {}),
        (Record({"a": Flag(), "b": IfThere(Count())}), {"b": 1}),
        (Record({"a": Flag(), "b": IfThere(Count())}), {"a": True, "b": -1}),
        (Record({"a": Flag()}), {"a": True, "b": True}),
        (Record({"a": Flag()}), {"a": 1}),
        (Record({"a": Flag()}), [("a", True)]),
        (History(("a",)), ({"a": 1},)),
        (History(("a",)), [{"b": 1}]),
        (History(("a",)), [{"a": "1"}]),
        (History(("a",)), [{"a": 1, 2: 3}]),
        (History(("a",)), [3]),
        (OrNone(Flag()), 3),
        (IfThere(Flag()), None),
        (Transformer(("fit", "transform")), PCA),
        (Transformer(("fit", "transform")), 3),
        (Transformer(("fit", "missing")), PCA()),
    ],
    ids=str,
)
def test_what_rules_refuse(rule, value):
    with pytest.raises(ValueError, match="name"):
        rule.check(value, "name", {})


def test_symbols_must_agree():
    sizes = {}
    Count("n").check(3, "count", sizes)
    Array(("m", "n")).check(np.zeros((2, 3)), "first", sizes)
    assert sizes == {"n": 3, "m": 2}
    with pytest.raises(ValueError, match=r"m is 2, but 3 in the shape .* second"):
        Array(("n", "m")).check(np.zeros((3, 3)), "second", sizes)
    with pytest.raises(ValueError, match="n is 3, but 2 in names"):
        Names("n").check(np.array(["a", "b"], dtype=object), "names", sizes)


# The tables


@pytest.mark.parametrize("name", ESTIMATORS)
def test_tables_name_all_that_a_fit_sets(tmp_path, name):
    estimator = fuzzed_files.INSIDE.get(name, lambda e: e)(ESTIMATORS[name]())
    state = vars(estimator)
    known = {key for stage in estimator._fitted for key in stage}
    assert state.keys() - estimator.get_params(deep=False).keys() <= known
    # And nothing is named that no fit sets.
    if "stream" not in name and "early" not in name:
        assert known - state.keys() <= {"feature_names_in_"}
    check_fitted(estimator)
    check_fitted(clone(estimator))
    save(ESTIMATORS[name](), tmp_path / "file")
    load(tmp_path / "file")


def test_every_public_estimator_that_can_be_saved_has_a_table():
    assert {cls for cls in PUBLIC if not hasattr(cls, "_fitted")} <= {TokenExtractor}
    covered = {type(make()) for make in ESTIMATORS.values()}
    assert {cls for cls in PUBLIC if hasattr(cls, "_fitted")} <= covered


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64])
def test_fits_of_all_dtypes_can_be_saved(tmp_path, dtype):
    rows = (10 * X).astype(dtype)
    estimators = [
        ICFL(7, 3, max_iter=0).fit(rows),
        TopKSAE(7, 3, max_iter=1).partial_fit(rows),
        ControlPCAWhitener().fit(rows, control=CONTROL),
        ControlCenterScaler().fit(rows, control=CONTROL, batch=BATCH),
        Reconstructor(PCA(2)).fit(rows),
    ]
    for estimator in estimators:
        path = tmp_path / type(estimator).__name__
        save(estimator, path)
        save(load(path), path)


def test_names_and_output_can_be_saved(tmp_path):
    import pandas as pd

    frame = pd.DataFrame(X, columns=list("abcde"))
    scaler = ControlCenterScaler().set_output(transform="pandas")
    scaler.fit(frame, control=CONTROL, batch=BATCH)
    save(scaler, tmp_path / "file")
    restored = load(tmp_path / "file")
    assert list(restored.transform(frame, batch=BATCH)) == list("abcde")
    restored.feature_names_in_ = restored.feature_names_in_[:-1]
    with pytest.raises(ValueError, match="n_features is 5, but 4 in feature_names_in_"):
        check_fitted(restored)
    restored.feature_names_in_ = scaler.feature_names_in_
    restored._sklearn_output_config = {"transform": 3}
    with pytest.raises(ValueError, match="_sklearn_output_config"):
        check_fitted(restored)


# Files that break them


def write(estimator, path):
    """What nobody can write with `save`."""
    path.write_bytes(skops.io.dumps(estimator))


def enlarged():
    """The file that made `transform` write beyond its matrix."""
    sae = TopKSAE(8, 3, max_iter=1, random_state=0).fit(X)
    sae.encoder_components_ = np.tile(sae.encoder_components_, (50, 1))
    sae.encoder_bias_ = np.tile(sae.encoder_bias_, 50)
    return sae


@pytest.mark.parametrize(
    "wrap",
    [
        lambda e: e,
        lambda e: make_pipeline(Normalizer(), e),
        lambda e: FeatureUnion([("a", Normalizer()), ("b", make_pipeline(e))]),
        lambda e: ColumnTransformer([("a", e, [0, 1])]),
        lambda e: FrozenEstimator(e),
        lambda e: setattr(t := Truncator(PCA()), "estimator_", e) or t,
        lambda e: setattr(t := Reconstructor(PCA()), "estimator_", e) or t,
        lambda e: setattr(t := PCA(), "x_", np.array([[{"a": (e,)}]], object)) or t,
    ],
    ids=[
        *("alone", "pipeline", "union", "columns", "frozen"),
        *("truncator", "reconstructor", "array"),
    ],
)
def test_encoder_with_more_rows_than_components(tmp_path, wrap):
    write(wrap(enlarged()), tmp_path / "file")
    problem = r"TopKSAE is inconsistent: n_components is 8, but 400"
    with pytest.raises(ValueError, match=rf"file' is refused: {problem}"):
        load(tmp_path / "file")
    with pytest.raises(ValueError, match=rf"cannot be saved, .* refuse it: {problem}"):
        save(wrap(enlarged()), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_codes_beyond_the_components_do_not_become_csr():
    with pytest.raises(ValueError, match=r"atoms from \d+ to \d+, but there are 8"):
        enlarged().transform(X)
    values = torch.ones(2, 2)
    for atoms in ([[0, 8], [1, 2]], [[0, -1], [1, 2]], [[0, 2**32], [1, 2]]):
        with pytest.raises(ValueError, match="8 components"):
            SlotCode(torch.tensor(atoms), values).to_csr(8)
    empty_slot = SlotCode(torch.tensor([[7, 99]]), torch.tensor([[1.0, 0.0]]))
    assert empty_slot.to_csr(8).indices.tolist() == [7]
    assert SlotCode(torch.zeros(3, 2).long(), torch.zeros(3, 2)).to_csr(1).nnz == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"transform": 3}, "transform hides what the class defines"),
        ({"_fitted": ()}, "_fitted hides"),
        ({"__sklearn_tags__": None}, "__sklearn_tags__ hides"),
        ({"_metadata_request": 3}, None),
        ({"note": 3}, None),
        ({"k": True}, "k is True"),
        ({"k": 10**30}, "k has more than 64 bits"),
        ({"k": 0}, "'k' parameter"),
        ({"init": {"a": 1}}, "init is a dict"),
        ({"callbacks": [None]}, "The 'callbacks' parameter of ICFL"),
        ({"callbacks": []}, None),
    ],
)
def test_parameters_and_other_attributes(tmp_path, change, message):
    icfl = ICFL(7, 3, max_iter=1).fit(X)
    vars(icfl).update(change)
    write(icfl, tmp_path / "file")
    if message is None:
        load(tmp_path / "file").transform(X)
        return
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "file")


@pytest.mark.parametrize("missing", ["k", "pre_bias_", "n_features_in_", "history_"])
def test_missing_attributes(missing):
    icfl = ICFL(7, 3, max_iter=1).fit(X)
    delattr(icfl, missing)
    with pytest.raises(ValueError, match=rf"{missing} is missing"):
        check_fitted(icfl)


def test_later_stage_needs_the_earlier_one():
    whitener = ControlPCAWhitener().fit(X, control=CONTROL)
    for name in type(whitener)._fitted[0]:
        vars(whitener).pop(name, None)
    with pytest.raises(ValueError, match="is missing"):
        check_fitted(whitener)


@pytest.mark.parametrize(
    ("estimator", "params"),
    [
        (ICFL(init=np.zeros((3, 5))), {}),
        (ControlPCAWhitener(), {"control": CONTROL & False}),
        (ControlCenterScaler(), {"control": CONTROL & False, "batch": BATCH}),
    ],
)
def test_fit_that_fails_leaves_something_that_can_be_saved(tmp_path, estimator, params):
    with pytest.raises(ValueError, match=r"init|control"):
        estimator.fit(X[:, :3], **params)
    save(estimator, tmp_path / "file")
    load(tmp_path / "file")


def test_token_extractor_in_a_file(tmp_path):
    write(TokenExtractor(None, "layer"), tmp_path / "file")
    with pytest.raises(ValueError, match="TokenExtractor"):
        load(tmp_path / "file")


@pytest.mark.slow
def test_changed_files_end_in_a_result_or_a_value_error(tmp_path):
    """In a process of its own, so that an abort is seen."""
    names = list(ESTIMATORS)
    run = processes.run(
        fuzzed_files.main, ",".join(names), folder=tmp_path, timeout=600
    )
    lines = run.stdout.splitlines()
    assert run.returncode == 0, (lines[-1:], run.stderr[-2000:])
    assert [line for line in lines if line.startswith("BAD")] == []
    done = [line.split() for line in lines if line.startswith("DONE")]
    assert [name for _, name, _ in done] == names
    assert [(name, int(n)) for _, name, n in done if int(n) < 9] == []
