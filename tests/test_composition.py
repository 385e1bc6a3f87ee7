"""Tests of the estimators inside Pipelines, searches and scikit-learn's other tools."""

import pickle

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    RandomizedSearchCV,
    StratifiedGroupKFold,
    StratifiedKFold,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
    permutation_test_score,
)
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

import skdict
from skdict import ICFL, ControlPCAWhitener, Reconstructor, TopKSAE
from skdict.datasets import make_planted_dictionary
from skdict.metrics import (
    explained_variance,
    make_linear_probe,
    make_selectivity_scorer,
    selectivity_scores,
)

# Digits: the zeros are the controls, and four "experiments" hold all classes.
DIGITS, DIGIT = (array[:480] for array in load_digits(return_X_y=True))
CONTROL = DIGIT == 0
EXPERIMENT = np.arange(480) % 4
# Breast cancer: the benign are the controls, standardised by no one's leave.
CANCER, BENIGN = load_breast_cancer(return_X_y=True)
PLANTED = make_planted_dictionary(
    400, 16, n_components=24, n_active=2, random_state=0
).data


def icfl(**params):
    return ICFL(
        **({"n_components": 24, "k": 4, "max_iter": 3, "random_state": 0} | params)
    )


def sae(**params):
    return TopKSAE(
        **({"n_components": 24, "k": 4, "max_iter": 3, "random_state": 0} | params)
    )


def whole(dictionary=None, **whitening):
    """The paper's Pipeline from rows to a probe, on few controls."""
    return make_pipeline(
        ControlPCAWhitener(**({"n_components": 12, "shrinkage": "auto"} | whitening)),
        Normalizer(),
        dictionary or icfl(),
        make_linear_probe(max_iter=300),
    )


def names(pipeline):
    return [name for name, _ in pipeline.steps]


def same_fit(a, b):
    """Equal parameters to the bit, step by step."""
    for (_, one), (_, other) in zip(a.steps[:-1], b.steps[:-1], strict=True):
        for name in ("mean_", "components_", "pre_bias_", "explained_variance_"):
            if hasattr(one, name):
                assert_array_equal(getattr(one, name), getattr(other, name))


# Controls reach the whitener


def test_the_mask_reaches_the_whitener_in_all_ways():
    off = whole().fit(DIGITS, DIGIT, controlpcawhitener__control=CONTROL)
    label = whole(control_label=0).fit(DIGITS, DIGIT)
    with config_context(enable_metadata_routing=True):
        on = whole().fit(DIGITS, DIGIT, control=CONTROL)
    assert off[0].n_control_samples_ == CONTROL.sum()
    same_fit(off, label)
    same_fit(off, on)
    assert off.score(DIGITS, DIGIT) > 0.5


def test_pipeline_steps_are_applied_one_after_the_other():
    pipeline = whole().fit(DIGITS, DIGIT, controlpcawhitener__control=CONTROL)
    whitener = ControlPCAWhitener(12, shrinkage="auto").fit(DIGITS, control=CONTROL)
    rows = Normalizer().fit_transform(whitener.transform(DIGITS))
    dictionary = icfl().fit(rows)
    assert_array_equal(pipeline[2].components_, dictionary.components_)
    codes = dictionary.transform(rows)
    probe = make_linear_probe(max_iter=300).fit(codes, DIGIT)
    assert_array_equal(pipeline.predict(DIGITS), probe.predict(codes))
    assert pipeline[:3].score(DIGITS) == dictionary.score(rows)
    inverse = pipeline[2:3].inverse_transform(codes)
    assert explained_variance(rows, inverse) == pytest.approx(dictionary.score(rows))
    found = pipeline[:-1].get_feature_names_out()
    assert list(found[:2]) == ["icfl0", "icfl1"]
    assert len(found) == 24


@pytest.mark.parametrize(
    "dictionary", [icfl(), sae(max_iter=40)], ids=["ICFL", "TopKSAE"]
)
def test_float32_all_the_way(dictionary):
    rows = CANCER.astype(np.float32)
    pipeline = make_pipeline(
        StandardScaler(), ControlPCAWhitener(10, control_label=1), dictionary
    )
    codes = pipeline.fit_transform(rows, BENIGN)
    assert codes.dtype == np.float32
    assert pipeline.inverse_transform(codes).dtype == np.float32
    # In the ten white features.
    assert pipeline[2].score(pipeline[:2].transform(rows)) > 0.3
    white = pipeline[:2].transform(rows[BENIGN == 1])
    assert_allclose(np.cov(white.T), np.eye(10), atol=1e-4)


