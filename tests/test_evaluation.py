"""skdict.evaluation: comparisons, baselines, ablations and layer sweeps."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage, sparse
from sklearn import config_context, get_config
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.decomposition import PCA, FastICA, MiniBatchDictionaryLearning
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import (
    GroupKFold,
    GroupShuffleSplit,
    KFold,
    StratifiedGroupKFold,
    StratifiedKFold,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from skdict import ICFL, ControlPCAWhitener, TopKSAE, Transcoder, Truncator
from skdict.datasets import make_planted_dictionary
from skdict.evaluation import (
    baseline_dictionaries,
    compare_dictionaries,
    pursuit_ablations,
    summary_table,
    sweep_layers,
    sweep_models,
    vary,
)
from skdict.evaluation._comparison import MEASURES
from skdict.evaluation._measures import (
    Part,
    _selectivity,
    decoded_atoms,
    exchange_of,
    measure_probe,
)
from skdict.metrics import (
    dead_feature_fraction,
    explained_variance,
    make_linear_probe,
    mean_coherence,
    mutual_coherence,
    offset_ratio,
    reconstruction_cosine,
    selectivity_report,
    selectivity_scores,
)
from skdict.stats.exchange import shifts

DATA = make_planted_dictionary(240, 8, n_components=12, n_active=2, random_state=0)
X = DATA.data
RNG = np.random.default_rng(0)
# Classes that the planted codes explain in part.
Y = np.array(["a", "b", "c"])[np.abs(X[:, :3]).argmax(axis=1)]
CONTROL = Y == "a"
GROUPS = np.arange(240) // 6
EVEN = np.arange(0, 240, 2)
# Rows whose independent components can be found: 12 planted atoms are too many.
MIXED = RNG.laplace(size=(240, 8)) @ RNG.normal(size=(8, 8))
QUICK = {"cv": 2, "seeds": 1, "n_permutations": 0}
SECONDS = ("fit_seconds", "encode_seconds")


def icfl(**params):
    return ICFL(**({"n_components": 12, "k": 2, "max_iter": 2} | params))


def whitened(dictionary):
    return make_pipeline(ControlPCAWhitener(), Normalizer(), dictionary)


def means(runs, row="dictionary"):
    table = summary_table(runs, by=row)
    return table.pivot(index="measure", columns=row, values="mean")


def timeless(runs):
    return runs.drop(columns=[*SECONDS])


class Spy(TransformerMixin, BaseEstimator):
    """Notes which rows and which metadata it gets; column 0 numbers the rows."""

    __metadata_request__fit = {"control": True, "batch": True, "plate": True}
    __metadata_request__transform = {"batch": True}
    seen = []  # kept by the class, as steps are cloned

    def __init__(self, random_state=None):
        self.random_state = random_state

    def fit(self, X, y=None, *, control=None, batch=None, plate=None):
        self.fitted_ = True
        self._note("fit", X, control=control, batch=batch, plate=plate)
        return self

    def transform(self, X, *, batch=None):
        self._note("transform", X, batch=batch)
        return X

    def _note(self, method, X, **metadata):
        Spy.seen.append((method, self.random_state, np.asarray(X)[:, 0], metadata))

    @classmethod
    def calls(cls, method):
        return [call[1:] for call in cls.seen if call[0] == method]


class DeterministicSpy(Spy):
    def __init__(self):
        pass

    random_state = None


@pytest.fixture(autouse=True)
def _forget():
    Spy.seen.clear()


# The comparison


def test_figures_are_those_of_a_plain_loop():
    folds = list(StratifiedGroupKFold(2).split(X, Y, GROUPS))
    runs = compare_dictionaries(
        {"ICFL": whitened(icfl())},
        X,
        Y,
        groups=GROUPS,
        cv=folds,
        control=CONTROL,
        seeds=[3, 4],
        n_permutations=0,
    )
    places = list(zip(runs["seed"], runs["fold"], strict=True))
    assert places == [(3, 0), (4, 0), (3, 1), (4, 1)]
    for run in runs.to_dict("records"):
        train, test = folds[run["fold"]]
        whitener = ControlPCAWhitener().fit(X[train], control=CONTROL[train])
        Z = Normalizer().transform(whitener.transform(X))
        dictionary = icfl(random_state=run["seed"]).fit(Z[train])
        codes = dictionary.transform(Z)
        Z_hat = dictionary.inverse_transform(codes)

        def probe(features, train=train, test=test):
            fitted = make_linear_probe().fit(features[train], Y[train])
            return balanced_accuracy_score(Y[test], fitted.predict(features[test]))

        expected = {
            "cosine": reconstruction_cosine(Z[test], Z_hat[test]),
            "explained_variance": explained_variance(Z[test], Z_hat[test]),
            "l0": codes[test].nnz / len(test),
            "dead_fraction": dead_feature_fraction(codes[train]),
            "coherence": mutual_coherence(dictionary.components_),
            "mean_coherence": mean_coherence(dictionary.components_),
            "offset_ratio": offset_ratio(Z[test]),
            "probe_x": probe(Z),
            "probe_codes": probe(codes),
            "probe_reconstruction": probe(Z_hat),
        }
        for kind in ("average", "maximum"):
            scores = selectivity_scores(codes[test], Y[test], contrast=kind)
            expected[f"{kind}_selectivity"] = scores.max(axis=0).mean()
        keys = {"dictionary", "seed", "fold", "refitted"}
        assert set(run) == {*expected, *SECONDS, *keys}
        for measure, value in expected.items():
            assert_allclose(run[measure], value, rtol=1e-5, atol=1e-6, err_msg=measure)


def test_tables_are_tidy():
    runs = compare_dictionaries(
        {"two": TopKSAE(12, 2, max_iter=2), "one": icfl()}, X, Y, cv=2, seeds=2
    )
    keys = ["dictionary", "seed", "fold", "refitted"]
    assert list(runs.columns) == [*keys, *MEASURES]
    assert list(runs["dictionary"]) == 4 * ["two"] + 4 * ["one"]
    assert not runs.duplicated(["dictionary", "seed", "fold"]).any()
    assert not runs.isna().any(axis=None)
    assert runs.attrs == {}
    table = summary_table(runs)
    assert list(table.columns) == [
        "dictionary",
        "measure",
        "mean",
        "std",
        "low",
        "high",
        "n_runs",
        "refitted",
    ]
    assert not table.duplicated(["dictionary", "measure"]).any()
    assert not table.isna().any(axis=None)
    assert (table["n_runs"] == 4).all()
    assert ((table["low"] <= table["mean"]) & (table["mean"] <= table["high"])).all()
    assert list(table["dictionary"].unique()) == ["two", "one"]
    assert list(table["measure"].unique()) == [*MEASURES]
    assert means(runs).loc["average_selectivity_p"].between(1 / 101, 1).all()


@pytest.mark.filterwarnings("ignore:The mean of the rows that reach")
def test_only_training_rows_are_fitted_and_metadata_are_cut():
    number = np.arange(240.0)
    rows = np.column_stack((number, X))
    batch, plate = number.astype(int) % 3, number + 1000
    folds = list(KFold(2).split(rows))
    compare_dictionaries(
        {"spied": make_pipeline(DeterministicSpy(), PCA(2))},
        rows,
        Y,
        cv=folds,
        control=CONTROL,
        batch=batch,
        params={"plate": plate},
        seeds=1,
        n_permutations=0,
    )
    fits = Spy.calls("fit")
    assert len(fits) == 2
    for (train, _), (_, seen, metadata) in zip(folds, fits, strict=True):
        assert_array_equal(seen, train)
        assert_array_equal(metadata["control"], CONTROL[train])
        assert_array_equal(metadata["batch"], batch[train])
        assert_array_equal(metadata["plate"], plate[train])
    transforms = Spy.calls("transform")
    assert len(transforms) == 4
    for _, seen, metadata in transforms:
        assert_array_equal(metadata["batch"], batch[seen.astype(int)])


def test_metadata_go_to_the_last_step_and_to_nested_pipelines():
    class SpyDictionary(DeterministicSpy):
        def inverse_transform(self, codes):
            return codes

    inner = Pipeline([("spy", DeterministicSpy()), ("last", SpyDictionary())])
    compare_dictionaries(
        {"nested": Pipeline([("off", "passthrough"), ("inner", inner)])},
        X,
        Y,
        control=CONTROL,
        **QUICK,
    )
    fits = Spy.calls("fit")
    assert len(fits) == 4
    assert all(metadata["control"] is not None for _, _, metadata in fits)


@pytest.mark.parametrize(
    ("spy", "fits"), [(DeterministicSpy(), 2), (Spy(), 2 * 3)], ids=["plain", "random"]
)
def test_equal_steps_are_fitted_once_and_for_each_seed_if_random(spy, fits):
    compare_dictionaries(
        {"one": make_pipeline(spy, icfl()), "two": make_pipeline(clone(spy), PCA(2))},
        X,
        cv=2,
        seeds=[7, 8, 9],
    )
    assert len(Spy.calls("fit")) == fits
    if fits == 6:
        assert [seed for seed, *_ in Spy.calls("fit")] == 2 * [7, 8, 9]


def test_different_steps_are_not_shared():
    table = compare_dictionaries(
        {
            "one": make_pipeline(StandardScaler(), icfl()),
            "two": make_pipeline(StandardScaler(with_std=False), icfl()),
        },
        X * np.arange(1, 9),
        **QUICK,
    )
    figures = means(table)
    assert figures.loc["cosine", "one"] != figures.loc["cosine", "two"]


def test_every_random_state_is_set_and_the_pipeline_is_left_alone():
    pipeline = make_pipeline(Spy(random_state=5), Truncator(icfl(), 1))
    runs = compare_dictionaries({"a": pipeline}, X, cv=2, seeds=2)
    assert {seed for seed, *_ in Spy.calls("fit")} == {0, 1}
    assert runs["cosine"][0] != runs["cosine"][1]
    assert pipeline[0].random_state == 5
    assert pipeline[1].estimator.random_state is None
    again = compare_dictionaries({"a": pipeline}, X, cv=2, seeds=2)
    pd.testing.assert_frame_equal(timeless(again), timeless(runs), check_exact=True)


def test_without_random_state_one_run_a_fold():
    neurons = baseline_dictionaries(12, 2)["neurons"]
    runs = compare_dictionaries({"neurons": neurons}, X, cv=3, seeds=4)
    assert list(runs["fold"]) == [0, 1, 2]


def test_seeds_none_leaves_the_random_states():
    runs = compare_dictionaries(
        {str(s): icfl(random_state=s) for s in (1, 2)}, X, cv=2, seeds=None
    )
    seeded = compare_dictionaries({"a": icfl()}, X, cv=2, seeds=[1, 2])
    assert sorted(runs["cosine"]) == sorted(seeded["cosine"])
    assert list(runs["seed"]) == 4 * [None]
    assert set(summary_table(runs, by="seed")["n_runs"]) == {4}


def test_without_y_no_probe_and_no_selectivity():
    runs = compare_dictionaries({"a": icfl()}, X, **QUICK)
    assert set(runs.columns[4:]) == {
        "offset_ratio",
        "cosine",
        "explained_variance",
        "l0",
        "dead_fraction",
        "coherence",
        "mean_coherence",
        *SECONDS,
    }


def test_rows_far_from_zero_are_told_once():
    far = X + 20 * np.sqrt(np.var(X, axis=0).sum()) / np.sqrt(X.shape[1])
    centred = make_pipeline(StandardScaler(with_std=False), icfl())
    with pytest.warns(
        UserWarning, match=r"reach \['far'\] is up to 2\d\.?\d* times"
    ) as told:
        runs = compare_dictionaries({"far": icfl(), "near": centred}, far, **QUICK)
    assert len(told) == 1
    ratios = runs.groupby("dictionary")["offset_ratio"].mean()
    assert 19 < ratios["far"] < 23
    assert ratios["near"] < 1


def test_dead_features_are_those_of_the_training_rows():
    folds = [(np.arange(5, 240), np.arange(5))]  # 5 rows use at most 10 of 12 features
    table = compare_dictionaries({"a": icfl(max_iter=20)}, X, cv=folds, seeds=1)
    assert means(table).loc["dead_fraction", "a"] == 0


def test_probe_is_the_users():
    class Constant(LogisticRegression):
        def predict(self, X):
            return np.full(X.shape[0], "a")

    runs = compare_dictionaries({"a": icfl()}, X, Y, probe=Constant(), **QUICK)
    for probe in ("probe_x", "probe_codes", "probe_reconstruction"):
        assert_allclose(runs[probe], 1 / 3)


def test_frames_objects_and_global_output_settings():
    frame = pd.DataFrame(X, columns=[f"f{i}" for i in range(8)])
    plain = compare_dictionaries(
        {"a": whitened(icfl())}, X, Y, control=CONTROL, **QUICK
    )
    with config_context(transform_output="pandas"):
        before = get_config()
        table = compare_dictionaries(
            {"a": whitened(icfl())},
            frame,
            pd.Series(Y, dtype=object),
            control=pd.Series(CONTROL),
            groups=pd.Series(np.arange(240)),
            n_permutations=0,
            seeds=1,
            cv=[(np.arange(240) < 120, np.arange(240) >= 120)],
        )
        assert get_config() == before
    assert list(table.columns) == list(plain.columns)


def test_folds_by_default_are_stratified_and_keep_groups_whole():
    folds = 3
    runs = compare_dictionaries(
        {"a": make_pipeline(DeterministicSpy(), PCA(2))},
        np.column_stack((np.arange(240), X)),
        Y,
        groups=GROUPS,
        cv=folds,
        seeds=1,
        n_permutations=0,
    )
    assert len(runs) == folds
    for _, train, _ in Spy.calls("fit"):
        held_out = np.setdiff1d(np.arange(240), train)
        assert not set(GROUPS[train.astype(int)]) & set(GROUPS[held_out])
        assert len(np.unique(Y[held_out])) == 3


def test_selectivity_null_tells_structure_from_noise():
    planted = compare_dictionaries({"a": icfl()}, X, Y, cv=2, seeds=1)
    shuffled = compare_dictionaries(
        {"a": icfl()}, X, np.random.default_rng(3).permutation(Y), cv=2, seeds=1
    )
    p = [
        means(table).loc["average_selectivity_p", "a"] for table in (planted, shuffled)
    ]
    assert p[0] < 0.05 < p[1]


def test_two_classes_need_one_kind():
    y = np.where(CONTROL, "a", "b")
    figures = means(compare_dictionaries({"a": icfl()}, X, y, cv=2, seeds=1))["a"]
    for suffix in ("", "_null", "_p"):
        average = figures[f"average_selectivity{suffix}"]
        assert average == figures[f"maximum_selectivity{suffix}"]


@pytest.mark.slow
def test_processes_give_the_figures_of_one():
    dictionaries = {"one": whitened(icfl()), "two": whitened(PCA(2))}
    options = {"control": CONTROL, "cv": 2, "seeds": 2, "n_permutations": 5}
    one = compare_dictionaries(dictionaries, X, Y, **options)
    two = compare_dictionaries(dictionaries, X, Y, n_jobs=2, **options)
    pd.testing.assert_frame_equal(timeless(one), timeless(two), rtol=1e-5)


def test_progress_bar_is_off_unless_asked_for(capsys):
    compare_dictionaries({"a": icfl()}, X, **QUICK)
    assert capsys.readouterr().err == ""
    compare_dictionaries({"a": icfl()}, X, verbose=1, **QUICK)
    assert "2/2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"y": Y[:-1]}, "There are 240 rows, but y has length 239"),
        ({"control": CONTROL[:5]}, "control has 5 rows"),
        ({"groups": GROUPS[:7]}, "240 rows, but groups has length 7"),
        ({"params": {"plate": [1]}}, "plate has 1 rows"),
        ({"params": {"plate": GROUPS}}, r"asks for \['plate'\]"),
        ({"control": CONTROL, "params": {"control": CONTROL}}, "both by name and in"),
        ({"groups": GROUPS, "cv": [(EVEN, EVEN + 1)]}, "40 groups are on both"),
        ({"cv": [(np.arange(150), np.arange(140, 240))]}, "10 rows are on both"),
        (
            {"y": np.sort(Y), "cv": [(np.arange(120), np.arange(235, 240))]},
            "5 rows held out in fold 0 hold 1 classes",
        ),
        ({"seeds": []}, "seeds is empty"),
        ({"seeds": 0}, "'seeds' parameter"),
        ({"n_permutations": -1}, "'n_permutations' parameter"),
        ({"y": np.column_stack((Y, Y))}, "y should be a 1d array of labels"),
    ],
)
def test_bad_input_is_named(options, complaint):
    y = options.pop("y", Y)
    with pytest.raises(ValueError, match=complaint):
        compare_dictionaries({"a": whitened(icfl())}, X, y, **(QUICK | options))


def test_bad_dictionaries_are_named():
    with pytest.raises(ValueError, match="is empty"):
        compare_dictionaries({}, X)
    with pytest.raises(TypeError, match="'a' is the class ICFL; pass an instance"):
        compare_dictionaries({"a": ICFL}, X)
    with pytest.raises(ValueError, match=r"last step of 'b'.* no inverse_transform"):
        compare_dictionaries({"a": icfl(), "b": make_pipeline(Normalizer())}, X)
    with pytest.raises(ValueError, match=r"'b' is Transcoder\(.*rebuilds targets"):
        compare_dictionaries({"a": icfl(), "b": Transcoder(8)}, X)
    with pytest.raises(ValueError, match=r"No step of any dictionary asks for \['con"):
        compare_dictionaries({"a": icfl()}, X, control=CONTROL)


def test_an_error_says_which_dictionary_it_is_from():
    bad = X.copy()
    bad[3, 2] = np.nan
    with pytest.raises(ValueError, match="NaN") as caught:
        compare_dictionaries({"culprit": icfl()}, bad, **QUICK)
    assert caught.value.__notes__ == ["Raised in dictionary 'culprit', seed 0."]
    with pytest.raises(ValueError, match="NaN") as caught:
        compare_dictionaries(
            {"culprit": make_pipeline(ControlPCAWhitener(), icfl())},
            bad,
            Y,
            control=CONTROL,
            **QUICK,
        )
    assert "steps before dictionary 'culprit'" in caught.value.__notes__[0]


# The measures


@st.composite
def tables_of_labels(draw):
    n_groups = draw(st.integers(2, 8))
    sizes = draw(st.lists(st.integers(1, 4), min_size=n_groups, max_size=n_groups))
    groups = np.repeat(np.arange(n_groups), sizes)
    own = draw(st.lists(st.integers(0, 2), min_size=n_groups, max_size=n_groups))
    batch = draw(st.lists(st.integers(0, 1), min_size=n_groups, max_size=n_groups))
    return groups, np.array(list("xyz"))[own][groups], np.array(batch)[groups]


def permuted_labels(part, n_permutations, rng):
    classes, labels = np.unique(part.y, return_inverse=True)
    exchange = exchange_of(part, labels)
    return (classes[ids] for ids in exchange.permuted(labels, n_permutations, rng))


@given(tables_of_labels(), st.integers(0, 2**16))
@settings(max_examples=50)
def test_whole_groups_are_permuted_where_the_label_is_theirs(table, seed):
    groups, y, batch = table
    first = np.unique(groups, return_index=True)[1]
    part = Part(None, y, groups, {"batch": batch})
    for permuted in permuted_labels(part, 3, np.random.RandomState(seed)):
        for group in np.unique(groups):
            assert len(set(permuted[groups == group])) == 1
        for b in np.unique(batch[first]):
            inside = first[batch[first] == b]
            assert sorted(permuted[inside]) == sorted(y[inside])


@given(tables_of_labels(), st.integers(0, 2**16))
@settings(max_examples=50)
def test_rows_are_permuted_inside_batches_where_groups_are_mixed(table, seed):
    batch, y, _ = table
    y = np.random.default_rng(seed).permutation(y)
    part = Part(None, y, None, {"batch": batch})
    for permuted in permuted_labels(part, 3, np.random.RandomState(seed)):
        for b in np.unique(batch):
            assert sorted(permuted[batch == b]) == sorted(y[batch == b])


def test_permutations_reach_every_order():
    groups = np.repeat([0, 1, 2], 2)
    part = Part(None, np.array(list("aabbcc")), groups, {})
    permuted = permuted_labels(part, 100, np.random.RandomState(0))
    assert len({"".join(labels) for labels in permuted}) == 6
    mixed = Part(None, np.array(list("ab")), np.array([0, 0]), {})
    permuted = permuted_labels(mixed, 20, np.random.RandomState(0))
    assert {"".join(labels) for labels in permuted} == {"ab", "ba"}


def test_maps_of_tokens_are_shifted():
    y = np.random.default_rng(0).integers(0, 2, 24)
    images = np.repeat([0, 1], 12)
    part = Part(None, y, images, {"batch": images}, (3, 4))
    permuted = [*permuted_labels(part, 9, np.random.RandomState(0))]
    assert_array_equal(permuted, [*shifts(y, (3, 4), 9, np.random.RandomState(0))])
    # The labels of whole images are exchanged, grid or not.
    part = Part(None, images, images, {}, (3, 4))
    drawn = {tuple(y) for y in permuted_labels(part, 30, np.random.RandomState(0))}
    assert drawn == {tuple(images), tuple(1 - images)}


@pytest.mark.parametrize("grouped", [False, True])
def test_null_is_that_of_the_selectivity_report(grouped):
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(24), 5)
    batch = (np.arange(24) // 12)[groups]
    y = rng.integers(0, 3, 24)[groups] if grouped else rng.integers(0, 3, 120)
    codes = rng.random((120, 8)) * (rng.random((120, 8)) < 0.3)
    figures = _selectivity(codes, Part(None, y, groups, {"batch": batch}), 29, 7)
    options = {"batch": batch, "n_permutations": 29, "random_state": 7}
    for kind in ("average", "maximum"):
        report = selectivity_report(
            codes, y, contrast=kind, groups=groups if grouped else None, **options
        )
        assert figures[f"{kind}_selectivity"] == report["mean_score"][0]
        assert figures[f"{kind}_selectivity_null"] == report["null_mean_q95"][0]
        assert figures[f"{kind}_selectivity_p"] == report["mean_p_value"][0]


def test_smooth_labels_are_no_finding_with_their_grid():
    """Both codes and labels are smooth in space, and know nothing of each other."""
    rng = np.random.default_rng(0)
    noise = ndimage.gaussian_filter(rng.normal(size=(13, 6, 32, 32)), (0, 0, 2, 2))
    noise = noise[..., 8:-8, 8:-8].reshape(13, -1).T
    X, y = noise[:, :12], noise[:, 12] > 0
    options = {"groups": np.repeat(np.arange(6), 256), "cv": 2, "seeds": 1}
    dictionaries = {"ICFL": ICFL(24, 2, max_iter=2, random_state=0, device="cpu")}
    measure = "average_selectivity_p"
    naive = means(compare_dictionaries(dictionaries, X, y, **options))
    shifted = means(
        compare_dictionaries(dictionaries, X, y, grid_shape=(16, 16), **options)
    )
    assert naive.loc[measure, "ICFL"] < 0.02
    assert shifted.loc[measure, "ICFL"] > 0.1
    layers = sweep_layers(
        {"a": X}, dictionaries["ICFL"], y, grid_shape=(16, 16), **options
    )
    assert means(layers, "layer").loc[measure, "a"] > 0.1


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"grid_shape": (7, 4)}, "There are 200 rows, which do not fill whole grids"),
        ({"grid_shape": (4, 5)}, "Fold 0 cuts images"),
        ({"grid_shape": (10, 10), "cv": 4}, "Fold 0 holds out 50 rows, which do not"),
        (
            {"grid_shape": (4, 5), "batch": np.arange(200) % 2},
            "batch differs inside an image",
        ),
    ],
)
def test_grids_that_do_not_fit(options, complaint):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(200, 4)), rng.integers(0, 2, 200)
    with pytest.raises(ValueError, match=complaint):
        compare_dictionaries({"pca": PCA(2)}, X, y, **options)


def test_labels_of_groups_do_not_count_as_many():
    """Rows alike inside groups: permuting rows alone would find anything."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 25)
    rows = rng.normal(size=(40, 6))[groups] + 0.1 * rng.normal(size=(1000, 6))
    y = rng.permutation(40)[groups] % 2  # of no consequence
    options = {"cv": GroupShuffleSplit(3, random_state=0, test_size=0.5), "seeds": 1}
    table = compare_dictionaries({"a": icfl()}, rows, y, groups=groups, **options)
    assert means(table).loc["average_selectivity_p", "a"] > 0.05


