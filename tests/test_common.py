"""Conformance: every public estimator passes scikit-learn's own checks."""

import importlib
import inspect
import pkgutil
import re
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.decomposition import PCA
from sklearn.exceptions import SkipTestWarning
from sklearn.preprocessing import Normalizer
from sklearn.utils import estimator_checks, get_tags
from sklearn.utils.estimator_checks import check_estimator
from skorch import NeuralNet

import skdict
from skdict import (
    ICFL,
    SAE,
    BatchTopKSAE,
    ControlCenterScaler,
    ControlPCAWhitener,
    FeatureSuppressor,
    InMemory,
    Reconstructor,
    RowwiseTransformer,
    TokenExtractor,
    TopKSAE,
    Transcoder,
    Truncator,
)
from skdict.decomposition import _registry

DICTIONARIES = {e.estimator.__name__: e.estimator for e in _registry.DICTIONARIES}
# Most checks fit anew; that a full training passes is shown by the first class. Dense
# output is the same for codes of one kind: slots, ragged and dense.
SHORT = {"max_iter": 1}
# scikit-learn wants a regressor that explains half the variance of 200 rows.
QUICK = {"max_iter": 8, "learning_rate": 0.03}
TABLE_ESTIMATORS = {
    **{
        name: cls() if cls is ICFL else cls(**SHORT)
        for name, cls in DICTIONARIES.items()
    },
    **{
        f"{cls.__name__}, dense": cls(sparse_output=False, **SHORT)
        for cls in (ICFL, BatchTopKSAE, SAE)
    },
    "ICFL, all options": ICFL(
        n_components=12,
        k=4,
        atoms_per_step=1,
        selection="absolute",
        refit=True,
        init="random",
        tol=None,
        max_iter=3,
        sparse_output=False,
    ),
    "ControlCenterScaler": ControlCenterScaler(),
    "ControlPCAWhitener": ControlPCAWhitener(),
    "ControlPCAWhitener, zca": ControlPCAWhitener(method="zca", shrinkage="auto"),
    "FeatureSuppressor": FeatureSuppressor(),
    "InMemory": InMemory(),
    "Reconstructor": Reconstructor(ICFL(random_state=0, **SHORT)),
    "Reconstructor, dense": Reconstructor(
        TopKSAE(sparse_output=False, random_state=0, **SHORT)
    ),
    "Reconstructor, PCA": Reconstructor(PCA(1)),
    "RowwiseTransformer": RowwiseTransformer(Normalizer()),
    "Transcoder": Transcoder(**QUICK),
    "Transcoder, dense": Transcoder(
        activation="batch_topk", skip_connection=True, sparse_output=False, **QUICK
    ),
    "Truncator": Truncator(ICFL(random_state=0, **SHORT)),
    "Truncator, dense": Truncator(
        TopKSAE(sparse_output=False, random_state=0, **SHORT), k=1
    ),
    "Truncator, PCA": Truncator(PCA(1), k=1),
}
# scikit-learn refuses to make data frames of CSR matrices.
DENSE = {
    name: estimator
    for name, estimator in TABLE_ESTIMATORS.items()
    if not getattr(estimator, "sparse_output", False)
}
IMAGE_ESTIMATORS = {
    "TokenExtractor": TokenExtractor(torch.nn.Sequential(torch.nn.Flatten()), "0")
}
ABSENT_DEVICE = re.compile("cuda|xpu|mps|cupy|dpnp", re.IGNORECASE)


def public_estimators() -> set[type]:
    """Estimator classes without a leading underscore, anywhere in the package.

    skorch's nets are estimators too, but ours are never exposed.
    """
    modules = [
        importlib.import_module(info.name)
        for info in pkgutil.walk_packages(skdict.__path__, "skdict.")
    ]
    return {
        member
        for module in modules
        for name, member in inspect.getmembers(module, inspect.isclass)
        if issubclass(member, BaseEstimator)
        and not issubclass(member, NeuralNet)
        and not inspect.isabstract(member)
        and member.__module__.startswith("skdict.")
        and not name.startswith("_")
    }


def test_no_public_estimator_is_left_out():
    checked = {*TABLE_ESTIMATORS.values(), *IMAGE_ESTIMATORS.values()}
    found = public_estimators()
    assert found == {type(estimator) for estimator in checked}
    assert all(cls is getattr(skdict, cls.__name__) for cls in found)


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLE_ESTIMATORS)
def test_scikit_learn_checks(name):
    with warnings.catch_warnings():
        # The checks fit on a handful of rows; a warning about that is right.
        warnings.simplefilter("ignore", UserWarning)
        results = check_estimator(TABLE_ESTIMATORS[name], on_skip=None, on_fail=None)
    failed = [r for r in results if r["status"] not in ("passed", "skipped")]
    assert not failed, [(r["check_name"], r["exception"]) for r in failed]
    reasons = [str(r["exception"]) for r in results if r["status"] == "skipped"]
    assert all(ABSENT_DEVICE.search(reason) for reason in reasons), reasons
    assert sum(r["status"] == "passed" for r in results) >= 47


