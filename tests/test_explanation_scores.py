"""skdict.concepts: examples, scores of explanations by a judge, and their cache."""

import sqlite3

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.metrics import roc_auc_score

from skdict.concepts import (
    cached_judge,
    choose_examples,
    concept_table,
    explain_features,
    score_explanations,
)

N, FEATURES = 600, 8


def make_codes(rng):
    return rng.normal(size=(N, FEATURES)) * (rng.random((N, FEATURES)) < 0.3)


@pytest.fixture
def codes(rng):
    return make_codes(rng)


# Examples


def test_roles(codes):
    groups = np.repeat(np.arange(N // 6), 6)
    examples = choose_examples(codes, groups=groups, n_examples=5, random_state=0)
    assert [*examples] == [
        *("feature", "part", "role", "row", "activation", "is_active")
    ]
    assert examples["feature"].unique().tolist() == list(range(FEATURES))
    sizes = examples.groupby(["feature", "part", "role"]).size()
    assert len(sizes) == FEATURES * 2 * 5
    assert (sizes == 5).all()
    assert_array_equal(
        examples["activation"], codes[examples["row"], examples["feature"]]
    )
    assert_array_equal(examples["is_active"], examples["activation"] != 0)
    assert_array_equal(examples["is_active"], examples["role"].isin(["top", "active"]))
    parts = {part: set(groups[own["row"]]) for part, own in examples.groupby("part")}
    assert not parts["explain"] & parts["score"]
    for (feature, part), own in examples.groupby(["feature", "part"]):
        alone = own[own["role"] != "same group"]
        assert alone["row"].is_unique
        seen = np.isin(groups, list(parts[part]))
        top = np.sort(abs(own.loc[own["role"] == "top", "activation"]))
        active = own[own["role"].isin(["top", "active"])]
        marked = own.loc[own["role"] == "same group", "row"]
        assert set(groups[marked]) <= set(groups[active["row"]])
        if part == "explain":
            best = abs(codes[:, feature])
            # Not every group need be in what was seen of either part.
            assert_allclose(top, np.sort(best[seen])[-5:], rtol=0.5)


def test_top_rows_are_the_strongest_of_their_part(codes):
    examples = choose_examples(codes, features=2, n_examples=1000, random_state=0)
    for _, own in examples.groupby("part"):
        top = own.loc[own["role"] == "top", "activation"].abs()
        assert top.is_monotonic_decreasing
        # All rows of the part are there: none of the other active rows is left.
        assert set(own["role"]) == {"top", "near miss"}
        assert (own["is_active"] == (own["role"] == "top")).all()
    assert len(examples) == N


def test_near_misses_are_similar(rng):
    """Feature 0 fires in half of the rows of a kind; the other half are near misses."""
    kind = np.arange(N) % 3 == 0
    X = rng.normal(size=(N, 6)) + 3 * kind[:, None] * np.eye(6)[0]
    codes = (kind & (rng.random(N) < 0.5))[:, None] * np.ones(2)
    codes[:, 1] = kind  # tells the kind to the codes
    for like in (X, None):
        examples = choose_examples(codes, features=[0], X=like, random_state=0)
        near = examples.loc[examples["role"] == "near miss", "row"]
        far = examples.loc[examples["role"] == "inactive", "row"]
        assert kind[near].mean() > 0.9
        assert kind[far].mean() < 0.6


def test_sparse_codes_and_blocks(codes, monkeypatch):
    expected = choose_examples(codes, random_state=3)
    monkeypatch.setattr("skdict.concepts._examples._BLOCK_ENTRIES", 1)
    for table in (codes, sparse.csr_matrix(codes), sparse.csr_array(codes)):
        pd.testing.assert_frame_equal(choose_examples(table, random_state=3), expected)
        some = choose_examples(
            table, features=[5, 1], X=sparse.csr_array(codes), random_state=3
        )
        assert some["feature"].unique().tolist() == [5, 1]


def test_features_that_are_rarely_or_never_active():
    codes = np.zeros((40, 3))
    codes[3, 0] = 1
    assert set(choose_examples(codes, random_state=0)["feature"]) == {0}
    silent = choose_examples(codes, features=[1], random_state=0)
    assert set(silent["role"]) == {"inactive"}
    assert choose_examples(np.zeros((4, 2))).empty


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"features": [9]}, "names feature 9"),
        ({"X": np.ones((3, 2))}, "X has 3 rows, but codes has 4"),
        ({"X": np.full((4, 2), np.inf)}, "X holds NaN or infinity"),
        ({"groups": ["a"] * 4}, "There is 1 group"),
        ({"n_examples": 0}, "n_examples"),
    ],
)
def test_bad_choices(changed, message):
    with pytest.raises(ValueError, match=message):
        choose_examples(**{"codes": np.eye(4)} | changed)