def test_atoms_are_what_the_decoder_makes_of_them():
    rows = X + 5
    dictionary = icfl().fit(rows)
    codes = dictionary.transform(rows)
    assert_allclose(decoded_atoms(dictionary, codes), dictionary.components_, atol=1e-5)
    ica = FastICA(random_state=0).fit(MIXED + 5)
    atoms = decoded_atoms(ica, ica.transform(MIXED + 5))
    assert_allclose(atoms, ica.mixing_.T, atol=1e-8)
    many = TopKSAE(1500, 2, max_iter=1, random_state=0).fit(rows)
    atoms = decoded_atoms(many, many.transform(rows))
    assert_allclose(atoms, many.components_, atol=1e-5)


def test_probe_score_is_balanced_accuracy_without_its_warning():
    train, test = np.arange(0, 240, 2), np.flatnonzero((Y != "c") & (GROUPS % 2 == 1))
    score = measure_probe(
        make_linear_probe(),
        Part(X[train], Y[train], None, {}),
        Part(X[test], Y[test], None, {}),
    )
    predicted = make_linear_probe().fit(X[train], Y[train]).predict(X[test])
    assert "c" in predicted
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        assert score == balanced_accuracy_score(Y[test], predicted)


# The summary


def test_summary_is_that_of_numpy():
    values = RNG.normal(size=30)
    runs = pd.DataFrame(
        {"dictionary": "ab"[i % 2], "seed": i % 3, "fold": i % 5, "cosine": v}
        for i, v in enumerate(values)
    )
    table = summary_table(runs)
    assert list(table["dictionary"]) == ["a", "b"]
    assert_allclose(table["mean"], [values[::2].mean(), values[1::2].mean()])
    assert_allclose(table["std"], [values[::2].std(ddof=1), values[1::2].std(ddof=1)])
    # Near the interval of the normal distribution, and narrower at a lower level.
    half = 1.96 * table["std"] / np.sqrt(15)
    assert_allclose(table["high"] - table["mean"], half, rtol=0.25)
    assert_allclose(table["mean"] - table["low"], half, rtol=0.25)
    narrow = summary_table(runs, confidence_level=0.5)
    assert (narrow["high"] - narrow["low"] < table["high"] - table["low"]).all()
    by_seed = summary_table(runs, by="seed")
    assert list(by_seed["seed"]) == [0, 1, 2]
    assert list(by_seed["n_runs"]) == [10, 10, 10]
    assert_allclose(by_seed["mean"][0], values[::3].mean())


