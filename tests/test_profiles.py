"""Profiles from parquet and CSV files, with the traps that such files hold."""

import gzip
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from skdict import ICFL, ControlPCAWhitener
from skdict.io import read_profiles

EMPTY = {"treatment": "EMPTY_control"}


def screen(n_wells=40, n_features=12, seed=0):
    """The two tables of RxRx3-core: embeddings and metadata of the same wells."""
    rng = np.random.default_rng(seed)
    wells = [f"HUVEC-{i // 10:03d}_{i % 10:02d}" for i in range(n_wells)]
    # Not in natural order, as a table sorted by its columns' names has them.
    names = sorted(f"feature_{j}" for j in range(n_features))
    values = rng.normal(size=(n_wells, n_features)).astype(np.float32)
    rows = pd.DataFrame(values, columns=names)
    rows.insert(0, "well_id", wells)
    metadata = pd.DataFrame(
        {
            "well_id": wells,
            "experiment_name": [w.partition("_")[0] for w in wells],
            "plate": np.arange(n_wells) // 20,
            "gene": np.where(np.arange(n_wells) % 4, "TP53", None),
            "treatment": np.where(np.arange(n_wells) % 4, "TP53_1", "EMPTY_control"),
            "concentration": np.where(np.arange(n_wells) % 3, 0.5, np.nan),
        }
    )
    return rows, metadata


def values_of(rows):
    """The rows as they have to come out: in the natural order of the features."""
    n = sum(name.startswith("feature_") for name in rows)
    return rows[[f"feature_{j}" for j in range(n)]].to_numpy()


@pytest.fixture
def files(tmp_path):
    """Embeddings in parquet and metadata in CSV, in another order."""
    rows, metadata = screen()
    rows.to_parquet(tmp_path / "embeddings.parquet")
    shuffled = metadata.sample(frac=1, random_state=0)
    shuffled.to_csv(tmp_path / "metadata.csv", index=False)
    return tmp_path / "embeddings.parquet", tmp_path / "metadata.csv"


def write(rows, path):
    if path.suffix == ".parquet":
        rows.to_parquet(path)
    else:
        rows.to_csv(path, index=False)
    return path


# Layouts


@pytest.mark.parametrize("lazy", [False, True])
def test_rxrx3_core(files, lazy):
    path, metadata = files
    profiles = read_profiles(path, metadata=metadata, control=EMPTY, lazy=lazy)
    rows, expected = screen()
    X, table, control, names = profiles
    np.testing.assert_array_equal(np.asarray(X), values_of(rows))
    assert X.dtype == np.float32 if lazy else (X.dtypes == np.float32).all()
    assert names == [f"feature_{j}" for j in range(12)]
    pd.testing.assert_frame_equal(table, expected.fillna({"gene": np.nan}))
    assert control.dtype == bool
    np.testing.assert_array_equal(control, np.arange(40) % 4 == 0)
    if not lazy:
        assert list(X.columns) == names
        assert X.index.equals(table.index)


def pycytominer(n=30):
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "Metadata_Plate": ["BR00117035"] * n,
            "Cells_Texture_10": rng.normal(size=n),
            "Metadata_Well": [f"A{i:02d}" for i in range(n)],
            "Cells_Texture_2": rng.normal(size=n),
            "Metadata_pert_type": np.where(np.arange(n) % 3, "trt", "control"),
            "Nuclei_Count": rng.integers(1, 9, size=n),
        }
    )


@pytest.mark.parametrize("ending", [".parquet", ".csv", ".csv.gz", ".CSV"])
def test_pycytominer(tmp_path, ending):
    frame = pycytominer()
    path = tmp_path / f"profiles{ending}"
    write(frame, path)
    profiles = read_profiles(path, control={"Metadata_pert_type": "control"})
    assert profiles.feature_names == [
        "Cells_Texture_2",
        "Cells_Texture_10",
        "Nuclei_Count",
    ]
    expected = frame[profiles.feature_names].to_numpy(np.float32)
    np.testing.assert_array_equal(profiles.X, expected)
    assert list(profiles.metadata) == [n for n in frame if n.startswith("Metadata_")]
    np.testing.assert_array_equal(profiles.control, np.arange(30) % 3 == 0)


@pytest.mark.parametrize("kind", ["fixed", "variable"])
@pytest.mark.parametrize("lazy", [False, True])
def test_a_column_of_lists(tmp_path, kind, lazy):
    values = np.arange(24, dtype=np.float32).reshape(8, 3)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), 3)
    if kind == "variable":
        lists = lists.cast(pa.list_(pa.float32()))
    table = pa.table({"well_id": list("abcdefgh"), "embedding": lists})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=3)
    profiles = read_profiles(tmp_path / "a.parquet", lazy=lazy)
    np.testing.assert_array_equal(np.asarray(profiles.X), values)
    assert profiles.feature_names == ["embedding_0", "embedding_1", "embedding_2"]
    assert list(profiles.metadata) == ["well_id"]
    again = read_profiles(tmp_path / "a.parquet", features="embedding")
    np.testing.assert_array_equal(again.X, values)