# Searches

GRID = {
    "icfl__k": [1, 4],
    "controlpcawhitener__n_components": [6, 12],
    "controlpcawhitener__shrinkage": [0.2, "auto"],
}


def by_hand(pipeline, rows, y, control, folds):
    """Accuracy of each fold, fitted on the training rows and their mask alone."""
    scores = []
    for train, test in folds:
        fitted = clone(pipeline).fit(
            rows[train], y[train], controlpcawhitener__control=control[train]
        )
        assert fitted[0].n_control_samples_ == control[train].sum()
        scores.append(fitted.score(rows[test], y[test]))
    return scores


@pytest.mark.parametrize("routing", [False, True], ids=["routing off", "routing on"])
@pytest.mark.usefixtures("forked_jobs")
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_grid_search_over_k_and_whitening(routing, n_jobs):
    cv = GroupKFold(n_splits=2)
    search = GridSearchCV(whole(), GRID, cv=cv, n_jobs=n_jobs, error_score="raise")
    with config_context(enable_metadata_routing=routing):
        mask = "control" if routing else "controlpcawhitener__control"
        search.fit(DIGITS, DIGIT, groups=EXPERIMENT, **{mask: CONTROL})
    assert len(search.cv_results_["params"]) == 8
    best = whole().set_params(**search.best_params_)
    expected = by_hand(
        best, DIGITS, DIGIT, CONTROL, cv.split(DIGITS, DIGIT, EXPERIMENT)
    )
    found = [search.cv_results_[f"split{i}_test_score"] for i in range(2)]
    assert [scores[search.best_index_] for scores in found] == pytest.approx(expected)
    assert search.best_score_ == pytest.approx(np.mean(expected))
    assert search.best_estimator_[0].n_control_samples_ == CONTROL.sum()
    assert search.best_score_ > 0.3


def test_nested_search():
    inner = GridSearchCV(
        whole(),
        {"icfl__k": [1, 4]},
        cv=GroupKFold(n_splits=2),
        error_score="raise",
    )
    outer = GroupKFold(n_splits=2)
    with (
        config_context(enable_metadata_routing=True),
        joblib.parallel_config("threading"),  # processes would start slowly
    ):
        results = cross_validate(
            inner,
            DIGITS,
            DIGIT,
            cv=outer,
            params={"control": CONTROL, "groups": EXPERIMENT},
            return_estimator=True,
            return_indices=True,
            n_jobs=2,
            error_score="raise",
        )
    for i, search in enumerate(results["estimator"]):
        train, test = results["indices"]["train"][i], results["indices"]["test"][i]
        assert not set(EXPERIMENT[train]) & set(EXPERIMENT[test])
        best = whole().set_params(**search.best_params_)
        (score,) = by_hand(best, DIGITS, DIGIT, CONTROL, [(train, test)])
        assert results["test_score"][i] == pytest.approx(score)


def test_search_without_labels():
    search = GridSearchCV(icfl(), {"k": [1, 2, 4]}, cv=KFold(3)).fit(PLANTED)
    # More non-zeros explain more.
    assert search.best_params_ == {"k": 4}
    assert search.score(PLANTED) == search.best_estimator_.score(PLANTED)
    assert search.transform(PLANTED).shape == (400, 24)
    search = RandomizedSearchCV(
        sae(), {"learning_rate": [1e-3, 1e-2]}, n_iter=2, cv=2, random_state=0
    )
    assert search.fit(PLANTED).best_params_ == {"learning_rate": 1e-2}