def test_summary_of_one_run_and_of_equal_ones():
    runs = pd.DataFrame({"dictionary": "a", "seed": 0, "fold": [0, 1], "l0": 4.0})
    for some in (runs[:1], runs):
        (row,) = summary_table(some).itertuples(index=False)
        assert row[2:6] == (4.0, 0.0, 4.0, 4.0)


def test_summary_by_several_columns():
    one = compare_dictionaries({"b": icfl(), "a": icfl(k=1)}, X, **QUICK).assign(k=2)
    runs = pd.concat([one, one.assign(k=1, cosine=one["cosine"] / 2)])
    table = summary_table(runs, by=["dictionary", "k"])
    assert list(table.columns[:3]) == ["dictionary", "k", "measure"]
    cosine = table[table["measure"] == "cosine"]
    keys = list(zip(cosine["dictionary"], cosine["k"], strict=True))
    assert keys == [("b", 2), ("a", 2), ("b", 1), ("a", 1)]
    of_a, of_b = (one.loc[one["dictionary"] == n, "cosine"].mean() for n in "ab")
    assert_allclose(cosine["mean"], [of_b, of_a, of_b / 2, of_a / 2])


def test_summary_of_runs_without_a_measure():
    runs = pd.DataFrame({"dictionary": [*"aabb"], "l0": [1.0, np.nan, np.nan, np.nan]})
    runs["cosine"] = 0.5
    table = summary_table(runs)
    found = table[["dictionary", "measure", "n_runs"]].to_numpy().tolist()
    assert found == [["a", "l0", 1], ["a", "cosine", 2], ["b", "cosine", 2]]


