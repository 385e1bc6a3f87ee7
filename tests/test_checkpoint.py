"""Tests of checkpoints: a killed fit goes on as if nothing had happened."""

import copy
import errno
import json
import os
import signal
import subprocess
import sys
import threading

import interrupted_fits
import numpy as np
import processes
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone
from skorch.callbacks import Callback

from skdict import ICFL, KSVD, TopKSAE, Transcoder
from skdict._utils import files
from skdict._utils.tensors import read_described_tensors
from skdict.decomposition._registry import DICTIONARIES
from skdict.rows import StoredRows, epochs
from skdict.training import Checkpoint
from skdict.training import checkpoint as module
from skdict.training.checkpoint import checkpoint_parts

KINDS = [entry.estimator for entry in DICTIONARIES] + [Transcoder]
X = np.random.default_rng(0).normal(size=(600, 6)).astype(np.float32)
# 5 epochs of 9 steps, with held-out rows and a wind-down.
SMALL = {
    "n_components": 12,
    "k": 2,
    "batch_size": 60,
    "max_iter": 5,
    "validation_fraction": 0.1,
    "tol": 0.01,
    "n_iter_no_change": 1,
    "random_state": 0,
}
BUFFERS = 8 * 100 * X.shape[1] * 4 / 2**20  # MiB: buffers of 100 rows


class Killed(Exception):  # noqa: N818 (a user's Ctrl-C is no error, either)
    """Raised in the middle of a fit."""


class At(Callback):
    """Does something after a number of steps."""

    def __init__(self, n_steps, function, training=True):
        self.n_steps = n_steps
        self.function = function
        self.training = training

    def on_batch_end(self, net, training=False, **kwargs):
        if net.clock.n_steps == self.n_steps and training == self.training:
            self.function()


def die():
    raise Killed


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def new(cls, *callbacks, **params):
    return cls(**SMALL | params, callbacks=list(callbacks) or None)


def fit(estimator, X=X):
    return estimator.fit(X, X[:, :2] if isinstance(estimator, Transcoder) else None)


def killed(cls, path, n_steps=14, **params):
    """Leave the checkpoint of a fit that was killed after some steps."""
    with pytest.raises(Killed):
        # The checkpoint comes after all other callbacks, so it lacks the last step.
        fit(new(cls, At(n_steps, die), Checkpoint(path, every_steps=1), **params))
    return path


def resumed(cls, path, X=X, **params):
    return fit(new(cls, Checkpoint(path), **params), X)


def without_seconds(history):
    return [{k: v for k, v in record.items() if k != "seconds"} for record in history]


def assert_same(a, b):
    names = {name for name in vars(a) if name.endswith("_")}
    assert names == {name for name in vars(b) if name.endswith("_")}
    for name in names - {"history_"}:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    assert without_seconds(a.history_) == without_seconds(b.history_)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "fit.checkpoint"


@pytest.mark.slow
def test_killed_processes_end_with_the_same_atoms(tmp_path):
    run = processes.run(
        interrupted_fits.main, tmp_path, 0, 3, folder=tmp_path, timeout=300
    )
    assert run.returncode == 0, run.stderr
    lines = [line.split() for line in run.stdout.splitlines()]
    assert len(lines) == 8
    assert all(line[2] == "True" for line in lines), run.stdout
    killed, unfinished, writing = (sum(int(x[i]) for x in lines) for i in (3, 4, 5))
    assert killed >= 20
    assert unfinished >= 20
    assert writing >= 3


@pytest.mark.parametrize("cls", KINDS)
def test_every_dictionary_goes_on_as_if_nothing_had_happened(cls, path):
    whole = fit(new(cls))
    # In the first epoch, at the end of one, and in the second.
    for n_steps in (5, 10, 16):
        killed(cls, path, n_steps)
    assert_same(resumed(cls, path), whole)


