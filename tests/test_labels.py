"""Nulls that exchange the labels of whole units: images, wells, patients."""

from itertools import product
from math import comb

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse, stats

from skdict.metrics import (
    association_report,
    eta_squared,
    rescore_associations,
    selectivity_counts,
    selectivity_curve,
    selectivity_report,
    selectivity_scores,
)
from skdict.stats.exchange import permutations

KINDS = ("average", "maximum")
METHODS = ("pearson", "spearman")
OF_LABELS = {
    "report": selectivity_report,
    "curve": selectivity_curve,
    "counts": lambda *args, **kwargs: selectivity_counts(
        *args, score_thresholds=[-0.5, 0.0, 0.1, 0.3], **kwargs
    ),
}


@st.composite
def units_of_rows(draw):
    """Labels, groups and controls of units, and the unit of each row in any order."""
    n_units = draw(st.integers(3, 9))
    column = st.lists(st.integers(0, 2), min_size=n_units, max_size=n_units)
    labels, groups, control = (np.array(draw(column)) for _ in range(3))
    labels[:2] = 0, 1
    sizes = draw(st.lists(st.integers(1, 4), min_size=n_units, max_size=n_units))
    rows = np.repeat(np.arange(n_units), sizes)
    order = np.random.default_rng(draw(st.integers(0, 2**16))).permutation(len(rows))
    return labels, groups, control > 1, rows[order]


def assert_same_null(table, expected):
    """Tables of the same scores, null and p-values, whatever the sizes."""
    drop = [name for name in ("n_samples",) if name in table]
    pd.testing.assert_frame_equal(
        table.drop(columns=drop), expected.drop(columns=drop), check_exact=True
    )


def make_images(rng, n_images=40, n_tokens=15, n_features=8):
    """Tokens that are alike inside an image, whose features know no label."""
    image = np.repeat(np.arange(n_images), n_tokens)
    rates = rng.beta(0.5, 1.0, size=(n_images, n_features))
    codes = sparse.csr_array(rng.random((len(image), n_features)) < rates[image])
    return codes, image


class TestPermutations:
    @settings(deadline=None, max_examples=60)
    @given(units_of_rows(), st.booleans())
    def test_units_stay_whole_and_in_their_groups(self, case, grouped):
        labels, groups, _, rows = case
        inside = groups if grouped else np.zeros_like(groups)
        of_rows = groups[rows] if grouped else None
        rng = np.random.RandomState(0)
        for permuted in permutations(labels[rows], of_rows, 5, rng, rows):
            of_units = {u: set(permuted[rows == u].tolist()) for u in rows.tolist()}
            assert all(len(own) == 1 for own in of_units.values())
            for group in np.unique(inside):
                units = np.flatnonzero(inside == group)
                own = [of_units[unit].copy().pop() for unit in units.tolist()]
                assert sorted(own) == sorted(labels[units])

    @pytest.mark.parametrize("groups", [None, np.array([0, 1, 1, 0, 0, 1])])
    def test_every_order_is_as_probable(self, groups):
        values, units = np.arange(6), np.arange(6)
        drawn = permutations(values, groups, 20_000, np.random.RandomState(0), units)
        places = np.array([*drawn])
        for place in values:
            inside = values if groups is None else values[groups == groups[place]]
            counts = np.bincount(places[:, place], minlength=6)[inside]
            assert counts.sum() == 20_000
            assert stats.chisquare(counts).pvalue > 1e-4