def test_runs_come_back_from_a_file(tmp_path):
    runs = compare_dictionaries({"a": icfl(), "b": PCA(2)}, X, Y, **QUICK)
    runs.to_csv(tmp_path / "runs.csv", index=False)
    again = pd.read_csv(tmp_path / "runs.csv")
    pd.testing.assert_frame_equal(summary_table(again), summary_table(runs))


def test_summary_of_bad_runs():
    runs = pd.DataFrame({"dictionary": ["a"], "seed": [0], "refitted": ["yes"]})
    with pytest.raises(ValueError, match="no runs"):
        summary_table(runs[:0])
    with pytest.raises(ValueError, match=r"lacks the columns \['layer'\]; it has \['d"):
        summary_table(runs, by="layer")
    with pytest.raises(ValueError, match=r"no measures, only the columns \['dict"):
        summary_table(runs)
    with pytest.raises(ValueError, match=r"'runs' parameter .* 'pandas.*DataFrame'"):
        summary_table([runs, runs])


# Baselines


def test_baselines_are_as_sparse_as_asked():
    baselines = baseline_dictionaries(12, 3, preprocessing=Normalizer(), random_state=0)
    assert len(baselines) == 6
    for name, pipeline in baselines.items():
        pipeline.fit(MIXED)
        codes = pipeline.transform(MIXED)
        dense = codes.toarray() if sparse.issparse(codes) else codes
        assert 1 <= np.count_nonzero(dense, axis=1).max() <= 3, name
        assert pipeline[-1].inverse_transform(codes).shape == MIXED.shape, name
        assert dense.shape[1] == (8 if name in ("PCA", "ICA", "neurons") else 12)
    random = baselines["random atoms"][-1].components_
    data = baselines["data atoms"][-1].components_
    unit = Normalizer().transform(MIXED)
    directions = Normalizer().transform(unit - unit.mean(axis=0))
    assert_allclose((data @ directions.T).max(axis=1), 1, atol=1e-5)
    assert (random @ directions.T).max(axis=1).min() < 0.99