def test_lists_that_are_missing_or_differ_in_length(tmp_path):
    path = tmp_path / "a.parquet"
    kind = pa.list_(pa.float32(), 2)
    lists = pa.array([None, [1, 2], None, [3, None], [5, 6]], kind)
    pq.write_table(pa.table({"e": lists}), path)
    message = r"2 of 2 features have missing .*: 'e_0' \(2\), 'e_1' \(3\)"
    with pytest.raises(ValueError, match=message):
        read_profiles(path)
    X = read_profiles(path, missing="keep").X.to_numpy()
    nan = np.nan
    np.testing.assert_array_equal(X, [[nan, nan], [1, 2], [nan, nan], [3, nan], [5, 6]])
    lists = pa.array([[1.0, 2.0], [3.0]])
    pq.write_table(pa.table({"e": lists}), path)
    with pytest.raises(ValueError, match="differ in length: 2 and 1"):
        read_profiles(path)
    pq.write_table(pa.table({"e": pa.array([[], []], pa.list_(pa.float32()))}), path)
    with pytest.raises(ValueError, match="are empty"):
        read_profiles(path)


@pytest.mark.parametrize("dtype", ["float16", "float64", "int32", "uint8", "Float32"])
@pytest.mark.parametrize("lazy", [False, True])
def test_number_types(tmp_path, dtype, lazy):
    frame = pd.DataFrame({"feature_0": [1, 2, 3], "feature_1": [4, 5, 6]}).astype(dtype)
    frame.to_parquet(tmp_path / "a.parquet")
    X = read_profiles(tmp_path / "a.parquet", lazy=lazy).X
    assert np.asarray(X).dtype == np.float32
    np.testing.assert_array_equal(np.asarray(X), [[1, 4], [2, 5], [3, 6]])


def test_number_names_of_columns(tmp_path):
    """What pandas makes of an array without names."""
    values = np.arange(24, dtype=np.float32).reshape(2, 12)
    frame = pd.DataFrame(values)
    frame.columns = frame.columns.astype(str)
    frame = frame[sorted(frame.columns)]
    frame["well"] = ["a", "b"]
    for path in (tmp_path / "a.parquet", tmp_path / "a.csv"):
        profiles = read_profiles(write(frame, path))
        np.testing.assert_array_equal(profiles.X, values)
        assert profiles.feature_names == [str(j) for j in range(12)]


def test_the_index_is_not_a_feature(tmp_path):
    """pandas writes an index along: a column without a name, or a named one."""
    frame = pycytominer().iloc[5:20]
    frame.to_csv(tmp_path / "a.csv")
    frame.to_parquet(tmp_path / "a.parquet")
    rows, _ = screen()
    rows.set_index("well_id").to_parquet(tmp_path / "b.parquet")
    for name in ("a.csv", "a.parquet"):
        profiles = read_profiles(tmp_path / name)
        assert profiles.X.shape == (15, 3)
        assert list(profiles.metadata) == [n for n in frame if "Metadata" in n]
        assert list(profiles.metadata.index) == list(range(15))
    table = read_profiles(tmp_path / "b.parquet").metadata
    pd.testing.assert_frame_equal(table, rows[["well_id"]])


def test_features_by_prefix_and_by_name(tmp_path):
    rows, _ = screen()
    rows = rows.rename(columns=lambda n: n.replace("feature_", "vit_"))
    path = write(rows, tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"say which its features are.*13 columns"):
        read_profiles(path)
    profiles = read_profiles(path, features="vit_")
    assert profiles.feature_names == [f"vit_{j}" for j in range(12)]
    chosen = ["vit_10", "vit_2"]
    profiles = read_profiles(path, features=chosen)
    assert list(profiles.X) == chosen
    np.testing.assert_array_equal(profiles.X, rows[chosen])
    assert "vit_3" in profiles.metadata
    lazy = read_profiles(path, features=chosen, lazy=True)
    np.testing.assert_array_equal(np.asarray(lazy.X), rows[chosen])


def test_a_column_whose_name_begins_like_another(tmp_path):
    """Arrow would read both where one is asked for."""
    frame = pd.DataFrame({"a.b": [1.0], "a": [2.0], "a.b.c": [3.0], "well": ["x"]})
    path = write(frame, tmp_path / "a.parquet")
    profiles = read_profiles(path, features=["a", "a.b.c"])
    np.testing.assert_array_equal(profiles.X, [[2, 3]])
    assert list(profiles.metadata) == ["a.b", "well"]


