"""Where controls move if the features of a treatment are added."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.spatial.distance import cdist
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdict import ICFL
from skdict.concepts import steer, steering_curve

rng = np.random.default_rng(0)
N = 300
Y = rng.choice(["control", "A", "B", "C"], N)
CODES = rng.exponential(size=(N, 40)) * (rng.random((N, 40)) < 0.4)
for label, first in (("A", 0), ("B", 5), ("C", 10)):
    CODES[label == Y, first : first + 3] += 1.5
FOLD = [(np.arange(N) % 2 == 0).nonzero()[0], (np.arange(N) % 2 == 1).nonzero()[0]]
AMOUNTS = [0.0, 0.5, 1.0, -1.0]


def curve(codes=CODES, label="A", **kw):
    options = {"control_label": "control", "n_features": 3, "random_state": 0} | kw
    return steering_curve(codes, Y, label, **options)


def by_hand(rows, step_of, amounts=AMOUNTS):
    """Steer the held-out controls one amount at a time."""
    _, test = FOLD
    labels = Y[test]
    names = np.unique(labels)
    means = np.array([rows[test][labels == name].mean(axis=0) for name in names])
    controls = rows[test][labels == "control"]
    origin = means[names == "control"][0]
    goal = means[names == "A"][0] - origin
    figures = []
    for amount in amounts:
        steered = step_of(test[labels == "control"], amount)
        nearest = names[cdist(steered, means).argmin(axis=1)]
        step = (steered - controls).mean(axis=0)
        norm = np.linalg.norm(step)
        others = [
            m - origin
            for m, n in zip(means, names, strict=True)
            if n not in ("A", "control")
        ]
        cosines = [
            step @ direction / norm / np.linalg.norm(direction) if norm > 1e-12 else 0.0
            for direction in (goal, *others)
        ]
        figures.append(
            [
                (nearest == "A").mean(),
                (nearest == "control").mean(),
                np.isin(nearest, ["B", "C"]).mean(),
                step @ goal / (goal @ goal),
                cosines[0],
                max(cosines[1:]),
            ]
        )
    return figures


@pytest.mark.parametrize("container", [np.asarray, sp.csr_matrix, sp.csr_array])
def test_figures_are_those_of_steered_rows(container):
    train, _ = FOLD
    runs = curve(
        container(CODES), cv=[FOLD], amounts=AMOUNTS, features=[0, 1, 2], n_random=0
    )
    difference = np.subtract(
        *(CODES[train][Y[train] == name].mean(axis=0) for name in ("A", "control"))
    )

    def own(rows, amount):
        return steer(CODES[rows], [0, 1, 2], amount * difference[:3])

    np.testing.assert_allclose(runs.iloc[:4, 4:], by_hand(CODES, own), atol=1e-9)
    expected = by_hand(CODES, lambda rows, amount: CODES[rows] + amount * difference)
    np.testing.assert_allclose(runs.iloc[4:, 4:], expected, atol=1e-9)


def test_decoded_rows_are_those_of_the_dictionary():
    X = 3 + rng.normal(size=(N, 6)) + (Y == "A")[:, None]
    pipe = make_pipeline(
        StandardScaler(with_mean=False), ICFL(12, 3, max_iter=1, random_state=0)
    )
    codes = pipe.fit_transform(X)
    runs = curve(
        codes, estimator=pipe, cv=[FOLD], amounts=AMOUNTS, features=[2, 4], n_random=0
    )
    train, _ = FOLD
    dense = codes.toarray()
    difference = np.subtract(
        *(dense[train][Y[train] == name].mean(axis=0) for name in ("A", "control"))
    )

    def own(rows, amount):
        steered = steer(dense[rows], [2, 4], amount * difference[[2, 4]])
        return pipe[-1].inverse_transform(steered)

    rows = pipe[-1].inverse_transform(codes)
    np.testing.assert_allclose(runs.iloc[:4, 4:], by_hand(rows, own), atol=1e-8)


def test_features_are_ranked_by_difference_over_spread():
    """A loud feature differs more, and by chance; a quiet one differs for certain."""
    codes = CODES.copy()
    codes[:, 20] = 50 * rng.normal(size=N) + 5 * (Y == "A")
    codes[:, 21] = 0.1 * rng.normal(size=N) + 0.5 * (Y == "A")
    runs = curve(codes, n_features=1, cv=[FOLD], amounts=[1.0], n_random=0)
    chosen = curve(codes, features=[21], cv=[FOLD], amounts=[1.0], n_random=0)
    pd.testing.assert_frame_equal(runs, chosen)


@pytest.mark.parametrize("container", [np.asarray, sp.csr_array])
def test_features_that_are_the_same_in_all_rows_are_not_chosen(container):
    # The mean of 0.3 is rounded, in another way for other numbers of rows.
    codes = CODES.copy()
    codes[:, 20:24] = [0.1, 0.3, 0.7, 1e4 / 3]
    codes[:, 30] = np.where(Y == "A", 7.0, 0.3)  # without spread, but it differs
    runs = curve(container(codes), cv=[FOLD], n_random=0, n_features=1)
    chosen = runs[runs["added"] == "treatment features"].drop(columns="added")
    given = curve(codes, cv=[FOLD], n_random=0, features=[30])
    given = given[given["added"] == "treatment features"].drop(columns="added")
    pd.testing.assert_frame_equal(chosen, given)
    codes[:, 30] = 0.3
    runs = curve(container(codes), cv=[FOLD], n_random=0)
    assert runs.groupby("added")["progress"].max()["treatment features"] > 0.1


def test_controls_move_to_the_treatment_and_by_its_features_alone():
    runs = curve(cv=2, amounts=[0.0, 1.0])
    means = runs.groupby(["added", "amount"]).mean()
    own, null = (means.loc[f"{kind} features", 1.0] for kind in ("treatment", "random"))
    assert own["target_fraction"] > 0.8
    assert own["progress"] == pytest.approx(1, abs=0.25)
    assert own["cosine_target"] > 0.85 > 0.4 > own["cosine_other"]
    assert null["target_fraction"] < 0.2
    assert abs(null["progress"]) < 0.2
    # No step, no move.
    still = runs[runs["amount"] == 0]
    assert (still.groupby("fold")["target_fraction"].nunique() == 1).all()
    # Random steps are as long as the treatment's.
    assert len(runs[runs["added"] == "random features"]) == 2 * 20 * 2


def test_a_treatment_without_effect_is_no_better_than_random_features():
    """The features are chosen on other rows than those that are steered towards."""
    reached = 0
    for seed in range(30):
        state = np.random.default_rng(seed)
        codes = state.exponential(size=(120, 30))
        y = state.choice(["control", "A", "B"], 120)
        runs = steering_curve(
            codes, y, "A", control_label="control", n_features=3, amounts=[1.0],
            cv=2, n_random=9, random_state=seed,
        )  # fmt: skip
        means = runs.groupby(["added", "draw"])["cosine_target"].mean()
        null = means["random features"]
        reached += (null >= means["treatment features"][0]).sum() == 0
    assert reached <= 9  # one in ten is expected


def test_groups_stay_whole():
    groups = np.arange(N) // 5
    curve(groups=groups, cv=2, n_random=0)
    with pytest.raises(ValueError, match="Groups are on both sides"):
        curve(groups=groups, cv=[FOLD])


def test_two_classes_have_no_others():
    two = np.isin(Y, ["A", "control"])
    runs = steering_curve(
        CODES[two], Y[two], "A", control_label="control", cv=2, n_random=0
    )
    assert (runs[["cosine_other", "other_fraction"]] == 0).all(axis=None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": "D"}, "No sample has the label 'D'"),
        ({"label": "control"}, "label and control_label are both 'control'"),
        ({"amounts": [[1.0]]}, "amounts must be a list of numbers"),
        ({"amounts": [np.nan]}, "amounts must be finite"),
        ({"features": [40]}, "names feature 40"),
        (
            {"cv": [(np.arange(N // 2), N // 2 + (Y[N // 2 :] != "A").nonzero()[0])]},
            "Fold 0 has no rows of 'A'",
        ),
    ],
)
def test_what_cannot_be_steered(options, message):
    with pytest.raises(ValueError, match=message):
        curve(**options)


def test_a_treatment_that_only_lowers_features():
    with pytest.raises(ValueError, match="raises no feature"):
        steering_curve(
            -1.0 * (Y == "A")[:, None] * np.ones((1, 5)),
            Y,
            "A",
            control_label="control",
            cv=2,
            n_random=0,
        )