def test_scikit_learns_dictionary_is_alive_on_unit_rows():
    mini_batch = baseline_dictionaries(12, 2, preprocessing=Normalizer())[
        "MiniBatchDictionaryLearning"
    ]
    assert isinstance(mini_batch[-1], MiniBatchDictionaryLearning)
    mini_batch.set_params(minibatchdictionarylearning__random_state=0).fit(X)
    unit = Normalizer().transform(X)
    X_hat = mini_batch[-1].inverse_transform(mini_batch.transform(X))
    assert explained_variance(unit, X_hat) > 0.5


def test_ica_drops_what_does_not_vary():
    rows = np.column_stack((MIXED, np.ones(240), MIXED[:, 0]))
    codes = baseline_dictionaries(12, 3, random_state=0)["ICA"].fit_transform(rows)
    assert codes.shape == (240, 8)
    assert np.isfinite(codes).all()


def test_preprocessing_of_the_baselines_is_cloned():
    scaler = StandardScaler()
    one, two = list(baseline_dictionaries(12, 2, preprocessing=scaler).values())[:2]
    assert one[0] is not scaler
    assert one[0] is not two[0]


def test_learning_beats_the_untrained_baselines():
    baselines = baseline_dictionaries(12, 2)
    table = compare_dictionaries(
        {
            "ICFL": icfl(max_iter=30),
            **{name: baselines[name] for name in ("random atoms", "data atoms")},
        },
        X,
        cv=2,
        seeds=2,
    )
    cosine = means(table).loc["cosine"]
    assert cosine["ICFL"] > cosine["random atoms"] + 0.1
    assert cosine["ICFL"] > cosine["data atoms"]