# Folders


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_a_folder_with_columns_in_another_order(tmp_path, ending):
    rows, metadata = screen()
    for i, part in enumerate(np.split(np.arange(40), 20)):
        names = list(np.random.default_rng(i).permutation(rows.columns))
        write(rows.loc[part, names], tmp_path / f"part.{i}.{ending}")
    (tmp_path / "_metadata").write_text("not a table")
    (tmp_path / "README.txt").write_text("not a table")
    profiles = read_profiles(tmp_path, metadata=metadata, control=EMPTY)
    # part.2 stands before part.10.
    assert list(profiles.metadata["well_id"]) == list(rows["well_id"])
    np.testing.assert_allclose(profiles.X, values_of(rows), rtol=1e-6)
    if ending == "parquet":
        lazy = read_profiles(tmp_path, metadata=metadata, control=EMPTY, lazy=True)
        np.testing.assert_array_equal(lazy.X, profiles.X)
        assert lazy.X.chunks == ((2,) * 20, (12,))


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_files_with_other_columns_are_refused(tmp_path, ending):
    rows, _ = screen()
    write(rows, tmp_path / f"a.{ending}")
    renamed = rows.rename(columns={"feature_3": "feature_33"})
    write(renamed, tmp_path / f"b.{ending}")
    message = r"b\.\w+ lacks 'feature_3' and has 'feature_33' besides.*a\.\w+"
    with pytest.raises(ValueError, match=message):
        read_profiles(tmp_path)


def test_types_that_differ_between_files(tmp_path):
    """Strings may be categories, and numbers whole or missing, in some files only."""
    one = pd.DataFrame(
        {"feature_0": [1.0, 2], "gene": pd.Categorical(["a", "b"]), "dose": [1, 2]}
    )
    two = pd.DataFrame(
        {"feature_0": np.float32([3, 4]), "gene": ["b", "c"], "dose": [0.5, None]}
    )
    three = pd.DataFrame({"feature_0": [5], "gene": [None], "dose": [None]})
    four = pd.DataFrame(
        {
            "feature_0": [6],
            "gene": pd.Categorical(["d"]),
            "dose": pd.array([1], "Int64"),
        }
    )
    for i, part in enumerate([one, two, three, four]):
        part.to_parquet(tmp_path / f"{i}.parquet")
    profiles = read_profiles(tmp_path)
    np.testing.assert_array_equal(profiles.X["feature_0"], [1, 2, 3, 4, 5, 6])
    genes = profiles.metadata["gene"]
    assert list(genes[genes.notna()]) == ["a", "b", "b", "c", "d"]
    assert profiles.metadata["dose"].isna().sum() == 2
    write(two.assign(gene=[1, 2]), tmp_path / "5.parquet")
    with pytest.raises(ValueError, match="differs between the files"):
        read_profiles(tmp_path)


def test_hive_partitions(tmp_path):
    rows, metadata = screen()
    rows["plate"] = metadata["plate"]
    rows["source"] = np.where(np.arange(40) % 2, "here", "there")
    ds.write_dataset(
        pa.Table.from_pandas(rows, preserve_index=False),
        # A folder above the table that looks like a partition is none.
        tmp_path / "run=7" / "table",
        format="parquet",
        partitioning=ds.partitioning(
            pa.schema([("plate", pa.int32()), ("source", pa.string())]), flavor="hive"
        ),
    )
    folder = tmp_path / "run=7" / "table"
    profiles = read_profiles(folder, control={"plate": 1, "source": "here"})
    assert set(profiles.metadata) == {"well_id", "plate", "source"}
    ordered = rows.sort_values(["plate", "source"], kind="stable")
    np.testing.assert_array_equal(profiles.X, values_of(ordered))
    np.testing.assert_array_equal(profiles.metadata["plate"], ordered["plate"])
    np.testing.assert_array_equal(profiles.metadata["source"], ordered["source"])
    assert profiles.control.sum() == 10
    lazy = read_profiles(folder, control="plate == 1", lazy=True)
    np.testing.assert_array_equal(np.asarray(lazy.X), values_of(ordered))
    assert lazy.control.sum() == 20


# Joins


def test_types_of_metadata_are_kept(tmp_path):
    rows, metadata = screen()
    metadata["treatment"] = metadata["treatment"].astype("category")
    metadata["gene"] = metadata["gene"].astype("string")
    metadata["dose"] = pd.array([1, None] * 20, dtype="Int64")
    metadata["flag"] = pd.array([True, None] * 20, dtype="boolean")
    path = write(rows, tmp_path / "a.parquet")
    stored = write(metadata, tmp_path / "b.parquet")
    for given_as in (stored, metadata):
        table = read_profiles(path, metadata=given_as, control=EMPTY).metadata
        pd.testing.assert_frame_equal(table, metadata)