@pytest.mark.parametrize("routing", [False, True], ids=["routing off", "routing on"])
def test_search_by_selectivity(routing):
    pipeline = whole()[:-1]
    scorer = make_selectivity_scorer()
    cv = StratifiedGroupKFold(n_splits=2)
    search = GridSearchCV(
        pipeline, {"icfl__k": [1, 4]}, scoring=scorer, cv=cv, error_score="raise"
    )
    with config_context(enable_metadata_routing=routing):
        mask = "control" if routing else "controlpcawhitener__control"
        search.fit(DIGITS, DIGIT, groups=EXPERIMENT, **{mask: CONTROL})
    train, test = next(cv.split(DIGITS, DIGIT, EXPERIMENT))
    fitted = clone(pipeline).set_params(**search.best_params_)
    fitted.fit(DIGITS[train], DIGIT[train], controlpcawhitener__control=CONTROL[train])
    scores = selectivity_scores(fitted.transform(DIGITS[test]), DIGIT[test])
    assert search.cv_results_["split0_test_score"][search.best_index_] == pytest.approx(
        scores.max(axis=0).mean()
    )


def test_several_scorers_at_once():
    results = cross_validate(
        whole(control_label=0)[:-1],
        DIGITS,
        DIGIT,
        cv=StratifiedKFold(2),
        scoring={
            "selectivity": make_selectivity_scorer("maximum"),
            "explained": lambda model, rows, y: model.score(rows),
        },
        error_score="raise",
    )
    assert (results["test_explained"] > 0).all()
    assert (results["test_selectivity"] > 0).all()


def test_other_tools_of_model_selection():
    pipeline = whole(control_label=0)
    cv = StratifiedKFold(2)
    predicted = cross_val_predict(pipeline, DIGITS, DIGIT, cv=cv)
    scores = cross_val_score(pipeline, DIGITS, DIGIT, cv=cv)
    assert (predicted == DIGIT).mean() == pytest.approx(scores.mean())
    _, train, test = learning_curve(
        pipeline, DIGITS, DIGIT, cv=cv, train_sizes=[0.8, 1.0], error_score="raise"
    )
    assert np.isfinite([*train, *test]).all()
    # The labels are permuted, and the controls stay where they were.
    with config_context(enable_metadata_routing=True):
        score, permuted, p_value = permutation_test_score(
            whole(),
            DIGITS,
            DIGIT,
            cv=cv,
            n_permutations=5,
            random_state=0,
            params={"control": CONTROL},
        )
    assert score == pytest.approx(scores.mean())
    assert score > permuted.max()
    assert p_value == pytest.approx(1 / 6)


# Folds without controls


def test_a_fold_without_controls_names_a_remedy_that_works():
    # All controls come from one experiment, which is the test fold once.
    groups = np.where(CONTROL, 0, 1 + EXPERIMENT % 2)
    scattered = np.arange(480) // 12
    cv = GroupKFold(n_splits=3)
    arguments = {"controlpcawhitener__control": CONTROL}
    with pytest.raises(ValueError, match="is a control") as caught:
        cross_val_score(
            whole(),
            DIGITS,
            DIGIT,
            groups=groups,
            cv=cv,
            params=arguments,
            error_score="raise",
        )
    assert "StratifiedGroupKFold(...).split(X, control, groups)" in str(caught.value)
    assert "StratifiedKFold(...).split(X, control)" in str(caught.value)
    for folds in (
        StratifiedGroupKFold(n_splits=3).split(DIGITS, CONTROL, scattered),
        StratifiedKFold(n_splits=3).split(DIGITS, CONTROL),
    ):
        scores = cross_val_score(
            whole(),
            DIGITS,
            DIGIT,
            cv=list(folds),
            params=arguments,
            error_score="raise",
        )
        assert (scores > 0.3).all()


def test_a_mask_that_is_not_cut_is_refused():
    with pytest.raises(ValueError, match="480 rows, but control has length 479"):
        whole().fit(DIGITS, DIGIT, controlpcawhitener__control=CONTROL[:-1])
    # Without routing, what is not named for a step is refused by scikit-learn.
    with pytest.raises((TypeError, ValueError), match="control"):
        whole().fit(DIGITS, DIGIT, control=CONTROL)


# Reconstructor


def test_reconstructor_is_what_the_dictionary_rebuilds():
    for inner in (icfl(), sae(sparse_output=False), PCA(3)):
        rebuilt = Reconstructor(inner).fit(PLANTED).transform(PLANTED)
        fitted = clone(inner).fit(PLANTED)
        assert_array_equal(
            rebuilt, fitted.inverse_transform(fitted.transform(PLANTED)), strict=True
        )