# Scores


TEXTS = {feature: f"feature {feature}" for feature in range(FEATURES)}


class Judge:
    """Knows the codes, and is right with a probability that does not depend on them."""

    def __init__(self, codes, right, seed=0, sure=True):
        self.codes, self.right, self.sure = codes, right, sure
        self.rng, self.asked = np.random.default_rng(seed), []

    def __call__(self, queries):
        assert [*queries] == ["task", "explanation", "row"]
        self.asked.append(queries)
        feature = queries["explanation"].str.removeprefix("feature ").astype(int)
        truth = self.codes[queries["row"], feature] != 0
        yes = np.where(self.rng.random(len(queries)) < self.right, truth, ~truth)
        return yes if self.sure else np.where(yes, 0.7, 0.2)


def test_a_judge_that_is_right_with_a_known_probability(codes):
    groups = np.repeat(np.arange(N // 6), 6)
    examples = choose_examples(codes, groups=groups, n_examples=20, random_state=0)
    for right in (1.0, 0.8, 0.5):
        judge = Judge(codes, right)
        scores = score_explanations(TEXTS, examples, judge, random_state=0)
        n_asked = 40 * FEATURES
        error = 3 * np.sqrt(right * (1 - right) / n_asked) + 1e-12
        assert_allclose(scores["detection"].mean(), right, atol=error)
        assert_allclose(scores["fuzzing"].mean(), right, atol=1.2 * error)
        assert_allclose(scores["detection_auroc"], scores["detection"])  # no ranks
        # Another feature's explanation tells nothing of this one.
        assert_allclose(scores["null_mean"], 0.5, atol=0.03)
    assert (scores["p_value"] > 0.01).all()
    judge = Judge(codes, 1.0)
    scores = score_explanations(TEXTS, examples, judge, random_state=0)
    asked = pd.concat(judge.asked)
    own = asked[(asked["task"] == "fuzzing") & (asked["explanation"] == "feature 3")]
    marked = examples[(examples["feature"] == 3) & (examples["part"] == "score")]
    marked = marked[marked["role"].isin(["top", "active", "same group"])]
    assert sorted(own["row"]) == sorted(marked["row"])
    assert (scores["p_value"] == 1 / (1 + 5 * FEATURES)).all()
    assert (scores["q_value"] < 0.05).all()
    assert scores["n_active"].tolist() == scores["n_inactive"].tolist() == [40] * 8


def test_figures_against_the_answers(codes):
    examples = choose_examples(codes, n_examples=6, random_state=1)
    judge = Judge(codes, 0.7, sure=False)
    scores = score_explanations(
        pd.Series(TEXTS), examples, judge, n_shuffles=0, batch_size=7
    )
    assert [*scores] == [
        *("feature", "explanation", "n_active", "n_inactive"),
        *("detection", "detection_auroc", "near_misses"),
    ]
    assert max(map(len, judge.asked)) == 7
    asked = pd.concat(judge.asked, ignore_index=True)
    assert not asked.duplicated().any()
    rng = np.random.default_rng(0)
    truth = codes[asked["row"], asked["explanation"].str[-1].astype(int)] != 0
    draws = np.concatenate([rng.random(len(own)) for own in judge.asked])
    answers = np.where(np.where(draws < 0.7, truth, ~truth), 0.7, 0.2)
    keys = zip(asked["explanation"], asked["row"], strict=True)
    answer_of = dict(zip(keys, answers, strict=True))
    for feature, own in examples[examples["part"] == "score"].groupby("feature"):
        answer = np.array([answer_of[TEXTS[feature], row] for row in own["row"]])
        active = own["is_active"].to_numpy()
        row = scores[scores["feature"] == feature].iloc[0]
        right = (answer > 0.5) == active
        assert_allclose(
            row["detection"], (right[active].mean() + right[~active].mean()) / 2
        )
        assert_allclose(row["detection_auroc"], roc_auc_score(active, answer))
        near = (own["role"] == "near miss").to_numpy()
        assert_allclose(row["near_misses"], right[near].mean())


def test_a_judge_that_cannot_decide_scores_one_half(codes):
    examples = choose_examples(codes, random_state=0)
    scores = score_explanations(
        TEXTS, examples, lambda queries: [0.5] * len(queries), random_state=0
    )
    assert (scores[["detection", "near_misses", "null_mean", "null_q95"]] == 0.5).all(
        axis=None
    )
    assert (scores["p_value"] == 1).all()
    judge = Judge(codes, 1.0)
    scores = score_explanations(
        TEXTS, examples, lambda queries: judge(queries) / 2, n_shuffles=0
    )
    assert (scores["detection"] == 0.75).all()


def test_rows_from_which_explanations_were_written_are_not_judged(codes):
    examples = choose_examples(codes, random_state=0)
    judge = Judge(codes, 1.0)
    score_explanations(TEXTS, examples, judge, random_state=0)
    asked = set(pd.concat(judge.asked)["row"])
    written = set(examples.loc[examples["part"] == "explain", "row"])
    assert not asked & written


def test_features_without_examples_are_left_out(codes):
    codes[:, 3] = 0
    examples = choose_examples(codes, random_state=0)
    with pytest.warns(UserWarning, match="1 of 8 explanations are not scored"):
        scores = score_explanations(TEXTS, examples, Judge(codes, 1.0), n_shuffles=1)
    assert scores["feature"].tolist() == [0, 1, 2, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (lambda n: [1.0] * (n - 1), "answers have the shape"),
        (lambda n: [1.5] + [0.0] * (n - 1), "1 of 32 answers are not, .* 1.5"),
        (lambda n: [np.nan] * n, "32 of 32 answers are not"),
        (lambda n: ["yes"] * n, "must return numbers"),
    ],
)
def test_bad_answers(codes, answers, message):
    examples = choose_examples(codes, random_state=0)
    with pytest.raises(ValueError, match=message):
        score_explanations(TEXTS, examples, lambda q: answers(len(q)))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"explanations": {0: 3}}, "feature 0 is 3, not a text"),
        ({"explanations": ["red"]}, "must be a dict or a Series"),
        ({"explanations": {"0": "red"}}, "indices of features, .* got '0'"),
        (
            {"explanations": pd.Series(["red", "blue"], index=[1, 1])},
            "2 entries for 1 features",
        ),
        ({"explanations": {77: "red"}}, "None of the 1 explanations"),
        ({"explanations": {0: "red"}}, "There is one explanation"),
        ({"examples": pd.DataFrame({"row": [1]})}, "lacks the columns"),
    ],
)
def test_bad_questions(codes, changed, message):
    call = {"explanations": TEXTS, "examples": choose_examples(codes)} | changed
    with pytest.raises(ValueError, match=message):
        score_explanations(judge=Judge(codes, 1.0), **call)