class TestSelectivity:
    @settings(deadline=None, max_examples=30)
    @given(
        units_of_rows(),
        st.integers(2, 3),
        st.sampled_from([*OF_LABELS]),
        st.sampled_from(KINDS),
        st.booleans(),
        st.booleans(),
    )
    @pytest.mark.filterwarnings("ignore:No batch holds")
    def test_copies_of_rows_change_nothing(
        self, case, n_copies, name, kind, grouped, controlled
    ):
        labels, groups, control, _ = case
        columns = {"batch": groups if grouped else None}
        columns["control"] = control if controlled else None
        codes = np.random.default_rng(1).random((len(labels), 5)) < 0.4
        options = {"contrast": kind, "n_permutations": 19, "random_state": 2}
        expected = OF_LABELS[name](codes, labels, **columns, **options)
        for copy in (np.repeat, np.tile):
            rows = copy(np.arange(len(labels)), n_copies)
            table = OF_LABELS[name](
                codes[rows],
                labels[rows],
                groups=rows,
                **{k: None if v is None else v[rows] for k, v in columns.items()},
                **options,
            )
            assert_same_null(table, expected)

    @settings(deadline=None, max_examples=20)
    @given(units_of_rows(), st.sampled_from([*OF_LABELS]), st.booleans())
    @pytest.mark.filterwarnings("ignore:No batch holds")
    def test_units_of_one_row_are_no_units(self, case, name, grouped):
        labels, groups, _, rows = case
        y, groups = labels[rows], groups[rows] if grouped else None
        codes = np.random.default_rng(1).random((len(y), 5)) < 0.4
        options = {"batch": groups, "n_permutations": 9, "random_state": 2}
        expected = OF_LABELS[name](codes, y, **options)
        units = [f"cell {i}" for i in np.random.default_rng(3).permutation(len(y))]
        table = OF_LABELS[name](codes, y, groups=units, **options)
        pd.testing.assert_frame_equal(table, expected, check_exact=True)

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("max_cells", [2**25, 0])
    def test_against_a_loop(self, kind, max_cells, monkeypatch):
        """Units of several sizes, their rows apart, and names in no order."""
        monkeypatch.setattr("skdict.stats.scores._MAX_TABLE_CELLS", max_cells)
        rng = np.random.default_rng(0)
        image = rng.permutation(np.repeat(np.arange(12), rng.integers(1, 9, 12)))
        label = np.array([*"aaabbbbccccc"])
        codes = rng.random((len(image), 6)) * (rng.random((len(image), 6)) < 0.4)
        name = np.array([f"image {i}" for i in rng.permutation(12)])
        options = {"contrast": kind, "activity_threshold": 0.2}
        report = selectivity_report(
            codes,
            label[image],
            groups=name[image],
            n_permutations=29,
            random_state=3,
            **options,
        )
        order = [*dict.fromkeys(image.tolist())]  # as they occur
        random, null = np.random.RandomState(3), []
        for _ in range(29):
            dealt = dict(zip(order, random.permutation(label[order]), strict=True))
            y = np.array([dealt[i] for i in image.tolist()])
            null.append(selectivity_scores(codes, y, **options).max(axis=0))
        scores = selectivity_scores(codes, label[image], **options).max(axis=0)
        assert_array_equal(report["score"], scores)
        assert_allclose(report["null_q95"], np.quantile(null, 0.95, axis=0))
        assert_array_equal(report["p_value"], (1 + (null >= scores).sum(axis=0)) / 30)

    def test_groups_units_and_control_against_all_labellings(self):
        """Exact: 4 images of two classes in each of two batches, beside controls."""
        rng = np.random.default_rng(0)
        label = np.array([*"xxyyxyyy", *"cc"])
        batch = np.array([0, 0, 0, 0, 1, 1, 1, 1, 0, 1])
        image = rng.permutation(np.repeat(np.arange(10), rng.integers(2, 7, 10)))
        rates = rng.random((10, 4))
        codes = (rng.random((len(image), 4)) < rates[image]).astype(float)
        report = selectivity_report(
            codes,
            label[image],
            batch=batch[image],
            groups=image,
            control=(label == "c")[image],
            n_permutations=4000,
            random_state=0,
        )
        scores = selectivity_scores(codes, label[image]).max(axis=0)
        null = []
        # "x" for two of the first four images, and for one of the others.
        for first, second in product(range(6), range(4)):
            pairs = [(i, j) for i in range(4) for j in range(i)]
            dealt = np.where(label == "c", "c", "y")
            dealt[[*pairs[first], 4 + second]] = "x"
            null.append(selectivity_scores(codes, dealt[image]).max(axis=0))
        exact = (np.array(null) >= scores).mean(axis=0)
        assert np.isnan(report["p_value"][0])
        assert_allclose(report["p_value"][1:], exact[1:], atol=0.03)
        assert 0.1 < exact[1] < 0.9

    def test_few_units_have_no_small_p_value(self):
        """Two of five images: one labelling in ten is as good as the perfect one."""
        image = np.repeat(np.arange(5), 50)
        y = np.where(image < 2, "rare", "other")
        codes = (image < 2)[:, None].astype(float)
        options = {"n_permutations": 999, "random_state": 0}
        free = selectivity_report(codes, y, **options)
        whole = selectivity_report(codes, y, groups=image, **options)
        assert free["p_value"][1] == 0.001
        assert whole["p_value"][1] == pytest.approx(1 / comb(5, 2), abs=0.04)

    def test_labels_of_images_that_mean_nothing(self):
        rng = np.random.default_rng(0)
        p_values = {"units": [], "rows": []}
        for seed in range(200):
            codes, image = make_images(rng)
            y = rng.permutation(np.arange(40) < 10)[image]
            options = {"n_permutations": 19, "random_state": seed}
            for name, units in (("units", image), ("rows", None)):
                report = selectivity_report(codes, y, groups=units, **options)
                p_values[name].append(report["p_value"][1])
        found = {name: np.sum(np.array(p) <= 0.05) for name, p in p_values.items()}
        low, high = stats.binom.ppf([0.0005, 0.9995], 200, 0.05)
        assert low <= found["units"] <= high
        assert found["rows"] > 120

    def test_finds_what_images_show(self):
        rng = np.random.default_rng(0)
        codes, image = make_images(rng)
        y = np.where(np.arange(40) < 15, "a", "b")
        codes = codes.toarray()
        codes[:, 3] |= (y == "a")[image] & (rng.random(len(image)) < 0.7)
        report = selectivity_report(
            codes, y[image], groups=image, n_permutations=99, random_state=0
        )
        assert report["best_feature"][0] == 3
        assert report["p_value"][0] == 0.01


