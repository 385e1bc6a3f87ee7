"""Steps of pipelines, and codes whatever output the user has configured."""

import copy
import pickle
import threading
from contextlib import contextmanager

import matplotlib

matplotlib.use("Agg")
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn import config_context
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, Normalizer, StandardScaler

import skdict
from skdict import (
    ICFL,
    ControlCenterScaler,
    ControlPCAWhitener,
    InMemory,
    Reconstructor,
    RowwiseTransformer,
    TopKSAE,
    Transcoder,
    Truncator,
    concepts,
    datasets,
    decomposition,
    evaluation,
    feature_extraction,
    images,
    inspection,
    metrics,
    persistence,
    preprocessing,
    report,
)
from skdict._utils.steps import encode, plain, steps_of, unfrozen
from skdict.decomposition._registry import DICTIONARIES
from skdict.inspection.estimators import fitted_steps, rows_before
from skdict.metrics import make_selectivity_scorer
from skdict.report import FeatureReport

rng = np.random.default_rng(0)
Y = np.repeat(["a", "b"], 32)
X = rng.normal(size=(64, 8)) + (Y == "a")[:, None] * rng.normal(size=8)
FRAME = pd.DataFrame(X, columns=[f"f{i}" for i in range(8)])
IMAGES = rng.integers(256, size=(4, 16, 16, 3), dtype=np.uint8)
GRID = (4, 4)
CONTROL = Y == "a"
BATCH = np.tile([0, 1], 32)


def icfl():
    return ICFL(10, 3, max_iter=1, random_state=0)


def pipe(last=None):
    return make_pipeline(StandardScaler(), icfl() if last is None else last)


# What users may configure; `set_output` stands for that of their own pipeline.
CONFIGURATIONS = {
    "default": {},
    "pandas": {"transform_output": "pandas"},
    "polars": {"transform_output": "polars"},
    "sparray": {"sparse_interface": "sparray"},
    "set_output pandas": {},
    "set_output polars": {},
}


@contextmanager
def configured(name):
    with config_context(**CONFIGURATIONS[name]):
        yield (
            lambda estimator: (
                estimator.set_output(transform=name.split()[1])
                if name.startswith("set_output")
                else estimator
            )
        )


def first(display, name):
    return np.concatenate([np.ravel(v) for v in [getattr(display, name)]])


# Every public name that is given an estimator, and numbers that it makes of one. The
# function `of` is what the configuration does to the user's estimators.
def _curve(of):
    display = inspection.SelectivityCurveDisplay.from_estimator(
        of(pipe()).fit(X), X, Y, n_permutations=5, random_state=0
    )
    return first(display, "scores")


def _cdf(of):
    display = inspection.SelectivityCDFDisplay.from_estimator(
        of(pipe()).fit(X), X, Y, n_permutations=5, random_state=0
    )
    return first(display, "scores")


def _directions(of):
    display = inspection.DirectionHistogramDisplay.from_estimator(
        of(pipe()).fit(X), X, Y, feature=1, label="a"
    )
    return first(display, "cosines")


def _sparsity(of):
    fitted = of(pipe()).fit(X)
    return np.concatenate(
        [
            inspection.SparsityCurveDisplay.from_estimator(
                fitted, X, Y, k=[1, 3], measure=measure, cv=2
            ).mean
            for measure in ("cosine", "explained_variance", "probe_codes")
        ]
    )


def _density(of):
    fitted = of(pipe()).fit(X)
    return first(inspection.DensityDisplay.from_estimator(fitted, X), "density")


def _atoms(of):
    fitted = of(pipe()).fit(X)
    display = inspection.AtomSimilarityDisplay.from_estimator(fitted)
    return first(display, "similarity")


def _history(of):
    display = inspection.TrainingHistoryDisplay.from_estimator(of(pipe()).fit(X))
    return [display.history[0]["explained_variance"]]


def _heatmaps(of):
    fitted = of(pipe()).fit(X)
    return np.concatenate(
        [
            inspection.HeatmapDisplay.from_estimator(
                fitted, X, IMAGES, GRID, feature=1, quantity=kind, views="heatmap"
            ).heatmaps.ravel()
            for kind in ("cosine", "activation")
        ]
    )


def _gallery(of):
    display = inspection.GalleryDisplay.from_estimator(
        of(pipe()).fit(X), X, IMAGES, GRID, feature=1, quantity="activation", n_items=2
    )
    return first(display, "heatmaps")