# The cache


def test_an_interrupted_run_goes_on(codes, tmp_path):
    examples = choose_examples(codes, random_state=0)
    path = tmp_path / "answers.sqlite"
    judge = Judge(codes, 0.8)
    n_batches = [0]

    def unreliable(queries):
        n_batches[0] += 1
        if n_batches[0] == 4:
            raise ConnectionError
        return judge(queries)

    options = {"random_state": 0, "batch_size": 50}
    with pytest.raises(ConnectionError):
        score_explanations(TEXTS, examples, cached_judge(unreliable, path), **options)
    assert len(judge.asked) == 3
    first = score_explanations(
        TEXTS, examples, cached_judge(unreliable, path), **options
    )
    asked = pd.concat(judge.asked, ignore_index=True)
    assert not asked.duplicated().any()

    def fails(queries):
        raise AssertionError

    again = score_explanations(TEXTS, examples, cached_judge(fails, path), **options)
    pd.testing.assert_frame_equal(first, again)
    other = cached_judge(judge, path, name="another model")
    score_explanations(TEXTS, examples, other, **options)
    assert len(pd.concat(judge.asked)) == 2 * len(asked)


def test_bad_answers_are_not_kept(tmp_path):
    path = tmp_path / "answers.sqlite"
    queries = pd.DataFrame({"task": "detection", "explanation": "a", "row": [1, 1, 2]})
    with pytest.raises(ValueError, match="3 of 3 answers are not"):
        cached_judge(lambda q: [2.0] * len(q), path)(queries)
    with sqlite3.connect(path) as file:
        assert file.execute("SELECT count(*) FROM answers").fetchone() == (0,)
    file.close()
    assert cached_judge(lambda q: [0.25] * len(q), path)(queries).tolist() == [0.25] * 3