# Ablations


def test_vary_names_and_sets():
    pipeline = whitened(icfl())
    variants = vary(pipeline, {"icfl__k": [1, 2], "icfl__refit": [True]})
    assert list(variants) == ["k=1, refit=True", "k=2, refit=True"]
    assert variants["k=1, refit=True"][-1].k == 1
    assert pipeline[-1].k == 2
    assert not pipeline[-1].refit
    one_by_one = vary(pipeline, [{"icfl__k": [1]}, {"normalizer": ["passthrough"]}])
    assert list(one_by_one) == ["k=1", "normalizer=passthrough"]


def test_vary_refuses():
    with pytest.raises(ValueError, match="Invalid parameter 'size'"):
        vary(icfl(), {"size": [1]})
    with pytest.raises(ValueError, match="have the same name: 'k=1'"):
        vary(icfl(), {"k": [1, 1]})


def test_values_that_are_estimators_are_cloned():
    scaler = StandardScaler()
    (variant,) = vary(whitened(icfl()), {"normalizer": [scaler]}).values()
    assert isinstance(variant[1], StandardScaler)
    assert variant[1] is not scaler


def test_ablations_of_a_pipeline():
    ablations = pursuit_ablations(whitened(icfl(k=6, learning_rate=0.4)))
    assert list(ablations) == [
        "steps",
        "resets",
        "whitening",
        "k",
        "n_components",
        "learning_rate",
    ]
    steps = ablations["steps"]
    assert list(steps) == ["J=6, L=1", "J=3, L=2", "J=2, L=3", "J=1, L=6"]
    assert [p[-1].atoms_per_step for p in steps.values()] == [1, 2, 3, 6]
    assert [p[-1].k for p in ablations["k"].values()] == [3, 6, 12]
    assert [p[-1].n_components for p in ablations["n_components"].values()] == [
        6,
        12,
        24,
    ]
    rates = [p[-1].learning_rate for p in ablations["learning_rate"].values()]
    assert_allclose(rates, [0.1, 0.2, 0.4, 0.8])


def test_resets_are_off_where_it_says_so():
    # Twins, whose cosine rounding takes above 1.
    atoms = np.random.default_rng(0).normal(size=(20, 8))
    similar = icfl(
        n_components=40,
        init=np.repeat(atoms, 2, axis=0),
        reset_every=1,
        batch_size=60,
        max_iter=4,
    )
    resets = {
        name: sum(epoch["resets"] for epoch in variant.fit(X).history_)
        for name, variant in pursuit_ablations(similar)["resets"].items()
    }
    assert resets["resets on"] > 0
    assert resets["resets off"] == 0


def test_centring_in_place_of_whitening_is_on_the_controls():
    variants = pursuit_ablations(whitened(icfl()))["whitening"]
    assert list(variants) == ["whitened", "centred"]
    with config_context(enable_metadata_routing=True):
        centred = variants["centred"].fit(X, Y, control=CONTROL)
    assert_allclose(centred[0].mean_, X[CONTROL].mean(axis=0), atol=1e-5)
    table = compare_dictionaries(variants, X, Y, control=CONTROL, **QUICK)
    assert set(table["dictionary"]) == {"whitened", "centred"}