def _report(of):
    report = FeatureReport(of(pipe()).fit(X), X, Y, n_permutations=5, verbose=False)
    return report.to_frame()["score"]


def _scorer(of):
    search = GridSearchCV(
        of(pipe()),
        {"icfl__k": [1, 3]},
        scoring=make_selectivity_scorer(),
        cv=StratifiedKFold(2),
        error_score="raise",
    )
    return search.fit(X, Y).cv_results_["mean_test_score"]


def _figures(runs):
    return runs.filter(regex="(?<!_seconds)$").select_dtypes("number").to_numpy()


def _compare(of):
    baselines = evaluation.baseline_dictionaries(8, 2, preprocessing=StandardScaler())
    quick = {"truncator__estimator__fastica__tol": 1.0}
    dictionaries = {
        "ICFL": of(pipe()),
        "frozen": FrozenEstimator(of(pipe()).fit(X)),
        "PCA": of(baselines["PCA"]),
        "ICA": of(baselines["ICA"].set_params(**quick)),
    }
    return _figures(
        evaluation.compare_dictionaries(
            dictionaries, X, Y, cv=2, seeds=1, n_permutations=3
        )
    )


def _sweep(of):
    return _figures(
        evaluation.sweep_layers(
            {"one": X, "two": -X}, of(pipe()), Y, cv=2, seeds=1, n_permutations=0
        )
    )


def _vary(of):
    variants = evaluation.vary(of(pipe()), {"icfl__k": [1, 2]})
    return _figures(
        evaluation.compare_dictionaries(variants, X, cv=2, seeds=1, n_permutations=0)
    )


def _ablations(of):
    variants = evaluation.pursuit_ablations(of(pipe()))["steps"]
    return _figures(
        evaluation.compare_dictionaries(variants, X, cv=2, seeds=1, n_permutations=0)
    )


def _reconstructor(of):
    reconstructor = Reconstructor(of(pipe())).fit(X)
    return np.asarray(reconstructor.transform(X)).ravel()


def _truncator(of):
    truncators = [Truncator(of(pipe()), 2), Truncator(of(make_pipeline(PCA(4))), 2)]
    return np.concatenate(
        [np.ravel([t.fit(X).score(X), *as_dense(encode(t, X))[0]]) for t in truncators]
    )


def _dictionary(estimator):
    def codes(of):
        return as_dense(encode(of(pipe(estimator)).fit(X), X)).ravel()

    return codes


def _decode(of):
    pipeline = of(pipe()).fit(X)
    return concepts.decode(pipeline, encode(pipeline, X), X, keep_error=False)


def _importance(of):
    pipeline = of(pipe()).fit(X)
    head = LogisticRegression().fit(X, Y)
    codes = encode(pipeline, X)
    given = (head, pipeline, codes, X)
    attributions = concepts.concept_importance(*given, n_random=0).attributions
    curves = concepts.insertion_deletion(
        *given, attributions=attributions, n_points=3, n_random=0
    )
    faithful = concepts.fidelity(*given)
    return np.concatenate([attributions.data, curves["auc"], faithful["correlation"]])


def _suppression(of):
    pipeline = of(pipe()).fit(X)
    runs = concepts.suppression_report(
        encode(pipeline, X),
        Y,
        batch=BATCH,
        estimator=pipeline,
        X=X,
        features=[0, 1],
        cv=2,
        n_random=1,
        random_state=0,
    )
    return runs[["energy_removed", "probe_batch", "probe_y"]]


def _steering(of):
    pipeline = of(pipe()).fit(X)
    runs = concepts.steering_curve(
        encode(pipeline, X),
        Y,
        "a",
        control_label="b",
        estimator=pipeline,
        n_features=2,
        cv=2,
        n_random=1,
        random_state=0,
    )
    return runs["progress"]


def _suppressor(of):
    codes = np.asarray(of(StandardScaler()).fit(X).transform(X))
    fitted = of(concepts.FeatureSuppressor(n_permutations=0)).fit(codes, batch=BATCH)
    return np.asarray(fitted.transform(codes))


def _transcoder(of):
    fitted = of(pipe(Transcoder(10, 3, max_iter=1, random_state=0))).fit(X, X[:, :2])
    return np.concatenate([as_dense(encode(fitted, X)).ravel(), *fitted.predict(X)])


def _preprocessing(estimator, X):
    def rows(of):
        fitted = of(make_pipeline(estimator, icfl()))
        fitted.fit(X, **{f"{fitted.steps[0][0]}__control": CONTROL})
        return as_dense(encode(fitted, X)).ravel()

    return rows


