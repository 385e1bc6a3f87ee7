"""Tests of saving and loading without pickle."""

import io
import json
import os
import zipfile

import numpy as np
import pytest
import skops.io
from sklearn import config_context
from sklearn.base import BaseEstimator
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer, StandardScaler
from torch import nn

import skdict
from skdict import ControlPCAWhitener, TokenExtractor, load, persistence, save

X = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
Y = np.where(np.arange(60) % 3 == 0, "control", "treated")


class Foreign(BaseEstimator):
    """An estimator that is neither this library's nor scikit-learn's."""

    def __init__(self, value=None):
        self.value = value


def whole_pipeline():
    return make_pipeline(
        ControlPCAWhitener(control_label="control"),
        Normalizer(),
        TruncatedSVD(3, random_state=np.random.RandomState(0)),
        LogisticRegression(),
    ).fit(X, Y)


def rewrite(path, change):
    """Apply `change` to the schema of a saved file, as an attacker could."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(members["schema.json"])
    members["schema.json"] = json.dumps(change(schema)).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def test_whole_pipeline_gives_identical_output(tmp_path):
    pipeline = whole_pipeline()
    save(pipeline, tmp_path / "pipeline.skops")
    restored = load(tmp_path / "pipeline.skops")
    assert [type(step) for _, step in restored.steps] == [
        type(step) for _, step in pipeline.steps
    ]
    np.testing.assert_array_equal(
        restored.predict_proba(X), pipeline.predict_proba(X), strict=True
    )
    np.testing.assert_array_equal(
        restored[:-1].transform(X), pipeline[:-1].transform(X), strict=True
    )
    for (_, step), (_, other) in zip(pipeline.steps, restored.steps, strict=True):
        assert vars(step).keys() == vars(other).keys()


def test_unfitted_estimator_and_path_as_text(tmp_path):
    path = str(tmp_path / "whitener.skops")
    save(ControlPCAWhitener(5, shrinkage="auto"), path)
    restored = load(path)
    assert type(restored) is ControlPCAWhitener
    assert restored.get_params() == ControlPCAWhitener(5, shrinkage="auto").get_params()


def test_trusted_types_are_the_public_estimators():
    public = {
        f"{item.__module__}.{item.__qualname__}"
        for item in (getattr(skdict, name) for name in skdict.__all__)
        if isinstance(item, type) and issubclass(item, BaseEstimator)
    }
    assert len(public) >= 2
    assert set(persistence._trusted_types()) == public


@pytest.mark.parametrize(
    ("estimator", "name"),
    [
        (Foreign(), r"test_persistence\.Foreign"),
        (make_pipeline(Normalizer(), Foreign()), r"test_persistence\.Foreign"),
        (Foreign([{"a": Normalizer()}]), r"test_persistence\.Foreign"),
        (FunctionTransformer(os.system), r"\.system"),
        (FunctionTransformer(eval), r"builtins\.eval"),
        (RandomForestClassifier(2, max_depth=2).fit(X, Y), r"sklearn\.tree\._tree"),
        (
            GridSearchCV(LogisticRegression(), {"C": [1, 2]}, cv=2).fit(X, Y),
            r"sklearn\..*\. Save its best_estimator_\.",
        ),
        (
            make_pipeline(TokenExtractor(nn.Sequential(nn.ReLU()), "0"), Normalizer()),
            r"torch\.nn\.modules\.",
        ),
    ],
)
def test_save_refuses_other_types_by_name(tmp_path, estimator, name):
    path = tmp_path / "file.skops"
    with pytest.raises(TypeError, match=f"cannot be saved.*{name}"):
        save(estimator, path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (1 + 2j, r"StandardScaler\.copy \(builtins\.complex\)"),
        ([Normalizer(copy={(1, 2): 3})], r"copy\[0\]\.copy \(builtins\.dict\)"),
        ({"key": {"a": 1j}}, r"copy\['key'\]\['a'\] \(builtins\.complex\)"),
    ],
    ids=["complex", "tuple-key", "nested"],
)
def test_save_says_where_a_value_cannot_be_written(tmp_path, value, place):
    with pytest.raises(TypeError, match=place):
        save(StandardScaler(copy=value), tmp_path / "file.skops")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("thing", [{"a": 1}, None, StandardScaler, [StandardScaler()]])
def test_save_wants_an_estimator(tmp_path, thing):
    with pytest.raises(TypeError, match="needs a scikit-learn estimator"):
        save(thing, tmp_path / "file.skops")


@pytest.mark.parametrize(
    ("thing", "names"),
    [
        (Foreign(), r"test_persistence\.Foreign"),
        (FunctionTransformer(os.system), r"\.system"),
        (make_pipeline(Foreign(), Normalizer()), r"test_persistence\.Foreign"),
    ],
)
def test_load_refuses_other_types_by_name(tmp_path, thing, names):
    path = tmp_path / "file.skops"
    skops.io.dump(thing, path)
    with pytest.raises(TypeError, match=rf"is refused.*not trusted: .*{names}\.$"):
        load(path)


def test_load_does_not_run_what_a_malicious_file_names(tmp_path):
    path, trace = tmp_path / "file.skops", tmp_path / "trace"
    save(StandardScaler(), path)

    def add_command(schema):
        text = {
            "__class__": "str",
            "__module__": "builtins",
            "__loader__": "JsonNode",
            "content": json.dumps(f"touch {trace}"),
            "is_json": True,
        }
        schema["content"]["content"]["copy"] = {
            "__class__": "system",
            "__module__": "os",
            "__loader__": "ConstructorFromReduceNode",
            "content": {
                "__class__": "tuple",
                "__module__": "builtins",
                "__loader__": "TupleNode",
                "content": [text],
            },
        }
        return schema

    rewrite(path, add_command)
    # The file does what it says where its type is trusted ...
    skops.io.load(path, trusted=["os.system"])
    assert trace.exists()
    trace.unlink()
    # ... and nothing here.
    with pytest.raises(TypeError, match=r"not trusted: os\.system\.$"):
        load(path)
    assert not trace.exists()


def test_private_types_of_the_library_are_not_trusted(tmp_path):
    path = tmp_path / "file.skops"
    save(ControlPCAWhitener(), path)

    def rename(schema):
        schema["__class__"], schema["__module__"] = "resolve_device", "skdict.rows"
        return schema

    rewrite(path, rename)
    with pytest.raises(
        TypeError, match=r"not trusted: skdict\.rows\.resolve_device\.$"
    ):
        load(path)


def damaged_versions():
    buffer = io.BytesIO()
    skops.io.dump(StandardScaler().fit(X), buffer)
    whole = buffer.getvalue()
    flipped = bytearray(whole)
    flipped[whole.index(b"mean_")] ^= 0xFF
    empty = io.BytesIO()
    zipfile.ZipFile(empty, "w").close()
    text = io.BytesIO()
    with zipfile.ZipFile(text, "w") as archive:
        archive.writestr("schema.json", "{")
    return {
        "empty": b"",
        "text": b"not an archive",
        "cut": whole[: len(whole) // 2],
        "cut-end": whole[:-3],
        "flipped": bytes(flipped),
        "no-schema": empty.getvalue(),
        "no-json": text.getvalue(),
    }


@pytest.mark.parametrize("kind", list(damaged_versions()))
def test_damaged_files(tmp_path, kind):
    path = tmp_path / "file.skops"
    path.write_bytes(damaged_versions()[kind])
    with pytest.raises(ValueError, match=r"file\.skops' is damaged or is no skops"):
        load(path)


def test_file_without_estimator(tmp_path):
    path = tmp_path / "file.skops"
    skops.io.dump({"a": [1, 2]}, path)
    with pytest.raises(ValueError, match="holds no estimator but a dict"):
        load(path)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing.skops")
    with pytest.raises(FileNotFoundError, match=r"no folder .*missing\.$"):
        save(StandardScaler(), tmp_path / "missing" / "file.skops")


def test_requests_set_by_hand_are_named(tmp_path):
    estimator = make_pipeline(StandardScaler(), LogisticRegression())
    with config_context(enable_metadata_routing=True):
        estimator[0].set_fit_request(sample_weight=True)
    with pytest.raises(TypeError, match=r"\._metadata_request \("):
        save(estimator, tmp_path / "file.skops")