def test_whitening_is_found_in_a_pipeline_inside():
    steps = make_pipeline(ControlPCAWhitener(), Normalizer())
    variants = pursuit_ablations(make_pipeline(steps, icfl()))["whitening"]
    assert isinstance(variants["centred"][0][0], StandardScaler)


def test_ablations_refuse():
    for pipeline in (PCA(2), ICFL(12), ICFL(k=2), make_pipeline(icfl(), PCA())):
        with pytest.raises(ValueError, match="last step is an ICFL with n_components"):
            pursuit_ablations(pipeline)
    twice = make_pipeline(ControlPCAWhitener(), whitened(icfl()))
    with pytest.raises(ValueError, match="last step is an ICFL"):
        pursuit_ablations(twice)
    twice = make_pipeline(ControlPCAWhitener(), ControlPCAWhitener(), icfl())
    with pytest.raises(ValueError, match="whitens 2 times"):
        pursuit_ablations(twice)
    labelled = make_pipeline(ControlPCAWhitener(control_label="a"), icfl())
    with pytest.raises(ValueError, match="by control_label, which centring cannot"):
        pursuit_ablations(labelled)


# Layers


def test_choice_of_the_layer_does_not_see_the_held_out_rows():
    rng = np.random.default_rng(0)
    y = np.arange(240) % 2
    noise = rng.normal(size=(240, 4)).astype(np.float32)
    honest, leaky = noise.copy(), noise.copy()
    honest[:, 0] += y
    train, test = np.arange(160), np.arange(160, 240)
    # Of no use where it is trained, and the very label where it is judged.
    leaky[test] += 10 * y[test][:, None]
    runs = sweep_layers(
        {"leaky": leaky, "honest": honest},
        PCA(2),
        y,
        cv=[(train, test)],
        seeds=1,
        n_permutations=0,
    )
    assert list(runs["layer"]) == ["leaky", "honest"]
    assert list(runs["chosen"]) == [False, True]
    assert runs["inner_probe_x"].is_monotonic_increasing


def test_every_fold_chooses_the_layer_with_the_best_inner_probe():
    layers = {"thin": X[:, :2], "full": X}
    runs = sweep_layers(
        layers,
        whitened(icfl()),
        Y,
        groups=GROUPS,
        control=CONTROL,
        cv=GroupKFold(3),
        inner_cv=2,
        seeds=2,
        n_permutations=5,
    )
    keys = ["layer", "seed", "fold", "refitted", "chosen", "inner_probe_x"]
    assert list(runs.columns) == [*keys, *MEASURES]
    assert list(runs["layer"].unique()) == ["thin", "full"]
    assert runs["chosen"].dtype == bool
    for (fold, _), own in runs.groupby(["fold", "seed"]):
        assert own["chosen"].sum() == 1
        assert own["inner_probe_x"].idxmax() == own["chosen"].idxmax()
        # What is chosen belongs to the fold: it is the same for every seed.
        assert (
            runs[runs["fold"] == fold].groupby("layer")["chosen"].nunique() == 1
        ).all()
    assert "inner_probe_x" not in set(summary_table(runs, by="layer")["measure"])
    # The same rows, the same folds: the layer's figures are those of a comparison.
    alone = compare_dictionaries(
        {"full": whitened(icfl())},
        X,
        Y,
        groups=GROUPS,
        control=CONTROL,
        cv=GroupKFold(3),
        seeds=2,
        n_permutations=5,
    )
    full = timeless(runs[runs["layer"] == "full"]).reset_index(drop=True)
    full = full.drop(columns=["chosen", "inner_probe_x"])
    full = full.rename(columns={"layer": "dictionary"})
    pd.testing.assert_frame_equal(full, timeless(alone), check_exact=True)


def test_models_are_compared_as_their_layers_are():
    """One table with the rows of sweep_layers of each model, on the same folds."""

    def splitter():  # one that gives other folds at every call
        return GroupShuffleSplit(2, random_state=np.random.RandomState(0))

    folds = {"cv": splitter(), "inner_cv": 2}
    options = {"groups": GROUPS, "seeds": 2, "n_permutations": 3}
    runs = sweep_models(
        {"small": X[:, :3], "large": {"first": X[:, :2], "last": X}},
        icfl(),
        Y,
        **folds,
        **options,
    )
    keys = ["model", "layer", "seed", "fold", "refitted", "chosen", "inner_probe_x"]
    assert list(runs.columns) == [*keys, "n_features", *MEASURES]
    order = runs[["model", "layer", "n_features"]].drop_duplicates().to_numpy().tolist()
    assert order == [
        ["small", "embedding", 3],
        ["large", "first", 2],
        ["large", "last", 8],
    ]
    assert runs[runs["model"] == "small"]["chosen"].all()
    for _, own in runs.groupby(["fold", "seed"]):
        large = own[own["model"] == "large"]
        assert large["chosen"].sum() == 1
        assert large["inner_probe_x"].idxmax() == large["chosen"].idxmax()
    folds["cv"] = splitter()
    alone = sweep_layers({"last": X}, icfl(), Y, **folds, **options)
    last = timeless(runs[runs["layer"] == "last"]).reset_index(drop=True)
    pd.testing.assert_frame_equal(
        last.drop(columns=["model", "n_features", "chosen"]),
        timeless(alone).drop(columns="chosen"),
    )
    table = summary_table(runs[runs["chosen"]], by="model")
    assert set(table["model"]) == {"small", "large"}
    assert not {"n_features", "inner_probe_x"} & set(table["measure"])


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ({}, "is empty"),
        ({"a": X, "b": {}}, r"no layers of the models \['b'\]"),
        ({"a": X, "b": {"c": X[:9]}}, "b, layer c has 9 rows, but there are 240"),
        ({1: {"a": X}, "1": {"a": X}}, "the same name"),
    ],
)
def test_bad_models(models, message):
    with pytest.raises(ValueError, match=message):
        sweep_models(models, icfl(), Y)