def test_array_api_support_is_declared_where_the_output_is_dense():
    declared = {
        name for name, e in TABLE_ESTIMATORS.items() if get_tags(e).array_api_support
    }
    # The suppressor takes codes, which are CSR as a rule, and the others are wrappers.
    without = {
        "FeatureSuppressor",
        "InMemory",
        "Reconstructor",
        "RowwiseTransformer",
        "Truncator",
    }
    assert declared == {name for name in DENSE if name.split(",")[0] not in without}


EXTRA_CHECKS = [
    estimator_checks.check_transformer_get_feature_names_out,
    estimator_checks.check_transformer_get_feature_names_out_pandas,
    estimator_checks.check_param_validation,
    estimator_checks.check_dataframe_column_names_consistency,
    estimator_checks.check_n_features_in_after_fitting,
    estimator_checks.check_parameters_default_constructible,
    estimator_checks.check_estimators_overwrite_params,
    estimator_checks.check_inplace_ensure_writeable,
]
OUTPUT_CHECKS = [
    estimator_checks.check_set_output_transform,
    estimator_checks.check_set_output_transform_pandas,
    estimator_checks.check_set_output_transform_polars,
    estimator_checks.check_global_output_transform_pandas,
    estimator_checks.check_global_set_output_transform_polars,
]


@pytest.mark.parametrize("check", EXTRA_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", TABLE_ESTIMATORS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_checks_that_are_not_yielded(name, check):
    check(name.split(",")[0], TABLE_ESTIMATORS[name])


@pytest.mark.parametrize("check", OUTPUT_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", DENSE)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_set_output(name, check):
    estimator = clone(DENSE[name])
    if "max_iter" in estimator.get_params():
        estimator.set_params(**SHORT)
    check(name.split(",")[0], estimator)


@pytest.mark.parametrize(
    "name", [n for n, e in TABLE_ESTIMATORS.items() if hasattr(e, "partial_fit")]
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_partial_fit_checks_the_number_of_features(name):
    estimator = TABLE_ESTIMATORS[name]
    estimator_checks.check_estimators_partial_fit_n_features(name, estimator)


@pytest.mark.parametrize("name", IMAGE_ESTIMATORS)
def test_image_estimators_pass_what_their_tags_leave(name):
    tags = get_tags(IMAGE_ESTIMATORS[name])
    assert not tags.input_tags.two_d_array
    with pytest.warns(SkipTestWarning, match="requires input"):
        results = check_estimator(IMAGE_ESTIMATORS[name], on_fail=None)
    assert results
    assert {result["status"] for result in results} == {"passed"}


@pytest.mark.parametrize("method", ["fit", "fit_transform", "partial_fit"])
@pytest.mark.parametrize("name", TABLE_ESTIMATORS)
@pytest.mark.filterwarnings("ignore:No batch:UserWarning")
@pytest.mark.filterwarnings("ignore:.*control:UserWarning")
@pytest.mark.filterwarnings("ignore:No batch:UserWarning")
def test_a_refused_fit_leaves_the_old_model_whole(name, method):
    estimator = clone(TABLE_ESTIMATORS[name])
    if not hasattr(estimator, method):
        assert method == "partial_fit"
        return
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(40, 6)), columns=list("abcdef"))
    y = rng.normal(size=(40, 2))
    estimator.fit(X, y)
    before = dict(vars(estimator))
    bad = pd.DataFrame(rng.normal(size=(40, 7)), columns=list("abcdefg"))
    bad.iloc[3, 2] = np.nan
    with pytest.raises(ValueError, match=r"NaN|features|feature names"):
        getattr(estimator, method)(bad, y)
    assert vars(estimator).keys() == before.keys()
    assert all(vars(estimator)[key] is before[key] for key in before)
    estimator.transform(X)


@pytest.mark.parametrize("name", TABLE_ESTIMATORS)
@pytest.mark.filterwarnings("ignore:.*control:UserWarning")
@pytest.mark.filterwarnings("ignore:No batch:UserWarning")
def test_autocast_of_the_caller_does_not_reach_inside(name):
    X = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    estimator = clone(TABLE_ESTIMATORS[name])
    if "random_state" in estimator.get_params():
        estimator.set_params(random_state=0)
    y = X[:, :2]
    expected = estimator.fit_transform(X, y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = clone(estimator).fit_transform(X, y)
    found, expected = (
        getattr(a, "toarray", lambda a=a: a)() for a in (found, expected)
    )
    np.testing.assert_array_equal(found, expected)