def _rowwise(of):
    steps = RowwiseTransformer(Normalizer()), icfl(), InMemory()
    # Sparse codes cannot become frames.
    fitted = of(make_pipeline(*steps[:2])).fit(X)
    codes = steps[2].set_output(transform="default").fit_transform(encode(fitted, X))
    return as_dense(codes).ravel()


def _fit_many(of):
    (fitted,) = decomposition.fit_many([of(icfl())], X, random_state=0)
    return as_dense(encode(fitted, X)).ravel()


def _probe(of):
    # The probe of codes in the user's own pipeline, where the codes are dense.
    dense = ICFL(10, 3, max_iter=1, random_state=0, sparse_output=False)
    probe = metrics.make_linear_probe()
    codes = encode(of(pipe(dense)).fit(X), X)
    sparse = sp.csr_array(codes)
    return [probe.fit(some, Y).score(some, Y) for some in (codes, sparse)]


def _planted(of):
    return as_dense(
        datasets.make_planted_dictionary(9, 4, random_state=0).codes
    ).ravel()


def _binarize(of):
    return as_dense(metrics.binarize_at_quantiles(X, 2)[0]).ravel()


def _saved(of, tmp_path):
    fitted = of(pipe()).fit(X)
    skdict.save(fitted, tmp_path / "pipe.skops")
    return as_dense(encode(skdict.load(tmp_path / "pipe.skops"), X)).ravel()


def as_dense(codes):
    return codes.toarray() if sp.issparse(codes) else np.asarray(codes)


CASES = {
    "AtomSimilarityDisplay": _atoms,
    "ControlCenterScaler": _preprocessing(
        ControlCenterScaler(batch_column=0), np.column_stack([BATCH, X])
    ),
    "ControlPCAWhitener": _preprocessing(ControlPCAWhitener(), X),
    "DensityDisplay": _density,
    "FeatureSuppressor": _suppressor,
    "decode": _decode,
    **dict.fromkeys(("concept_importance", "insertion_deletion"), _importance),
    "fidelity": _importance,
    "steering_curve": _steering,
    "suppression_report": _suppression,
    "DirectionHistogramDisplay": _directions,
    "FeatureReport": _report,
    "GalleryDisplay": _gallery,
    "HeatmapDisplay": _heatmaps,
    "ICFL": _dictionary(icfl()),
    "InMemory": _rowwise,
    "Reconstructor": _reconstructor,
    "RowwiseTransformer": _rowwise,
    "SelectivityCDFDisplay": _cdf,
    "SelectivityCurveDisplay": _curve,
    "SparsityCurveDisplay": _sparsity,
    **{
        entry.estimator.__name__: _dictionary(
            entry.estimator(10, 3, max_iter=1, random_state=0)
        )
        for entry in DICTIONARIES
        if entry.estimator is not ICFL
    },
    "TrainingHistoryDisplay": _history,
    "Transcoder": _transcoder,
    "Truncator": _truncator,
    "baseline_dictionaries": _compare,
    "binarize_at_quantiles": _binarize,
    "compare_dictionaries": _compare,
    "fit_many": _fit_many,
    "load": _saved,
    "make_linear_probe": _probe,
    "make_planted_dictionary": _planted,
    "make_selectivity_scorer": _scorer,
    "pursuit_ablations": _ablations,
    "save": _saved,
    "sweep_layers": _sweep,
    "sweep_models": _sweep,
    "vary": _vary,
}
# Given arrays or labels, and giving tables or dense arrays.
WITHOUT_ESTIMATORS = {
    *("association_report", "association_scores", "auroc_scores"),
    *("dead_feature_fraction", "decompose_error", "describe_features"),
    *("direction_cosines", "explained_variance", "feature_density"),
    *("heatmap_by_region", "heatmap_channel_correlations", "match_codes"),
    *("match_dictionaries", "mean_coherence", "morans_i", "mutual_coherence"),
    *("offset_ratio", "order_atoms"),
    *("rank_images", "reconstruction_cosine", "rescore_associations"),
    *("selectivity_counts", "selectivity_curve", "selectivity_report"),
    *("selectivity_scores", "selectivity_tests", "split_by_projection"),
    *("stability_report", "strongest_patches", "subspace_probes"),
    *("summary_table", "token_heatmaps", "eta_squared"),
    *("ablate", "steer", "important_rows"),
    "make_planted_screen",
    *("SteeringCurveDisplay", "SuppressionDisplay", "ConceptImportanceDisplay"),
    *("compare_probe_sets", "learnability"),
    *("aggregate", "relationship_recall", "replicate_retrieval"),
    *("sparse_probing", "discovery_yield", "SparseProbingDisplay"),
    *("ComparisonDisplay", "prefix_report"),
    *(
        "beats_baselines",
        "SupervisedDictionary",
        "compare_with_supervised",
        "explain_features",
    ),
    *("choose_examples", "cluster_features"),
    *("score_explanations", "cached_judge", "concept_table"),
    # Made by a network, not by an estimator of this table; tested with the others
    # of its module.
    *("TokenExtractor", "load_elpv_tokens", "load_nuclei", "load_tissue_tokens"),
}