def test_reconstructor_before_a_probe():
    pipeline = make_pipeline(
        StandardScaler(), Reconstructor(icfl(k=2)), make_linear_probe()
    )
    search = GridSearchCV(
        pipeline,
        {"reconstructor__estimator__k": [1, 8]},
        scoring="balanced_accuracy",
        cv=StratifiedKFold(2),
        error_score="raise",
    ).fit(CANCER, BENIGN)
    assert search.best_score_ > 0.85
    assert search.best_estimator_[1].estimator_.k == search.best_params_.popitem()[1]


def test_reconstructor_routes_the_mask_to_the_step_inside():
    inner = make_pipeline(ControlPCAWhitener(12, shrinkage=0.5), icfl())
    model = make_pipeline(Reconstructor(inner), make_linear_probe())
    with config_context(enable_metadata_routing=True):
        model.fit(DIGITS, DIGIT, control=CONTROL)
        scores = cross_val_score(
            model,
            DIGITS,
            DIGIT,
            cv=GroupKFold(n_splits=2),
            params={"control": CONTROL, "groups": EXPERIMENT},
            error_score="raise",
        )
    fitted = model[0].estimator_
    assert fitted[0].n_control_samples_ == CONTROL.sum()
    assert (scores > 0.3).all()
    alone = clone(inner).fit(DIGITS, controlpcawhitener__control=CONTROL)
    assert_array_equal(
        model[0].transform(DIGITS),
        alone.inverse_transform(alone.transform(DIGITS)),
    )


def test_reconstructor_without_routing_says_how_to_pass_the_mask():
    inner = make_pipeline(ControlPCAWhitener(12, shrinkage=0.5), icfl())
    with pytest.raises(ValueError, match="enable_metadata_routing=True"):
        Reconstructor(inner).fit(DIGITS, control=CONTROL)
    with (
        config_context(enable_metadata_routing=True),
        pytest.raises(TypeError, match=r"unexpected argument.*groups"),
    ):
        Reconstructor(inner).fit(DIGITS, control=CONTROL, groups=EXPERIMENT)
    labelled = make_pipeline(ControlPCAWhitener(4, control_label=0), icfl())
    fitted = Reconstructor(labelled).fit(DIGITS, DIGIT).estimator_
    assert fitted[0].n_control_samples_ == CONTROL.sum()


def test_reconstructor_refuses_what_cannot_rebuild():
    for wrong in (Normalizer(), make_linear_probe(), 3):
        with pytest.raises(ValueError, match="'estimator' parameter of Reconstructor"):
            Reconstructor(wrong).fit(PLANTED)


# Outputs and unions


@pytest.mark.parametrize("frames", [pd, pl])
def test_data_frames_out(frames):
    library = frames.__name__
    pipeline = whole(icfl(sparse_output=False), control_label=0)[:-1]
    pipeline.set_output(transform=library)
    frame = pipeline.fit_transform(DIGITS, DIGIT)
    assert isinstance(frame, frames.DataFrame)
    assert list(frame.columns) == [f"icfl{i}" for i in range(24)]
    plain = whole(control_label=0)[:-1].fit(DIGITS, DIGIT).transform(DIGITS)
    # The frames of polars lie in memory by columns, which changes the rounding.
    assert_allclose(frame.to_numpy(), plain.toarray(), atol=1e-9)
    reconstructor = Reconstructor(icfl()).set_output(transform=library)
    named = frames.DataFrame(dict(zip("abc", PLANTED.T, strict=False)))
    rebuilt = reconstructor.fit(named).transform(named)
    assert list(rebuilt.columns) == ["a", "b", "c"]
    with config_context(transform_output=library):
        assert_array_equal(
            Reconstructor(icfl()).fit(named).transform(named).to_numpy(),
            rebuilt.to_numpy(),
        )
    with pytest.raises(ValueError, match="sparse"):
        icfl().set_output(transform=library).fit_transform(PLANTED)


