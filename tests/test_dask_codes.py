"""Metrics of codes that Dask computes, against the same codes in memory."""

import threading
import weakref
from functools import partial

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from oracles import labelled_codes
from pandas.testing import assert_frame_equal
from sklearn import config_context

from skdict import TopKSAE
from skdict.metrics import (
    association_report,
    association_scores,
    auroc_scores,
    dead_feature_fraction,
    describe_features,
    eta_squared,
    feature_density,
    make_selectivity_scorer,
    match_codes,
    rescore_associations,
    selectivity_counts,
    selectivity_curve,
    selectivity_report,
    selectivity_scores,
    selectivity_tests,
)
from skdict.stats import scores as scores_module

# So little working memory (in MiB) that a pass takes a single permutation or feature.
TINY = 1e-6

rng = np.random.default_rng(0)
N = 240
CODES = sp.csr_array(
    (rng.random((N, 9)) - 0.3) * (rng.random((N, 9)) < 0.3), dtype=np.float32
)
Y = rng.integers(0, 3, N)
BATCH = rng.integers(0, 4, N)
WELL = np.repeat(np.arange(60), 4)  # groups
WELL[:10] = 0  # of different sizes
OF_WELLS = rng.integers(0, 3, 60)[WELL]
CONTROL = rng.random(N) < 0.2
TARGETS = rng.random((N, 2)) + CODES[:, [0]].toarray()


def in_blocks(codes, sizes=(100, 0, 33, 7, 100), form=sp.csr_array):
    """Dask array with blocks of these sizes."""
    edges = np.cumsum([0, *sizes])
    assert edges[-1] == codes.shape[0]

    def block(start, stop):
        part = dask.delayed(form)(codes[start:stop])
        shape = (stop - start, codes.shape[1])
        return da.from_delayed(part, shape, meta=form(codes[:0]))

    return da.concatenate([*map(block, edges[:-1], edges[1:])])


DEFERRED = in_blocks(CODES)

dense = sp.csr_array.toarray
forms = [sp.csr_array, sp.csr_matrix, sp.csc_array, dense]


@st.composite
def cut(draw, n_rows):
    """Sizes of blocks, some of them empty."""
    edges = draw(st.lists(st.integers(0, n_rows), max_size=6))
    return np.diff([0, *sorted(edges), n_rows])


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_any_blocks_give_the_scores_of_codes_in_memory(data):
    codes, y = data.draw(labelled_codes())
    form = data.draw(st.sampled_from(forms))
    blocks = in_blocks(sp.csr_array(codes), data.draw(cut(len(y))), form)
    threshold = data.draw(st.sampled_from([0.0, 0.25, 1.0]))
    memory = data.draw(st.sampled_from([TINY, 1024]))
    with config_context(working_memory=memory), dask.config.set(scheduler="sync"):
        for contrast in ("average", "maximum"):
            options = {"contrast": contrast, "activity_threshold": threshold}
            assert_array_equal(
                selectivity_scores(blocks, y, **options),
                selectivity_scores(codes, y, **options),
                strict=True,
            )
        assert_array_equal(
            feature_density(blocks, activity_threshold=threshold),
            feature_density(codes, activity_threshold=threshold),
            strict=True,
        )
        assert dead_feature_fraction(blocks) == dead_feature_fraction(codes)
        assert_array_equal(auroc_scores(blocks, y), auroc_scores(codes, y))
        targets = data.draw(st.sampled_from([y, y**2 - 0.3 * codes[:, 0]]))
        assert_allclose(
            association_scores(blocks, targets),
            association_scores(codes, targets),
            atol=1e-12,
        )


NULL = {"n_permutations": 7, "random_state": 3}
TABLES = {
    "report": partial(selectivity_report, y=Y, **NULL),
    "report, maximum": partial(selectivity_report, y=Y, contrast="maximum", **NULL),
    "report, batch": partial(
        selectivity_report, y=Y, batch=BATCH, control=CONTROL, **NULL
    ),
    "report, groups": partial(selectivity_report, y=OF_WELLS, groups=WELL, **NULL),
    "report, grid": partial(selectivity_report, y=Y, grid_shape=(5, 6), **NULL),
    "counts": partial(selectivity_counts, y=Y, score_thresholds=[0.0, 0.1], **NULL),
    "tasks": partial(selectivity_counts, y={"a": Y, "b": [None, *Y[1:]]}, **NULL),
    "curve": partial(selectivity_curve, y=Y, label=1, **NULL),
    "tests": partial(selectivity_tests, y=Y, alpha=1.0),
    "tests, batch": partial(selectivity_tests, y=Y, alpha=1.0, batch=BATCH),
    "tests, groups": partial(selectivity_tests, y=OF_WELLS, alpha=1.0, groups=WELL),
    "tests, grid": partial(selectivity_tests, y=Y, alpha=1.0, grid_shape=(5, 6)),
    "features": partial(describe_features, y=Y, confounds={"plate": BATCH}),
    "association": partial(association_report, targets=TARGETS, **NULL),
    "association, groups": partial(
        association_report, targets=TARGETS[WELL], groups=WELL, **NULL
    ),
    "rescored": partial(
        rescore_associations,
        association_report(CODES, TARGETS, correlation="spearman"),
        targets=TARGETS,
        **NULL,
    ),
}


