"""skdict.metrics: row space and null space of a projection."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.linalg import null_space, orth
from sklearn import config_context
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, StratifiedKFold, cross_val_score

from skdict.datasets import load_tissue_tokens
from skdict.metrics import make_linear_probe, split_by_projection, subspace_probes

COLUMNS = [
    "space",
    "n_dims",
    "variance_fraction",
    "balanced_accuracy",
    "fold_std",
    "draw_std",
    "draw_min",
    "draw_max",
    "n_random",
]


@pytest.fixture
def halves(rng):
    """Labels that the first two of six features tell, none of the others."""
    y = np.tile(["a", "b", "c"], 60)
    X = rng.normal(size=(180, 6))
    X[:, 0] += 4.0 * (y == "b")
    X[:, 1] += 4.0 * (y == "c")
    return X, y


class TestSplit:
    @settings(deadline=None, max_examples=60)
    @given(
        st.integers(1, 9),
        st.integers(1, 6),
        st.integers(0, 6),
        st.floats(-100, 100),
        st.integers(0, 2**32 - 1),
    )
    def test_against_scipy(self, n_outputs, n_features, rank, exponent, seed):
        rng = np.random.default_rng(seed)
        rank = min(rank, n_outputs, n_features)
        left, right = (rng.normal(size=(n, rank)) for n in (n_outputs, n_features))
        projection = left @ right.T * 10.0**exponent
        X = rng.normal(size=(7, n_features))
        row_part, null_part = split_by_projection(X, projection)
        assert row_part.shape == (7, rank)
        assert null_part.shape == (7, n_features - rank)
        # Inner products do not depend on the bases: those of the projected rows.
        for part, basis in (
            (row_part, orth(right)),
            (null_part, null_space(right.T) if rank else np.eye(n_features)),
        ):
            assert_allclose(part @ part.T, X @ basis @ basis.T @ X.T, atol=1e-8)
        assert_allclose(
            (row_part**2).sum(axis=1) + (null_part**2).sum(axis=1),
            (X**2).sum(axis=1),
        )

    def test_the_map_sees_the_row_part_alone(self, rng):
        projection = rng.normal(size=(3, 8))
        X, other = rng.normal(size=(2, 5, 8))
        kept, lost = split_by_projection(X, projection)
        seen = orth(projection.T)
        other = X + (other - other @ seen @ seen.T)
        kept_too, lost_too = split_by_projection(other, projection)
        assert_allclose(X @ projection.T, other @ projection.T)
        assert_allclose(kept, kept_too)
        assert np.abs(lost - lost_too).max() > 0.1

    def test_numerical_rank_follows_the_dtype(self, rng):
        # Rank 4 up to the rounding of float32, which is full rank in float64.
        projection = (rng.normal(size=(20, 4)) @ rng.normal(size=(4, 10))).astype("f4")
        X = rng.normal(size=(5, 10))
        assert split_by_projection(X, projection)[0].shape == (5, 4)
        assert split_by_projection(X, projection.astype(float))[0].shape == (5, 10)

    @pytest.mark.parametrize("scale", [1e-300, 1e308])
    def test_magnitude_of_the_map(self, rng, scale):
        projection = rng.choice([-1.0, 1.0], size=(2, 4)) * [[1, 1, 1, 0]]
        X = rng.normal(size=(5, 4))
        for part, expected in zip(
            split_by_projection(X, scale * projection),
            split_by_projection(X, projection),
            strict=True,
        ):
            assert_allclose(part @ part.T, expected @ expected.T, atol=1e-12)

    def test_extreme_ranks(self, rng):
        X = rng.normal(size=(5, 4))
        row_part, null_part = split_by_projection(X, np.zeros((3, 4)))
        assert row_part.shape == (5, 0)
        assert_allclose(null_part @ null_part.T, X @ X.T)
        row_part, null_part = split_by_projection(X, rng.normal(size=(4, 4)))
        assert null_part.shape == (5, 0)
        assert_allclose(row_part @ row_part.T, X @ X.T)

    def test_dtypes(self, rng):
        X, projection = rng.normal(size=(6, 4)), rng.normal(size=(2, 4))
        expected = split_by_projection(X, projection)
        for cast, dtype in (
            (lambda A: A.astype(np.float32), np.float32),
            (lambda A: A.astype(np.float16), np.float64),
            (lambda A: A.astype(object), np.float64),
            (pd.DataFrame, np.float64),
        ):
            for part, want in zip(
                split_by_projection(cast(X), projection), expected, strict=True
            ):
                assert part.dtype == dtype
                assert_allclose(part, want, atol=1e-2)

    def test_errors(self, rng):
        X = rng.normal(size=(6, 4))
        with pytest.raises(ValueError, match=r"3 columns, but X has 4 .* transposed"):
            split_by_projection(X, np.ones((4, 3)))
        with pytest.raises(ValueError, match=r"5 columns, but X has 4 features\.$"):
            split_by_projection(X, np.ones((2, 5)))
        with pytest.raises(ValueError, match=r"projection holds NaN .* row 1"):
            split_by_projection(X, [[1.0] * 4, [np.nan] * 4])
        with pytest.raises(ValueError, match="X holds NaN or infinity in 1 of 6"):
            split_by_projection(np.where(np.arange(6)[:, None] == 2, np.inf, X), X[:1])
        with pytest.raises(ValueError, match="0 sample"):
            split_by_projection(X, np.empty((0, 4)))


class TestProbes:
    def test_labels_in_the_row_space(self, halves, rng):
        X, y = halves
        projection = rng.normal(size=(3, 2)) @ np.eye(6)[:2]
        report = subspace_probes(X, y, projection, random_state=0)
        assert list(report.columns) == COLUMNS
        assert report["space"].tolist() == [
            "all",
            "row",
            "null",
            "random_row",
            "random_null",
        ]
        assert_array_equal(report["n_dims"], [6, 2, 4, 2, 4])
        accuracy = report.set_index("space")["balanced_accuracy"]
        assert accuracy["row"] > 0.9
        assert accuracy["all"] > 0.9
        assert accuracy["null"] < 0.45
        assert accuracy["null"] < accuracy["random_row"] < accuracy["row"]
        # The other way round: the projection that sees the noise.
        swapped = subspace_probes(X, y, np.eye(6)[2:], n_random=0)
        swapped = swapped.set_index("space")["balanced_accuracy"]
        assert list(swapped.index) == ["all", "row", "null"]
        assert swapped["null"] > 0.9
        assert swapped["row"] < 0.45

    def test_figures_against_their_definition(self, halves, rng):
        X, y = halves
        projection = rng.normal(size=(2, 6))
        report = subspace_probes(X, y, projection, n_random=3, random_state=0)
        probe = make_linear_probe().set_params(standardscaler__with_mean=True)
        row_part, null_part = split_by_projection(X, projection)
        for i, part in enumerate((X, row_part, null_part)):
            scores = cross_val_score(
                probe, part, y, scoring="balanced_accuracy", cv=StratifiedKFold(5)
            )
            figures = report.loc[i, COLUMNS[2:6]].astype(float)
            share = part.var(axis=0).sum() / X.var(axis=0).sum()
            assert_allclose(figures, [share, scores.mean(), scores.std(), 0.0])
        assert set(report["n_random"]) == {3}
        for i in (3, 4):
            low, mean, high = report.loc[
                i, ["draw_min", "balanced_accuracy", "draw_max"]
            ]
            std = report.loc[i, "draw_std"]
            assert low < mean < high
            # Of three draws: the third is what the mean leaves.
            third = 3 * mean - low - high
            assert_allclose(std, np.std([low, third, high]))
        # A random subspace and its complement hold all there is.
        assert_allclose(report.loc[3:, "variance_fraction"].sum(), 1.0)

    def test_random_state(self, halves):
        X, y = halves
        reports = [
            subspace_probes(X, y, np.eye(6)[:2], n_random=2, random_state=seed)
            for seed in (0, 0, 1)
        ]
        pd.testing.assert_frame_equal(reports[0], reports[1])
        assert reports[0]["draw_max"][3] != reports[2]["draw_max"][3]

    def test_folds_are_the_same_for_all_subspaces(self, halves):
        # Folds drawn from a generator differ at each call of split.
        X, y = halves
        cv = StratifiedKFold(3, shuffle=True, random_state=np.random.RandomState(0))
        doubled = np.hstack((X, X))
        # The row space of [I I] holds all of `doubled` but for a factor.
        report = subspace_probes(
            doubled, y, np.eye(6, 12) + np.eye(6, 12, 6), cv=cv, n_random=0
        )
        accuracy = report.set_index("space")["balanced_accuracy"]
        assert_allclose(accuracy["row"], accuracy["all"], atol=0.02)
        expected = cross_val_score(
            make_linear_probe().set_params(standardscaler__with_mean=True),
            doubled,
            y,
            scoring="balanced_accuracy",
            cv=StratifiedKFold(3, shuffle=True, random_state=np.random.RandomState(0)),
        )
        assert_allclose(accuracy["all"], expected.mean())

    def test_groups(self, halves, rng):
        X, y = halves
        groups = np.repeat(np.arange(6), 30)
        X = X + 50.0 * rng.normal(size=(6, 6))[groups]  # groups apart, labels inside
        grouped = subspace_probes(X, y, np.eye(6)[:2], groups=groups, n_random=0)
        plain = subspace_probes(X, y, np.eye(6)[:2], n_random=0)
        assert not grouped.equals(plain)
        with config_context(enable_metadata_routing=True):
            routed = subspace_probes(X, y, np.eye(6)[:2], groups=groups, n_random=0)
        pd.testing.assert_frame_equal(routed, grouped)
        explicit = subspace_probes(
            X, y, np.eye(6)[:2], cv=GroupKFold(6), groups=groups, n_random=0
        )
        scores = cross_val_score(
            make_linear_probe().set_params(standardscaler__with_mean=True),
            X,
            y,
            scoring="balanced_accuracy",
            cv=GroupKFold(6),
            groups=groups,
        )
        assert_allclose(explicit.loc[0, "balanced_accuracy"], scores.mean())

    def test_probe(self, halves):
        X, y = halves
        probe = LogisticRegression(C=1e-9)
        report = subspace_probes(X, y, np.eye(6)[:2], probe=probe, n_random=0)
        default = subspace_probes(X, y, np.eye(6)[:2], n_random=0)
        assert not report.equals(default)
        assert not hasattr(probe, "coef_")

    def test_label_types(self, halves):
        X, y = halves
        expected = subspace_probes(X, y, np.eye(6)[:2], n_random=0)
        for labels in (
            y.astype(object),
            pd.Series(y),
            np.unique(y, return_inverse=True)[1],
        ):
            report = subspace_probes(X, labels, np.eye(6)[:2], n_random=0)
            pd.testing.assert_frame_equal(report, expected)

    def test_constant_rows_have_no_variance(self):
        y = np.tile([0, 1], 10)
        report = subspace_probes(np.ones((20, 3)), y, [[1.0, 2.0, 3.0]], random_state=0)
        assert_allclose(report["balanced_accuracy"], 0.5)
        assert_array_equal(report["variance_fraction"], np.zeros(5))

    def test_real_tokens(self):
        # A random projection stands for no model: its two spaces are as good as
        # random subspaces, and that is what the report must say.
        data = load_tissue_tokens()
        rows = np.arange(0, 4096, 4)
        projection = np.random.default_rng(0).normal(size=(24, 80))
        report = subspace_probes(
            data.data[rows],
            data.target_names[data.target[rows]],
            projection,
            cv=3,
            groups=data.columns[rows] // 8,
            n_random=2,
            random_state=0,
        ).set_index("space")
        assert_array_equal(report["n_dims"], [80, 24, 56, 24, 56])
        accuracy = report["balanced_accuracy"]
        assert accuracy.min() > 0.6
        assert abs(accuracy["row"] - accuracy["random_row"]) < 0.08
        assert abs(accuracy["null"] - accuracy["random_null"]) < 0.08

    def test_errors(self, halves):
        X, y = halves
        projection = np.eye(6)[:2]
        with pytest.raises(ValueError, match=r"null space of .* rank is 6"):
            subspace_probes(X, y, np.eye(6))
        with pytest.raises(ValueError, match=r"row space of .* rank is 0"):
            subspace_probes(X, y, np.zeros((2, 6)))
        with pytest.raises(ValueError, match="holds only"):
            subspace_probes(X, np.full(180, "a"), projection)
        with pytest.raises(ValueError, match="180 rows, but y has length 179"):
            subspace_probes(X, y[1:], projection)
        with pytest.raises(ValueError, match="y holds fractional"):
            subspace_probes(X, X[:, 0], projection)
        with pytest.raises(ValueError, match="180 rows, but groups has length 9"):
            subspace_probes(X, y, projection, groups=np.arange(9))
        with pytest.raises(ValueError, match=r"y holds 60 missing .* of 180"):
            subspace_probes(X, np.where(y == "a", np.nan, 1.0), projection)
        with pytest.raises(ValueError, match=r"y holds 60 missing .* of 180"):
            subspace_probes(X, np.where(y == "a", None, y), projection)
