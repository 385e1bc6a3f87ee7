"""Baselines whose atoms or encoder stay where they start, and what beats them."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from skdict import (
    ICFL,
    KSVD,
    ArchetypalSAE,
    Codebook,
    GatedSAE,
    MatchingPursuitSAE,
    TopKSAE,
    Transcoder,
)
from skdict.datasets import make_planted_dictionary
from skdict.decomposition import fit_many
from skdict.decomposition._registry import DICTIONARIES
from skdict.evaluation import (
    baseline_dictionaries,
    beats_baselines,
    compare_dictionaries,
)
from skdict.training import Checkpoint, FrozenAtoms, FrozenEncoder

X = make_planted_dictionary(
    400, 8, n_components=12, n_active=2, random_state=0
).data.astype(np.float64)
EVERY = [entry.estimator for entry in DICTIONARIES]
WITH_ENCODER = [one for one in EVERY if one not in {ICFL, KSVD, Codebook}]
WITH_ENCODER.remove(MatchingPursuitSAE)


def quick(estimator, *callbacks, **params):
    """A dictionary whose atoms move far in few steps."""
    rate = {} if estimator is KSVD else {"learning_rate": 0.5}
    options = {"max_iter": 3, "batch_size": 64, "init": "random", "random_state": 0}
    return estimator(12, 2, callbacks=list(callbacks), **rate | options | params)


def cosines(components, start):
    scale = np.linalg.norm(components, axis=1) * np.linalg.norm(start, axis=1)
    return (components * start).sum(axis=1) / scale


@pytest.mark.parametrize("estimator", EVERY)
def test_atoms_stay_where_they_start_or_near(estimator):
    start = quick(estimator, max_iter=0).fit(X)
    free = quick(estimator).fit(X).components_
    assert cosines(free, start.components_).min() < 0.75
    frozen = quick(estimator, FrozenAtoms()).fit(X)
    assert_allclose(frozen.components_, start.components_, rtol=1e-12)
    soft = quick(estimator, FrozenAtoms(0.8)).fit(X).components_
    reached = cosines(soft, start.components_)
    assert reached.min() > 0.8 - 1e-6
    assert reached.min() < 0.9  # they have moved


@pytest.mark.parametrize("estimator", WITH_ENCODER)
def test_the_encoder_stays_and_the_rest_learns(estimator):
    start = quick(estimator, max_iter=0).fit(X)
    frozen = quick(estimator, FrozenEncoder()).fit(X)
    assert_allclose(frozen.encoder_components_, start.encoder_components_, rtol=1e-12)
    assert cosines(frozen.components_, start.components_).min() < 0.9


@pytest.mark.parametrize("estimator", [ICFL, KSVD, Codebook, MatchingPursuitSAE])
def test_an_encoder_that_is_not_there_is_refused(estimator):
    with pytest.raises(ValueError, match="has no encoder beside its atoms"):
        quick(estimator, FrozenEncoder()).fit(X)


def test_a_frozen_decoder_leaves_the_encoder_to_learn():
    start = quick(TopKSAE, max_iter=0).fit(X)
    frozen = quick(TopKSAE, FrozenAtoms()).fit(X)
    assert not np.allclose(frozen.encoder_components_, start.encoder_components_)
    # K-SVD learns nothing but atoms: what remains is the pursuit with random ones.
    untrained, frozen = (quick(KSVD, *c).fit(X) for c in ([], [FrozenAtoms()]))
    pursuit = quick(KSVD, max_iter=0).fit(X)
    assert frozen.score(X) == pursuit.score(X) < untrained.score(X)


@pytest.mark.parametrize("estimator", [ICFL, ArchetypalSAE, Codebook])
def test_a_stream_keeps_its_first_start(estimator):
    hard, soft, bare = FrozenAtoms(), FrozenAtoms(0.8), quick(estimator)
    start = None
    frozen, near = quick(estimator, hard), quick(estimator, soft)
    for part in np.split(X, 4):
        start = (
            bare.set_params(max_iter=0).fit(part).components_
            if start is None
            else start
        )
        frozen.partial_fit(part)
        near.partial_fit(part)
    assert_allclose(frozen.components_, start, rtol=1e-12)
    reached = cosines(near.components_, start)
    assert 0.8 - 1e-6 < reached.min() < 0.9


def test_the_next_fit_has_a_start_of_its_own():
    callback = FrozenAtoms(0.8)
    for seed in (0, 1):
        start = quick(ICFL, max_iter=0, random_state=seed).fit(X).components_
        found = quick(ICFL, callback, random_state=seed).fit(X).components_
        assert cosines(found, start).min() > 0.8 - 1e-6
    # A stream of another estimator, too, that goes on where there was no callback.
    other = quick(ICFL, random_state=2).partial_fit(X)
    start = other.components_
    other.set_params(callbacks=[callback]).partial_fit(X)
    assert cosines(other.components_, start).min() > 0.8 - 1e-6


def test_a_fit_that_was_interrupted_keeps_its_start(tmp_path):
    class StopError(Exception):
        pass

    def stop(record):
        if record["epoch"] == 2:
            raise StopError

    def frozen(*callbacks):
        return quick(TopKSAE, FrozenAtoms(0.8), *callbacks)

    whole = frozen().fit(X)
    checkpoint = Checkpoint(tmp_path / "file", every_seconds=None, every_steps=1)
    with pytest.raises(StopError):
        frozen(checkpoint, stop).fit(X)
    assert_array_equal(frozen(checkpoint).fit(X).components_, whole.components_)


@pytest.mark.parametrize("estimator", [TopKSAE, GatedSAE])
def test_the_best_epoch_is_frozen_like_the_others(estimator):
    options = {"validation_fraction": 0.2, "tol": 0.5, "n_iter_no_change": 1}
    found = quick(estimator, FrozenAtoms(), **options).fit(X)
    start = quick(estimator, max_iter=0).fit(X).components_
    assert_allclose(found.components_, start, rtol=1e-12)


def test_a_transcoder_may_be_frozen():
    callbacks = [FrozenAtoms(), FrozenEncoder()]
    options = {"init": "random", "random_state": 0, "batch_size": 64}
    start = Transcoder(12, 2, max_iter=0, **options).fit(X, X[:, :5])
    frozen = Transcoder(12, 2, max_iter=3, callbacks=callbacks, **options)
    frozen.fit(X, X[:, :5])
    for name in ("components_", "encoder_components_"):
        assert_allclose(getattr(frozen, name), getattr(start, name), rtol=1e-12)


def test_dictionaries_that_are_fitted_together_are_frozen_apart():
    frozen, soft, free = fit_many(
        [
            quick(TopKSAE, FrozenAtoms()),
            quick(TopKSAE, FrozenAtoms(0.8)),
            quick(TopKSAE),
        ],
        X,
        random_state=0,
    )
    (start,) = fit_many([quick(TopKSAE, max_iter=0)], X, random_state=0)
    assert_allclose(frozen.components_, start.components_, rtol=1e-12)
    assert 0.8 - 1e-6 < cosines(soft.components_, start.components_).min() < 0.9
    assert cosines(free.components_, start.components_).min() < 0.75


@pytest.mark.parametrize("value", [0, 1.5, -0.8, True, "0.8", None])
def test_cosines_that_are_none(value):
    with pytest.raises(ValueError, match="min_cosine of FrozenAtoms must be in"):
        quick(ICFL, FrozenAtoms(value)).fit(X)


# Among the baselines


@pytest.mark.parametrize("estimator", EVERY)
def test_every_dictionary_has_its_frozen_baselines(estimator):
    called = []
    dictionary = quick(estimator, called.append)
    baselines = baseline_dictionaries(12, 2, dictionary=dictionary, random_state=3)
    names = ["frozen decoder", "soft-frozen decoder", "frozen encoder"]
    assert [*baselines][6:] == (names if estimator in WITH_ENCODER else names[:2])
    for name in [*baselines][6:]:
        baseline = baselines[name]
        assert type(baseline) is estimator
        assert baseline.random_state == 3
        assert baseline.init == "random"
        assert len(clone(baseline).callbacks) == 2  # the user's, too
    assert dictionary.callbacks == [called.append]


def test_baselines_come_after_the_same_steps():
    baselines = baseline_dictionaries(
        12, 2, dictionary=TopKSAE(12, 2), preprocessing=Normalizer()
    )
    assert isinstance(baselines["frozen encoder"][0], Normalizer)
    with pytest.raises(ValueError, match=r"has no parameters \['callbacks', 'init'\]"):
        baseline_dictionaries(12, 2, dictionary=make_pipeline(Normalizer(), PCA()))


def test_learning_beats_frozen_atoms_on_planted_ones():
    icfl = ICFL(12, 2, max_iter=20)
    baselines = baseline_dictionaries(12, 2, dictionary=icfl)
    frozen = {name: baselines[name] for name in ("random atoms", "frozen decoder")}
    runs = compare_dictionaries({"ICFL": icfl, **frozen}, X, cv=2, seeds=4)
    table = beats_baselines(runs)
    assert table["baseline"].tolist() == 2 * ["random atoms", "frozen decoder"]
    assert table["beats_all"].all()
    means = runs.groupby("dictionary")["cosine"].mean()
    # ICFL has no encoder to learn.
    assert_allclose(means["frozen decoder"], means["random atoms"], atol=1e-6)


# What beats the baselines


def runs_of(**figures):
    """Runs of dictionaries by name: an array (n_folds, n_seeds) of a measure."""
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "dictionary": name.replace("_", " "),
                    "seed": np.tile(range(np.shape(values)[1]), np.shape(values)[0]),
                    "fold": np.repeat(range(np.shape(values)[0]), np.shape(values)[1]),
                    "cosine": np.ravel(values),
                    "coherence": -np.ravel(values),
                    "l0": 3.0,
                }
            )
            for name, values in figures.items()
        ],
        ignore_index=True,
    )


def test_the_interval_is_that_of_a_paired_t_test(rng):
    own, other = rng.random((3, 5)), rng.random((3, 5))
    runs = runs_of(own=own, random_atoms=other).sample(frac=1, random_state=0)
    table = beats_baselines(
        runs, measures=["cosine", "coherence"], confidence_level=0.9
    )
    assert table["measure"].tolist() == ["cosine", "coherence"]
    difference = (own - other).mean(axis=0)
    low, high = stats.ttest_rel(
        own.mean(axis=0), other.mean(axis=0)
    ).confidence_interval(0.9)
    for row in table.to_dict("records"):
        assert_allclose(row["difference"], difference.mean())
        assert_allclose([row["low"], row["high"]], [low, high])
        assert_allclose(row["won"], (own > other).mean())
        assert row["n_seeds"] == 5
        assert row["beats"] == row["beats_all"] == (low > 0)
    assert_allclose(table["mean"], [own.mean(), -own.mean()])


def test_to_beat_all_is_to_beat_each():
    runs = runs_of(
        good=[[0.9, 0.91, 0.92]],
        fair=[[0.7, 0.71, 0.72]],
        random_atoms=[[0.5, 0.51, 0.5]],
        frozen_decoder=[[0.8, 0.79, 0.8]],
        other=[[0.1, 0.2, 0.3]],
    )
    table = beats_baselines(runs).set_index(["dictionary", "baseline"])
    assert table["beats"].to_dict() == {
        ("good", "random atoms"): True,
        ("good", "frozen decoder"): True,
        ("fair", "random atoms"): True,
        ("fair", "frozen decoder"): False,
        ("other", "random atoms"): False,
        ("other", "frozen decoder"): False,
    }
    beats_all = table["beats_all"].groupby("dictionary").agg(set)
    assert beats_all.to_dict() == {"good": {True}, "fair": {False}, "other": {False}}
    table = beats_baselines(runs, baselines=["good"])
    assert set(table["dictionary"]) == {*runs["dictionary"]} - {"good"}


def test_one_without_a_seed_is_paired_with_all_seeds():
    many, one = np.array([[0.9, 0.8], [0.7, 0.9]]), np.array([[0.5], [0.6]])
    for figures, sign in (
        ({"own": many, "PCA": one}, 1),
        ({"own": one, "PCA": many}, -1),
    ):
        (row,) = beats_baselines(runs_of(**figures)).to_dict("records")
        assert_allclose(row["difference"], sign * (many - one).mean())
        assert row["n_seeds"] == 2
        of_seeds = sign * (many - one).mean(axis=0)
        low, high = stats.ttest_1samp(of_seeds, 0).confidence_interval(0.95)
        assert_allclose([row["low"], row["high"]], [low, high])
    (row,) = (
        beats_baselines(
            runs_of(own=one, PCA=one - 0.1, other=many), baselines=["PCA", "other"]
        )
        .query("baseline == 'PCA'")
        .to_dict("records")
    )
    assert row["low"] == row["high"] == pytest.approx(0.1)
    assert row["beats"]


def test_runs_that_say_nothing():
    runs = runs_of(own=[[1, 2]], PCA=[[1, 2]])
    with pytest.raises(ValueError, match=r"lacks the columns \['fold'\]"):
        beats_baselines(runs.drop(columns="fold"))
    with pytest.raises(ValueError, match="hold no baseline"):
        beats_baselines(runs.replace("PCA", "mine"))
    with pytest.raises(ValueError, match="hold only baselines"):
        beats_baselines(runs, baselines=["own", "PCA"])
    with pytest.raises(ValueError, match=r"no runs of the baselines \['ICA'\]"):
        beats_baselines(runs, baselines=["ICA"])
    with pytest.raises(ValueError, match="All runs have the same seed"):
        beats_baselines(runs[runs["seed"] == 0])
    with pytest.raises(ValueError, match=r"lacks the measures \['probe_x'\]"):
        beats_baselines(runs, measures=["probe_x"])
    for wrong, message in (
        (np.nan, "nothing can be compared"),
        (np.inf, "'cosine' is infinite in some runs"),
        ("high", "'cosine' must hold numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            beats_baselines(runs.assign(cosine=wrong), measures=["cosine"])
    categories = runs.astype({"dictionary": "category"})
    pd.testing.assert_frame_equal(beats_baselines(categories), beats_baselines(runs))
    runs.loc[runs["dictionary"] == "PCA", "fold"] = 7
    with pytest.raises(ValueError, match="compare them in one call"):
        beats_baselines(runs)
