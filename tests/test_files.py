"""Tests of the one writer of files, by itself and through `save` and `to_html`."""

import errno
import fcntl
import os
import stat
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from skdict import load, save
from skdict._utils import files
from skdict._utils.files import check_destination, locked, write_file
from skdict.report import FeatureReport


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def a_report():
    X = np.random.default_rng(0).normal(size=(30, 4))
    return FeatureReport(PCA(2).fit(X), X, verbose=False)


# Each gets a path and writes the file with everything that is before it.
WRITERS = {
    "write_file": lambda path: write_file(path, [b"some ", b"", b"content"]),
    "save": lambda path: save(StandardScaler(), path),
    "to_html": lambda path: a_report().to_html(path),
}


@pytest.fixture(params=WRITERS.values(), ids=WRITERS)
def write(request):
    return request.param


def test_content_and_size(tmp_path):
    path = tmp_path / "file"
    assert write_file(path, iter([b"one", bytearray(b""), memoryview(b"two")])) == 6
    assert path.read_bytes() == b"onetwo"
    assert write_file(os.fsencode(path), []) == 0
    assert path.read_bytes() == b""


def test_relative_paths(tmp_path, monkeypatch, write):
    monkeypatch.chdir(tmp_path)
    write("file")
    write("./other")
    assert sorted(os.listdir(tmp_path)) == ["file", "other"]


def test_new_file_follows_the_umask(tmp_path, write):
    for umask in (0o022, 0o077, 0o002):
        before = os.umask(umask)
        try:
            write(tmp_path / f"{umask}")
        finally:
            os.umask(before)
        assert mode_of(tmp_path / f"{umask}") == 0o666 & ~umask


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o755, 0o200])
def test_mode_stays(tmp_path, write, mode):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(mode)
    write(path)
    assert mode_of(path) == mode
    assert path.stat().st_size > 10


def test_content_is_never_more_readable_than_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o600)
    seen = []

    def parts():
        yield b"secret"
        seen.extend(mode_of(p) for p in tmp_path.iterdir())

    write_file(path, parts())
    assert seen == [0o600, 0o600]


def test_owner_stays_where_it_can(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    status = path.stat()
    asked = []
    monkeypatch.setattr(files.os, "fchown", lambda fd, *ids: asked.append(ids))
    write_file(path, [b"new"])
    assert asked == [(-1, status.st_gid), (status.st_uid, -1)]


def test_another_group_may_do_what_everybody_may(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o664)

    def refuse(*args):
        raise PermissionError(errno.EPERM, "not allowed")

    class OtherGroup:
        st_gid = path.stat().st_gid + 1

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fchown", refuse)
        write_file(path, [b"new"])
        assert mode_of(path) == 0o664  # the group is the same
        patch.setattr(files.os, "fstat", lambda fd: OtherGroup)
        patch.setattr(files.os.path, "samestat", lambda *args: True)
        write_file(path, [b"newer"])
    assert mode_of(path) == 0o644
    assert path.read_bytes() == b"newer"


def test_links_stay(tmp_path, write):
    (tmp_path / "folder").mkdir()
    target, link = tmp_path / "folder" / "target", tmp_path / "link"
    link.symlink_to(target)
    for _ in range(2):  # the target is missing, then old
        write(link)
        assert link.is_symlink()
        assert target.stat().st_size > 10
    assert sorted(os.listdir(tmp_path)) == ["folder", "link"]


def test_longest_name(tmp_path, write):
    path = tmp_path / ("ü" * 127 + "x")  # 255 bytes
    for _ in range(2):
        write(path)
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(OSError, match="long") as caught:
        write(tmp_path / ("x" * 256))
    assert caught.value.errno == errno.ENAMETOOLONG
    assert "xxx" in str(caught.value)


def places(folder):
    """What cannot be written, the error and its message."""
    (folder / "folder").mkdir()
    (folder / "file").write_bytes(b"old")
    (folder / "read-only").write_bytes(b"old")
    (folder / "read-only").chmod(0o444)
    (folder / "link").symlink_to(folder / "read-only")
    os.mkfifo(folder / "fifo")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "dangling").symlink_to(folder / "missing" / "file")
    (folder / "null").symlink_to("/dev/null")
    return {
        "": (FileNotFoundError, "path is empty"),
        ".": (IsADirectoryError, "folder"),
        "folder": (IsADirectoryError, "folder; name a file in it"),
        "new/": (IsADirectoryError, "folder; name a file in it"),
        "missing/file": (FileNotFoundError, r"no folder .*missing\."),
        "file/file": (OSError, "file/file|no folder .*file"),
        "dangling": (FileNotFoundError, r"dangling .*no folder .*missing\."),
        "read-only": (PermissionError, "read-only is read-only"),
        "link": (PermissionError, "link is read-only"),
        "fifo": (FileExistsError, "neither a file nor a new name"),
        "null": (FileExistsError, "neither a file nor a new name"),
        "/dev/null": (FileExistsError, "/dev/null is neither a file nor"),
        "loop": (OSError, "loop"),
    }


