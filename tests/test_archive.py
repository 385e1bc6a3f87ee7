"""Tests of the limits on the work that a skops archive asks for."""

import io
import json
import os
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
import scipy.sparse as sp
import skops.io
from sklearn.base import BaseEstimator
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from skdict import load, save
from skdict._utils import archive
from skdict._utils.archive import check_archive

SCALER = StandardScaler().fit(np.random.default_rng(0).normal(size=(20, 3)))


def members_of(data):
    with zipfile.ZipFile(io.BytesIO(data)) as whole:
        return {name: whole.read(name) for name in whole.namelist()}


def pack(members, **options):
    """An archive of (name, content) pairs."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as whole:
        for name, content in members:
            whole.writestr(name, content)
    return buffer.getvalue()


def check(data):
    check_archive(io.BytesIO(data))


def with_schema(schema, members=()):
    return pack([*members, ("schema.json", json.dumps(schema))])


def plain(value, **keys):
    return {
        "__class__": "str",
        "__module__": "builtins",
        "__loader__": "JsonNode",
        "content": json.dumps(value),
        "is_json": True,
        **keys,
    }


def a_list(*items, **keys):
    return {
        "__class__": "list",
        "__module__": "builtins",
        "__loader__": "ListNode",
        "content": list(items),
        **keys,
    }


def npy(shape, data=b"", descr="<f8", version=b"\1\0"):
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}}}\n"
    return (
        b"\x93NUMPY"
        + version
        + len(header).to_bytes(2, "little")
        + (header.encode() + data)
    )


def an_array(name, **keys):
    return {
        "__class__": "ndarray",
        "__module__": "numpy",
        "__loader__": "NdArrayNode",
        "type": "numpy",
        "file": name,
        **keys,
    }


ROOT = {"protocol": 2, "_skops_version": "0.16"}


# What is honest


class Holder(BaseEstimator):
    """Keeps any value."""

    def __init__(self, value=None):
        self.value = value


SHARED = np.arange(4.0)
RECORD = {"a": 1, "b": SHARED}


@pytest.mark.parametrize(
    "value",
    [
        [SHARED, [SHARED, (SHARED, {"x": SHARED})]],
        [RECORD] * 20 + [[RECORD] * 3],
        [None, None, True, True, 1, 1, "a", "a"],
        {"__id__": 1, "file": "a", "content": "x", "__loader__": "y"},
        [SCALER, SCALER, make_pipeline(SCALER, SCALER)],
        np.array([["a", None], [1.5, "a"]], dtype=object),
        np.array([RECORD, RECORD, [RECORD]], dtype=object),
        [np.float32(1), np.bool_(True), np.array("text"), np.array(["2020"], "M8[D]")],
        [np.empty((0, 7)), np.empty((3, 0)), np.array([], dtype=str)],
        [b"bytes", b"", bytearray(b"more")],
        [b"bytes"] * 3,
        [np.random.RandomState(0), np.random.default_rng(0)],
        np.ma.array([1.0, 2.0], mask=[True, False]),
        np.asfortranarray(np.ones((3, 4))),
        np.arange(20)[::3],
        np.zeros(3, dtype=[("a", "f4"), ("b", "i8", (2,))]),
        ["[not a list", "{", " [1]", '"', "\u2028"],
        slice(1, 3),
        float("nan"),
        -(10**30),
    ],
    ids=lambda value: type(value).__name__,
)
def test_honest_archives_pass(value):
    data = skops.io.dumps(Holder(value))
    check(data)
    assert archive.unmap_arrays(data) == data


def test_nested_estimators_pass():
    estimator = Normalizer()
    for _ in range(15):
        estimator = make_pipeline(estimator, SCALER)
    check(skops.io.dumps(estimator))
    estimator = Normalizer()
    for _ in range(60):
        estimator = make_pipeline(estimator)
    with pytest.raises(ValueError, match="nested more than 300 levels"):
        check(skops.io.dumps(estimator))


def test_vectorizer_with_a_vocabulary(tmp_path):
    texts = [f"word{i} word{i + 1}" for i in range(300)]
    fitted = TfidfVectorizer().fit(texts)
    save(fitted, tmp_path / "file")
    assert (
        load(tmp_path / "file").transform(texts) != fitted.transform(texts)
    ).nnz == 0


def test_memory_maps_are_saved_as_arrays(tmp_path):
    mapped = np.memmap(tmp_path / "map", dtype="f8", mode="w+", shape=(3,))
    mapped[:] = 1, 2, 3
    scaler = StandardScaler().fit(np.ones((4, 3)))
    scaler.mean_ = mapped
    scaler.names_ = ['"memmap"', {"memmap": mapped[:2], "numpy": "memmap"}]
    save(scaler, tmp_path / "file")
    loaded = load(tmp_path / "file")
    assert type(loaded.mean_) is np.ndarray
    np.testing.assert_array_equal(loaded.mean_, [1, 2, 3])
    assert loaded.names_[0] == '"memmap"'
    assert loaded.names_[1]["numpy"] == "memmap"
    assert type(loaded.names_[1]["memmap"]) is np.ndarray
    np.testing.assert_array_equal(loaded.transform(np.ones((1, 3))), [[0, -1, -2]])
    assert type(scaler.mean_) is np.memmap


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (sp.csr_matrix((2, 3)), r"scipy\.sparse.*csr_matrix"),
        (np.matrix([[1.0]]), r"numpy\.matrix"),
        (np.rec.array([(1, 2.0)], dtype="i8,f8"), r"numpy\.rec\.recarray"),
    ],
)
def test_other_arrays_are_named(tmp_path, value, name):
    scaler = StandardScaler()
    scaler.a_ = value
    with pytest.raises(TypeError, match=name):
        save(scaler, tmp_path / "file")


# What is not


def test_compressed_members():
    zeros = io.BytesIO()
    np.save(zeros, np.zeros(10**6))
    members = [("1.npy", zeros.getvalue()), ("schema.json", json.dumps(ROOT))]
    check(pack(members))
    data = pack(members, compression=zipfile.ZIP_DEFLATED)
    assert len(data) < 20_000
    with pytest.raises(ValueError, match=r"1\.npy is compressed"):
        check(data)


@pytest.mark.parametrize(
    "name",
    [
        "/1.npy",
        "../1.npy",
        "a/1.npy",
        "a\\1.npy",
        "C:1.npy",
        "..npy",
        "1.npz",
        "ü.npy",
    ],
)
def test_names_of_members(name):
    with pytest.raises(ValueError, match="no name of a member"):
        check(with_schema(ROOT, [(name, npy((0,)))]))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicate_members():
    with pytest.raises(ValueError, match=r"two members 1\.npy"):
        check(with_schema(ROOT, [("1.npy", npy((0,)))] * 2))


def test_overlapping_members():
    data = bytearray(with_schema(ROOT, [("1.bin", b"x" * 5000)]))
    entry = data.index(b"PK\1\2")
    size = data.index(b"1.bin", entry) + 5 - entry
    copies = b""
    for i in range(2, 9):
        copies += data[entry : entry + size].replace(b"1.bin", b"%d.bin" % i)
    end = data.index(b"PK\5\6")
    data[end:end] = copies
    end += len(copies)
    for at in (8, 10):
        data[end + at : end + at + 2] = (9).to_bytes(2, "little")
    length = int.from_bytes(data[end + 12 : end + 16], "little") + len(copies)
    data[end + 12 : end + 16] = length.to_bytes(4, "little")
    with pytest.raises((ValueError, zipfile.BadZipFile), match=r"[Oo]verlap"):
        check(bytes(data))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy((10**12,)), "promises an array"),
        (npy((3,), b"x" * 16), "promises an array"),
        (npy((1,), b"x" * 16), "promises an array"),
        (npy((-2, -1), b"x" * 16), "promises an array"),
        (npy((2**40, 2**40), b""), "promises an array"),
        (npy((10**15, 0)), "no elements"),
        (npy((10**15,), descr="<U0"), "no elements"),
        (npy((1,), b"x" * 8, descr="|O"), "holds objects"),
        (npy((1,), b"x" * 8, version=b"\7\0"), "version|format"),
        (b"PK\3\4" + b"x" * 99, "magic"),
        (b"", "EOF|magic"),
    ],
)
def test_headers_of_arrays(content, message):
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=message):
            check(with_schema(ROOT, [("1.npy", content)]))
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()


def test_member_that_many_objects_read():
    nodes = [an_array("1.npy", __id__=i) for i in range(2, 5)]
    members = [("1.npy", npy((1,), b"x" * 8))]
    check(with_schema({**a_list(nodes[0], nodes[0]), **ROOT}, members))
    for two in (nodes[:2], [an_array("1.npy"), an_array("1.npy")]):
        with pytest.raises(ValueError, match=r"1\.npy is read by several objects"):
            check(with_schema({**a_list(*two), **ROOT}, members))


def references(depth, reference):
    node = a_list(plain(1), __id__=1)
    for i in range(2, depth):
        node = a_list(node, reference(i - 1), __id__=i)
    return {**node, **ROOT}


@pytest.mark.parametrize(
    "reference",
    [
        lambda i: {"__id__": i},
        lambda i: {"__id__": float(i)},
        lambda i: a_list(__id__=i),
        lambda i: plain(1, __id__=i),
        lambda i: {**plain(1, __id__=i), "__loader__": "CachedNode"},
    ],
    ids=["bare", "float", "list", "plain", "cached"],
)
def test_references_to_references(tmp_path, reference):
    data = with_schema(references(60, reference))
    start = time.perf_counter()
    with pytest.raises(ValueError, match="refers to itself or to a part"):
        check(data)
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(ValueError, match="refers to itself or to a part"):
        load(tmp_path / "file")
    assert time.perf_counter() - start < 5


def test_cycles():
    for root in (
        a_list({"__id__": 7}, __id__=7),
        a_list(a_list({"__id__": 8}, __id__=8)),
        a_list(a_list(a_list({"__id__": 8, "x": [1, 2]}, __id__=9), __id__=8)),
    ):
        with pytest.raises(ValueError, match="refers to itself"):
            check(with_schema({**root, **ROOT}))


@pytest.mark.parametrize("content", ["[" * 10**5, " {}", '[["a"]]', None, 3])
def test_plain_values_hold_no_others(content):
    node = {**plain(1), "content": content}
    with pytest.raises(ValueError, match="plain value"):
        check(with_schema({**a_list(node), **ROOT}))


@pytest.mark.parametrize("text", ["[" * 10**6, '{"a":' * 10**5, "[]", "3", "null", "{"])
def test_deep_and_other_schemas(tmp_path, text):
    path = tmp_path / "file"
    path.write_bytes(pack([("schema.json", text)]))
    with pytest.raises(ValueError, match="is damaged or is no skops file"):
        load(path)


@pytest.mark.parametrize("name", ["RandomState", "Philox", "MT19937"])
def test_position_of_a_generator(tmp_path, name):
    path = tmp_path / "file"
    if name == "RandomState":
        value = np.random.RandomState(0)
        state = value.get_state(legacy=False)
        state["state"]["pos"] = 10**6
        value.set_state(state)
    else:
        value = np.random.Generator(getattr(np.random, name)(0))
        state = value.bit_generator.state
        if name == "Philox":
            state["buffer_pos"] = -1000
        else:
            state["state"]["pos"] = -1000
        value.bit_generator.state = state
    scaler = StandardScaler()
    scaler.a_ = [{"x": np.array([None, [value]], dtype=object)}]
    path.write_bytes(skops.io.dumps(scaler))
    with pytest.raises(ValueError, match=r"is refused: .*position"):
        load(path)
    with pytest.raises(ValueError, match=r"load would refuse it: .*position"):
        save(scaler, tmp_path / "other")
    assert os.listdir(tmp_path) == ["file"]


def test_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="is no file"):
        load(tmp_path / "pipe")
