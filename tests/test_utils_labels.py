"""Labels from any container, in every public function that takes some."""

import datetime as dt
import enum
import importlib
import inspect
import io

import matplotlib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import make_pipeline

import skdict
from skdict import ControlCenterScaler, ControlPCAWhitener, FeatureSuppressor
from skdict._utils.labels import (
    as_labels,
    as_mask,
    encode,
    equals,
    join,
    labels_or_missing,
)
from skdict.concepts import (
    compare_probe_sets,
    concept_importance,
    fidelity,
    important_rows,
    learnability,
    steering_curve,
    suppression_report,
)
from skdict.decomposition._registry import DICTIONARIES
from skdict.evaluation import (
    compare_dictionaries,
    compare_with_supervised,
    discovery_yield,
    relationship_recall,
    replicate_retrieval,
    sparse_probing,
    sweep_layers,
)
from skdict.images import heatmap_by_region
from skdict.inspection import (
    DirectionHistogramDisplay,
    SelectivityCDFDisplay,
    SelectivityCurveDisplay,
    SparsityCurveDisplay,
)
from skdict.metrics import (
    association_report,
    auroc_scores,
    decompose_error,
    describe_features,
    eta_squared,
    make_selectivity_scorer,
    rescore_associations,
    selectivity_counts,
    selectivity_curve,
    selectivity_report,
    selectivity_scores,
    selectivity_tests,
    subspace_probes,
)
from skdict.report import FeatureReport

matplotlib.use("Agg")


class Arrow:
    """What an array of Arrow is to the conversion; pyarrow itself is no dependency."""

    def __init__(self, values):
        self.values = values

    def __len__(self):
        return len(self.values)

    def __getitem__(self, i):
        return self.values[i]

    def to_pylist(self):
        return list(self.values)


class Colour(enum.StrEnum):
    RED = "a"
    BLUE = "b"


class Digit(enum.IntEnum):
    ONE = 1
    TWO = 2


def through_csv(values):
    text = pd.DataFrame({"label": values}).to_csv(index=False)
    return pd.read_csv(io.StringIO(text))["label"]


def unused_category(values):
    return pd.Categorical(values, categories=[*np.unique(values), *values[:0], "none"])