@pytest.mark.parametrize("cls", [ICFL, TopKSAE, Transcoder])
def test_stored_rows(cls, path, tmp_path):
    X.tofile(tmp_path / "rows")
    rows = np.memmap(tmp_path / "rows", np.float32, "r", shape=X.shape)
    few = {"reset_every": 2, "reset_similarity": 0.3} if cls is ICFL else {}
    with config_context(working_memory=BUFFERS):
        whole = fit(new(cls, **few), rows)
        for n_steps in (5, 15):
            model = new(cls, At(n_steps, die), Checkpoint(path, every_steps=1), **few)
            with pytest.raises(Killed):
                fit(model, rows)
        with pytest.raises(ValueError, match="rows are read was 'stored' and is 'in m"):
            resumed(cls, path, **few)
        with (
            config_context(working_memory=1.4 * BUFFERS),
            pytest.raises(ValueError, match="rows of a buffer was 100 and is 140"),
        ):
            resumed(cls, path, rows, **few)
        assert_same(resumed(cls, path, rows, **few), whole)


@pytest.mark.parametrize("without", [None, torch.tensor([0, 1, 2, 77, 78, 500])])
@pytest.mark.parametrize("size", [7, 60, 400])
def test_a_part_of_an_epoch_is_its_end_and_reads_no_more(without, size, tmp_path):
    X.tofile(tmp_path / "rows")
    source = np.memmap(tmp_path / "rows", np.float32, "r", shape=X.shape)
    with config_context(working_memory=BUFFERS):
        stored = StoredRows(source)
    stored.edges = np.append(np.arange(0, 600, 25), 600)
    places = []
    read = stored.read
    stored.read = lambda start, stop: places.append(stop - start) or read(start, stop)
    for table in (stored, X):
        for seed in (None, 3):
            generator = None if seed is None else torch.Generator()
            with config_context(working_memory=BUFFERS):
                cut = epochs([table], size, generator, without)
            if seed is not None:
                generator.manual_seed(seed)
            whole = [rows for (rows,) in cut]
            for start in (0, 1, len(whole) // 2, len(whole) - 1, len(whole)):
                if seed is not None:
                    generator.manual_seed(seed)
                places.clear()
                part = cut.batches(start)
                if seed is not None:
                    generator.manual_seed(99)  # what others draw does not matter
                part = [rows for (rows,) in part]
                assert len(part) == len(whole) - start
                for a, b in zip(part, whole[start:], strict=True):
                    np.testing.assert_array_equal(a, b)
                n_left = sum(map(len, part))
                assert sum(places) <= n_left + 100 + 25


HOLDER = """
import sys, time
import numpy as np
from skdict import ICFL
from skdict.training import Checkpoint

def wait(record):
    print("begun", flush=True)
    time.sleep(600)

X = np.random.default_rng(0).normal(size=(600, 6)).astype(np.float32)
ICFL(12, 2, callbacks=[Checkpoint(sys.argv[1], every_steps=1), wait]).fit(X)
"""


@pytest.mark.slow
def test_two_processes_do_not_share_a_checkpoint(path):
    command = [sys.executable, "-c", HOLDER, os.fspath(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout.readline() == "begun\n"
            before = path.read_bytes()
            with pytest.raises(BlockingIOError, match="another fit") as error:
                fit(new(ICFL, Checkpoint(path)))
            assert error.value.filename == os.fspath(path)
            assert path.read_bytes() == before
        finally:
            other.kill()
    # The lock ends with the process that was killed, though its file stays.
    assert len(os.listdir(path.parent)) == 2
    path.unlink()
    fit(new(ICFL, Checkpoint(path)))
    assert os.listdir(path.parent) == [path.name]


def test_a_fit_inside_another_one_cannot_have_its_checkpoint(path):
    def fit_again():
        with pytest.raises(BlockingIOError, match=path.name):
            fit(new(ICFL, Checkpoint(path)))
        fit(new(ICFL, Checkpoint(path.with_name("other"))))
        raise Killed

    with pytest.raises(Killed):
        fit(new(ICFL, At(3, fit_again), Checkpoint(path, every_steps=1)))
    assert sorted(os.listdir(path.parent)) == [path.name, "other"]
    assert_same(resumed(ICFL, path), fit(new(ICFL)))


def test_a_completed_fit_is_not_repeated(path):
    seen = []
    first = fit(new(ICFL, Checkpoint(path)))
    content = path.read_bytes()
    again = fit(new(ICFL, Checkpoint(path), seen.append))
    assert_same(first, again)
    assert first.history_ == again.history_
    assert seen == []
    assert path.read_bytes() == content
    # What does not change the dictionary may differ.
    assert resumed(ICFL, path, sparse_output=False, verbose=1).n_steps_ > 0


def test_no_epochs(path):
    assert_same(resumed(ICFL, path, max_iter=0), new(ICFL, max_iter=0).fit(X))
    assert_same(resumed(ICFL, path, max_iter=0), new(ICFL, max_iter=0).fit(X))


def test_the_seed_is_kept(path):
    killed(ICFL, path, random_state=None)
    (epoch,) = json.loads(read_described_tensors(path)[1]["checkpoint"])["history"]
    model = resumed(ICFL, path, random_state=None)
    assert model.history_[0] == epoch
    text = json.loads(read_described_tensors(path)[1]["checkpoint"])

    class Seed(np.random.RandomState):
        def randint(self, *args):
            return text["seed"]

    assert_same(new(ICFL, random_state=Seed()).fit(X), model)


def test_warm_start(path):
    start = new(ICFL, max_iter=2).fit(X)
    params = {"warm_start": True, "callbacks": None}
    whole = copy.copy(start).set_params(**params, max_iter=5).fit(X)
    params["callbacks"] = [At(13, die), Checkpoint(path, every_steps=5)]
    model = copy.copy(start).set_params(**params, max_iter=5)
    with pytest.raises(Killed):
        model.fit(X)
    params["callbacks"] = [Checkpoint(path)]
    with pytest.raises(ValueError, match=r"components_ of the warm start was .* not"):
        resumed(ICFL, path)
    again = copy.copy(start).set_params(**params, max_iter=5).fit(X)
    assert_same(again, whole)
    with pytest.raises(ValueError, match="components_ of the warm start was"):
        again.fit(X)


# What is refused


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"k": 3}, "k was 2 and is 3"),
        ({"learning_rate": 0.1}, r"learning_rate was 0\.5 and is 0\.1"),
        ({"tol": None}, r"tol was 0\.01 and is None"),
        ({"batch_size": 61, "k": 1}, "batch_size was 60 and is 61; k was 2 and is 1"),
        ({"max_iter": 6}, "max_iter was 5 and is 6"),
        ({"random_state": 1}, "random_state was 0 and is 1"),
        ({"random_state": None}, "random_state was 0 and is None"),
        ({"random_state": np.random.RandomState(0)}, "random_state was 0 and is 'a R"),
        ({"init": np.eye(12, 6) + 1}, r"init was 'samples' and is 'an array of shape"),
        ({"refit": True}, "refit was False and is True"),
    ],
)
def test_other_parameters_are_refused_by_name(params, message, path):
    killed(ICFL, path)
    content = path.read_bytes()
    with pytest.raises(ValueError, match=f"one of another training: .*{message}"):
        resumed(ICFL, path, **params)
    assert path.read_bytes() == content


