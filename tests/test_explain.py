"""skdict.concepts.explain_features: rules over the metadata, judged on other rows."""

import itertools
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse, stats
from sklearn.metrics import balanced_accuracy_score

from skdict.concepts import explain_features
from skdict.concepts._conditions import best_condition, make_column, write_condition
from skdict.concepts._explain import _find_rules, _Rows, _write, split_groups
from skdict.datasets import make_planted_screen
from skdict.stats import find_active, own_label_tests
from skdict.stats.group_tests import group_p_values


def table(rng, n=300, missing=False):
    frame = pd.DataFrame(
        {
            "drug": rng.choice(["none", "a", "b", "c", "d"], n),
            "dose": rng.choice([1, 3, 10, 30], n),
            "cell area": rng.normal(size=n),
            "edge": rng.random(n) < 0.3,
            "day": rng.choice(pd.date_range("2024-01-01", periods=3), n),
        }
    )
    if missing:
        frame["drug"] = frame["drug"].where(rng.random(n) > 0.2)
        frame["dose"] = frame["dose"].where(rng.random(n) > 0.2)
    return frame


def holds(frame, rule):
    found = np.zeros(len(frame), bool)
    if rule:
        frame = frame.reset_index(drop=True)
        found[frame.query(rule, engine="python").index] = True
    return found


def planted(rng, frame):
    n = len(frame)
    codes = (rng.random((n, 6)) < 0.05) * rng.random((n, 6))
    codes[:, 1] += frame["drug"] == "a"
    codes[:, 2] += (frame["drug"] == "b") & (frame["dose"] > 3)
    codes[:, 3] -= (frame["cell area"] > 1) | frame["edge"]
    codes[:, 4] = 0
    return codes


def test_rules_of_a_planted_screen():
    """Each phenotype, plate and edge is named; states of the cells have no rule."""
    screen = make_planted_screen(random_state=0)
    metadata = screen.metadata
    found = explain_features(
        screen.codes,
        metadata[["plate", "row", "column", "edge", "perturbation", "dose"]],
        groups=metadata["well"],
        random_state=0,
    )
    partners = {frozenset(pair) for pair in screen.pairs.to_numpy().tolist()}
    named = set()
    for kind, row in zip(screen.kinds, found.itertuples(), strict=True):
        if kind == "state":
            assert row.q_value > 0.05
        elif kind == "phenotype":
            assert row.rule.startswith("perturbation in [")
            named.add(frozenset(re.findall(r"'(\w+)'", row.rule)))
        else:
            assert row.rule.startswith(f"{kind} == ")
            assert row.balanced_accuracy > 0.99
    assert named == partners


@pytest.mark.parametrize("missing", [False, True])
def test_planted_rules_are_found(rng, missing):
    frame = table(rng, 600, missing)
    codes = planted(rng, frame)
    found = explain_features(codes, frame, random_state=0)
    assert found["rule"][1] == "drug == 'a'"
    assert found["rule"][2] == "drug == 'b' and dose > 3"
    if not missing:
        assert set(found["rule"][3].split(" or ")) >= {"edge == True"}
        assert "`cell area` > " in found["rule"][3]
    assert (found["q_value"] < 0.05).tolist() == [False, True, True, True, False, False]
    assert found["n_conditions"][1:4].tolist() == [1, 2, 2]
    assert found["rule"][4] == ""
    assert found.loc[4, ["balanced_accuracy", "p_value", "q_value"]].tolist() == [
        0.5,
        1,
        1,
    ]
    assert_allclose(found["density"], (codes != 0).mean(axis=0))
    assert found.notna().all(axis=None)
    one = explain_features(codes, frame, max_conditions=1, random_state=0)
    assert one["n_conditions"].max() == 1
    for csr in (sparse.csr_matrix(codes), sparse.csr_array(codes)):
        pd.testing.assert_frame_equal(
            explain_features(csr, dict(frame), random_state=0), found
        )