def snapshot(folder):
    return {p: (p.lstat().st_mode, p.lstat().st_mtime_ns) for p in folder.rglob("*")}


@pytest.mark.parametrize("name", ["write_file", "save", "to_html"])
def test_refused_places_stay_as_they_are(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    cases = places(tmp_path)
    before = snapshot(tmp_path.parent)
    for place, (error, message) in cases.items():
        with pytest.raises(error, match=message) as caught:
            WRITERS[name](place)
        assert ".skdict" not in str(caught.value)
    assert snapshot(tmp_path.parent) == before
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_folder_that_takes_no_files(tmp_path, monkeypatch):
    access = os.access
    monkeypatch.setattr(files.os, "access", lambda p, m: p != tmp_path and access(p, m))
    with pytest.raises(PermissionError, match=r"x cannot be .* folder .*read-only"):
        check_destination(tmp_path / "x")


def test_null_byte_and_other_types(tmp_path):
    with pytest.raises(ValueError, match="null"):
        write_file("a\0b", [])
    for thing in (3, None, 1.5):
        with pytest.raises(TypeError):
            write_file(thing, [])


class Crash(BaseException):
    """Not an Exception, as an interrupt from the keyboard is not."""


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError, Crash])
def test_crash_leaves_the_old_file(tmp_path, monkeypatch, write, step, error):
    path = tmp_path / "file"
    path.write_bytes(b"before")

    def crash(*args):
        raise error("crash")

    with monkeypatch.context() as patch:
        patch.setattr(files.os, step, crash)
        with pytest.raises(error, match="crash"):
            write(path)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]
    write(path)
    assert path.read_bytes() != b"before"


def test_error_of_the_content_is_passed_on(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    mine = OSError(errno.EIO, "mine", "my file")

    def parts():
        yield b"half"
        raise mine

    with pytest.raises(OSError, match="mine") as caught:
        write_file(path, parts())
    assert caught.value is mine
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_full_disk_names_the_path(tmp_path, monkeypatch, step):
    path = tmp_path / "my-file"

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device", *map(str, args[:1]))

    if step == "write":
        monkeypatch.setattr(files, "_write_all", full)
    else:
        monkeypatch.setattr(files.os, step, full)
    with pytest.raises(OSError, match=r"No space left .*my-file'$") as caught:
        write_file(path, [b"content"])
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_file_is_complete_on_the_disk_before_it_is_renamed(
    tmp_path, monkeypatch, write
):
    events = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(descriptor):
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        events.append(f"fsync {os.fstat(descriptor).st_size if is_file else 'folder'}")
        real_fsync(descriptor)

    def replace(source, target):
        assert os.path.dirname(source) == os.path.dirname(target)
        events.append("replace")
        real_replace(source, target)

    monkeypatch.setattr(files.os, "fsync", fsync)
    monkeypatch.setattr(files.os, "replace", replace)
    path = tmp_path / "file"
    write(path)
    assert events == [f"fsync {path.stat().st_size}", "replace", "fsync folder"]


def test_short_writes_are_continued():
    class Slow:
        content = b""

        def write(self, data):
            self.content += bytes(data[:3])
            return len(data[:3])

    slow = Slow()
    assert files._write_all(slow, b"0123456789") == 10
    assert slow.content == b"0123456789"


# Leftovers


KILLED = """
import os, signal, sys
from skdict._utils.files import write_file

def parts():
    yield b"half"
    os.kill(os.getpid(), signal.SIGKILL)

write_file(sys.argv[1], parts())
"""


def test_next_write_removes_what_a_killed_one_left(tmp_path):
    path, other = tmp_path / "file", tmp_path / "other"
    for target in (path, path, other):
        subprocess.run([sys.executable, "-c", KILLED, target], check=False)
    assert not path.exists()
    assert len(list(tmp_path.iterdir())) == 2  # the second removed the first's
    write_file(path, [b"new"])
    (left,) = set(tmp_path.iterdir()) - {path}
    assert left.name.startswith(files._prefix(other))
    write_file(other, [b"new"])
    assert sorted(tmp_path.iterdir()) == [path, other]


def test_writers_of_one_file_leave_each_other_alone(tmp_path):
    path = tmp_path / "file"
    contents = [bytes([i]) * 50_000 for i in range(1, 9)]
    errors = []

    def work(content):
        def slowly():
            for i in range(10):
                yield content[i::10]
                time.sleep(0.001)

        try:
            for _ in range(5):
                write_file(path, slowly())
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(c,)) for c in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]