def test_another_estimator_is_refused(path):
    killed(ICFL, path)
    with pytest.raises(ValueError, match="estimator was 'ICFL' and is 'KSVD'"):
        resumed(KSVD, path)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (X[:-1], "number of rows of X was 600 and is 599"),
        (X[:, :5], "number of columns of X was 6 and is 5"),
        (X.astype(np.float64), "dtype of X was 'float32' and is 'float64'"),
        (X[::-1], "digest of some rows of X was"),
        (X + np.float32(1), "digest of some rows of X was"),
        (np.where(np.arange(600)[:, None] == 1, X * 2, X), "spread of X was"),
    ],
)
def test_other_rows_are_refused_by_name(rows, message, path):
    killed(ICFL, path)
    with pytest.raises(ValueError, match=message):
        resumed(ICFL, path, rows)


def test_other_targets_are_refused(path):
    killed(Transcoder, path)
    with pytest.raises(ValueError, match="columns of y was 2 and is 3"):
        new(Transcoder, Checkpoint(path)).fit(X, X[:, :3])
    with pytest.raises(ValueError, match="digest of some rows of y was"):
        new(Transcoder, Checkpoint(path)).fit(X, X[:, 1:3])


@pytest.mark.parametrize(
    ("name", "value"),
    [("__version__", "9.9"), ("_FORMAT", 2)],
    ids=["skdict", "format"],
)
def test_another_version_is_refused(name, value, path, monkeypatch):
    killed(ICFL, path)
    monkeypatch.setattr(module, name, value)
    with pytest.raises(ValueError, match=r"written by skdict '0.*This is skdict"):
        resumed(ICFL, path)