@pytest.mark.parametrize("side", ["rows", "metadata"])
def test_repeated_wells_are_refused(tmp_path, side):
    rows, metadata = screen()
    if side == "rows":
        rows = pd.concat([rows, rows.iloc[[3, 5, 3]]], ignore_index=True)
        where = "a.parquet"
    else:
        metadata = pd.concat([metadata, metadata.iloc[[3, 5, 3]]], ignore_index=True)
        where = "metadata"
    path = write(rows, tmp_path / "a.parquet")
    names = "'HUVEC-000_03', 'HUVEC-000_05'"
    message = rf"2 of the wells in .*{where} repeat, in 3 further rows: {names}"
    with pytest.raises(ValueError, match=message):
        read_profiles(path, metadata=metadata)
    with pytest.warns(UserWarning, match=message):
        profiles = read_profiles(path, metadata=metadata, duplicates="first")
    expected, table = screen()
    np.testing.assert_array_equal(profiles.X, values_of(expected))
    pd.testing.assert_frame_equal(profiles.metadata, table)
    if side == "metadata":
        with pytest.raises(ValueError, match="repeat"):
            read_profiles(path, metadata=metadata, duplicates="all")
    else:
        profiles = read_profiles(path, metadata=metadata, duplicates="all")
        np.testing.assert_array_equal(profiles.X, values_of(rows))
        assert list(profiles.metadata["well_id"]) == list(rows["well_id"])
        assert profiles.metadata["plate"][42] == table["plate"][3]


def test_repeated_wells_without_metadata(tmp_path):
    frame = pycytominer()
    frame = pd.concat([frame, frame.iloc[:2]], ignore_index=True)
    path = write(frame, tmp_path / "a.parquet")
    assert len(read_profiles(path).X) == 32  # single cells repeat their well
    keys = ["Metadata_Plate", "Metadata_Well"]
    with pytest.raises(ValueError, match=r"2 of the wells .*\('BR00117035', 'A00'\)"):
        read_profiles(path, on=keys)
    with pytest.warns(UserWarning, match="first row of each"):
        profiles = read_profiles(path, on=keys, duplicates="first", lazy=True)
    np.testing.assert_array_equal(
        np.asarray(profiles.X), frame[profiles.feature_names].iloc[:30].to_numpy("f4")
    )


@pytest.mark.parametrize("lazy", [False, True])
def test_unmatched_rows(tmp_path, lazy):
    rows, metadata = screen()
    rows.loc[7, "well_id"] = None
    path = tmp_path / "a.parquet"
    rows.to_parquet(path, row_group_size=4)
    # Row group 2 loses all of its rows, others lose some.
    metadata = metadata.drop(index=[8, 9, 10, 11, 20])
    metadata.loc[0, "well_id"] = None  # two missing names are not the same well
    message = (
        r"7 of 40 rows of .*a.parquet have no metadata \('HUVEC-000_00', .*; "
        r"1 without a name\), and 2 of 35 rows of the metadata have no profile "
        r"\('HUVEC-000_07'; 1 without a name\)"
    )
    with pytest.warns(UserWarning, match=message) as caught:
        profiles = read_profiles(path, metadata=metadata, lazy=lazy)
    assert [w.filename for w in caught] == [__file__]
    kept = [i for i in range(40) if i not in (0, 7, 8, 9, 10, 11, 20)]
    np.testing.assert_array_equal(np.asarray(profiles.X), values_of(rows)[kept])
    assert list(profiles.metadata["well_id"]) == list(rows["well_id"][kept])
    if lazy:
        assert profiles.X.chunks[0] == (3, 3, 4, 4, 3, 4, 4, 4, 4)
    with pytest.raises(ValueError, match=message):
        read_profiles(path, metadata=metadata, unmatched="error", lazy=lazy)


def test_nothing_to_join(tmp_path):
    rows, metadata = screen()
    path = write(rows, tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"no column in common.*'well_id'"):
        read_profiles(path, metadata=metadata.rename(columns={"well_id": "well"}))
    other = metadata.assign(well_id="x" + metadata["well_id"])
    with pytest.raises(ValueError, match="No row could be joined"):
        read_profiles(path, metadata=other)
    other = metadata.assign(well_id=np.arange(40))
    with pytest.raises(ValueError, match=r"'well_id' is object in .* but int64"):
        read_profiles(path, metadata=other)
    with pytest.raises(ValueError, match=r"on names 'plate'.*a.parquet: no such"):
        read_profiles(path, metadata=metadata, on="plate")
    rows["plate"] = 3
    path = write(rows, path)
    with pytest.raises(ValueError, match=r"both have 'plate' beside"):
        read_profiles(path, metadata=metadata, on="well_id")