def test_seeds_may_be_any_integer():
    options = {"cv": 2, "inner_cv": 2, "n_permutations": 0}
    runs = sweep_layers({"one": X}, icfl(), Y, seeds=np.int64(1), **options)
    assert set(runs["seed"]) == {0}


def test_inner_folds_get_the_rows_of_the_outer_training_fold_only():
    rows = np.column_stack((np.arange(240), X))
    train, test = np.arange(0, 240, 2), np.arange(1, 240, 2)
    sweep_layers(
        {"one": rows},
        make_pipeline(DeterministicSpy(), PCA(2)),
        Y,
        cv=[(train, test)],
        inner_cv=3,
        control=CONTROL,
        seeds=1,
        n_permutations=0,
    )
    *inner, outer = Spy.calls("fit")
    assert len(inner) == 3
    assert_array_equal(outer[1], train)
    for _, seen, metadata in inner:
        assert set(seen) < set(train)
        assert_array_equal(metadata["control"], CONTROL[seen.astype(int)])


def test_bad_layers():
    with pytest.raises(ValueError, match="two has 100 rows, but there are 240"):
        sweep_layers({"one": X, "two": X[:100]}, icfl(), Y)
    with pytest.raises(ValueError, match="is empty"):
        sweep_layers({}, icfl(), Y)


# Frozen pipelines


def frozen_pipe():
    return make_pipeline(StandardScaler(), icfl())


@pytest.mark.parametrize("freeze", ["pipeline", "dictionary", "steps", "whitening"])
def test_what_is_frozen_is_taken_as_it_is(freeze):
    fitted = frozen_pipe().fit(X[::2])
    scaler, dictionary = fitted[0], fitted[1]
    pipeline = {
        "pipeline": FrozenEstimator(fitted),
        "dictionary": FrozenEstimator(dictionary),
        "steps": make_pipeline(FrozenEstimator(scaler), FrozenEstimator(dictionary)),
        "whitening": make_pipeline(FrozenEstimator(scaler), icfl()),
    }[freeze]
    components = dictionary.components_.copy()
    runs = compare_dictionaries(
        {"frozen": pipeline, "anew": frozen_pipe()}, X, Y, cv=2, n_permutations=0
    )
    expected = "in part" if freeze == "whitening" else "no"
    for table in (runs, summary_table(runs)):
        said = table.groupby("dictionary")["refitted"].unique().map(list).to_dict()
        assert said == {"frozen": [expected], "anew": ["yes"]}
    assert list(runs.columns[4:]) == [name for name in MEASURES if name in runs]
    np.testing.assert_array_equal(dictionary.components_, components)
    assert summary_table(runs, by="seed")["refitted"].iloc[0] == "in part"
    runs = runs[runs["dictionary"] == "frozen"]
    if freeze == "whitening":
        assert len(runs) == 10
        return
    assert len(runs) == 2  # nothing random is left, so one run in each fold
    assert runs["fit_seconds"].isna().all()
    rows = X if freeze == "dictionary" else scaler.transform(X)
    for run in runs.to_dict("records"):
        splitter = StratifiedKFold(2, shuffle=True, random_state=0)
        test = [*splitter.split(X, Y)][run["fold"]][1]
        X_hat = dictionary.inverse_transform(dictionary.transform(rows[test]))
        expected = explained_variance(rows[test], X_hat)
        assert run["explained_variance"] == pytest.approx(expected)


def test_an_unfitted_frozen_pipeline_is_named():
    with pytest.raises(NotFittedError) as caught:
        compare_dictionaries({"raw": FrozenEstimator(icfl())}, X, cv=2)
    assert "raw" in " ".join(caught.value.__notes__)


def test_a_frozen_step_asks_for_what_its_transform_takes_only():
    fitted = make_pipeline(ControlPCAWhitener(), icfl()).fit(
        X, controlpcawhitener__control=CONTROL
    )
    with pytest.raises(ValueError, match="No step of any dictionary asks"):
        compare_dictionaries(
            {"frozen": FrozenEstimator(fitted)}, X, cv=2, control=CONTROL
        )


def test_frozen_pipelines_in_sweeps():
    fitted = FrozenEstimator(frozen_pipe().fit(X))
    table = sweep_layers({"a": X, "b": -X}, fitted, Y, cv=2, n_permutations=0)
    assert set(table["refitted"]) == {"no"}


def test_frozen_steps_do_not_vary():
    fitted = frozen_pipe().fit(X)
    partly = make_pipeline(FrozenEstimator(fitted[0]), icfl())
    variants = vary(partly, {"icfl__k": [1, 2]})
    assert all(variant[0].estimator is fitted[0] for variant in variants.values())
    for estimator, name in [
        (FrozenEstimator(fitted), "estimator"),
        (FrozenEstimator(fitted), "icfl__k"),
        (partly, "frozenestimator__estimator"),
    ]:
        with pytest.raises(ValueError, match=f"'{name}' belongs to a frozen step"):
            vary(estimator, {name: [None]})
    assert partly[0].estimator is fitted[0]
    cut = vary(Truncator(FrozenEstimator(fitted)), {"k": [1, 2]})
    runs = compare_dictionaries(cut, X, cv=2, seeds=1, n_permutations=0)
    assert_allclose(runs["l0"], [1, 1, 2, 2])


def test_ablations_with_a_frozen_whitening():
    whitener = ControlPCAWhitener().fit(X, control=CONTROL)
    pipeline = make_pipeline(FrozenEstimator(whitener), icfl())
    ablations = pursuit_ablations(pipeline)
    assert ablations["whitening"]["whitened"][0].estimator is whitener
    assert isinstance(ablations["whitening"]["centred"][0], StandardScaler)
    assert pipeline[0].estimator is whitener
    with pytest.raises(ValueError, match="it is frozen"):
        pursuit_ablations(FrozenEstimator(pipeline.fit(X)))
