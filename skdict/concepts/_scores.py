"""Scores of explanations in words, by a judge that is any callable."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score
from sklearn.utils import check_random_state
from tqdm import tqdm

from skdict._utils.constraints import Interval
from skdict._utils.sklearn_private import StrOptions, validate_params
from skdict._utils.types import Data, Seed
from skdict._utils.warn import warn
from skdict.stats import adjust, permutation_p_value

QUERY = ["task", "explanation", "row"]
_NEEDED = ["feature", "role", "row", "is_active"]
_DETECTION = ["top", "active", "near miss", "inactive"]
_FUZZING = ["top", "active", "same group"]


@validate_params(
    {
        "explanations": [dict, "array-like"],
        "examples": [pd.DataFrame],
        "judge": [callable],
        "n_shuffles": [Interval(Integral, 0, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "correction": [StrOptions({"bh", "by"})],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    },
    prefer_skip_nested_validation=True,
)
def score_explanations(
    explanations: dict[int, str] | pd.Series,
    examples: pd.DataFrame,
    judge: Callable[[pd.DataFrame], Sequence[float]],
    *,
    n_shuffles: int = 5,
    batch_size: int = 32,
    correction: str = "bh",
    random_state: Seed = None,
    verbose: int = 0,
) -> pd.DataFrame:
    """Score explanations by what a judge predicts from them.

    The judge reads an explanation and looks at a row, without being told whether the
    feature is active there. A good explanation lets it tell: in *detection*, the rows
    in which the feature is active from others; in *fuzzing*, the place in an image or
    a group at which it is active from another place in the same one [1]_.

    Parameters
    ----------
    explanations : dict of int to str, or Series
        Explanation of each feature, by its index.

    examples : DataFrame
        Rows to be judged, from :func:`choose_examples`. Of its parts only "score" is
        used, so that no row is judged from which an explanation was written.

    judge : callable
        ``judge(queries)`` gets a DataFrame with one row for each question and the
        columns `task` ("detection" or "fuzzing"), `explanation` and `row` (index of the
        sample). It returns for each the probability that the explanation fits the row,
        between 0 and 1, or a boolean. A language or vision model, a person or a program
        may stand behind it.

    n_shuffles : int, default=5
        How many explanations of other features are judged by the examples of each
        feature, for the null; 0 omits it. There are at most as many as other features.

    batch_size : int, default=32
        Largest number of questions in one call of the judge.

    correction : {"bh", "by"}, default="bh"
        How the false discovery rate is controlled over the features, as in
        :func:`~skdict.metrics.selectivity_tests`.

    random_state : int, RandomState instance or None, default=None
        Seed of the shuffles and of the order of the questions.

    verbose : int, default=0
        Whether to show a progress bar.

    Returns
    -------
    scores : DataFrame
        One row for each feature with an explanation and with examples of both kinds,
        in the order of the explanations. Columns:

        - `feature`, `explanation`.
        - `n_active`, `n_inactive`: number of examples of the detection in which the
          feature is active and inactive.
        - `detection`: balanced accuracy, where a probability above 0.5 means yes and
          0.5 counts half. The examples of each kind count equally.
        - `detection_auroc`: area under the ROC curve of the probabilities.
        - `near_misses`: fraction of the near misses that are rejected; NaN if there are
          none.
        - `null_mean`, `null_q95`: mean and 95 % quantile of `detection` over all
          shuffled explanations of all features. Only with ``n_shuffles > 0``, as are
          `p_value`, ``(1 + #{null >= detection}) / (1 + #null)``, and `q_value`.
        - `fuzzing`: balanced accuracy of the fuzzing. Only if there are examples of the
          role "same group"; NaN for a feature without them.

    Raises
    ------
    ValueError
        If `examples` lacks a column, if no feature can be scored, if a null is wanted
        for a single explanation, or if the judge does not return one number from 0 to 1
        for each question.

    Warns
    -----
    UserWarning
        If features are left out, because there are no examples of the part "score" in
        which they are active, or none in which they are not.

    See Also
    --------
    choose_examples : Chooses the examples.
    cached_judge : Keeps the answers of a judge in a file.
    concept_table : The concepts with their confidence.
    explain_features : Rules over the metadata, which need no judge.

    Notes
    -----
    The null tells what the judge and the examples make of any explanation: a judge that
    says yes to bright images, and features that are active in bright images, give
    high scores to explanations that say nothing. It is common to all features, because
    a few shuffles of each are too few for small p-values. Two features with the same
    meaning make it higher than it should be.

    The balanced accuracy of a judge that is right with the probability q, whatever the
    question, is q on average. Equal questions are asked once.

    References
    ----------
    .. [1] G. Paulo et al. "Automatically interpreting millions of features in large
       language models." ICML 2025. arXiv:2410.13928.

    Examples
    --------
    >>> import numpy as np
    >>> from skdict.concepts import choose_examples, score_explanations
    >>> rng = np.random.default_rng(0)
    >>> color = rng.choice(["red", "green", "blue"], 300)
    >>> codes = np.stack([color == "red", color == "green", rng.random(300) < 0.3], 1)
    >>> examples = choose_examples(codes, random_state=0)
    >>> def judge(queries):
    ...     return [color[q.row] in q.explanation for q in queries.itertuples()]
    >>> scores = score_explanations(
    ...     {0: "things that are red", 1: "things that are green", 2: "blue skies"},
    ...     examples, judge, n_shuffles=2, random_state=0,
    ... )
    >>> scores["detection"].round(2).tolist()
    [1.0, 1.0, 0.59]
    """
    texts = _check_explanations(explanations)
    chosen = _check_examples(examples, texts)
    detection = chosen[chosen["role"].isin(_DETECTION)]
    features = _scorable(detection, texts)
    n_shuffles = min(n_shuffles, len(features) - 1) if len(features) > 1 else n_shuffles
    if n_shuffles and len(features) == 1:
        raise ValueError(
            "There is one explanation, so there are no others for the null: pass "
            "n_shuffles=0, or explanations of more features."
        )
    rng = check_random_state(random_state)
    fuzzing = chosen[chosen["role"].isin(_FUZZING)]
    fuzzed = set(fuzzing.loc[fuzzing["role"] == "same group", "feature"])
    fuzzed &= set(features)
    # Who explains whom: first each feature itself, then shifts of a random circle.
    circle = rng.permutation(len(features))
    place = np.argsort(circle)
    pairs = [
        {f: features[circle[(place[i] + shift) % len(features)]]}
        for shift in range(n_shuffles + 1)
        for i, f in enumerate(features)
    ]
    asked = [
        _questions("detection", detection, texts, owner, explaining)
        for pair in pairs
        for owner, explaining in pair.items()
    ]
    n_detections = len(asked)
    asked += [
        _questions("fuzzing", fuzzing, texts, f, f) for f in features if f in fuzzed
    ]
    answers = _ask(asked, judge, int(batch_size), rng, bool(verbose))
    scores = [
        _balanced_accuracy(own["is_active"].to_numpy(), answer)
        for own, answer in zip(asked, answers, strict=True)
    ]
    n = len(features)
    table = _detection_table(features, texts, asked[:n], answers[:n], scores[:n])
    if n_shuffles:
        null = np.array(scores[n:n_detections])
        table["null_mean"] = null.mean()
        table["null_q95"] = np.quantile(null, 0.95)
        observed = table["detection"].to_numpy()
        p_values = permutation_p_value(null[:, None], observed, 1e-12)
        table["p_value"] = p_values
        every = np.ones(n, bool)
        table["q_value"] = adjust(p_values[:, None], correction, every)[:, 0]
    if fuzzed:
        owners = [f for f in features if f in fuzzed]
        of_feature = dict(zip(owners, scores[n_detections:], strict=True))
        table["fuzzing"] = [of_feature.get(f, np.nan) for f in features]
    return table


def _check_explanations(explanations: Any) -> dict[int, str]:
    if not hasattr(explanations, "items"):
        raise ValueError(
            "explanations must be a dict or a Series from features to texts, got "
            f"{type(explanations).__name__}."
        )
    texts = dict(explanations.items())
    if len(texts) < len(explanations):
        raise ValueError(
            f"explanations has {len(explanations)} entries for {len(texts)} features: "
            "pass one for each."
        )
    named = [feature for feature in texts if isinstance(feature, str)]
    if named:
        raise ValueError(
            "The keys of explanations are indices of features, which are whole "
            f"numbers, got {named[0]!r}."
        )
    wrong = [feature for feature, text in texts.items() if not isinstance(text, str)]
    if wrong:
        raise ValueError(
            f"The explanation of feature {wrong[0]} is {texts[wrong[0]]!r}, not a text."
        )
    return texts


def _check_examples(examples: pd.DataFrame, texts: dict[int, str]) -> pd.DataFrame:
    lacking = [name for name in _NEEDED if name not in examples]
    if lacking:
        raise ValueError(f"examples lacks the columns {lacking}: see choose_examples.")
    if "part" in examples:
        examples = examples[examples["part"] == "score"]
    return examples[examples["feature"].isin(list(texts))]


def _scorable(detection: pd.DataFrame, texts: dict[int, str]) -> list[int]:
    """Features that have examples in which they are active, and others."""
    kinds = detection.groupby("feature")["is_active"].nunique()
    features = [f for f in texts if kinds.get(f, 0) == 2]
    left_out = [f for f in texts if kinds.get(f, 0) < 2]
    if not features:
        raise ValueError(
            f"None of the {len(texts)} explanations has examples to score it, in which "
            "its feature is active and others in which it is not."
        )
    if left_out:
        warn(
            f"{len(left_out)} of {len(texts)} explanations are not scored: they lack "
            "examples in which the feature is active, or in which it is not. The first "
            f"is that of feature {left_out[0]}."
        )
    return features


def _questions(
    task: str, examples: pd.DataFrame, texts: dict[int, str], owner: int, by: int
) -> pd.DataFrame:
    """The examples of a feature, with the explanation of the same or another one."""
    own = examples[examples["feature"] == owner]
    return own.assign(task=task, explanation=texts[by])


def _ask(
    asked: list[pd.DataFrame],
    judge: Callable,
    batch_size: int,
    rng: np.random.RandomState,
    verbose: bool,
) -> list[np.ndarray]:
    """Ask each question once, in a random order that tells the judge nothing."""
    every = pd.concat([own[QUERY] for own in asked], ignore_index=True)
    ids = every.groupby(QUERY, sort=False).ngroup().to_numpy()
    distinct = every.iloc[np.unique(ids, return_index=True)[1]]
    order = rng.permutation(len(distinct))
    answers = np.empty(len(distinct))
    for places in _batches(order, batch_size, verbose):
        queries = distinct.iloc[places].reset_index(drop=True)
        answers[places] = check_answers(judge(queries), len(queries))
    ends = np.cumsum([len(own) for own in asked])
    return np.split(answers[ids], ends[:-1])


def _batches(order: np.ndarray, size: int, verbose: bool) -> Iterator[np.ndarray]:
    starts = range(0, len(order), size)
    for start in tqdm(starts, desc="questions", unit="batch", disable=not verbose):
        yield order[start : start + size]


def check_answers(answers: Any, n: int) -> np.ndarray:
    """Check that a judge gave one number from 0 to 1 for each of n questions."""
    try:
        numbers = np.asarray(answers, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"The judge must return numbers, but: {error}.") from error
    if numbers.shape != (n,):
        raise ValueError(
            f"The judge was asked {n} questions, but its answers have the shape "
            f"{numbers.shape}."
        )
    wrong = ~((numbers >= 0) & (numbers <= 1))
    if wrong.any():
        raise ValueError(
            f"The judge must return probabilities from 0 to 1, but {wrong.sum()} of "
            f"{n} answers are not, the first of them {numbers[wrong][0]}."
        )
    return numbers


def _balanced_accuracy(is_active: np.ndarray, answers: np.ndarray) -> float:
    yes = np.where(answers == 0.5, 0.5, answers > 0.5)
    is_active = is_active.astype(bool)
    return float((yes[is_active].mean() + 1 - yes[~is_active].mean()) / 2)


def _detection_table(
    features: list[int],
    texts: dict[int, str],
    asked: list[pd.DataFrame],
    answers: list[np.ndarray],
    scores: list[float],
) -> pd.DataFrame:
    rows = []
    for feature, own, answer, score in zip(
        features, asked, answers, scores, strict=True
    ):
        is_active = own["is_active"].to_numpy().astype(bool)
        near = (own["role"] == "near miss").to_numpy()
        rejected = np.where(answer == 0.5, 0.5, answer < 0.5)[near]
        rows.append(
            {
                "feature": feature,
                "explanation": texts[feature],
                "n_active": int(is_active.sum()),
                "n_inactive": int((~is_active).sum()),
                "detection": score,
                "detection_auroc": float(roc_auc_score(is_active, answer)),
                "near_misses": float(rejected.mean()) if near.any() else np.nan,
            }
        )
    return pd.DataFrame(rows)


@validate_params(
    {
        "explanations": [pd.DataFrame],
        "scores": [pd.DataFrame, None],
        "alpha": [Interval(Real, 0, 1, closed="right")],
    },
    prefer_skip_nested_validation=True,
)
def concept_table(
    explanations: Data, scores: pd.DataFrame | None = None, *, alpha: float = 0.05
) -> pd.DataFrame:
    """Name the concept of each feature, with a confidence.

    A table of this kind is what others get: features with a concept in words, and how
    far its predictions can be trusted on rows that were not used to find it, as in
    RecSAE [1]_.

    Parameters
    ----------
    explanations : DataFrame
        Rules with their figures, from :func:`explain_features`, or scores of
        explanations in words, from :func:`score_explanations`.

    scores : DataFrame, default=None
        The other of the two tables. Of both concepts of a feature the one with the
        higher confidence is taken, and of equal ones the rule.

    alpha : float, default=0.05
        Only concepts with a q-value up to this are named.

    Returns
    -------
    concepts : DataFrame
        One row for each feature that has a concept, the most trusted first. Columns:
        `feature`; `concept`, the text or rule; `source`, "rule" or "judge";
        `balanced_accuracy` on the rows held out; `confidence`, twice the balanced
        accuracy minus 1, which is 0 for a guess and 1 if all predictions are right; and
        `q_value`. ``concepts.to_csv(path)`` writes a file.

    Raises
    ------
    ValueError
        If a table is from neither function, or if explanations were scored without a
        null.

    See Also
    --------
    explain_features : Rules over the metadata.
    score_explanations : Scores of explanations in words.

    References
    ----------
    .. [1] J. Wang et al. "Understanding internal representations of recommendation
       models with sparse autoencoders." arXiv:2411.06112.

    Examples
    --------
    >>> import numpy as np
    >>> from skdict.concepts import concept_table, explain_features
    >>> rng = np.random.default_rng(0)
    >>> drug = rng.choice(["none", "a", "b"], 400)
    >>> codes = np.stack([rng.random(400) < 0.1, drug == "b"], axis=1)
    >>> rules = explain_features(codes, {"drug": drug}, random_state=0)
    >>> concept_table(rules)[["feature", "concept", "source", "confidence"]]
       feature      concept source  confidence
    0        1  drug == 'b'   rule         1.0
    """
    tables = [explanations] if scores is None else [explanations, scores]
    found = pd.concat([_as_concepts(table) for table in tables], ignore_index=True)
    found = found[(found["q_value"] <= alpha) & (found["concept"] != "")]
    # Equal confidences: the rule before the judge.
    order = ["confidence", "source", "feature"]
    found = found.sort_values(order, ascending=[False, False, True], kind="stable")
    return found.drop_duplicates("feature").reset_index(drop=True)


def _as_concepts(table: pd.DataFrame) -> pd.DataFrame:
    if {"rule", "balanced_accuracy", "q_value"} <= {*table}:
        concept, source, accuracy = "rule", "rule", "balanced_accuracy"
    elif {"explanation", "detection", "q_value"} <= {*table}:
        concept, source, accuracy = "explanation", "judge", "detection"
    else:
        raise ValueError(
            "A table must come from explain_features, or from score_explanations with "
            f"n_shuffles > 0; this one has the columns {[*table]}."
        )
    return pd.DataFrame(
        {
            "feature": table["feature"],
            # "" comes back from a file of text as a missing value.
            "concept": table[concept].fillna(""),
            "source": source,
            "balanced_accuracy": table[accuracy],
            "confidence": np.clip(2 * table[accuracy] - 1, 0, 1),
            "q_value": table["q_value"],
        }
    )