def test_rows_with_other_names_are_other_rows(tmp_path):
    cached = cached_judge(lambda q: [0.25, 0.5, 0.75], tmp_path / "answers.sqlite")
    for rows in ([1.0, 1.5, 2.0], ["1", "b", "c"]):
        queries = pd.DataFrame({"task": "detection", "explanation": "a", "row": rows})
        assert cached(queries).tolist() == [0.25, 0.5, 0.75]
    queries["row"] = [1, 1, 2]
    assert cached(queries).tolist() == [0.25, 0.25, 0.75]


def test_files_that_cannot_hold_answers(tmp_path):
    queries = pd.DataFrame({"task": "detection", "explanation": "a", "row": [1]})
    (tmp_path / "text").write_text("no database" * 100)
    for name in ("text", "nowhere/answers.sqlite"):
        with pytest.raises(OSError, match=name):
            cached_judge(lambda q: [1.0], tmp_path / name)(queries)


# Concepts


def test_concept_table(rng, codes):
    drug = rng.choice(["a", "b", "c"], N)
    codes[:, 0] = (drug == "a") & (rng.random(N) < 0.9)
    codes[:, 1] = drug == "b"
    rules = explain_features(codes, {"drug": drug}, random_state=0)
    examples = choose_examples(codes, random_state=0)
    scores = score_explanations(TEXTS, examples, Judge(codes, 1.0), random_state=0)
    concepts = concept_table(rules, scores)
    assert concepts["feature"].is_unique
    of = concepts.set_index("feature")
    assert of.loc[1, "concept"] == "drug == 'b'"
    assert of.loc[1, "source"] == "rule"  # of equal confidence
    assert of.loc[0, "concept"] == "feature 0"
    assert len(concepts) == FEATURES
    assert concepts["confidence"].is_monotonic_decreasing
    assert_allclose(concepts["confidence"], 2 * concepts["balanced_accuracy"] - 1)
    alone = concept_table(rules)
    assert set(alone["feature"]) == {0, 1}
    read = rules.replace({"rule": {"": np.nan}}).assign(q_value=0.0)
    assert set(concept_table(read)["feature"]) == set(
        rules.loc[rules["rule"] != "", "feature"]
    )
    assert set(concept_table(scores, rules)["feature"]) == set(range(FEATURES))
    with pytest.raises(ValueError, match="must come from explain_features"):
        concept_table(scores.drop(columns="q_value"))
