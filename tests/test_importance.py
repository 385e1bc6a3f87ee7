"""Importance of the concepts for the decision of a head."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from sklearn import config_context
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.svm import SVC

from skdict import ICFL, ControlCenterScaler, ControlPCAWhitener
from skdict.concepts import _importance as importance_module
from skdict.concepts import (
    ablate,
    concept_importance,
    decode,
    fidelity,
    important_rows,
    insertion_deletion,
)
from skdict.concepts._heads import Head

rng = np.random.default_rng(0)
Y = np.array(["a", "b", "c"])[np.arange(60) % 3]
X = rng.normal(size=(60, 5)) + 2 * np.eye(3, 5)[np.arange(60) % 3] + 3
CONTROL = np.arange(60) < 40
PIPE = make_pipeline(
    ControlPCAWhitener(), Normalizer(), ICFL(9, 3, max_iter=1, random_state=0)
).fit(X, controlpcawhitener__control=CONTROL)
CODES = PIPE.transform(X)
NORMS = np.linalg.norm(PIPE[0].transform(X), axis=1)
# Atoms in the space of X, by hand.
ATOMS = PIPE[-1].components_ @ (
    np.sqrt(PIPE[0].explained_variance_)[:, None] * PIPE[0].components_
)
HEAD = LogisticRegression().fit(X, Y)
METHODS = ["occlusion", "gradient_input", "integrated_gradients", "sobol"]


def torch_linear():
    module = torch.nn.Linear(5, 3).double()
    with torch.no_grad():
        module.weight.copy_(torch.as_tensor(HEAD.coef_))
        module.bias.copy_(torch.as_tensor(HEAD.intercept_))
    return module


def torch_network(width=8):
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(5, width), torch.nn.Tanh(), torch.nn.Linear(width, 3)
    ).double()


def scaled_head():
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y)


LINEAR_HEADS = {
    "scikit-learn": (lambda: HEAD, "b", HEAD.coef_[1]),
    "torch": (torch_linear, 1, HEAD.coef_[1]),
    "torch, float32": (lambda: torch_linear().float(), 1, HEAD.coef_[1]),
    "pipeline": (
        scaled_head,
        "b",
        scaled_head()[-1].coef_[1] / scaled_head()[0].scale_,
    ),
    "regressor": (
        lambda: Ridge().fit(X, CONTROL),
        None,
        Ridge().fit(X, CONTROL).coef_,
    ),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", LINEAR_HEADS)
def test_linear_heads_have_the_closed_form(name, method):
    make, label, weights = LINEAR_HEADS[name]
    _, found = concept_importance(make(), PIPE, CODES, X, label=label, method=method)
    expected = CODES.toarray() * (ATOMS @ weights) * NORMS[:, None]
    if method == "sobol":
        expected = expected**2 / (expected**2).sum(axis=1, keepdims=True)
    tolerance = 1e-5 if "float32" in name else 1e-9
    np.testing.assert_allclose(
        found.toarray(), expected, atol=tolerance * np.abs(expected).max()
    )


@pytest.mark.parametrize("method", METHODS)
def test_what_is_computed_for_any_head_has_the_closed_form_of_a_linear_one(
    method, monkeypatch
):
    _, exact = concept_importance(HEAD, PIPE, CODES, X, method=method)
    monkeypatch.setattr(Head, "affine", lambda *args: None)
    for head in (HEAD, torch_linear()):
        options = {"n_masks": 256, "random_state": 0}
        _, found = concept_importance(head, PIPE, CODES, X, method=method, **options)
        tolerance = 0.03 if method == "sobol" else 1e-7
        np.testing.assert_allclose(found.toarray(), exact.toarray(), atol=tolerance)


FOREST = RandomForestClassifier(5, max_depth=3, random_state=0).fit(X, Y)
NETWORK = MLPClassifier(
    (6,),
    activation="tanh",
    solver="lbfgs",
    alpha=0.1,
    tol=1e-2,
    max_iter=5000,
    random_state=0,
).fit(X, Y)


@pytest.mark.parametrize("keep_error", [True, False])
@pytest.mark.parametrize("label", [None, "c"])
@pytest.mark.parametrize("head", [FOREST, NETWORK], ids=["forest", "network"])
def test_occlusion_is_that_of_ablated_codes(head, label, keep_error):
    _, found = concept_importance(
        head, PIPE, CODES, X, label=label, keep_error=keep_error
    )

    def probabilities(codes):
        return head.predict_proba(decode(PIPE, codes, X, keep_error=keep_error))

    whole = probabilities(CODES)
    outputs = whole.argmax(axis=1) if label is None else np.full(60, 2)
    rows = np.arange(60)
    expected = [
        (whole - probabilities(ablate(CODES, j)))[rows, outputs] for j in range(9)
    ]
    np.testing.assert_allclose(found.toarray(), np.transpose(expected), atol=1e-9)


@pytest.mark.parametrize("head", [NETWORK, torch_network()], ids=["sklearn", "torch"])
def test_integrated_gradients_add_up_to_the_whole_change(head):
    _, found = concept_importance(
        head, PIPE, CODES, X, method="integrated_gradients", n_steps=32
    )
    wrapped = Head(head)
    whole, nothing = (
        wrapped.scores(decode(PIPE, codes, X)) for codes in (CODES, CODES * 0)
    )
    rows, outputs = np.arange(60), whole.argmax(axis=1)
    np.testing.assert_allclose(
        found.sum(axis=1), (whole - nothing)[rows, outputs], atol=1e-4
    )


def test_gradients_of_a_module_are_those_of_differences():
    module = torch_network()

    class Estimator:
        def decision_function(self, rows):
            with torch.no_grad():
                return module(torch.as_tensor(rows)).numpy()

    for method in ("gradient_input", "integrated_gradients"):
        (_, by_module), (_, by_differences) = (
            concept_importance(head, PIPE, CODES, X, method=method)
            for head in (module, Estimator())
        )
        np.testing.assert_allclose(
            by_module.toarray(), by_differences.toarray(), atol=1e-6
        )


def test_sobol_indices_of_a_product():
    """Of m1 * m2 both have 4/7: variance 7/144, expected partial variance 1/36."""

    class Product:
        def predict(self, rows):
            return rows[:, 0] * rows[:, 1]

    identity = ICFL(2, 2, max_iter=0)
    identity.fit(np.eye(2))
    identity.components_, identity.pre_bias_ = np.eye(2), np.zeros(2)
    _, found = concept_importance(
        Product(), identity, np.full((1, 2), 3.0), method="sobol", n_masks=512,
        random_state=0,
    )  # fmt: skip
    np.testing.assert_allclose(found.toarray(), [[4 / 7, 4 / 7]], atol=0.02)


@pytest.mark.parametrize("container", [np.asarray, sp.csr_matrix, sp.csr_array])
def test_codes_in_any_container_and_float32(container):
    codes = container(CODES.toarray())
    expected = concept_importance(HEAD, PIPE, CODES, X, random_state=0).table
    table, found = concept_importance(HEAD, PIPE, codes, X, random_state=0)
    assert isinstance(found, sp.csr_array)
    np.testing.assert_allclose(table, expected)
    single = container(CODES.toarray().astype(np.float32))
    table = concept_importance(HEAD, PIPE, single, X, random_state=0).table
    np.testing.assert_allclose(table, expected, rtol=1e-3, atol=1e-4)


def test_the_table_says_what_the_attributions_are():
    table, found = concept_importance(HEAD, PIPE, CODES, X, label="a", random_state=0)
    dense, n = found.toarray(), 60
    assert (np.diff(table["importance"].abs()) <= 0).all()
    own = dense[:, table["feature"]]
    active = CODES.toarray()[:, table["feature"]] != 0
    np.testing.assert_allclose(table["importance"], own.mean(axis=0), atol=1e-12)
    error = own.std(axis=0, ddof=1) / np.sqrt(n)
    np.testing.assert_allclose(table["standard_error"], error)
    np.testing.assert_allclose(table["density"], active.mean(axis=0))
    of_active = own.sum(axis=0) / active.sum(axis=0)
    np.testing.assert_allclose(table["importance_active"], of_active)
    raises = (own > 0).sum(axis=0) / active.sum(axis=0)
    np.testing.assert_allclose(table["positive_fraction"], raises)
    assert table["fraction"].sum() == pytest.approx(1)
    few = concept_importance(HEAD, PIPE, CODES, X, label="a", max_concepts=2).table
    assert few["feature"].tolist() == table["feature"][:2].tolist()


def test_the_standard_error_is_that_of_whole_groups():
    groups = np.repeat(np.arange(10), 6)
    table, found = concept_importance(HEAD, PIPE, CODES, X, groups=groups)
    means = found.toarray()[:, table["feature"]].reshape(10, 6, -1).mean(axis=1)
    error = means.std(axis=0, ddof=1) / np.sqrt(10)
    np.testing.assert_allclose(table["standard_error"], error)


def test_a_planted_concept_is_the_most_important():
    """The head looks along one atom alone."""
    dictionary = ICFL(12, 2, max_iter=2, random_state=0).fit(rng.normal(size=(99, 30)))
    atom = dictionary.components_[7]
    rows = rng.normal(size=(200, 30)) + 2 * (np.arange(200) % 2)[:, None] * atom
    head = Ridge().fit(rng.normal(size=(50, 30)), np.zeros(50))
    head.coef_ = atom.copy()
    table, _ = concept_importance(
        head, dictionary, dictionary.transform(rows), rows, n_random=20, random_state=0
    )
    assert table["feature"][0] == 7
    assert table["importance"][0] > 3 * table["importance"].abs()[1]
    assert table["importance"][0] > 5 * table["random_importance"][0]


def test_heads_on_the_rows_of_the_dictionary():
    white = Normalizer().fit_transform(PIPE[0].transform(X))
    head = LogisticRegression().fit(white, Y)
    _, found = concept_importance(head, PIPE, CODES, X, label="a", to="dictionary")
    expected = CODES.toarray() * (PIPE[-1].components_ @ head.coef_[0])
    np.testing.assert_allclose(found.toarray(), expected, atol=1e-9)


@pytest.mark.parametrize("output", ["default", "pandas"])
def test_heads_that_were_fitted_on_frames(output):
    expected = concept_importance(scaled_head(), PIPE, CODES, X, random_state=0).table
    frame = pd.DataFrame(X, columns=list("abcde"))
    with config_context(transform_output=output):
        on_frames = make_pipeline(StandardScaler(), LogisticRegression()).fit(frame, Y)
        for head in (on_frames, scaled_head()):
            table = concept_importance(head, PIPE, CODES, X, random_state=0).table
            np.testing.assert_allclose(table, expected)


@pytest.mark.parametrize("to", ["input", "dictionary"])
def test_pipelines_that_were_fitted_on_frames(to):
    frame = pd.DataFrame(X, columns=list("abcde"))
    pipe = make_pipeline(StandardScaler(), ICFL(9, 3, max_iter=1, random_state=0))
    codes = pipe.fit(frame).transform(frame)
    table, _ = concept_importance(HEAD, pipe, codes, frame, to=to, random_state=0)
    pipe.fit(X)
    expected, _ = concept_importance(HEAD, pipe, codes, X, to=to, random_state=0)
    pd.testing.assert_frame_equal(table, expected)


@pytest.mark.parametrize("dtype", [object, "category", "string"])
def test_classes_of_columns_of_pandas(dtype):
    head = LogisticRegression().fit(X, pd.Series(Y).astype(dtype))
    assert head.classes_.dtype == object
    expected = concept_importance(HEAD, PIPE, CODES, X, label="b").attributions
    found = concept_importance(head, PIPE, CODES, X, label="b").attributions
    np.testing.assert_allclose(found.toarray(), expected.toarray())
    with pytest.raises(ValueError, match="no class 'd'; its classes are"):
        concept_importance(head, PIPE, CODES, X, label="d")


def test_predicted_labels_are_votes():
    labels = np.arange(60) % 3
    head = LogisticRegression().fit(X, labels)
    table = fidelity(head, PIPE, CODES, X, labels, response="predict")
    expected = fidelity(head, PIPE, CODES, X, labels)
    for name in ("agreement", "accuracy"):
        pd.testing.assert_series_equal(table[name], expected[name])
    votes = concept_importance(HEAD, PIPE, CODES, X, label="b", response="predict")
    rows = decode(PIPE, ablate(CODES, 0), X)
    lost = (HEAD.predict(X) == "b") * 1.0 - (HEAD.predict(rows) == "b")
    np.testing.assert_allclose(votes.attributions[:, [0]].toarray().ravel(), lost)


def test_two_classes_have_scores_of_opposite_sign():
    head = LogisticRegression().fit(X, CONTROL)
    first, second = (
        concept_importance(head, PIPE, CODES, X, label=label).attributions.toarray()
        for label in (False, True)
    )
    np.testing.assert_allclose(first, -second)
    expected = CODES.toarray() * (ATOMS @ head.coef_[0]) * NORMS[:, None]
    np.testing.assert_allclose(second, expected, atol=1e-9)


def test_a_module_keeps_the_mode_of_each_of_its_parts():
    module = torch.nn.Sequential(torch.nn.Linear(5, 3), torch.nn.Dropout(0.5))
    module.train()
    module[0].eval()
    results = [
        concept_importance(module, PIPE, CODES, X).attributions.toarray()
        for _ in range(2)
    ]
    np.testing.assert_array_equal(*results)
    assert (module.training, module[0].training, module[1].training) == (1, 0, 1)
    assert module[0].weight.grad is None


def test_rows_without_features_and_features_without_rows():
    codes = CODES.toarray()
    codes[3], codes[:, 4] = 0, 0
    for method in METHODS:
        table, found = concept_importance(FOREST, PIPE, codes, X, method=method)
        assert np.isfinite(table).all(axis=None)
        assert (found.toarray()[3] == 0).all()
        assert table.set_index("feature")["importance"][4] == 0


# Insertion and deletion


@pytest.mark.parametrize("head", [NETWORK, HEAD], ids=["network", "linear"])
def test_curves_are_those_of_ablated_codes(head):
    _, attributions = concept_importance(head, PIPE, CODES, X, label="a")
    curves = insertion_deletion(
        head, PIPE, CODES, X, attributions=attributions, label="a", n_points=4,
        n_random=0,
    )  # fmt: skip
    dense, ranked = CODES.toarray(), attributions.toarray()
    ranked = np.where(dense != 0, ranked, -np.inf)
    places = np.argsort(np.argsort(-ranked, axis=1), axis=1)
    kept_of = {
        "deletion": lambda n: places >= n,
        "insertion": lambda n: places < n,
    }
    for name, kept in kept_of.items():
        scores = []
        for fraction in (0, 1 / 3, 2 / 3, 1):
            n = np.ceil(np.round(fraction * (dense != 0).sum(axis=1, keepdims=True), 9))
            rows = decode(PIPE, dense * kept(n), X)
            scores.append(Head(head).scores(rows)[:, 0].mean())
        found = curves[curves["curve"] == name]
        np.testing.assert_allclose(found["score"], scores, atol=1e-9)
        np.testing.assert_allclose(found["auc"], np.trapezoid(scores, dx=1 / 3))


def test_importance_orders_concepts_better_than_chance():
    _, attributions = concept_importance(HEAD, PIPE, CODES, X)
    curves = insertion_deletion(
        HEAD, PIPE, CODES, X, attributions=attributions, random_state=0
    )
    auc = curves.groupby(["curve", "order"])["auc"].agg(["min", "max"])
    assert auc["max"]["deletion", "importance"] < auc["min"]["deletion", "random"]
    assert auc["min"]["insertion", "importance"] > auc["max"]["insertion", "random"]
    ends = curves.groupby("curve")["score"].agg(["first", "last"])
    np.testing.assert_allclose(ends.loc["deletion"], ends.loc["insertion"][::-1])
    at_start = curves[(curves["curve"] == "deletion") & (curves["fraction"] == 0)]
    assert (at_start["agreement"] == 1).all()
    with pytest.raises(ValueError, match="attributions has the shape"):
        insertion_deletion(HEAD, PIPE, CODES, X, attributions=attributions[:9])


# Fidelity


def test_fidelity_compares_decisions():
    order = concept_importance(HEAD, PIPE, CODES, X).table["feature"]
    table = fidelity(
        HEAD, PIPE, CODES, X, Y, order=order, n_features=[2, 9, 50], random_state=0
    )
    assert table["n_features"].tolist() == [9, 9, 0, 2, 2, 9, 9]
    decided = HEAD.predict(X)
    for name, codes in [("all concepts", CODES), ("no concepts", CODES * 0)]:
        row = table[table["input"] == name].iloc[0]
        rows = decode(PIPE, codes, X, keep_error=False)
        assert row["agreement"] == (HEAD.predict(rows) == decided).mean()
        assert row["accuracy"] == (HEAD.predict(rows) == Y).mean()
        scores = HEAD.decision_function(rows), HEAD.decision_function(X)
        scores = [s - s.mean(axis=0) for s in scores]
        expected = np.corrcoef(*map(np.ravel, scores))[0, 1] if "all" in name else None
        if expected is not None:
            assert row["correlation"] == pytest.approx(expected)
    assert table["agreement"][0] == table["correlation"][0] == 1
    whole, first, same = (table.iloc[i] for i in (1, 5, 6))
    assert whole["agreement"] == first["agreement"] == same["agreement"]


def test_fidelity_of_heads_without_classes():
    table = fidelity(Ridge().fit(X, CONTROL), PIPE, CODES, X)
    assert table["agreement"].isna().all()
    assert "accuracy" not in table
    with pytest.raises(ValueError, match="the head has no classes"):
        fidelity(Ridge().fit(X, CONTROL), PIPE, CODES, X, Y)
    module = fidelity(torch_linear(), PIPE, CODES, X, np.arange(60) % 3)
    assert module["accuracy"][0] == HEAD.score(X, Y)
    with pytest.raises(ValueError, match="y needs a score for each class"):
        fidelity(torch.nn.Linear(5, 1).double(), PIPE, CODES, X, np.arange(60) % 2)
    with pytest.raises(ValueError, match="No label of y is a class of the head"):
        fidelity(torch_linear(), PIPE, CODES, X, Y)


def test_curves_of_empty_codes_are_flat():
    curves = insertion_deletion(HEAD, PIPE, CODES * 0, X, attributions=CODES != 0)
    assert curves["score"].nunique() == 1
    assert (curves["agreement"] == 1).all()


# Rows


def test_important_rows_are_one_for_each_group():
    attributions = sp.csr_array(
        [[0.0, 1.0], [-4.0, 4.0], [3.0, 0.0], [2.0, 2.0], [1.0, 0.0]]
    )
    rows = important_rows(attributions, 0, n_rows=3)
    assert rows["row"].tolist() == [1, 2, 3]
    assert rows["fraction"].tolist() == [0.5, 1.0, 0.5]
    rows = important_rows(attributions.toarray(), 0, groups=["a", "b", "b", "a", "a"])
    assert rows["row"].tolist() == [1, 3]
    assert len(important_rows(np.zeros((3, 2)), 1)) == 0
    small = important_rows(np.array([[-128, 0], [1, 127]], np.int8), 0)
    assert small["fraction"].tolist() == [1.0, 1 / 128]
    assert important_rows([[True, True], [False, True]], 0)["row"].tolist() == [0]
    with pytest.raises(ValueError, match="feature names feature 2"):
        important_rows(attributions, 2)


# What cannot be explained


class Odd:
    def predict(self, rows):
        return np.zeros((len(rows), 2, 2))


class Pair(torch.nn.Linear):
    def forward(self, rows):
        return super().forward(rows), rows


class NotFinite:
    def predict(self, rows):
        return np.full(len(rows), np.nan)


@pytest.mark.parametrize(
    ("head", "options", "message"),
    [
        (HEAD, {"label": "d"}, r"no class 'd'; its classes are \['a', 'b', 'c'\]"),
        (Ridge().fit(X, CONTROL), {"label": 1}, "no class 1"),
        (torch_linear(), {"label": 3}, r"no class 3; its classes are \[0, 1, 2\]"),
        (torch_linear(), {"response": "predict"}, "response must be 'auto'"),
        (HEAD, {"response": "auto", "method": "shap"}, "'method' parameter"),
        (StandardScaler(), {}, "StandardScaler has no decision_function"),
        (
            RandomForestClassifier(2, max_depth=1).fit(X, np.stack([Y, Y], axis=1)),
            {},
            "has several outputs",
        ),
        (
            SVC(decision_function_shape="ovo").fit(X, Y),
            {},
            "decision_function_shape='ovr'",
        ),
        (
            SVC(decision_function_shape="ovo").fit(X, np.arange(60) % 4),
            {},
            "4 classes and 6 scores",
        ),
        (Pair(5, 3), {}, "one tensor of scores, got tuple"),
        (Odd(), {}, "one or several scores for each row"),
        (NotFinite(), {}, "NaN or infinity for some rows"),
    ],
)
def test_heads_that_cannot_be_explained(head, options, message):
    with pytest.raises(ValueError, match=message):
        concept_importance(head, PIPE, CODES, X, **options)


def test_rows_that_do_not_belong_to_the_codes():
    with pytest.raises(ValueError, match="X has 59 rows, but codes has 60"):
        concept_importance(HEAD, PIPE, CODES, X[:59])


def test_steps_that_differ_between_batches():
    batch = np.arange(60) % 2
    scaled = X * (1 + 3 * batch)[:, None]
    pipe = make_pipeline(ControlCenterScaler(), ICFL(9, 3, max_iter=1, random_state=0))
    pipe.fit(
        scaled, controlcenterscaler__control=CONTROL, controlcenterscaler__batch=batch
    )
    centred = pipe[0].transform(scaled, batch=batch)
    codes = pipe[-1].transform(centred)
    with pytest.raises(ValueError, match="not the same linear map for all rows"):
        concept_importance(HEAD, pipe, codes, scaled, params={"batch": batch})
    options = {"params": {"batch": batch}, "to": "dictionary"}
    _, found = concept_importance(HEAD, pipe, codes, scaled, label="a", **options)
    expected = codes.toarray() * (pipe[-1].components_ @ HEAD.coef_[0])
    np.testing.assert_allclose(found.toarray(), expected, atol=1e-9)


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_scores_that_differ_by_rounding_do_not_correlate(size):
    ramp = np.linspace(0, 1, 9)[:, None]
    equal = size * (1 + 4 * np.finfo(float).eps * ramp)
    assert len(np.unique(equal)) > 1
    assert importance_module._correlation(equal, ramp) == 0.0
    assert importance_module._correlation(size * ramp, ramp) == pytest.approx(1)
