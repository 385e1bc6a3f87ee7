"""What parameters may be: booleans are no numbers, callbacks are callables."""

import importlib
import inspect

import numpy as np
import pytest
from sklearn.base import BaseEstimator

import skdict
from skdict import ICFL, Truncator
from skdict._utils.constraints import check_name, check_names, is_integer
from skdict._utils.sklearn_private import Interval as AnyInterval
from skdict._utils.sklearn_private import make_constraint
from skdict.decomposition import _registry
from skdict.report import FeatureReport

X = np.random.default_rng(0).normal(size=(30, 6))
MODULES = [
    f"skdict.{part}"
    for part in (
        "decomposition",
        "evaluation",
        "concepts",
        "feature_extraction",
        "datasets",
    )
]

DICTIONARIES = [entry.estimator for entry in _registry.DICTIONARIES]


def _constraints():
    """(name, parameter, constraints) of all public estimators and functions."""
    for module in MODULES:
        public = importlib.import_module(module)
        for name in public.__all__:
            member = getattr(public, name)
            attribute = "_parameter_constraints"
            if not inspect.isclass(member):
                attribute = f"_skl{attribute}"
            for parameter, constraints in getattr(member, attribute, {}).items():
                yield name, parameter, constraints
    for parameter, constraints in FeatureReport._parameter_constraints.items():
        yield "FeatureReport", parameter, constraints


NUMBERS = [
    pytest.param(constraints, id=f"{name}-{parameter}")
    for name, parameter, constraints in _constraints()
    if any(isinstance(make_constraint(c), AnyInterval) for c in constraints)
]


def test_numbers_are_found():
    names = {param.id for param in NUMBERS}
    assert {
        "ICFL-k",
        "Truncator-k",
        "sweep_layers-seeds",
        "FeatureReport-alpha",
    } < names
    assert {"TokenExtractor-batch_size", "make_planted_dictionary-n_active"} < names
    assert "compare_dictionaries-n_jobs" in names


@pytest.mark.parametrize("constraints", NUMBERS)
@pytest.mark.parametrize("boolean", [True, False, np.True_])
def test_booleans_are_no_numbers(constraints, boolean):
    if "boolean" in constraints:
        return
    assert not any(make_constraint(c).is_satisfied_by(boolean) for c in constraints)


def test_whole_numbers_are_never_taken_by_their_class_alone():
    """`Integral` as a constraint takes True."""
    for name, parameter, constraints in _constraints():
        for constraint in constraints:
            is_class = inspect.isclass(constraint) and constraint is not bool
            assert not (is_class and issubclass(bool, constraint)), (name, parameter)


@pytest.mark.parametrize("name", ["n_components", "k", "max_iter", "batch_size"])
@pytest.mark.parametrize("estimator", [cls() for cls in DICTIONARIES], ids=str)
def test_messages_name_the_parameter(estimator, name):
    with pytest.raises(ValueError, match=f"'{name}' parameter of .* Got True"):
        type(estimator)(**{name: True}).fit(X)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("callbacks", [[None], [print, "x"], print, (1,), {print}])
@pytest.mark.parametrize("make", DICTIONARIES)
def test_callbacks_are_checked_before_the_first_pass(make, callbacks, method):
    estimator = make(8, 2, callbacks=callbacks)
    with pytest.raises(ValueError, match=r"'callbacks' parameter.*list.*of callables"):
        getattr(estimator, method)(X)
    assert not hasattr(estimator, "components_")


def test_lists_and_tuples_of_callables_are_callbacks():
    for kind in (list, tuple):
        seen = []
        ICFL(8, 2, max_iter=2, callbacks=kind([seen.append])).fit(X)
        assert len(seen) == 2


def test_a_truncator_needs_a_number():
    with pytest.raises(ValueError, match="'k' parameter of Truncator"):
        Truncator(ICFL(8, 2), True).fit(X)


@pytest.mark.parametrize("value", [1, np.int64(3), np.uint8(0), -2])
def test_integers(value):
    assert is_integer(value)


@pytest.mark.parametrize("value", [True, np.True_, 1.0, "1", None])
def test_what_is_no_integer(value):
    assert not is_integer(value)


def test_names():
    for name in (None, "a", np.str_("a"), 3, 0.5):
        check_name(name)
    for name in (True, ["a"], b"a", object()):
        with pytest.raises(ValueError, match="name must be a str"):
            check_name(name)
    for names in (None, ["a", 1], ("a",), np.array(["a", "b"])):
        check_names(names, "names")
    for names in ("ab", 3, [["a"]], [None], {"a": 1}, [True]):
        with pytest.raises(ValueError, match="names must be a list of str"):
            check_names(names, "names")
    with pytest.raises(ValueError, match="names must have 3 entries, but it has 1"):
        check_names(["a"], "names", 3)


def test_every_module_here_holds_estimators_or_functions():
    names = {name for name, _, _ in _constraints()}
    classes = {
        name
        for name in skdict.__all__
        if inspect.isclass(getattr(skdict, name))
        and issubclass(getattr(skdict, name), BaseEstimator)
    }
    # Those of preprocessing, which is not among the modules here.
    assert classes - names == set(skdict.preprocessing.__all__)