def test_rows_without_a_name_are_not_the_same_well(tmp_path):
    rows, metadata = screen()
    rows.loc[[3, 4], "well_id"] = None
    metadata.loc[[5, 6], "well_id"] = None
    path = write(rows, tmp_path / "a.parquet")
    with pytest.warns(UserWarning, match="2 without a name.*2 without a name"):
        profiles = read_profiles(path, metadata=metadata)
    assert list(profiles.metadata.index) == list(range(36))
    np.testing.assert_array_equal(
        profiles.X, np.delete(values_of(rows), [3, 4, 5, 6], axis=0)
    )


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_more_rows_than_are_read_at_once(tmp_path, ending):
    n = 40_000
    frame = pd.DataFrame({"feature_0": np.arange(n), "well": np.arange(n)})
    path = write(frame, tmp_path / f"a.{ending}")
    metadata = frame[["well"]].iloc[::-3]
    with pytest.warns(UserWarning, match="26666 of 40000 rows"):
        profiles = read_profiles(path, metadata=metadata)
    np.testing.assert_array_equal(
        profiles.X["feature_0"], np.sort(metadata["well"].to_numpy())
    )


def test_metadata_with_names_in_the_index(tmp_path):
    rows, metadata = screen()
    path = write(rows, tmp_path / "a.parquet")
    profiles = read_profiles(path, metadata=metadata.set_index("well_id"))
    pd.testing.assert_frame_equal(profiles.metadata, metadata)
    numbered = metadata.rename_axis("well_id")  # the column is the name, not the index
    pd.testing.assert_frame_equal(
        read_profiles(path, metadata=numbered).metadata, metadata
    )


def test_odd_metadata_and_keys(files):
    path, _ = files
    _, metadata = screen()
    twice = pd.concat([metadata, metadata[["plate"]]], axis=1)
    with pytest.raises(ValueError, match=r"metadata has more than one .* 'plate'"):
        read_profiles(path, metadata=twice)
    with pytest.raises(ValueError, match=r"on=\[\] names no columns"):
        read_profiles(path, metadata=metadata, on=[])
    with pytest.raises(ValueError, match="The metadata have none; "):
        read_profiles(path, metadata=pd.DataFrame())
    profiles = read_profiles(path, metadata=metadata, on=["well_id", "well_id"])
    assert len(profiles.X) == 40


def test_several_keys(tmp_path):
    frame = pycytominer()
    wells = frame[["Metadata_Plate", "Metadata_Well"]]
    wells = wells.assign(gene=[f"g{i}" for i in range(30)]).iloc[::-1]
    path = write(frame, tmp_path / "a.csv.gz")
    plate_map = write(wells, tmp_path / "map.csv")
    profiles = read_profiles(path, metadata=plate_map)
    assert list(profiles.metadata["gene"]) == [f"g{i}" for i in range(30)]


@pytest.mark.parametrize("wells", ["text", "number"])
@pytest.mark.parametrize("endings", ["cc", "cp", "pc", "pp", "cd", "pd"])
def test_names_of_wells_that_look_like_numbers(tmp_path, wells, endings):
    """A CSV file does not tell whether 001 is text; the other file does, if it can."""
    rows, metadata = screen(12)
    names = [f"{i:03d}" for i in range(12)] if wells == "text" else list(range(12))
    rows["well_id"] = metadata["well_id"] = names
    kinds = {"c": "csv", "p": "parquet"}
    path = write(rows, tmp_path / f"a.{kinds[endings[0]]}")
    other = metadata.sample(frac=1, random_state=0)
    if endings[1] != "d":
        other = write(other, tmp_path / f"b.{kinds[endings[1]]}")
    profiles = read_profiles(path, metadata=other, control=EMPTY)
    found = profiles.metadata["well_id"]
    expected = [str(n) for n in names] if endings == "cc" else names
    assert list(found) == expected
    assert profiles.control.sum() == 3
    np.testing.assert_array_equal(profiles.control, np.arange(12) % 4 == 0)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_the_join_is_that_of_dictionaries(tmp_path_factory, data):
    keys = st.lists(st.integers(0, 12), unique=True, min_size=1, max_size=8)
    own, other = data.draw(keys), data.draw(keys)
    group = data.draw(st.integers(1, 4))
    folder = tmp_path_factory.mktemp("join")
    rows = pd.DataFrame({"feature_0": np.float32(own), "well": [f"w{i}" for i in own]})
    rows.to_parquet(folder / "a.parquet", row_group_size=group)
    table = pd.DataFrame({"well": [f"w{i}" for i in other], "n": other})
    both = [i for i in own if i in other]

    def read(lazy):
        return read_profiles(folder / "a.parquet", metadata=table, lazy=lazy)

    for lazy in (False, True):
        if not both:
            with pytest.raises(ValueError, match="No row could be joined"):
                read(lazy)
            continue
        if len(both) < max(len(own), len(other)):
            with pytest.warns(UserWarning, match="left out"):
                profiles = read(lazy)
        else:
            profiles = read(lazy)
        np.testing.assert_array_equal(np.asarray(profiles.X).ravel(), both)
        np.testing.assert_array_equal(profiles.metadata["n"], both)


# Controls


@pytest.fixture
def by_rule(tmp_path):
    rows, metadata = screen()
    path = write(rows, tmp_path / "a.parquet")

    def read(rule, **columns):
        return read_profiles(
            path, metadata=metadata.assign(**columns), control=rule
        ).control

    return read