def test_figures_are_those_of_the_rule_on_the_judging_rows(rng, monkeypatch):
    frame = table(rng, missing=True)
    codes = planted(rng, frame)
    monkeypatch.setattr("skdict.concepts._explain._BLOCK_ENTRIES", 100)
    found = explain_features(codes, frame, test_size=0.4, min_gain=0, random_state=3)
    _, judging = split_groups(300, None, 0.4, np.random.RandomState(3))
    assert len(judging) == 120
    active = codes[judging] != 0
    for _, row in found[found["rule"] != ""].iterrows():
        rule, own = holds(frame.iloc[judging], row["rule"]), active[:, row["feature"]]
        hits = int((rule & own).sum())
        assert_allclose(row["balanced_accuracy"], balanced_accuracy_score(own, rule))
        assert_allclose(row["precision"], hits / max(rule.sum(), 1))
        assert_allclose(row["recall"], hits / own.sum())
        null = stats.hypergeom(120, own.sum(), rule.sum())
        assert_allclose(row["p_value"], null.sf(hits - 1), rtol=1e-9)
        slope = 120 / (2 * own.sum() * (120 - own.sum()))
        assert_allclose(row["null_q95"], 0.5 + slope * 1.645 * null.std())
    q_values = stats.false_discovery_control(found["p_value"][found["rule"] != ""])
    assert_allclose(found["q_value"][found["rule"] != ""], q_values)


def all_conditions(frame, max_values):
    """Every single condition that a rule may have, as masks."""
    for _, column in frame.items():
        if column.dtype == object:
            levels = [*column.dropna().unique(), None][: 9 if column.hasnans else -1]
            for size in range(1, max_values + 1):
                for some in itertools.combinations(levels, size):
                    mask = column.isin([x for x in some if x is not None])
                    mask |= column.isna() if None in some else False
                    yield mask
                    yield ~mask
        else:
            for value in np.unique(column.dropna()):
                yield column <= value
                yield column > value
            yield column.isna()
            yield column.notna()


@pytest.mark.parametrize("missing", [False, True])
def test_conditions_are_the_best_of_all(rng, missing):
    frame = table(rng, 90, missing)[["drug", "dose"]].astype({"drug": object})
    codes = (rng.random((90, 4)) < 0.3).astype(float)
    codes[:, 0] = frame["drug"].isna() if missing else frame["drug"] == "c"
    columns = [make_column(name, frame[name], 90) for name in frame]
    rows = _Rows(find_active(codes, 0.0), columns, np.arange(90))
    for has_second in (False, True):
        rules = _find_rules(rows, slice(0, 4), has_second, max_values=2, min_gain=0)
        firsts = _write(rules._replace(words=np.full(4, "if")), columns)
        for feature, rule in enumerate(_write(rules, columns)):
            active = codes[:, feature] != 0

            def score(mask, active=active):
                return (mask[active].mean() + 1 - mask[~active].mean()) / 2

            conditions = [np.asarray(c) for c in all_conditions(frame, 2)]
            best = max(conditions, key=score)
            expected = score(best)
            if has_second:
                first = holds(frame, firsts[feature])
                assert_allclose(score(first), expected)
                expected = max(
                    expected,
                    *(score(first & c) for c in conditions),
                    *(score(first | c) for c in conditions),
                )
            assert_allclose(score(holds(frame, rule)), expected)


@given(data=st.data())
def test_rules_are_queries(data):
    """What is written selects the rows that are meant."""
    values = data.draw(
        st.one_of(
            st.lists(st.sampled_from(["a", "b's", 'c"', None]), min_size=6, max_size=6),
            st.lists(st.sampled_from([1.5, 2.0, -3.25, None]), min_size=6, max_size=6),
            st.lists(st.sampled_from([True, False, None]), min_size=6, max_size=6),
        )
    )
    name = data.draw(
        st.sampled_from(["some name", "plate", "class", "in", "dose (mM)"])
    )
    column = make_column(name, values, 6)
    excess = np.array(
        data.draw(
            st.lists(st.floats(-3, 3), min_size=column.n_bins, max_size=column.n_bins)
        )
    ).reshape(-1, 1)
    best, members = best_condition(excess, column, np.zeros(1), 2)
    if column.n_bins < 2:
        assert best[0] == -np.inf
        return
    assert_allclose(best[0], excess[members].sum(), atol=1e-12)
    rule = write_condition(column, members[:, 0])
    frame = pd.DataFrame({name: pd.Series(values, dtype=object)})
    if column.ordered:
        frame = frame.astype(float)
    assert_array_equal(holds(frame, rule), members[column.bins, 0])