def test_streams_have_no_checkpoints(path):
    with pytest.raises(ValueError, match="partial_fit writes no checkpoints"):
        new(ICFL, Checkpoint(path)).partial_fit(X)
    assert not path.exists()


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        ([Checkpoint], "needs a path"),
        ([Checkpoint("a"), Checkpoint("b")], "2 Checkpoints"),
        ([Checkpoint(3)], "must be a path, got 3"),
        ([Checkpoint("a", every_seconds=0)], "every_seconds .* got 0"),
        ([Checkpoint("a", every_seconds=True)], "every_seconds .* got True"),
        ([Checkpoint("a", every_seconds=float("nan"))], "every_seconds .* got nan"),
        ([Checkpoint("a", every_steps=0)], "every_steps .* got 0"),
        ([Checkpoint("a", every_steps=1.5)], "every_steps .* got 1.5"),
        ([Checkpoint("a", every_seconds=None)], "needs every_seconds or every_steps"),
    ],
)
def test_bad_parameters(callbacks, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        new(ICFL, *callbacks).fit(X)
    assert list(tmp_path.iterdir()) == []


def test_clones_have_the_parameters(path):
    model = new(ICFL, Checkpoint(path, every_seconds=7, every_steps=3))
    (checkpoint,) = clone(model).callbacks
    assert checkpoint.get_params() == {
        "path": path,
        "every_seconds": 7,
        "every_steps": 3,
    }
    fit(model)
    assert clone(model).callbacks[0].get_params() == checkpoint.get_params()


# Files and disks


def test_seconds_between_checkpoints(path, monkeypatch):
    now, times = [0.0], []
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])

    class Tick(Callback):
        def on_batch_begin(self, net, training=False, **kwargs):
            now[0] += training

    write = module.write_file
    monkeypatch.setattr(
        module, "write_file", lambda *args: times.append(now[0]) or write(*args)
    )
    model = fit(new(ICFL, Tick(), Checkpoint(path, every_seconds=4)))
    n = model.n_steps_
    assert times == [*range(4, n + 1, 4), n]


def test_a_full_disk(path, monkeypatch):
    killed(ICFL, path)
    content = path.read_bytes()

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for function in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, function, full)
            model = new(ICFL, Checkpoint(path, every_steps=2))
            with pytest.raises(OSError, match=r"No space left.*fit\.checkpoint"):
                model.fit(X)
        assert not hasattr(model, "components_")
        assert path.read_bytes() == content
        assert os.listdir(path.parent) == [path.name]
    with monkeypatch.context() as patch:
        patch.setattr(files, "_write_all", full)
        with pytest.raises(OSError, match="No space left"):
            resumed(ICFL, path)
    assert path.read_bytes() == content
    assert_same(resumed(ICFL, path), fit(new(ICFL)))


def test_places_that_take_no_file_are_refused_before_the_training(tmp_path, path):
    epochs = []
    for place, error in [
        (tmp_path / "missing" / "file", FileNotFoundError),
        (tmp_path, IsADirectoryError),
        ("/dev/null", FileExistsError),
        ("", FileNotFoundError),
    ]:
        with pytest.raises(error):
            new(ICFL, Checkpoint(place), epochs.append).fit(X)
    killed(ICFL, path)
    path.chmod(0o400)
    with pytest.raises(PermissionError, match="read-only"):
        resumed(ICFL, path)
    assert epochs == []


def test_damaged_files_are_refused_and_stay(path):
    killed(TopKSAE, path)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    header = 8 + int.from_bytes(content[:8], "little")
    damaged = [
        b"",
        b"text",
        content[:-1],
        content + b"\0",
        content[:header],
        b"\0" * 99,
    ]
    damaged += [content[:n] for n in rng.integers(len(content), size=5)]
    for i in [*rng.integers(len(content), size=30), *rng.integers(header, size=30)]:
        damaged.append(
            content[:i] + bytes([content[i] ^ 1 << i % 8]) + content[i + 1 :]
        )
    for change in damaged:
        path.write_bytes(change)
        with pytest.raises(ValueError, match=r"fit\.checkpoint"):
            resumed(TopKSAE, path)
        assert path.read_bytes() == change


def changed_texts(text):
    """Texts that nobody wrote, with what was changed."""
    odd = (None, True, -1, 10**30, 2**40, 0.5, "text", [], {}, [1], {"a": 1})
    for holder in (text, text["place"], text["place"]["schedule"], text["history"][0]):
        for key, value in list(holder.items()):
            if key in ("problem", "place"):
                continue
            for other in (*odd, float("nan"), float("-inf")):
                holder[key] = other
                yield key, other
            del holder[key]
            yield key, "deleted"
            holder[key] = value
    for key in ("place", "history"):
        value = text[key]
        for other in odd:
            text[key] = other
            yield key, other
        text[key] = value