def test_temporary_taken_for_a_leftover_is_made_anew(tmp_path, monkeypatch):
    path = tmp_path / "file"
    real_flock, calls = files.fcntl.flock, []

    def flock(descriptor, operation):
        if not calls:  # another writer comes between creating and locking
            (temporary,) = tmp_path.iterdir()
            temporary.unlink()
        calls.append(operation)
        real_flock(descriptor, operation)

    monkeypatch.setattr(files.fcntl, "flock", flock)
    write_file(path, [b"new"])
    assert len(calls) == 2
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_hostile_leftovers_do_no_harm(tmp_path):
    path, other = tmp_path / "file", tmp_path / "other"
    other.write_bytes(b"other")
    prefix = files._prefix(path)
    (tmp_path / f"{prefix}a.tmp").symlink_to(other)
    os.mkfifo(tmp_path / f"{prefix}b.tmp")
    (tmp_path / f"{prefix}c.tmp").mkdir()
    write_file(path, [b"new"])
    assert other.read_bytes() == b"other"
    assert path.read_bytes() == b"new"


def test_saved_file_loads_through_a_link(tmp_path):
    save(StandardScaler(), tmp_path / "target")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    save(PCA(), tmp_path / "link")
    assert isinstance(load(tmp_path / "target"), PCA)


def test_a_lock_is_for_one_and_leaves_nothing(tmp_path):
    path = tmp_path / "file"
    for _ in range(2):
        with locked(path, "a test"):
            with pytest.raises(BlockingIOError, match="in use by a test"):
                locked(path, "a test").__enter__()
            with locked(tmp_path / "other", "a test"):
                pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_was_removed_meanwhile_is_taken_anew(tmp_path, monkeypatch):
    path, flock, first = tmp_path / "file", fcntl.flock, []

    def remove_first(descriptor, operation):
        if not first:
            first.extend(tmp_path.iterdir())
            first[0].unlink()
        return flock(descriptor, operation)

    monkeypatch.setattr(files.fcntl, "flock", remove_first)
    with locked(path, "a test"), pytest.raises(BlockingIOError):
        locked(path, "a test").__enter__()


def test_without_locks_of_the_file_system_nothing_is_refused(tmp_path, monkeypatch):
    def refuse(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files.fcntl, "flock", refuse)
    with locked(tmp_path / "file", "a"), locked(tmp_path / "file", "b"):
        pass


@pytest.mark.parametrize("place", ["nowhere/file", ""])
def test_a_lock_needs_a_place_for_the_file(tmp_path, place):
    with pytest.raises(OSError, match=r"nowhere|folder"):
        locked(tmp_path / place, "a test").__enter__()