class TestAssociation:
    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("grouped", [False, True])
    def test_copies_of_rows_change_nothing(self, method, grouped):
        rng = np.random.default_rng(0)
        codes = rng.random((20, 6)) * (rng.random((20, 6)) < 0.5)
        targets = rng.normal(size=(20, 8)).round(1)
        groups = np.arange(20) % 2 if grouped else None
        factors = {"stain": np.arange(20) % 3, "slide": rng.integers(0, 2, 20)}
        options = {"n_permutations": 39, "random_state": 1}
        report = association_report(codes, targets, correlation=method)
        expected = (
            association_report(
                codes, targets, correlation=method, batch=groups, **options
            ),
            rescore_associations(report, codes, targets, batch=groups, **options),
            eta_squared(codes, factors, batch=groups, **options),
        )
        rows = np.repeat(np.arange(20), 3)
        options |= {"groups": rows, "batch": None if groups is None else groups[rows]}
        more = {name: values[rows] for name, values in factors.items()}
        copies = (
            association_report(
                codes[rows], targets[rows], correlation=method, **options
            ),
            rescore_associations(report, codes[rows], targets[rows], **options),
            eta_squared(codes[rows], more, **options),
        )
        assert_allclose(copies[0]["null_q95"], expected[0]["null_q95"])
        for table, before in zip(copies, expected, strict=True):
            names = [name for name in before if name.endswith("p_value")]
            assert names
            assert_array_equal(table[names], before[names])

    @pytest.mark.parametrize("method", METHODS)
    def test_against_a_loop(self, method):
        """Units of several sizes: ranks and means over the rows change with them."""
        rng = np.random.default_rng(0)
        well = np.repeat(np.arange(15), rng.integers(1, 20, 15))
        dose = rng.normal(size=(15, 2))
        codes = rng.random((len(well), 4)) + 0.1 * rng.random((15, 4))[well]
        correlate = {"pearson": stats.pearsonr, "spearman": stats.spearmanr}[method]

        def scores(targets):
            return np.array(
                [[correlate(z, t).statistic for t in targets.T] for z in codes.T]
            )

        random = np.random.RandomState(2)
        orders = [random.permutation(15) for _ in range(25)]
        null = np.array([scores(dose[order][well]) for order in orders])
        observed = scores(dose[well])
        report = association_report(
            codes,
            dose[well],
            groups=well,
            correlation=method,
            n_permutations=25,
            random_state=2,
        )
        largest = np.abs(null).max(axis=1)
        assert_allclose(report["null_q95"], np.quantile(largest, 0.95, axis=0))
        expected = (1 + (largest >= np.abs(observed).max(axis=0)).sum(axis=0)) / 26
        assert_allclose(report["p_value"], expected)
        table = rescore_associations(
            report, codes, dose[well], groups=well, n_permutations=25, random_state=2
        )
        pairs = np.asarray(report["feature"]), np.arange(2)
        sign = np.sign(observed[pairs])
        larger = sign * null[:, *pairs] >= sign * observed[pairs]
        assert_allclose(table["p_value"], (1 + larger.sum(axis=0)) / 26)

    def test_doses_of_wells_that_mean_nothing(self):
        rng = np.random.default_rng(0)
        codes, well = make_images(rng)
        doses = rng.normal(size=(40, 200))[well]
        options = {"n_permutations": 19, "random_state": 0}
        whole = association_report(codes, doses, groups=well, **options)
        free = association_report(codes, doses, **options)
        low, high = stats.binom.ppf([0.0005, 0.9995], 200, 0.05)
        assert low <= (whole["p_value"] <= 0.05).sum() <= high
        assert (free["p_value"] <= 0.05).sum() > 150

    def test_slides_of_a_scanner_that_does_nothing(self):
        rng = np.random.default_rng(0)
        codes, slide = make_images(rng, n_features=200)
        factors = {"scanner": rng.permutation(np.arange(40) % 2)[slide]}
        options = {"n_permutations": 99, "random_state": 0}
        whole = eta_squared(codes, factors, groups=slide, **options)
        free = eta_squared(codes, factors, **options)
        low, high = stats.binom.ppf([0.0005, 0.9995], 200, 0.05)
        assert low <= (whole["scanner_p_value"] <= 0.05).sum() <= high
        assert (free["scanner_p_value"] <= 0.05).sum() > 60