# Labels that all containers below can hold, as lists of Python's objects.
N = 36
WORDS = [*"abc"] * (N // 3)
BIG = [2**53 + i % 4 for i in range(N)]  # as float64 these are three classes
BINARY = [i % 2 == 0 for i in range(N)]
DAYS = [dt.date(2024, 1, 1 + i % 3) for i in range(N)]

CONTAINERS = {
    "words": {
        "list": (WORDS, list),
        "tuple": (WORDS, tuple),
        "objects": (WORDS, lambda v: np.array(v, dtype=object)),
        "strings of numpy": (WORDS, lambda v: [np.str_(x) for x in v]),
        "StringDType": (WORDS, lambda v: np.array(v, dtype=np.dtypes.StringDType())),
        "column": (WORDS, lambda v: np.array(v)[:, None]),
        "list of lists": (WORDS, lambda v: [[x] for x in v]),
        "bytes": (WORDS, lambda v: np.array(v, dtype="S")),
        "list of bytes": (WORDS, lambda v: [x.encode() for x in v]),
        "masked": (WORDS, lambda v: np.ma.array(v)),
        "Series": (WORDS, lambda v: pd.Series(v, index=np.arange(N)[::-1])),
        "string": (WORDS, lambda v: pd.array(v, dtype="string")),
        "category": (WORDS, unused_category),
        "Index": (WORDS, pd.Index),
        "frame": (WORDS, lambda v: pd.DataFrame({"label": v})),
        "polars": (WORDS, pl.Series),
        "polars category": (WORDS, lambda v: pl.Series(v, dtype=pl.Categorical)),
        "polars frame": (WORDS, lambda v: pl.DataFrame({"label": v})),
        "Arrow": (WORDS, Arrow),
        "CSV": (WORDS, through_csv),
    },
    "numbers": {
        "list": (BIG, list),
        "objects": (BIG, lambda v: np.array(v, dtype=object)),
        "unsigned": (BIG, lambda v: np.array(v, dtype=np.uint64)),
        "big-endian": (BIG, lambda v: np.array(v, dtype=">i8")),
        "Int64": (BIG, lambda v: pd.array(v, dtype="Int64")),
        "category": (BIG, pd.Categorical),
        "polars": (BIG, pl.Series),
        "Arrow": (BIG, Arrow),
        "tensor": (BIG, torch.tensor),
        "list of tensors": (BIG, lambda v: [*torch.tensor(v)]),
        "CSV": (BIG, through_csv),
    },
    "booleans": {
        "list": (BINARY, list),
        "objects": (BINARY, lambda v: np.array(v, dtype=object)),
        "boolean": (BINARY, lambda v: pd.array(v, dtype="boolean")),
        "polars": (BINARY, pl.Series),
        "Arrow": (BINARY, Arrow),
        "tensor": (BINARY, torch.tensor),
        "CSV": (BINARY, through_csv),
    },
    "dates": {
        "list": (DAYS, list),
        "datetime": (DAYS, pd.to_datetime),
        "nanoseconds": (DAYS, lambda v: np.array(v, dtype="M8[ns]")),
        "polars": (DAYS, pl.Series),
    },
}
ACCEPTED = [
    pytest.param(
        np.array(values, dtype="M8[D]" if kind == "dates" else None),
        make(values),
        id=f"{kind}-{name}",
    )
    for kind, makers in CONTAINERS.items()
    for name, (values, make) in makers.items()
]


def with_first(first, rest="b"):
    return [first, *[rest] * (N - 1)]


REFUSED = {
    "NaN in a list": (with_first(float("nan")), "1 missing .* row 0"),
    "None": (with_first(None), "1 missing"),
    "NA": (with_first(pd.NA), "1 missing"),
    "NaT": (with_first(pd.NaT), "1 missing"),
    "NaT of numpy": (
        np.array(with_first("NaT", "2024-01-01"), dtype="M8[D]"),
        "1 missing",
    ),
    "infinite": (np.array(with_first(np.inf, 1.0)), "1 missing or infinite"),
    "masked": (np.ma.array(with_first("a"), mask=with_first(True, False)), "1 missing"),
    "category": (pd.Categorical(with_first(None)), "1 missing"),
    "Int64": (pd.array(with_first(None, 2), dtype="Int64"), "1 missing"),
    "string": (pd.array(with_first(None), dtype="string"), "1 missing"),
    "polars": (pl.Series(with_first(None, 2)), "1 missing"),
    "Arrow": (Arrow(with_first(None)), "1 missing"),
    "CSV": (through_csv(with_first(None)), "1 missing"),
    "number and text": (with_first(1, "1"), "mixes labels .* int and str"),
    "number and boolean": (with_first(1, True), "mixes labels .* bool and int"),
    "bytes and text": (with_first(b"b"), "mixes labels .* bytes and str"),
    "fractions": (np.arange(N) / 2, "fractional"),
    "tuples": ([(1, i % 2) for i in range(N)], "of type tuple"),
    "intervals": (pd.cut(np.arange(N), 3), "of type Interval"),
    "periods": (pd.period_range("2024", periods=N, freq="D"), "of type Period"),
    "complex": (np.arange(N) * 1j, "of type complex128"),
    "null character": (with_first("b\0"), "null character"),
    "large": ([-(2**64), *range(N - 1)], "do not fit in 64 bits"),
    "two columns": (pd.DataFrame({"a": WORDS, "b": WORDS}), "2 columns"),
    "matrix": (np.zeros((N, 2)), r"1d array of labels, .* \(36, 2\)"),
    "length": (WORDS[:-1], "36 rows"),
    "lazy": (pl.LazyFrame({"label": WORDS}), "LazyFrame"),
    "expression": (pl.col("label"), "got Expr"),
    "structured": (np.zeros(N, [("label", int)]), r"of type \[\('label', '<i8'\)\]"),
    "lists of polars": (pl.Series([[x] for x in WORDS]), r"of type List\(String\)"),
    "lists in a frame": (
        pl.DataFrame({"label": [[x] for x in WORDS]}),
        r"of type List\(String\)",
    ),
    "arrays of polars": (
        pl.Series([[x] for x in WORDS], dtype=pl.Array(pl.String, 1)),
        r"of type Array\(String",
    ),
    "text": ("abc" * 12, "got str"),
}


class TestConversion:
    @pytest.mark.parametrize(("expected", "given"), ACCEPTED)
    def test_accepted(self, expected, given):
        labels = as_labels(given, "y", N)
        assert_array_equal(labels, expected)
        assert labels.dtype.kind == expected.dtype.kind
        distinct, ids = encode(given, "y", N)
        assert_array_equal(distinct[ids], expected)

    @pytest.mark.parametrize(("given", "message"), REFUSED.values(), ids=REFUSED)
    def test_refused(self, given, message):
        with pytest.raises(ValueError, match=f"y.*{message}|{message}.*y"):
            as_labels(given, "y", N)

    @given(
        st.one_of(
            st.lists(st.text(st.characters(exclude_characters="\0")), max_size=9),
            st.lists(st.binary(max_size=3).map(lambda b: b.hex().encode())),
            st.lists(st.integers(-(2**63), 2**63 - 1)),
            st.lists(st.integers(0, 2**64 - 1)),
            st.lists(st.one_of(st.integers(-5, 5), st.integers(-5, 5).map(float))),
            st.lists(st.booleans()),
            st.lists(st.datetimes()),
            st.lists(st.timedeltas()),
        )
    )
    def test_labels_are_equal_where_they_were(self, values):
        labels = as_labels(values, "y")
        same = np.array([[a == b for b in values] for a in values], dtype=bool)
        assert_array_equal(
            (labels[:, None] == labels).ravel(), same.ravel(), strict=True
        )

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ([2**63 + 1, 2**63], np.array([2**63 + 1, 2**63], np.uint64)),
            (np.array([1, 2], np.uint8), np.array([1, 2])),
            (np.float32([1, -0.0]), np.array([1, 0])),
            ([2**53 + 1, 2.0], np.array([2**53 + 1, 2])),
            ([*Colour], np.array(["a", "b"])),
            ([*Digit], np.array([1, 2])),
            ([dt.timedelta(1)], np.array([1], "m8[D]")),
            (
                pd.date_range("2024", periods=2, tz="Europe/Paris"),
                np.array(["2023-12-31T23", "2024-01-01T23"], "M8[h]"),
            ),
            (
                [pd.Timestamp(1, unit="ns"), pd.Timestamp(2, unit="ns")],
                np.array([1, 2], "M8[ns]"),
            ),
            (pl.Series([1, 2], dtype=pl.Datetime("ns")), np.array([1, 2], "M8[ns]")),
            (torch.tensor([1, 2], dtype=torch.bfloat16), np.array([1, 2])),
            (torch.tensor([1.0, 2.0], requires_grad=True), np.array([1, 2])),
            ([], np.array([])),
        ],
    )
    def test_what_it_becomes(self, values, expected):
        labels = as_labels(values, "y")
        assert_array_equal(labels, expected)
        assert len(values) == 0 or labels.dtype.kind == expected.dtype.kind

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ([dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 1, tzinfo=dt.UTC)], "zone"),
            ([np.datetime64("5000"), np.datetime64(1, "ns")], "no unit of time"),
            ([np.timedelta64(1, "Y"), np.timedelta64(1, "D")], "no unit of time"),
            ([b"\xff"], "no text in UTF-8"),
            (3, "got int"),
            ({"a": 1}, "got dict"),
            (torch.tensor(3), r"got a Tensor of shape \(\)"),
            ([[1, 2], [3, 4]], "of type list"),
            (1e30 * np.ones(2), "64 bits"),
            ([object()], "of type object"),
        ],
    )
    def test_what_it_cannot_become(self, values, message):
        with pytest.raises(ValueError, match=message):
            as_labels(values, "y")

    def test_missing_labels_that_may_be(self):
        labels, missing = labels_or_missing(["a", None, "b"], "y")
        assert_array_equal(missing, [False, True, False])
        assert_array_equal(labels[~missing], ["a", "b"])
        labels, missing = labels_or_missing(pd.array([0.5, None, 2]), "dose")
        assert_array_equal(labels[~missing], [0.5, 2])
        labels, _ = labels_or_missing([None, None], "y")
        assert len(labels) == 2

    @pytest.mark.parametrize(
        ("labels", "label", "expected"),
        [
            (["a", "b"], "b", [False, True]),
            (["a", "b"], b"b", [False, True]),
            ([b"a", b"b"], "b", [False, True]),
            (["1", "2"], 1, [False, False]),
            ([0, 1], True, [False, True]),
            ([True, False], 1, [True, False]),
            ([2**53, 2**53 + 1], 2**53 + 1, [False, True]),
            (DAYS[:2], "2024-01-01", [True, False]),
            (DAYS[:2], "today's", [False, False]),
            (DAYS[:2], DAYS[1], [False, True]),
        ],
    )
    def test_equals(self, labels, label, expected):
        assert_array_equal(equals(as_labels(labels, "y"), label, "label"), expected)

    @pytest.mark.parametrize("label", [None, float("nan"), pd.NA, (1, 2)])
    def test_nothing_equals_what_is_no_label(self, label):
        with pytest.raises(ValueError, match="label"):
            equals(np.array(["a"]), label, "label")

    def test_join(self):
        large = as_labels([2**64 - 1, 2**64 - 2], "a")
        joined = join([as_labels([2**53 + 1], "b"), large], "both")
        assert joined.tolist() == [2**53 + 1, 2**64 - 1, 2**64 - 2]
        assert_array_equal(join([np.array(["a"]), np.array(["bc"])], ""), ["a", "bc"])
        with pytest.raises(ValueError, match=r"both mixes .* strings and whole"):
            join([large, np.array(["1"])], "both")
        with pytest.raises(ValueError, match="64 bits"):
            join([large, as_labels([-1], "b")], "both")

    MASKS = (
        list,
        np.array,
        pd.Series,
        pl.Series,
        torch.tensor,
        Arrow,
        lambda v: np.array(v, dtype=int),
        lambda v: np.array(v, dtype=float)[:, None],
        lambda v: np.array(v, dtype=object),
        lambda v: [int(v[0]), *v[1:]],
        lambda v: pd.array(v, dtype="boolean"),
        lambda v: pd.array(np.array(v, dtype=int), dtype="Int64"),
    )

    @pytest.mark.parametrize("make", MASKS)
    def test_masks(self, make):
        mask = as_mask(make(BINARY), "control", N)
        assert mask.dtype == bool
        assert_array_equal(mask, BINARY)

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ([1, -1, -1], "2 of 3 entries are neither, the first of them -1 at row 1"),
            ([True, "True"], "1 of 2 .* 'True' at row 1"),
            (["0", "1"], "2 of 2 .* '0' at row 0"),
            ([True, None], "missing at row 1"),
            (pd.array([1, None], dtype="Int64"), "missing at row 1"),
            ([0.5, 1], "0.5 at row 0"),
            (np.array([b"1"]), "b'1' at row 0"),
        ],
    )
    def test_no_masks(self, values, message):
        with pytest.raises(ValueError, match=f"control must be a boolean.*{message}"):
            as_mask(values, "control", len(values))