MODULES = (datasets, decomposition, evaluation, feature_extraction, images, inspection)
MODULES += (concepts, metrics, persistence, preprocessing, report)


def test_every_public_name_is_in_the_table():
    assert not CASES.keys() & WITHOUT_ESTIMATORS
    public = {name for module in MODULES for name in module.__all__}
    assert CASES.keys() | WITHOUT_ESTIMATORS == public


_EXPECTED = {}


@pytest.mark.parametrize("configuration", [c for c in CONFIGURATIONS if c != "default"])
@pytest.mark.parametrize("case", dict.fromkeys(CASES.values()))
def test_output_is_the_same_whatever_is_configured(case, configuration, tmp_path):
    folder = (tmp_path,) if case is _saved else ()
    if case not in _EXPECTED:
        with configured("default") as of:
            _EXPECTED[case] = np.asarray(case(of, *folder), dtype=float)
    with configured(configuration) as of:
        found = np.asarray(case(of, *folder), dtype=float)
    np.testing.assert_allclose(found, _EXPECTED[case], rtol=1e-9, atol=1e-12)


GIVE_CSR = {
    "ICFL": lambda: icfl().fit_transform(X),
    "TopKSAE": lambda: TopKSAE(10, 3, max_iter=1).fit_transform(X),
    "pipeline": lambda: pipe().fit_transform(X),
    "Truncator": lambda: Truncator(icfl(), 2).fit_transform(X),
    "Truncator of a pipeline": lambda: Truncator(pipe(), 2).fit_transform(X),
    "Truncator of an array": lambda: Truncator(FunctionTransformer(), 2).fit_transform(
        sp.csr_array(X)
    ),
    "Truncator of a matrix": lambda: Truncator(
        FunctionTransformer(), None
    ).fit_transform(sp.csr_matrix(X)),
    "binarize_at_quantiles": lambda: metrics.binarize_at_quantiles(X, 2)[0],
    "make_planted_dictionary": lambda: datasets.make_planted_dictionary(9, 4).codes,
}


@pytest.mark.parametrize("give", GIVE_CSR.values(), ids=GIVE_CSR)
def test_the_sparse_interface_is_honoured(give):
    assert sp.isspmatrix_csr(give())
    for interface, kind in (("spmatrix", sp.csr_matrix), ("sparray", sp.csr_array)):
        with config_context(sparse_interface=interface):
            assert type(give()) is kind


@pytest.mark.parametrize("make", [sp.csr_array, sp.csc_array, sp.coo_array])
def test_sparse_arrays_are_taken_where_matrices_are(make):
    fitted = icfl().fit(X)
    codes = fitted.transform(X)
    for estimator in (fitted, Truncator(fitted, 2).fit(X), pipe().fit(X)):
        np.testing.assert_allclose(
            estimator.inverse_transform(make(codes)),
            estimator.inverse_transform(codes),
        )


FITTED_UNDER = ["default", "pandas", "polars"]


@pytest.mark.parametrize("rows", [X, FRAME], ids=["array", "frame"])
@pytest.mark.parametrize("fitted_under", FITTED_UNDER)
@pytest.mark.parametrize("encoded_under", FITTED_UNDER)
@pytest.mark.parametrize("set_after", [None, *FITTED_UNDER])
def test_steps_get_what_they_were_fitted_on(
    rows, fitted_under, encoded_under, set_after
):
    """Otherwise scikit-learn warns about names of features, an error in these tests."""
    expected = pipe().fit(X).transform(X).toarray()
    nested = Pipeline([("scaler", StandardScaler()), ("inner", make_pipeline(icfl()))])
    with config_context(transform_output=fitted_under):
        nested.fit(rows)
    if set_after:
        nested.set_output(transform=set_after)
    with config_context(transform_output=encoded_under):
        for estimator in (nested, FrozenEstimator(nested)):
            np.testing.assert_allclose(encode(estimator, rows).toarray(), expected)
            before = np.asarray(rows_before(estimator, rows))
            np.testing.assert_allclose(before, StandardScaler().fit_transform(X))