@pytest.mark.parametrize("name", ["dose_\u00b5M", "inf", "a'b", "a\tb", "m\u00b2", "`"])
def test_names_that_pandas_cannot_read(name):
    frame = pd.DataFrame({"dose [uM]": list("aabb") * 10, name: list("abcd") * 10})
    codes = (frame[[name]] == "b").to_numpy()
    with pytest.warns(UserWarning, match="names of 1 columns of metadata"):
        rule = explain_features(codes, frame, random_state=0)["rule"][0]
    assert rule.endswith(" == 'b'")
    rule = rule.replace(f"`{name}`", name).replace(name, "x")
    assert len(frame.rename(columns={name: "x"}).query(rule)) == 10


def test_groups_and_batches_by_permutation(rng):
    """The tail of the exchanges is that of random ones."""
    sizes = rng.integers(1, 6, 40)
    batch = np.repeat([0, 1], 20)
    active = rng.binomial(sizes[:, None], 0.4, (40, 3)).astype(float)
    labelled = rng.random((40, 3)) < 0.3
    excess, mean, std, p_values = own_label_tests(active.copy(), labelled, sizes, batch)
    deviation = active - sizes[:, None] * (active.sum(axis=0) / sizes.sum())
    draws = np.empty((4000, 3))
    for i in range(4000):
        order = np.concatenate((rng.permutation(20), 20 + rng.permutation(20)))
        draws[i] = (labelled[order] * deviation).sum(axis=0)
    assert_allclose(excess, (labelled * deviation).sum(axis=0))
    assert_allclose(mean, draws.mean(axis=0), atol=0.15)
    assert_allclose(std, draws.std(axis=0), rtol=0.05)
    # The correction for continuity is for counts; it makes others a little larger.
    assert (p_values > (draws >= excess - 1e-9).mean(axis=0) - 0.02).all()
    assert (p_values < (draws >= excess - 1).mean(axis=0) + 0.02).all()
    shared = np.repeat(labelled[:, :1], 3, axis=1)
    of_class = group_p_values(
        sparse.csr_array(active), sizes, labelled[:, 0].astype(int), batch, 2
    )
    found = own_label_tests(active.copy(), shared, sizes, batch)[3]
    assert_allclose(found, of_class[1], rtol=1e-9)


def of_wells(rng, n_wells=80, n_cells=8, n_features=150):
    """Cells whose activity their well decides; metadata of wells say nothing."""
    wells = np.repeat(np.arange(n_wells), n_cells)
    codes = (rng.random((n_wells, n_features)) < 0.3)[wells]
    frame = table(rng, n_wells).iloc[wells].reset_index(drop=True)
    return codes, frame, wells


def test_rules_about_nothing_have_uniform_p_values(rng):
    codes, frame, wells = of_wells(rng)
    plates = wells // 20
    for batch in (None, plates):
        found = explain_features(
            codes, frame, groups=wells, batch=batch, min_gain=0, random_state=0
        )
        p_values = found["p_value"][found["rule"] != ""]
        assert len(p_values) > 100
        assert 0.4 < p_values.mean() < 0.62
        assert (p_values <= 0.05).mean() < 0.1
        assert abs(found["balanced_accuracy"].mean() - 0.5) < 0.02
    alone = explain_features(codes, frame, min_gain=0, random_state=0)["p_value"]
    assert (alone <= 0.05).mean() > 0.3
    rows = table(rng, 640)
    codes = rng.random((640, 150)) < 0.2
    for batch in (None, np.arange(640) % 4):
        p_values = explain_features(codes, rows, batch=batch, random_state=0)["p_value"]
        assert (p_values <= 0.05).mean() < 0.1


def test_a_batch_explains_nothing_inside_itself(rng):
    frame = table(rng)
    plate = rng.choice(["p", "q", "r"], 300)
    codes = (plate == "p")[:, None] & (rng.random((300, 2)) < 0.7)
    frame["plate"] = plate
    free = explain_features(codes, frame, random_state=0)
    inside = explain_features(codes, frame, batch=plate, random_state=0)
    assert (free["q_value"] < 1e-6).all()
    assert (inside["p_value"] > 0.01).all()
    assert_array_equal(free["rule"], inside["rule"])


