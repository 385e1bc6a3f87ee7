"""Warnings name the caller's line, however many frames lie between."""

import inspect

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline

from skdict import ICFL, ControlCenterScaler, ControlPCAWhitener
from skdict.metrics import selectivity_report

X = np.random.default_rng(0).normal(size=(30, 4))
CALLS = {
    "fit": lambda: ControlPCAWhitener().fit(X),
    "partial_fit": lambda: ControlPCAWhitener().partial_fit(X),
    "scaler": lambda: ControlCenterScaler().fit_transform(X),
    "pipeline": lambda: make_pipeline(ControlPCAWhitener()).fit_transform(X),
    "dictionary": lambda: ICFL(3, 5).fit(X),
    "metric": lambda: selectivity_report(
        np.abs(X), np.repeat([0, 1], 15), batch=np.repeat([0, 1], 15), n_permutations=2
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_warnings_point_at_the_callers_line(name):
    with pytest.warns(UserWarning, match=" ") as caught:
        CALLS[name]()
    lines, first = inspect.getsourcelines(CALLS[name])
    assert {w.filename for w in caught} == {__file__}
    assert {w.lineno - first for w in caught} <= set(range(len(lines)))