@pytest.mark.parametrize(
    "rule",
    [
        EMPTY,
        {"treatment": ["EMPTY_control"]},
        {"treatment": {"EMPTY_control"}},
        {"treatment": np.array(["EMPTY_control"])},
        {"treatment": "EMPTY_control", "plate": [0, 1]},
        "treatment == 'EMPTY_control'",
        'treatment == "EMPTY_control" and plate >= 0',
        "`treatment` == 'EMPTY_control'",
        lambda table: table["treatment"] == "EMPTY_control",
        lambda table: [t == "EMPTY_control" for t in table["treatment"]],
        lambda table: (table["treatment"] == "EMPTY_control").astype("boolean"),
        lambda table: (table["treatment"] == "EMPTY_control").astype(int).to_numpy(),
    ],
)
def test_rules(by_rule, rule):
    np.testing.assert_array_equal(by_rule(rule), np.arange(40) % 4 == 0)


def test_no_rule(by_rule):
    assert by_rule(None) is None


@pytest.mark.parametrize(
    "dtype", [object, "string", "category", pd.ArrowDtype(pa.string())]
)
def test_text_of_any_type(by_rule, dtype):
    values = np.where(np.arange(40) % 5, "drug", "DMSO")
    control = by_rule({"c": "DMSO"}, c=pd.Series(values, dtype=dtype))
    np.testing.assert_array_equal(control, values == "DMSO")


@pytest.mark.parametrize("dtype", ["int64", "Int8", "float32", "bool", "boolean"])
def test_numbers_and_flags_of_any_type(by_rule, dtype):
    values = np.arange(40) % 5 == 0
    control = by_rule({"c": 1}, c=pd.Series(values).astype(dtype))
    np.testing.assert_array_equal(control, values)


@pytest.mark.parametrize("dtype", [object, "string", "category"])
@pytest.mark.parametrize("rule", [{"c": "DMSO"}, "c == 'DMSO'", "c != 'drug'"])
def test_missing_values_are_no_controls(by_rule, dtype, rule):
    values = np.where(np.arange(40) % 5, "drug", "DMSO").astype(object)
    values[[0, 1, 2]] = None
    message = r"3 of 40 rows have no value in the column 'c'"
    with pytest.warns(UserWarning, match=message) as caught:
        control = by_rule(rule, c=pd.Series(values, dtype=dtype))
    assert len(caught) == 1
    np.testing.assert_array_equal(control, values == "DMSO")


def test_a_function_may_take_missing_values(by_rule):
    control = by_rule(lambda table: table["gene"].isna())
    np.testing.assert_array_equal(control, np.arange(40) % 4 == 0)
    answers = pd.Series([True, None, False, False] * 10, dtype="boolean")
    with pytest.warns(UserWarning, match="no truth value for 10 of 40 rows"):
        control = by_rule(lambda table: answers)
    np.testing.assert_array_equal(control, np.arange(40) % 4 == 0)


def test_the_names_in_a_query_are_not_its_texts(by_rule):
    """A column that is called like a value is not named by the query."""
    gone = [None] * 40
    control = by_rule("treatment == 'EMPTY_control'", EMPTY_control=gone)
    assert control.sum() == 10


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            {"treatment": "EMPTY"},
            r"matches none of the 40 rows\. The column 'treatment' \(object\) holds 2 "
            r"different values: 'TP53_1' \(30\), 'EMPTY_control' \(10\)\.",
        ),
        ({"plate": "0"}, r"'plate' \(int64\) .* 0 \(20\), 1 \(20\)"),
        ({"treatment": "EMPTY_control", "plate": 7}, r"The column 'plate'"),
        (
            {"treatment": "EMPTY_control", "concentration": 2.0},
            "'concentration'.*14 mi",
        ),
        ({"gene": "TP53", "treatment": "EMPTY_control"}, "no row has all of these"),
        ({"treatmnt": "x"}, r"column 'treatmnt', which the metadata lack.*'plate'"),
        ({}, "names no column"),
        ({"treatment": []}, "names no values of 'treatment'"),
        ({"gene": None}, r"asks for a missing value.*\['gene'\]\.isna\(\)"),
        ({"gene": ["TP53", np.nan]}, "asks for a missing value"),
        ("treatment == 'EMPTY'", r"none of the 40 rows\..*'EMPTY_control' \(10\)"),
        ("treatmnt == 'EMPTY'", r"cannot be evaluated .*treatmnt.*'treatment'"),
        ("treatment ==", "cannot be evaluated"),
        ("plate + 1", "gives int64, not truth values"),
        ("'EMPTY_control'", "not one truth value for each of the 40 rows"),
        (lambda table: True, "gives a bool, not one truth value"),
        (lambda table: [True] * 39, r"of shape \(39,\), not one"),
        (lambda table: table["gene"], "gives object, not truth values"),
        (lambda table: table["plate"] > 9, "finds none among 40 rows"),
    ],
)
@pytest.mark.filterwarnings("ignore:.* rows have no value")
def test_rules_that_do_not_work(by_rule, rule, message):
    with pytest.raises(ValueError, match=message):
        by_rule(rule)