def test_columns_that_differ_inside_groups_are_exchanged_there(rng):
    """The place in the well tells cells apart; that wells differ is no evidence."""
    wells = np.repeat(np.arange(60), 10)
    frame = pd.DataFrame(
        {"rim": rng.random(600) < 0.4, "drug": np.array([*"abbb"])[wells % 4]}
    )
    codes = np.stack([frame["rim"], frame["drug"] == "a"], axis=1)
    codes &= rng.random((600, 2)) < 0.8
    found = explain_features(codes, frame, groups=wells, random_state=0)
    assert found["rule"].tolist() == ["rim == True", "drug == 'a'"]
    assert (found["p_value"] < 1e-3).all()
    codes[:, 0] = frame["rim"] & (frame["drug"] == "a") & (rng.random(600) < 0.8)
    found = explain_features(codes[:, :1], frame, groups=wells, random_state=0)
    assert found["rule"][0] == "drug == 'a' and rim == True"
    judging = split_groups(600, wells, 0.5, np.random.RandomState(0))[1]
    rule = frame.assign(active=codes[:, 0], well=wells).iloc[judging]
    rule["holds"] = holds(rule, found["rule"][0])
    K, n = (rule.groupby("well")[name].sum() for name in ("active", "holds"))
    mean, variance = n * K / 10, n * (10 - n) * K * (10 - K) / 900
    high = mean.sum() - n.sum() * K.sum() / 300 + 1.645 * np.sqrt(variance.sum())
    slope = 300 / (2 * K.sum() * (300 - K.sum()))
    assert_allclose(found["null_q95"], 0.5 + slope * high)
    # Wells that lie at the rim as a whole: what is left inside wells says nothing.
    frame["rim"] = (wells % 5 == 0) ^ (rng.random(600) < 0.02)
    codes[:, 0] = (wells % 5 == 0) & (rng.random(600) < 0.8)
    found = explain_features(codes[:, :1], frame[["rim"]], groups=wells, random_state=0)
    assert found["balanced_accuracy"][0] > 0.9
    assert found["p_value"][0] > 1e-3


def test_split_keeps_groups_whole():
    groups = np.repeat(np.arange(7), 3)
    learning, judging = split_groups(21, groups, 0.3, np.random.RandomState(0))
    assert not set(groups[learning]) & set(groups[judging])
    assert len(np.unique(groups[judging])) == 2
    assert sorted([*learning, *judging]) == list(range(21))


def test_thresholds_are_short():
    column = make_column("x", [1.0246, 1.0301, 7.0, 12.5], 4)
    rules = [write_condition(column, np.arange(4) <= i) for i in range(3)]
    assert rules == ["x <= 1.025", "x <= 1.0301", "x <= 7"]
    assert write_condition(column, np.arange(4) > 0) == "x > 1.025"
    close = [1.0, np.nextafter(1, 2), 2.0]
    column = make_column("x", close, 3)
    assert write_condition(column, np.array([True, True, False])) == f"x <= {close[1]}"


def test_long_columns_are_cut_at_quantiles(rng):
    column = make_column("x", rng.normal(size=1000), 1000)
    assert column.n_bins == 32
    assert np.bincount(column.bins).min() > 20


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"metadata": {"x": [1, 1, 1, 1]}}, "metadata has no column with two values"),
        ({"metadata": {"x": [1, 2]}}, r"metadata\['x'\] has length 2"),
        ({"metadata": {}}, "metadata has no column"),
        ({"metadata": [1, 2, 3, 4]}, "must be a dict or a DataFrame"),
        ({"groups": ["a"] * 4}, "There is 1 group"),
        ({"groups": ["a", None, "b", "b"]}, "groups holds 1 missing"),
        ({"batch": ["a"]}, "batch has length 1"),
        ({"codes": [[np.nan]] * 4}, "codes holds NaN or infinity in 4 of 4 rows"),
        ({"max_conditions": 3}, "max_conditions"),
        ({"test_size": 1.0}, "test_size"),
        (
            {"metadata": {"x": [1.5, np.inf, 2.0, None]}},
            r"'x'\] holds infinite numbers",
        ),
    ],
)
def test_bad_input(changed, message):
    call = {"codes": np.eye(4), "metadata": {"x": [1, 2, 3, 4]}} | changed
    with pytest.raises(ValueError, match=message):
        explain_features(**call)