@pytest.mark.parametrize("memory", [TINY, 1024])
@pytest.mark.parametrize("table", TABLES)
def test_tables_equal_those_of_codes_in_memory(table, memory):
    with config_context(working_memory=memory), dask.config.set(scheduler="sync"):
        found = TABLES[table](codes=DEFERRED)
    assert isinstance(found, pd.DataFrame)
    assert_frame_equal(found, TABLES[table](codes=CODES), rtol=1e-12)


def test_groups_too_many_for_a_table(monkeypatch):
    monkeypatch.setattr(scores_module, "_MAX_TABLE_CELLS", 1)
    table = TABLES["report, groups"]
    assert_frame_equal(table(codes=DEFERRED), table(codes=CODES))


def test_codes_of_a_dictionary_are_scored_lazily():
    X = rng.normal(size=(N, 6)).astype(np.float32)
    dictionary = TopKSAE(12, k=2, max_iter=2, random_state=0).fit(X)
    rows = da.from_array(X, chunks=(50, 3))
    assert_array_equal(
        selectivity_scores(dictionary.transform(rows), Y),
        selectivity_scores(dictionary.transform(X), Y),
    )
    scorer = make_selectivity_scorer()
    assert scorer(dictionary, rows, Y) == scorer(dictionary, X, Y)


def test_labels_may_be_deferred_as_well():
    y = da.from_array(Y, chunks=50)
    assert_array_equal(selectivity_scores(DEFERRED, y), selectivity_scores(CODES, Y))


# Passes and memory


class Counted:
    """Codes of 60 blocks that counts the blocks computed, and those alive."""

    def __init__(self):
        self.lock = threading.Lock()
        self.made = self.alive = self.most = 0
        self.y = np.arange(60 * 50) % 2
        self.codes = da.map_blocks(
            self.make, chunks=((50,) * 60, (30,)), meta=sp.csr_array((0, 30))
        )

    def make(self, block_id):
        block = sp.random_array((50, 30), density=0.2, rng=block_id[0], format="csr")
        weakref.finalize(block, self.change, -1)
        self.change(1)
        return block

    def change(self, by):
        with self.lock:
            self.made += by > 0
            self.alive += by
            self.most = max(self.most, self.alive)


@pytest.fixture
def counted():
    with dask.config.set(scheduler="threads", num_workers=2):
        yield Counted()


PASSES = {
    "density": (feature_density, 1),
    "scores": (lambda codes, y: selectivity_scores(codes, y), 1),
    # The scores, and all permutations at a time.
    "report": (lambda codes, y: selectivity_report(codes, y, **NULL), 2),
    "tests": (lambda codes, y: selectivity_tests(codes, y), 1),
    # Scales, products, and the products with permuted targets.
    "association": (lambda codes, y: association_report(codes, 1.0 * y, **NULL), 3),
}


@pytest.mark.parametrize("name", PASSES)
def test_few_blocks_are_alive_and_each_pass_computes_them_once(counted, name):
    function, n_passes = PASSES[name]
    function(counted.codes, *([] if name == "density" else [counted.y]))
    assert counted.made == 60 * n_passes
    # One for each thread, and those that wait for one.
    assert counted.most <= 8


def test_little_memory_takes_more_passes(counted):
    # Room for two of the permutations of 2 x 30 counts and 3,000 labels of one byte.
    memory = 16 * 2.5 * (4 * 2 * 30 + 3000) / 2**20
    with config_context(working_memory=memory):
        selectivity_report(counted.codes, counted.y, **NULL)
    assert counted.made == 60 * (1 + 4)
    assert counted.most <= 8


# What is refused


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("form", forms)
@pytest.mark.parametrize(
    "function",
    [
        feature_density,
        lambda codes: selectivity_scores(codes, Y),
        lambda codes: selectivity_tests(codes, Y, batch=BATCH),
        lambda codes: selectivity_tests(codes, Y, grid_shape=(5, 6)),
        lambda codes: association_scores(codes, TARGETS),
        lambda codes: auroc_scores(codes, Y),
    ],
)
def test_what_is_not_finite_is_named_by_its_row(function, form, value):
    codes = CODES.toarray()
    codes[[133, 135], 4] = value
    message = "codes holds NaN or infinity in 2 of the rows 133 to 140, .* row 133"
    with pytest.raises(ValueError, match=message):
        function(in_blocks(sp.csr_array(codes), form=form))


@pytest.mark.parametrize(
    "function",
    [
        lambda codes: eta_squared(codes, {"plate": BATCH}),
        lambda codes: association_scores(codes, TARGETS, correlation="spearman"),
        lambda codes: association_report(codes, TARGETS, correlation="spearman"),
        lambda codes: match_codes(codes, codes),
    ],
)
def test_what_needs_all_codes_says_so(function):
    with pytest.raises(TypeError, match=r"is a Dask array.*\.compute\(\)"):
        function(DEFERRED)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (DEFERRED[:, 0], "2D array"),
        (da.ones((0, 3)), r"0 sample\(s\)"),
        (da.ones((3, 0)), r"0 feature\(s\)"),
        (da.ones((3, 2)).astype("datetime64[s]"), "Numbers"),
        (da.ones(8)[:, None][da.arange(8) > 2], "compute_chunk_sizes"),
        (da.ones((N + 1, 2)), "241"),
    ],
)
def test_wrong_tables_are_refused(codes, message):
    with pytest.raises(ValueError, match=message):
        selectivity_scores(codes, Y)