def test_data_frames_in():
    frame = pd.DataFrame(PLANTED, columns=[f"f{i}" for i in range(16)])
    model = icfl().fit(frame)
    assert list(model.feature_names_in_) == list(frame.columns)
    assert_array_equal(model.components_, icfl().fit(PLANTED).components_)
    with pytest.raises(ValueError, match="feature names should match"):
        model.transform(frame[frame.columns[::-1]])
    model.partial_fit(frame)
    with pytest.raises(ValueError, match="feature names should match"):
        model.partial_fit(frame.rename(columns={"f0": "g"}))


def test_feature_union():
    union = FeatureUnion([("icfl", icfl()), ("sae", sae()), ("pca", PCA(2))]).fit(
        PLANTED
    )
    joined = union.transform(PLANTED)
    assert joined.shape == (400, 24 + 24 + 2)
    assert_array_equal(
        joined[:, :24].toarray(), icfl().fit(PLANTED).transform(PLANTED).toarray()
    )
    assert union.get_feature_names_out()[24] == "sae__topksae0"
    halves = ColumnTransformer(
        [("a", icfl(), slice(0, 8)), ("b", sae(), slice(8, 16))]
    ).fit(PLANTED)
    assert halves.transform(PLANTED).shape == (400, 48)
    assert (
        make_pipeline(union, make_linear_probe()).fit(PLANTED, PLANTED[:, 0] > 0)
    ).score(PLANTED, PLANTED[:, 0] > 0) > 0.8


class CountFits(TransformerMixin, BaseEstimator):
    """Passes rows on, and counts in a file how often it was fitted."""

    def __init__(self, path):
        self.path = path

    def fit(self, X, y=None):
        with open(self.path, "a") as file:
            file.write(".")
        return self

    def transform(self, X):
        return X

    def __sklearn_is_fitted__(self):
        return True


def test_cached_steps_are_fitted_once(tmp_path):
    count, memory = tmp_path / "count", joblib.Memory(tmp_path, verbose=0)
    pipeline = Pipeline(
        [
            ("whitener", ControlPCAWhitener(12)),
            ("icfl", icfl(sparse_output=False)),
            ("count", CountFits(str(count))),
            ("probe", make_linear_probe()),
        ],
        memory=memory,
    )
    for C in (0.1, 1.0, 10.0):
        # Hits only where what the fitted dictionary gives out hashes the same.
        pipeline.set_params(probe__logisticregression__C=C)
        pipeline.fit(DIGITS, DIGIT, whitener__control=CONTROL)
    assert count.read_text() == "."


# Copies


@pytest.mark.parametrize("dictionary", [icfl(), sae()], ids=["ICFL", "TopKSAE"])
def test_copies_of_a_whole_pipeline_give_identical_output(dictionary, tmp_path):
    pipeline = whole(dictionary, control_label=0).fit(DIGITS, DIGIT)
    joblib.dump(pipeline, tmp_path / "pipeline.joblib")
    skdict.save(pipeline, tmp_path / "pipeline.skops")
    copies = {
        "pickle": pickle.loads(pickle.dumps(pipeline)),
        "joblib": joblib.load(tmp_path / "pipeline.joblib"),
        "memmap": joblib.load(tmp_path / "pipeline.joblib", mmap_mode="r"),
        "skops": skdict.load(tmp_path / "pipeline.skops"),
        "fitted again": clone(pipeline).fit(DIGITS, DIGIT),
    }
    for copied in copies.values():
        assert_array_equal(
            copied.predict_proba(DIGITS), pipeline.predict_proba(DIGITS), strict=True
        )
        codes, others = (p[:-1].transform(DIGITS) for p in (pipeline, copied))
        assert (codes != others).nnz == 0
        assert names(copied) == names(pipeline)
    restored = copies["skops"][2]
    assert restored.history_ == pipeline[2].history_
    assert vars(restored).keys() == vars(pipeline[2]).keys()


@pytest.mark.parametrize("make", [icfl, sae])
def test_saved_streams_go_on_to_the_bit(make, tmp_path):
    model = make().partial_fit(PLANTED[:200])
    skdict.save(model, tmp_path / "model.skops")
    restored = skdict.load(tmp_path / "model.skops")
    for part in (model, restored):
        part.partial_fit(PLANTED[200:])
    assert_array_equal(restored.components_, model.components_, strict=True)
    assert restored.n_steps_ == model.n_steps_


