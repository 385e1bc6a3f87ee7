"""The one writer of files: a file is replaced as a whole or not at all.

The new file is written beside the old one and renamed once it is complete on the
disk. It gets the old one's mode, access lists and, where the system allows it, owner.
It is another file with the same name: a hard link to the old one keeps the old
content.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_POSIX: bool = os.name == "posix"
if _POSIX:
    import fcntl

__all__ = ["check_destination", "locked", "write_file"]


def check_destination(path: str | bytes | os.PathLike) -> Path:
    """Raise an OSError that names `path` if no file can be written there.

    Parameters
    ----------
    path : str, bytes or path-like
        What the user gave.

    Returns
    -------
    Path
        The file itself, where `path` is a symbolic link to it.

    Raises
    ------
    FileNotFoundError
        If `path` is empty or its folder does not exist.
    IsADirectoryError
        If `path` names a folder.
    FileExistsError
        If `path` names something that is not a file, such as a device.
    PermissionError
        If the mode of the file is read-only, even where the user may overrule it, or
        if the folder takes no new files.
    OSError
        If the system does not accept the name, for instance because it is too long.
    """
    given = os.fsdecode(path)
    if not given:
        raise FileNotFoundError("The path is empty: name a file.")
    separators = tuple(filter(None, (os.sep, os.altsep)))
    if os.path.isdir(given) or given.endswith(separators):
        raise IsADirectoryError(f"{given} is a folder; name a file in it.")
    file = Path(os.path.realpath(given))
    if not file.parent.is_dir():
        raise FileNotFoundError(
            f"{given} cannot be written: there is no folder {file.parent}."
        )
    with suppress(FileNotFoundError):
        mode = os.stat(given).st_mode
        if not stat.S_ISREG(mode):
            raise FileExistsError(f"{given} is neither a file nor a new name.")
        if not mode & 0o222 or not os.access(file, os.W_OK):
            raise PermissionError(f"{given} is read-only.")
    if not os.access(file.parent, os.W_OK | os.X_OK):
        raise PermissionError(
            f"{given} cannot be written: the folder {file.parent} is read-only."
        )
    return file


def write_file(path: str | bytes | os.PathLike, parts: Iterable[bytes]) -> int:
    """Replace the file at `path` by all of the parts, or leave it as it was.

    Parameters
    ----------
    path : str, bytes or path-like
        A new name, or a file that is replaced. A symbolic link stays, and the file
        behind it is replaced.
    parts : iterable of bytes
        The content. Exceptions of the iterable are passed on.

    Returns
    -------
    int
        The size of the file.

    Raises
    ------
    OSError
        As from :func:`check_destination`, and if writing fails, for instance because
        the disk is full. The message names `path`.
    """
    file = check_destination(path)
    _remove_leftovers(file)
    with _naming(path):
        temporary, descriptor = _create_beside(file)
    size = 0
    try:
        # Unbuffered, so that closing has nothing left to write.
        with open(descriptor, "wb", buffering=0) as stream:
            for part in parts:
                with _naming(path):
                    size += _write_all(stream, part)
            with _naming(path):
                if file.exists():
                    _take_over(file, stream.fileno())
                os.fsync(stream.fileno())
                # Rename while the file is locked: another writer could remove it after.
                if _POSIX:
                    os.replace(temporary, file)
        if not _POSIX:  # Windows renames closed files only
            with _naming(path):
                os.replace(temporary, file)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
    _sync_folder(file.parent)
    return size


@contextmanager
def locked(path: str | bytes | os.PathLike, what: str) -> Iterator[None]:
    """Keep other processes and threads from a name that will be written to.

    The lock is that of a hidden file in the same folder. The system lets it go when the
    process ends, however it does. There are no locks on Windows, and on file systems
    without locks they have no effect.

    Parameters
    ----------
    path : str, bytes or path-like
        A file that is there or will be.
    what : str
        Who else may hold the lock, for the message.

    Raises
    ------
    BlockingIOError
        If another one holds the lock.
    OSError
        As from :func:`check_destination`.
    """
    file = check_destination(path)
    if not _POSIX:
        yield
        return
    place = file.with_name(f"{_prefix(file)}.lock")
    while True:
        with _naming(path):
            descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise BlockingIOError(
                errno.EWOULDBLOCK, f"in use by {what}", os.fsdecode(path)
            ) from None
        except OSError:  # some network file systems have no locks
            break
        # The one that had it may have removed the file before it was locked.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.stat(place), os.fstat(descriptor)):
                break
        os.close(descriptor)
    try:
        yield
    finally:
        with suppress(OSError):
            os.unlink(place)
        os.close(descriptor)


def _write_all(stream: io.FileIO, part: bytes) -> int:
    rest = memoryview(part).cast("B")
    while rest:
        rest = rest[stream.write(rest) :]
    return len(part)


@contextmanager
def _naming(path: str | bytes | os.PathLike) -> Iterator[None]:
    """Make errors of the system name the user's path instead of the temporary file."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, os.fsdecode(path)) from error


# Temporary files


def _prefix(file: Path) -> str:
    """Start of the names of the temporary files for `file`, whatever its length."""
    digest = hashlib.blake2s(os.fsencode(file.name), digest_size=6).hexdigest()
    return f".skdict-{digest}-"


def _create_beside(file: Path) -> tuple[Path, int]:
    """Create a locked file in the folder of `file`."""
    # Not by tempfile, whose files only their owner can read. A file that will replace
    # another starts like that, too, until it has taken over the other's mode.
    mode = 0o600 if file.exists() else 0o666
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    while True:
        temporary = file.with_name(f"{_prefix(file)}{secrets.token_hex(4)}.tmp")
        descriptor = os.open(temporary, flags, mode)
        if not _POSIX:
            return temporary, descriptor
        with suppress(OSError):  # some network file systems have no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Another writer may have taken it for a leftover before it was locked.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.stat(temporary), os.fstat(descriptor)):
                return temporary, descriptor
        os.close(descriptor)


def _remove_leftovers(file: Path) -> None:
    """Remove temporary files of writers that were killed."""
    if not _POSIX:
        return
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW
    for leftover in file.parent.glob(f"{_prefix(file)}*.tmp"):
        with suppress(OSError):  # a writer that lives holds the lock
            descriptor = os.open(leftover, flags)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(leftover)
            finally:
                os.close(descriptor)


def _take_over(old: Path, descriptor: int) -> None:
    """Give the new file the owner, the access lists and the mode of the old one."""
    if not _POSIX:
        return
    status = old.stat()
    mode = status.st_mode & 0o777
    with suppress(PermissionError):
        os.fchown(descriptor, -1, status.st_gid)
    with suppress(PermissionError):
        os.fchown(descriptor, status.st_uid, -1)
    if os.fstat(descriptor).st_gid != status.st_gid:
        # The new group may do what everybody may.
        mode = mode & ~0o070 | (mode & 0o007) << 3
    if hasattr(os, "listxattr"):
        with suppress(OSError):  # not every file system has them
            for name in os.listxattr(old):
                with suppress(OSError):
                    os.setxattr(descriptor, name, os.getxattr(old, name))
    os.fchmod(descriptor, mode)


def _sync_folder(folder: Path) -> None:
    """Write the rename itself to the disk."""
    if not _POSIX:
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # one may write to a folder that one may not list
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems cannot sync a folder
            raise
    finally:
        os.close(descriptor)