def test_a_step_that_asks_for_columns_by_name_gets_a_frame():
    pipeline = make_pipeline(
        StandardScaler(),
        make_column_transformer((PCA(2), ["f0", "f1", "f2"])),
        icfl(),
    ).set_output(transform="pandas")
    pipeline.fit(FRAME)
    with config_context(transform_output="polars"):
        codes = encode(pipeline, FRAME)
    rows = pipeline[1].transform(pipeline[0].transform(FRAME))
    expected = plain(pipeline[2]).transform(rows)
    np.testing.assert_allclose(codes.toarray(), expected.toarray())


@pytest.mark.parametrize(
    "make",
    [
        lambda: make_union(icfl(), PCA(2)),
        lambda: FeatureUnion([("p", make_pipeline(StandardScaler(), icfl()))]),
        lambda: make_column_transformer((icfl(), slice(0, 6)), remainder="passthrough"),
        lambda: GridSearchCV(icfl(), {"k": [2]}, cv=2),
        lambda: Truncator(icfl(), 2),
    ],
)
def test_estimators_inside_others_give_plain_codes(make):
    expected = as_dense(make().fit(X).transform(X))
    fitted = make().fit(X)
    with config_context(transform_output="pandas"):
        np.testing.assert_allclose(as_dense(encode(fitted, X)), expected)


def test_nothing_of_the_users_is_changed():
    pipeline = pipe().set_output(transform="pandas").fit(X)
    before = pickle.dumps(pipeline)
    attributes = {id(step): set(vars(step)) for _, step in pipeline.steps}
    encode(pipeline, X)
    rows_before(pipeline, X)
    assert pickle.dumps(pipeline) == before
    assert {id(step): set(vars(step)) for _, step in pipeline.steps} == attributes
    # The copy shares the fitted arrays.
    assert plain(pipeline)[-1].components_ is pipeline[-1].components_
    assert plain(pipeline)[-1] is not pipeline[-1]


def test_what_does_not_pickle_is_shared():
    class Locked(StandardScaler):
        def __getstate__(self):
            raise AssertionError("encoding pickles nothing")

        __copy__ = __deepcopy__ = __getstate__

    pipeline = make_pipeline(Locked(), icfl()).fit(X)
    pipeline[0].lock = threading.Lock()
    assert encode(pipeline, X).shape == (64, 10)
    with pytest.raises(AssertionError):
        copy.copy(pipeline[0])


def test_cycles_end():
    scaler = StandardScaler().fit(X)
    scaler.twin = [scaler]
    copied = plain(scaler)
    assert copied is not scaler
    assert copied.twin[0].twin[0] is copied.twin[0]


def test_steps_of_pipelines_in_pipelines():
    inner = make_pipeline(None, PCA(3))
    whole = make_pipeline(StandardScaler(), "passthrough", inner, icfl())
    assert [type(s).__name__ for s in steps_of(whole)] == [
        "StandardScaler",
        "PCA",
        "ICFL",
    ]
    frozen = steps_of(FrozenEstimator(whole))
    assert all(isinstance(step, FrozenEstimator) for step in frozen)
    assert [unfrozen(step) for step in frozen] == steps_of(whole)
    part = make_pipeline(FrozenEstimator(inner), icfl())
    assert [isinstance(s, FrozenEstimator) for s in steps_of(part)] == [True, False]
    assert steps_of(PCA())[0].__class__ is PCA


def test_steps_inside_a_truncator_are_seen():
    truncator = Truncator(FrozenEstimator(pipe().fit(X)), 2).fit(X)
    names = [type(s).__name__ for s in fitted_steps(make_pipeline(truncator).fit(X))]
    assert names == ["StandardScaler", "ICFL"]


def test_a_whole_pipeline_with_a_probe_is_fitted_under_frames():
    dense = ICFL(10, 3, max_iter=1, random_state=0, sparse_output=False)
    expected = pipe(dense).fit(X).transform(X)
    with config_context(transform_output="pandas"):
        whole = make_pipeline(ControlPCAWhitener(), dense, LogisticRegression()).fit(
            X, Y, controlpcawhitener__control=CONTROL
        )
        assert whole.score(X, Y) > 0.5
        assert pipe(dense).fit(X).transform(X).shape == expected.shape