def test_saved_reconstructor_and_search(tmp_path):
    model = Reconstructor(make_pipeline(StandardScaler(), icfl())).fit(PLANTED)
    skdict.save(model, tmp_path / "model.skops")
    assert_array_equal(
        skdict.load(tmp_path / "model.skops").transform(PLANTED),
        model.transform(PLANTED),
    )


def test_clones_share_nothing():
    init = PLANTED[:5].copy()
    model = icfl(n_components=5, init=init)
    copied = clone(model)
    assert copied.get_params().keys() == model.get_params().keys()
    assert copied.init is not init
    copied.fit(PLANTED)
    assert not hasattr(model, "components_")
    assert_array_equal(init, PLANTED[:5])
    reconstructor = Reconstructor(model).fit(PLANTED)
    assert reconstructor.estimator_ is not model
    assert not hasattr(model, "components_")


# Torch in and out


def as_torch(rows):
    return torch.tensor(rows)


@pytest.mark.parametrize("make", [icfl, sae])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_torch_in_torch_out(make, dtype):
    rows = DIGITS.astype(dtype)
    pipeline = make_pipeline(
        ControlPCAWhitener(12, control_label=0), Normalizer(), make(sparse_output=False)
    )
    expected = clone(pipeline).fit(rows, DIGIT)
    with config_context(array_api_dispatch=True):
        X, y = as_torch(rows), as_torch(DIGIT)
        codes = pipeline.fit(X, y).transform(X)
        rebuilt = pipeline[2:].inverse_transform(codes)
        score = pipeline.score(X)
        for value in (
            codes,
            rebuilt,
            *(pipeline[2].components_, pipeline[2].pre_bias_),
        ):
            assert isinstance(value, torch.Tensor)
            assert value.dtype == X.dtype
            assert not value.requires_grad
        assert isinstance(pipeline[2].dead_features_, torch.Tensor)
        assert isinstance(score, float)
        with pytest.raises(ValueError, match="namespace"):
            pipeline.transform(rows)
        pipeline[2].partial_fit(pipeline[:2].transform(X))
        pickle.loads(pickle.dumps(pipeline)).transform(X)
    tolerance = 1e-4 if dtype == np.float32 else 1e-9
    assert score == pytest.approx(expected.score(rows), abs=tolerance)
    assert (
        np.mean(np.isclose(codes.numpy(), expected.transform(rows), atol=tolerance))
        > 0.99
    )


@pytest.mark.parametrize("make", [icfl, sae])
def test_torch_rows_that_carry_gradients_are_left_alone(make):
    rows = as_torch(PLANTED).requires_grad_()
    with config_context(array_api_dispatch=True):
        model = make(sparse_output=False).fit(rows)
        model.partial_fit(rows)
        codes = model.transform(rows)
        model.score(rows)
    assert rows.grad is None
    assert not codes.requires_grad
    assert_array_equal(rows.detach().numpy(), PLANTED)


def test_torch_in_search_and_reconstructor():
    model = make_pipeline(Reconstructor(icfl(sparse_output=False)), StandardScaler())
    with config_context(array_api_dispatch=True):
        X = as_torch(PLANTED)
        assert isinstance(model.fit_transform(X), torch.Tensor)
        search = GridSearchCV(
            icfl(sparse_output=False), {"k": [1, 4]}, cv=2, error_score="raise"
        ).fit(X)
    assert search.best_params_ == {"k": 4}


def test_torch_without_dispatch_is_taken_as_numpy():
    codes = icfl().fit(as_torch(PLANTED)).transform(as_torch(PLANTED))
    assert (codes != icfl().fit(PLANTED).transform(PLANTED)).nnz == 0


@pytest.mark.parametrize("frames", [pd, pl])
def test_frames_keep_float64(frames):
    model = icfl().fit(frames.DataFrame(PLANTED.astype(np.float64)))
    assert model.components_.dtype == np.float64
    single = frames.DataFrame(PLANTED)
    assert model.transform(single).dtype == np.float32
    counts = frames.DataFrame(np.round(PLANTED * 10).astype(np.int64))
    assert icfl().fit(counts).components_.dtype == np.float32