def test_one_value_of_several_is_absent(by_rule):
    with pytest.warns(UserWarning, match="No row has 'DMSO' in the column 'treatment'"):
        control = by_rule({"treatment": ["EMPTY_control", "DMSO"]})
    assert control.sum() == 10


def test_a_value_that_a_csv_file_cannot_hold(tmp_path):
    frame = pd.DataFrame({"feature_0": [1.0, 2], "gene": ["None", "TP53"]})
    path = write(frame, tmp_path / "a.csv")
    message = "From a CSV file, 'None' is read as missing"
    with (
        pytest.raises(ValueError, match=message),
        pytest.warns(UserWarning, match="1 of 2 rows"),
    ):
        read_profiles(path, control={"gene": "None"})


def test_a_column_with_missing_controls_only(by_rule):
    with (
        pytest.raises(ValueError, match=r"'c' .* holds none, and 40 missing ones"),
        pytest.warns(UserWarning, match="40 of 40"),
    ):
        by_rule({"c": "DMSO"}, c=[None] * 40)


# Missing features


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_features_with_missing_values(tmp_path, ending):
    rows, _ = screen()
    rows.loc[[1, 2, 3], "feature_4"] = np.nan
    rows.loc[5, "feature_10"] = np.inf
    rows["feature_7"] = np.nan
    path = write(rows, tmp_path / f"a.{ending}")
    message = (
        r"3 of 12 features have missing values, infinity .*: "
        r"'feature_4' \(3\), 'feature_7' \(40\), 'feature_10' \(1\)\."
    )
    with pytest.raises(ValueError, match=message):
        read_profiles(path)
    X = read_profiles(path, missing="keep").X
    np.testing.assert_allclose(X, values_of(rows), rtol=1e-6)
    with pytest.warns(UserWarning, match=message):
        profiles = read_profiles(path, missing="drop_features")
    kept = [j for j in range(12) if j not in (4, 7, 10)]
    assert profiles.feature_names == [f"feature_{j}" for j in kept]
    assert list(profiles.X) == profiles.feature_names
    np.testing.assert_allclose(profiles.X, values_of(rows)[:, kept], rtol=1e-6)


def test_missing_values_in_a_lazy_table(tmp_path):
    rows, _ = screen()
    rows.loc[25, "feature_4"] = np.nan
    rows.to_parquet(tmp_path / "a.parquet", row_group_size=10)
    X = read_profiles(tmp_path / "a.parquet", lazy=True).X
    np.testing.assert_array_equal(X[:20].compute(), values_of(rows)[:20])
    with pytest.raises(ValueError, match=r"in row group 2 of .*: 'feature_4' \(1\)"):
        X.compute()
    X = read_profiles(tmp_path / "a.parquet", lazy=True, missing="keep").X
    np.testing.assert_array_equal(X.compute(), values_of(rows))
    with pytest.raises(ValueError, match="missing='error' or missing='keep'"):
        read_profiles(tmp_path / "a.parquet", lazy=True, missing="drop_features")


def test_missing_values_of_rows_that_are_left_out_do_not_count(tmp_path):
    rows, metadata = screen()
    rows.loc[3, "feature_4"] = np.nan
    path = write(rows, tmp_path / "a.parquet")
    with pytest.warns(UserWarning, match="left out"):
        profiles = read_profiles(path, metadata=metadata.drop(index=3))
    assert len(profiles.X) == 39


def test_nulls_and_numbers_that_do_not_fit(tmp_path):
    frame = pd.DataFrame(
        {
            "feature_0": pd.array([1, None, 3], dtype="Int64"),
            "feature_1": [1.0, 2.0, 1e300],
            "feature_2": pd.Series([None, None, None], dtype=object),
            "feature_3": [1.0, 2.0, 3.0],
        }
    )
    path = write(frame, tmp_path / "a.parquet")
    message = r"3 of 4 .*'feature_0' \(1\), 'feature_1' \(1\), 'feature_2' \(3\)"
    with pytest.raises(ValueError, match=message):
        read_profiles(path)
    with pytest.raises(ValueError, match="No feature would be left"):
        read_profiles(
            path, features=["feature_0", "feature_2"], missing="drop_features"
        )


# Files that are not as they should be