def test_forged_files_give_a_result_or_an_error(path):
    killed(TopKSAE, path)
    tensors, about = read_described_tensors(path)
    text = json.loads(about["checkpoint"])
    problem = text["problem"]
    n_refused = 0

    def attempt():
        nonlocal n_refused
        path.write_bytes(b"".join(checkpoint_parts(tensors, text)))
        with np.errstate(all="ignore"):
            try:
                saved = module.read_checkpoint(path, "name", problem)
            except ValueError:
                n_refused += 1
                return
            if saved.finished:
                return  # a finished one needs no place
            try:
                resumed(TopKSAE, path)
            except ValueError:
                n_refused += 1

    for number, _ in enumerate(changed_texts(text)):
        if number % 5 == 0:
            attempt()
    assert n_refused > 20
    for name, value in list(tensors.items()):
        for other in (
            value[..., None],
            value.astype(np.float64 if value.dtype != np.float64 else np.float32),
            value.ravel()[:0],
        ):
            tensors[name] = other
            path.write_bytes(b"".join(checkpoint_parts(tensors, text)))
            with pytest.raises(ValueError, match="is damaged"):
                resumed(TopKSAE, path)
        tensors[name] = value
    for name in ("generator.now", "generator.at_the_epoch"):
        value = tensors[name]
        tensors[name] = np.zeros_like(value)
        path.write_bytes(b"".join(checkpoint_parts(tensors, text)))
        with pytest.raises(ValueError, match="not the state of a generator"):
            resumed(TopKSAE, path)
        tensors[name] = value


def test_values_that_a_checkpoint_cannot_hold(path):
    class Records(Callback):
        value = np.float32(0.5)

        def on_epoch_end(self, net, **kwargs):
            net.history.record("mine", self.value)

    whole = fit(new(ICFL, Records(), Checkpoint(path, every_steps=4)))
    assert whole.history_[0]["mine"] == 0.5
    path.unlink()
    records = Records()
    records.value = X
    with pytest.raises(ValueError, match="in the history as 'mine': a ndarray"):
        fit(new(ICFL, records, Checkpoint(path, every_steps=4)))


# Ctrl-C


@pytest.fixture(autouse=True)
def keyboard():
    """What Python does at Ctrl-C; jobs in the background of a shell ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("n_steps", "training"),
    [(4, True), (9, True), (18, True), (9, False), (18, False)],
)
def test_ctrl_c_keeps_the_last_step(path, n_steps, training):
    handler = signal.getsignal(signal.SIGINT)
    model = new(ICFL, At(n_steps, interrupt, training), Checkpoint(path))
    with pytest.raises(KeyboardInterrupt):
        model.fit(X)
    assert signal.getsignal(signal.SIGINT) is handler
    assert not hasattr(model, "components_")
    text = json.loads(read_described_tensors(path)[1]["checkpoint"])
    assert text["n_steps"] == n_steps
    assert_same(resumed(ICFL, path), fit(new(ICFL)))


def test_a_second_ctrl_c_does_not_wait(path):
    def twice():
        interrupt()
        with pytest.raises(KeyboardInterrupt):
            interrupt()
        raise Killed

    with pytest.raises(Killed):
        fit(new(ICFL, At(3, twice), Checkpoint(path)))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_after_the_last_step_is_not_lost(path):
    class Late(Callback):
        def on_train_end(self, net, **kwargs):
            interrupt()

    with pytest.raises(KeyboardInterrupt):
        fit(new(ICFL, Late(), Checkpoint(path, every_steps=3)))
    assert_same(resumed(ICFL, path), fit(new(ICFL)))


def test_handlers_of_others_and_other_threads(path):
    caught = []
    before = signal.signal(signal.SIGINT, lambda *args: caught.append(args))
    try:
        fit(new(ICFL, At(3, interrupt), Checkpoint(path)))
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(caught) == 1
    thread = threading.Thread(target=lambda: caught.append(resumed(ICFL, path)))
    thread.start()
    thread.join()
    assert_same(caught[1], fit(new(ICFL)))