# Everything public that takes labels

RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 4))
CODES = np.abs(X) * (X > 0.3)
DENSE = np.arange(4.0)
Y = np.array([*"xy"])[np.arange(N) // 4 % 2]
TARGETS = RNG.normal(size=(N, 2))
HEATMAP = RNG.normal(size=(6, 6))
EVERY = np.ones(N, dtype=bool)
DICTIONARY = PCA(3, random_state=0).fit(X)
REPORT = association_report(CODES, TARGETS)
NULL = {"n_permutations": 3, "random_state": 0}
PROBE = NearestCentroid()
RUN = {"cv": 2, "seeds": None, "n_permutations": 2, "probe": PROBE}


def without_seconds(table):
    return table.filter(regex="(?<!_seconds)$")


def compared(y=Y, **kwargs):
    return without_seconds(compare_dictionaries({"a": PCA(3)}, X, y, **RUN, **kwargs))


def swept(y=Y, **kwargs):
    table = sweep_layers({"a": X}, PCA(3), y, inner_cv=2, **RUN, **kwargs)
    return without_seconds(table)


def sparsely_probed(y=Y, **kwargs):
    options = {"n_features": [1], "cv": 2, "probe": GaussianNB(), **NULL}
    return sparse_probing(CODES, y, **options, **kwargs)


def discovered(y=Y, **kwargs):
    # Of two classes each is too frequent for a lower precision.
    options = {"budgets": [2], "min_precision": 1.0, **NULL}
    return discovery_yield(CODES, y, **options, **kwargs).features


def yardstick(**kwargs):
    options = {"head": PROBE, "cv": 2, "n_pairs": 5, "random_state": 0, **kwargs}
    return compare_with_supervised({"a": DICTIONARY}, X, {"y": Y}, **options).control


def reported(**kwargs):
    options = {"verbose": False, "y": Y, "metadata": {"place": Y == "x"}} | NULL
    return FeatureReport(DICTIONARY, X, **options | kwargs).to_frame()


def scaled(method, **kwargs):
    scaler = ControlCenterScaler(min_controls=1)
    if method == "fit":
        scaler.fit(X, control=EVERY, **kwargs)
    elif method == "fit_transform":
        return scaler.fit_transform(X, control=EVERY, **kwargs)
    elif method == "partial_fit":
        scaler.partial_fit(X, control=EVERY, **kwargs)
    else:
        scaler.fit(X, control=EVERY, batch=as_labels(kwargs["batch"], "batch"))
        return getattr(scaler, method)(X, **kwargs)
    return scaler.mean_


def controlled(make, method, **options):
    """An estimator that finds its controls in y by the label that comes first."""

    def call(values):
        label = as_labels(values, "y", N)[0]
        label = str(label) if isinstance(label, np.datetime64) else label.item()
        estimator = make(control_label=label, **options)
        place = {} if make is ControlPCAWhitener else {"batch": Y}
        result = getattr(estimator, method)(X, values, **place)
        return result if method == "fit_transform" else estimator.transform(X, **place)

    return call


def shown(display):
    """The arrays that a display draws."""
    names = ("scores", "null_low", "null_high", "cosines", "is_label", "mean", "name")
    return [np.asarray(vars(display)[n], object) for n in names if n in vars(display)]


def first_of(values):
    try:
        return as_labels(values, "y", N)[0]
    except ValueError:  # to be refused by what is tested, and not here
        return "x"


def numbers_of(values):
    """Classes that units share, where the values are units."""
    try:
        return encode(values, "units", N)[1]
    except ValueError:
        return np.arange(N) % 3


NULLS = {
    "selectivity_report": lambda y, **kw: selectivity_report(CODES, y, **NULL, **kw),
    "selectivity_curve": lambda y, **kw: selectivity_curve(CODES, y, **NULL, **kw),
    "selectivity_counts": lambda y, **kw: selectivity_counts(
        CODES, y, score_thresholds=[0.0, 0.1], **NULL, **kw
    ),
    "SelectivityCurveDisplay.from_estimator": lambda y, **kw: shown(
        SelectivityCurveDisplay.from_estimator(DICTIONARY, X, y, **NULL, **kw)
    ),
    "SelectivityCurveDisplay.from_predictions": lambda y, **kw: shown(
        SelectivityCurveDisplay.from_predictions(CODES, y, **NULL, **kw)
    ),
    "SelectivityCDFDisplay.from_estimator": lambda y, **kw: shown(
        SelectivityCDFDisplay.from_estimator(DICTIONARY, X, y, **NULL, **kw)
    ),
    "SelectivityCDFDisplay.from_predictions": lambda y, **kw: shown(
        SelectivityCDFDisplay.from_predictions(CODES, y, **NULL, **kw)
    ),
}
TESTS = {
    "selectivity_tests": lambda y, **kw: selectivity_tests(CODES, y, alpha=1, **kw),
    "describe_features": lambda y, **kw: describe_features(CODES, y, **kw),
}

RANKINGS = {"null_size": 20, "random_state": 0}


def important(y=None, **kw):
    head = Ridge().fit(X, np.arange(N))
    if y is not None:
        head = RidgeClassifier().fit(X, as_labels(y, "y", N))
        codes = DICTIONARY.transform(X)
        return fidelity(head, DICTIONARY, codes, X, y)["accuracy"].to_list()
    codes = DICTIONARY.transform(X)
    return concept_importance(head, DICTIONARY, codes, n_random=0, **kw).table


def learned(y=Y, groups=None):
    cv = 2 if groups is None else StratifiedGroupKFold(2)
    return learnability(
        X,
        CODES,
        y,
        features=[0],
        groups=groups,
        cv=cv,
        probe=RidgeClassifier(),
        random_state=0,
    ).drop(columns="name")


def without_batch_features(y=Y, batch=None, groups=None):
    batch = np.arange(N) // 2 % 2 if batch is None else batch
    cv = 2 if groups is None else StratifiedGroupKFold(2)
    return suppression_report(
        CODES,
        y,
        batch=batch,
        groups=groups,
        features=[0],
        cv=cv,
        probe=RidgeClassifier(),
        n_random=0,
        random_state=0,
    )


def steered(y, label, control_label, **kw):
    return steering_curve(
        CODES,
        y,
        label,
        control_label=control_label,
        features=[0, 1],
        cv=2,
        n_random=0,
        random_state=0,
        **kw,
    )


def suppressed(y=None, **kw):
    suppressor = FeatureSuppressor(n_permutations=9, random_state=0)
    return suppressor.fit(CODES, y, **kw).p_values_


LABELS = {
    **{
        f"learnability({name})": lambda v, name=name: learned(**{name: v})
        for name in ("y", "groups")
    },
    "compare_probe_sets(groups)": lambda v: compare_probe_sets(
        CODES, numbers_of(v), groups=v, n_permutations=9, random_state=0
    ),
    "fidelity(y)": lambda v: important(v),
    "concept_importance(groups)": lambda v: important(groups=v),
    "important_rows(groups)": lambda v: important_rows(CODES, 0, groups=v),
    **{
        f"suppression_report({name})": lambda v, name=name: without_batch_features(
            **{name: v}
        )
        for name in ("y", "batch", "groups")
    },
    "steering_curve(y)": lambda v: steered(v, *np.unique(as_labels(v, "y"))[:2]),
    "steering_curve(groups)": lambda v: steered(Y, *np.unique(Y)[:2], groups=v),
    "FeatureSuppressor.fit(y)": lambda v: suppressed(v, batch=np.arange(N) // 4 % 2),
    "FeatureSuppressor.fit(batch)": lambda v: suppressed(batch=v),
    "FeatureSuppressor.fit(groups)": lambda v: suppressed(
        batch=numbers_of(v), groups=v
    ),
    "selectivity_scores(y)": lambda v: selectivity_scores(CODES, v),
    "auroc_scores(y)": lambda v: auroc_scores(CODES, v),
    "make_selectivity_scorer(y)": lambda v: make_selectivity_scorer()(DICTIONARY, X, v),
    "describe_features(confounds)": lambda v: describe_features(
        CODES, Y, confounds={"place": v}
    ),
    "association_report(batch)": lambda v: association_report(
        CODES, TARGETS, batch=v, **NULL
    ),
    "association_report(groups)": lambda v: association_report(
        CODES, numbers_of(v), groups=v, **NULL
    ),
    "rescore_associations(batch)": lambda v: rescore_associations(
        REPORT, CODES, TARGETS, batch=v, **NULL
    ),
    "rescore_associations(groups)": lambda v: rescore_associations(
        REPORT, CODES, np.stack(2 * [numbers_of(v)], axis=1), groups=v, **NULL
    ),
    "eta_squared(factors)": lambda v: eta_squared(CODES, {"place": v}, **NULL),
    "eta_squared(batch)": lambda v: eta_squared(CODES, {"place": Y}, batch=v, **NULL),
    "eta_squared(groups)": lambda v: eta_squared(
        CODES, {"place": numbers_of(v)}, groups=v, **NULL
    ),
    "subspace_probes(y)": lambda v: subspace_probes(
        X, v, np.eye(4)[:2], n_random=0, cv=2, probe=PROBE
    ),
    "subspace_probes(groups)": lambda v: subspace_probes(
        X, Y, np.eye(4)[:2], n_random=0, cv=2, probe=PROBE, groups=v
    ),
    "decompose_error(groups)": lambda v: decompose_error(X, CODES, cv=2, groups=v),
    "compare_dictionaries(y)": lambda v: compared(y=v),
    "compare_dictionaries(groups)": lambda v: compared(groups=v),
    "compare_with_supervised(groups)": lambda v: yardstick(groups=v),
    "compare_dictionaries(batch)": lambda v: compared(batch=v),
    "sweep_layers(y)": lambda v: swept(y=v),
    "sweep_layers(groups)": lambda v: swept(groups=v),
    "sweep_layers(batch)": lambda v: swept(batch=v),
    "relationship_recall(batch)": lambda v: relationship_recall(
        X, np.arange(N), [(0, 1), (2, 3)], batch=v, **NULL
    ),
    "replicate_retrieval(y)": lambda v: replicate_retrieval(X, v, **RANKINGS),
    "replicate_retrieval(batch)": lambda v: replicate_retrieval(
        X, np.arange(N) // 2, batch=v, negatives="same_batch", **RANKINGS
    ),
    **{
        f"sparse_probing({name})": lambda v, name=name: sparsely_probed(**{name: v})
        for name in ("y", "groups", "batch")
    },
    **{
        f"discovery_yield({name})": lambda v, name=name: discovered(**{name: v})
        for name in ("y", "groups", "batch")
    },
    "FeatureReport(y)": lambda v: reported(y=v),
    "FeatureReport(groups)": lambda v: reported(groups=v),
    "FeatureReport(metadata)": lambda v: reported(metadata={"place": v}),
    "DirectionHistogramDisplay.from_estimator(y)": lambda v: shown(
        DirectionHistogramDisplay.from_estimator(
            DICTIONARY, X, v, feature=0, label=first_of(v)
        )
    ),
    "DirectionHistogramDisplay.from_predictions(y)": lambda v: shown(
        DirectionHistogramDisplay.from_predictions(X[:, 0] / 9, v, label=first_of(v))
    ),
    "SelectivityCDFDisplay.from_predictions(labels)": lambda v: shown(
        SelectivityCDFDisplay.from_predictions(
            CODES, as_labels(v, "labels", N), labels=v, n_permutations=0
        )
    ),
    "SparsityCurveDisplay.from_estimator(y)": lambda v: shown(
        SparsityCurveDisplay.from_estimator(
            DICTIONARY, X, v, k=[1, 2], measure="probe_codes", cv=2, probe=PROBE
        )
    ),
    "SparsityCurveDisplay.from_estimator(groups)": lambda v: shown(
        SparsityCurveDisplay.from_estimator(
            DICTIONARY,
            X,
            Y,
            k=[1, 2],
            measure="probe_codes",
            cv=StratifiedGroupKFold(2),
            probe=PROBE,
            groups=v,
        )
    ),
    **{
        f"ControlCenterScaler.{method}(batch)": lambda v, method=method: scaled(
            method, batch=v
        )
        for method in ("fit", "partial_fit", "transform", "inverse_transform")
    },
    "ControlCenterScaler.fit_transform(batch)": lambda v: scaled(
        "fit_transform", batch=v
    ),
    **{
        f"{name}({parameter})": lambda v, call=call, parameter=parameter: (
            call(v)
            if parameter == "y"
            else call(Y if parameter == "batch" else numbers_of(v), **{parameter: v})
        )
        for name, call in (NULLS | TESTS).items()
        for parameter in ("y", "batch", "groups")
    },
}

CONTROLLED = {
    f"{make.__name__}.{method}(y)": controlled(make, method, **options)
    for make, options in (
        (ControlCenterScaler, {"min_controls": 1}),
        (ControlPCAWhitener, {}),
    )
    for method in ("fit", "partial_fit", "fit_transform")
}
MASKS = {
    **{
        f"{name}(control)": lambda v, call=call: call(Y, control=v)
        for name, call in (NULLS | TESTS).items()
    },
    "compare_dictionaries(control)": lambda v: without_seconds(
        compare_dictionaries(
            {"a": make_pipeline(ControlPCAWhitener(2), PCA(2))}, X, Y, control=v, **RUN
        )
    ),
    "sweep_layers(control)": lambda v: without_seconds(
        sweep_layers(
            {"a": X},
            make_pipeline(ControlPCAWhitener(2), PCA(2)),
            Y,
            inner_cv=2,
            control=v,
            **RUN,
        )
    ),
    "replicate_retrieval(control)": lambda v: replicate_retrieval(
        X, Y, control=v, **RANKINGS
    ),
    "FeatureReport(control)": lambda v: reported(control=v),
    **{
        f"ControlPCAWhitener.{method}(control)": lambda v, method=method: getattr(
            ControlPCAWhitener(), method
        )(X, control=v)
        for method in ("fit", "partial_fit")
    },
    **{
        f"ControlCenterScaler.{method}(control)": lambda v, method=method: getattr(
            ControlCenterScaler(), method
        )(X, control=v, batch=Y)
        for method in ("fit", "partial_fit", "fit_transform")
    },
    "ControlCenterScaler.transform(control)": lambda v: (
        ControlCenterScaler(unseen="own", min_controls=1)
        .fit(X, control=EVERY, batch=Y)
        .transform(X, control=v, batch=["new"] * N)
    ),
}

# Parameters of these names that hold no labels, or that are tested by themselves.
OTHERS = {
    "heatmap_by_region(mask)": "tested in TestRegions",
    **{
        f"sweep_models({name})": "checked by the same lines as those of sweep_layers"
        for name in ("y", "groups", "batch", "control")
    },
    "aggregate(groups)": "one or several columns; tested in test_aggregate.py",
    **{
        f"explain_features({name})": "tested in test_explain.py, with missing values"
        for name in ("metadata", "groups", "batch")
    },
    **{
        f"cluster_features({name})": "handed on to describe_features"
        for name in ("y", "groups", "batch", "control")
    },
    "choose_examples(groups)": "as in explain_features",
    "aggregate(metadata)": "columns of any kind, handed on",
    "relationship_recall(y)": "names that occur once; tested in test_relationships.py",
    "FeatureSuppressor.fit_transform(y)": "handed on to fit",
    "SelectivityCDFDisplay.from_estimator(labels)": "handed on to from_predictions",
    **{
        f"{name}.{method}(y)": "taken for the sake of pipelines, or passed on"
        for name in (
            *(entry.estimator.__name__ for entry in DICTIONARIES),
            "TokenExtractor",
            "Truncator",
            "Reconstructor",
            "RowwiseTransformer",
            "InMemory",
        )
        for method in ("fit", "partial_fit", "fit_transform", "score")
    },
    **{
        f"Transcoder.{method}(y)": "targets, numbers; tested in test_transcoder.py"
        for method in ("fit", "partial_fit", "fit_transform", "score")
    },
}

NAMES = {"y", "labels", "groups", "batch", "control", "metadata"}
NAMES |= {"confounds", "factors", "mask"}
MODULES = ("metrics", "images", "evaluation", "inspection", "report", "datasets")
MODULES += ("concepts",)
MODULES += ("preprocessing", "decomposition", "feature_extraction")


def parameters():
    """What is public and has a parameter of one of the names, as `function(name)`."""
    found = set()
    for module in (skdict, *(importlib.import_module(f"skdict.{m}") for m in MODULES)):
        for name in module.__all__:
            item = getattr(module, name)
            calls = {name: item} if callable(item) else {}
            if inspect.isclass(item):
                calls |= {
                    f"{name}.{method}": call
                    for method, call in inspect.getmembers(item, callable)
                    if not method.startswith(("_", "set_"))
                }
            for where, call in calls.items():
                taken = inspect.signature(call).parameters
                found |= {f"{where}({name})" for name in NAMES & taken.keys()}
    return found


def test_every_parameter_that_takes_labels_is_in_a_table():
    tables = LABELS.keys() | CONTROLLED.keys() | MASKS.keys()
    found = parameters()
    assert found - tables - OTHERS.keys() == set()
    assert tables - {"make_selectivity_scorer(y)"} - found == set()
    assert not tables & OTHERS.keys()


def results(value):
    """A result as something that can be compared."""
    if isinstance(value, pd.DataFrame):
        return value.to_dict("list")
    if isinstance(value, list):
        return [*map(results, value)]
    if hasattr(value, "mean_"):
        return results(value.mean_)
    return np.asarray(value).tolist()


AWKWARD = {
    "words": ("list", "bytes", "category", "polars frame", "CSV"),
    "numbers": ("Int64", "polars", "Arrow", "tensor", "objects"),
    "booleans": ("boolean", "polars"),
    "dates": ("list", "polars"),
}


# Many fits or curves.
SLOW = ("compare_dictionaries", "sweep_layers", "SparsityCurveDisplay")
SLOW += ("SelectivityCDFDisplay.from_predictions(labels)", "FeatureReport")


def marked(names):
    slow = pytest.mark.slow
    return [pytest.param(n, marks=slow if n.startswith(SLOW) else ()) for n in names]


# Folds inside folds need more groups than the other kinds have.
KINDS = {"sweep_layers(groups)": ["numbers"]}
# copairs takes a quarter of a second for each table.
KINDS |= {f"replicate_retrieval({name})": ["words"] for name in ("y", "batch")}


def assert_takes_labels(call, kinds=AWKWARD):
    for kind in kinds:
        makers = CONTAINERS[kind]
        values, make = next(iter(makers.values()))
        expected = results(call(as_labels(make(values), "y")))
        for name in AWKWARD[kind]:
            values, make = makers[name]
            np.testing.assert_equal(results(call(make(values))), expected, name)


@pytest.mark.parametrize("name", marked(LABELS))
def test_labels_in_any_container(name):
    assert_takes_labels(LABELS[name], KINDS.get(name, AWKWARD))


NO_COLUMNS = ("lazy", "structured", "lists of polars")


@pytest.mark.parametrize("name", LABELS)
def test_labels_that_are_refused(name):
    parameter = name.partition("(")[2].rstrip(")")
    if name.endswith(("(confounds)", "(factors)", "(metadata)")):
        parameter = "place"
    for case in ("NaN in a list", "number and text", "NA", "masked", "polars", "Arrow"):
        values, message = REFUSED[case]
        assert_refused(LABELS[name], values, parameter, message)
    for case in ("intervals", "tuples", "two columns", "fractions", *NO_COLUMNS):
        if parameter == "place" and case == "fractions":
            continue  # in metadata they are captions
        values, message = REFUSED[case]
        assert_refused(LABELS[name], values, parameter, message)


def assert_refused(call, values, parameter, message):
    with pytest.raises(ValueError, match=rf"(?s)\b{parameter}\b.*{message}"):
        call(values)


@pytest.mark.parametrize("name", CONTROLLED)
def test_labels_that_name_the_controls(name):
    assert_takes_labels(CONTROLLED[name])


@pytest.mark.parametrize("name", marked(MASKS))
def test_masks_in_any_container(name):
    call = MASKS[name]
    mask = np.arange(N) % 4 > 0
    expected = results(call(mask))
    for make in TestConversion.MASKS:
        np.testing.assert_equal(results(call(make(mask.tolist()))), expected)
    for values, shown in (
        ([1, -1] * (N // 2), "-1 at row 1"),
        ([True, "True"] * (N // 2), "'True' at row 1"),
        (pd.array([True, None] * (N // 2), dtype="boolean"), "missing at row 1"),
        (np.ones(3), "has (length )?3"),
        *(REFUSED[case] for case in NO_COLUMNS),
    ):
        with pytest.raises(ValueError, match=f"control.*{shown}"):
            call(values)


class TestRegions:
    def test_masks_of_regions(self):
        mask = np.array(["left", "right"])[np.arange(36).reshape(6, 6) % 6 // 3]
        expected = heatmap_by_region(HEATMAP, mask)
        for same in (
            [mask.tolist()],
            mask.astype(object),
            mask.astype("S"),
            np.ma.array(mask),
            np.ma.array(mask[None]),
            pd.DataFrame(mask),
        ):
            pd.testing.assert_frame_equal(heatmap_by_region(HEATMAP, same), expected)

    def test_large_numbers_stay_apart(self):
        mask = 2**53 + np.arange(36).reshape(6, 6) % 6 // 2
        for same in (mask, [mask.tolist()], mask.astype(np.uint64), torch.tensor(mask)):
            regions = heatmap_by_region(HEATMAP, same)
            assert regions["region"].tolist() == [2**53, 2**53 + 1, 2**53 + 2]

    def test_missing_pixels(self):
        mask = [["left"] * 3 + ["right"] * 3] * 5
        with pytest.raises(ValueError, match=r"mask holds 1 missing .* row 30"):
            heatmap_by_region(HEATMAP, [[*mask, [float("nan"), *["right"] * 5]]])
        masked = np.ma.array(np.ones((6, 6)), mask=np.eye(6))
        with pytest.raises(ValueError, match="mask holds 6 missing"):
            heatmap_by_region(HEATMAP, masked)

    def test_images_of_two_kinds(self):
        mask = np.arange(36).reshape(6, 6) % 6 // 3
        with pytest.raises(ValueError, match=r"mask mixes .* strings and whole"):
            heatmap_by_region(np.stack((HEATMAP, HEATMAP)), [mask, mask.astype(str)])