def test_odd_paths(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        read_profiles(tmp_path / "absent.parquet")
    with pytest.raises(ValueError, match="has no parquet or CSV files"):
        read_profiles(tmp_path)
    (tmp_path / "a.xlsx").touch()
    with pytest.raises(ValueError, match=r"a.xlsx ends in none of \.parquet"):
        read_profiles(tmp_path / "a.xlsx")


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.csv.gz"])
@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe garbage \x89"])
def test_files_that_are_none(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(name)):
        read_profiles(tmp_path / name)


def test_a_truncated_file(tmp_path):
    rows, _ = screen()
    for name in ("a.parquet", "b.csv.gz"):
        path = write(rows, tmp_path / name)
        path.write_bytes(path.read_bytes()[:-40])
        with pytest.raises(ValueError, match=name):
            read_profiles(path)


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_a_table_without_rows(tmp_path, ending):
    rows, _ = screen()
    path = write(rows.iloc[:0], tmp_path / f"a.{ending}")
    with pytest.raises(ValueError, match="has no rows"):
        read_profiles(path)


def test_columns_that_are_not_numbers(tmp_path):
    frame = pycytominer()
    frame["Image_FileName"] = "a.tiff"
    frame["Cells_Flag"] = True
    for name in ("a.parquet", "a.csv"):
        path = write(frame, tmp_path / name)
        message = r"2 of 5 feature columns of .* 'Cells_Flag', 'Image_FileName'"
        with pytest.raises(ValueError, match=message):
            read_profiles(path)
        assert read_profiles(path, features="Cells_Texture").X.shape == (30, 2)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ("vit_", "No column of .* begins with features='vit_'"),
        (["feature_1", "vit_1"], "names no columns of .*: 'vit_1'"),
        (["feature_1", "feature_1"], "has 'feature_1' more than once"),
        ([], "names no columns"),
        ([1, 2], "names no columns of .*: 1, 2"),
        (["well_id"], "do not hold numbers: 'well_id'"),
    ],
)
def test_features_that_are_not_there(files, features, message):
    with pytest.raises(ValueError, match=message):
        read_profiles(files[0], features=features)


def test_columns_of_the_same_name(tmp_path):
    (tmp_path / "a.csv").write_text("feature_0,well,feature_0\n1,a,2\n")
    table = pa.table([[1.0], [2.0]], names=["feature_0", "feature_0"])
    pq.write_table(table, tmp_path / "a.parquet")
    for name in ("a.csv", "a.parquet"):
        with pytest.raises(ValueError, match="more than one column called 'feature_0'"):
            read_profiles(tmp_path / name)


def test_a_byte_order_mark_and_quoted_names(tmp_path):
    text = '\ufeffwell,"feature_0","note, long"\r\na,1.5,"x\ny"\r\nb,2.5,\r\n'
    with gzip.open(tmp_path / "a.csv.gz", "wb") as file:
        file.write(text.encode())
    profiles = read_profiles(tmp_path / "a.csv.gz")
    assert list(profiles.metadata) == ["well", "note, long"]
    np.testing.assert_array_equal(profiles.X["feature_0"], [1.5, 2.5])


@pytest.mark.filterwarnings("ignore")  # of pandas, which would cut these lines
def test_lines_that_are_longer_than_the_header(tmp_path):
    (tmp_path / "a.csv").write_text("well,feature_0\na,1,2\nb,3,4\n")
    with pytest.raises(ValueError, match=r"a.csv"):
        read_profiles(tmp_path / "a.csv")


def test_lazy_needs_parquet(tmp_path):
    path = write(pycytominer(), tmp_path / "a.csv")
    with pytest.raises(ValueError, match="lazy=True needs parquet"):
        read_profiles(path, lazy=True)


@pytest.mark.parametrize(
    ("package", "lazy"), [("pyarrow", False), ("dask", True), ("dask.array", True)]
)
def test_a_missing_package_is_named(files, package, lazy, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    message = rf"needs {package.partition('.')[0]}, .*pip install 'skdict\[tables\]'"
    with pytest.raises(ImportError, match=message):
        read_profiles(files[0], lazy=lazy)


def test_reading_csv_needs_no_extra(tmp_path):
    path = write(pycytominer(), tmp_path / "a.csv")
    script = (
        "import sys\n"
        "for name in ('pyarrow', 'dask', 'anndata'): sys.modules[name] = None\n"
        "from skdict.io import read_profiles\n"
        f"print(read_profiles({str(path)!r}).X.shape)\n"
        "assert 'torch' not in sys.modules\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert run.stdout == "(30, 3)\n", run.stderr


# What follows


def test_a_screen_goes_through_the_pipeline(files):
    """With fewer controls than dimensions, as an experiment of RxRx3-core has."""
    path, metadata = files
    X, _, control, names = read_profiles(path, metadata=metadata, control=EMPTY)
    assert control.sum() < X.shape[1]
    pipe = make_pipeline(
        ControlPCAWhitener(), Normalizer(), ICFL(8, 2, max_iter=2, random_state=0)
    )
    with pytest.warns(UserWarning, match="control"):
        pipe.fit(X, controlpcawhitener__control=control)
    assert list(pipe[0].feature_names_in_) == names
    assert pipe.transform(X).shape == (40, 8)
    with pytest.raises(ValueError, match="feature names"):
        pipe.transform(X.iloc[:, ::-1])