class TestErrors:
    Y = np.repeat(["a", "b"], 6)
    CODES = np.eye(12)
    UNITS = np.repeat(["u", "v", "w", "x"], 3)

    @pytest.mark.parametrize("function", OF_LABELS.values(), ids=OF_LABELS)
    @pytest.mark.parametrize(
        ("columns", "message"),
        [
            (
                {"y": [*"abaabbbbbbba"]},
                "y differs inside 3 of 4 .* u with a, b. A group",
            ),
            (
                {"batch": [*"ssstttrrrssr"]},
                "batch differs inside 1 of 4 .* x with r, s",
            ),
            (
                {"control": np.arange(12) < 4},
                "control differs inside 1 of 4 .* v with F",
            ),
            ({"groups": UNITS[1:]}, "12 rows, but groups has length 11"),
            ({"groups": [None, *UNITS[1:]]}, "groups holds 1 missing .* row 0"),
            ({"groups": np.arange(12) / 2}, "groups holds fractional"),
            ({"groups": np.zeros((12, 2))}, "1d array"),
            ({"groups": 3}, "'groups' parameter"),
        ],
    )
    def test_units_of_labels(self, function, columns, message):
        columns = {"y": self.Y, "groups": self.UNITS} | columns
        with pytest.raises(ValueError, match=message):
            function(self.CODES, **columns, n_permutations=1)

    def test_many_values_are_not_all_listed(self):
        with pytest.raises(
            ValueError, match=r"1 of 2 groups.* 0 with 0, 1, 2, 3, 4, \.\.\."
        ):
            selectivity_report(
                self.CODES, np.arange(12) % 7, groups=np.arange(12) // 11
            )

    def test_units_of_numbers(self):
        options = {"groups": self.UNITS, "n_permutations": 1}
        targets = pd.DataFrame({"dose": np.arange(12) // 3, "area": np.arange(12.0)})
        message = (
            "target area differs inside 4 of 4 groups, the first of them u with 0.0"
        )
        with pytest.raises(ValueError, match=message):
            association_report(self.CODES, targets, **options)
        report = association_report(self.CODES, targets)
        with pytest.raises(ValueError, match=message):
            rescore_associations(report, self.CODES, targets, **options)
        factors = {"stain": np.arange(12) // 6, "scanner": np.arange(12) // 5}
        message = (
            "factor scanner differs inside 2 of 4 groups, the first of them v with 0"
        )
        with pytest.raises(ValueError, match=message):
            eta_squared(self.CODES, factors, **options)
        groups = np.arange(12) // 2
        for function, values in (
            (association_report, targets["dose"]),
            (eta_squared, {"stain": factors["stain"]}),
        ):
            with pytest.raises(ValueError, match="batch differs inside 4 of 4 groups"):
                function(self.CODES, values, batch=groups, **options)

    def test_units_that_are_the_groups_warn(self):
        with pytest.warns(UserWarning, match="No batch holds"):
            selectivity_report(self.CODES, self.Y, batch=self.UNITS, groups=self.UNITS)
