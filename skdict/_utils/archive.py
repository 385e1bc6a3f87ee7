"""Limits that keep the work on a skops archive in proportion to its size.

An archive is a zip file of arrays and of ``schema.json``, a tree of nodes. Nothing in
it is compressed, every array fills its member, every member belongs to one object,
and an object that is met again is written in full again. So no file makes a reader
allocate or visit more than it holds. Only headers and the tree are read here.
"""

from __future__ import annotations

import io
import json
import math
import re
import zipfile
from typing import IO, Any

import numpy as np

__all__ = ["check_archive", "unmap_arrays"]

SCHEMA = "schema.json"
# Names as skops gives them, without folders.
_MEMBER_NAME = re.compile(r"[\w-]+\.(json|npy|bin)", re.ASCII)
# Levels of JSON. An estimator inside another takes about 8.
_MAX_DEPTH = 300
_ONLY_IN_THE_ROOT = ("protocol", "_skops_version")
# Largest number of elements that an array without bytes may claim to have.
_MAX_EMPTY = 2**24


def check_archive(file: IO[bytes]) -> None:
    """Raise a ValueError if a skops archive asks for more work than its size tells.

    Parameters
    ----------
    file : binary file
        Open for reading, and seekable.

    Raises
    ------
    ValueError, zipfile.BadZipFile, KeyError
        Says what is wrong.
    """
    with zipfile.ZipFile(file) as archive:
        sizes = _check_members(archive)
        readers = _readers(json.loads(archive.read(SCHEMA)))
        for name in sizes:
            if len(readers.get(name, ())) > 1:
                raise ValueError(f"{name} is read by several objects")
            if name.endswith(".npy"):
                _check_array(archive, name)


def _check_members(archive: zipfile.ZipFile) -> dict[str, int]:
    """Return the sizes of the members, after a check that none overlap."""
    sizes: dict[str, int] = {}
    for member in archive.infolist():
        name = member.filename
        if not _MEMBER_NAME.fullmatch(name) or name != member.orig_filename:
            raise ValueError(f"{name!r} is no name of a member")
        if name in sizes:
            raise ValueError(f"there are two members {name}")
        if member.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{name} is compressed, which skdict.save never does")
        if member.compress_size != member.file_size:
            raise ValueError(f"{name} has two sizes")
        sizes[name] = member.file_size
    file = archive.fp
    assert file is not None
    if sum(sizes.values()) > file.seek(0, io.SEEK_END):
        raise ValueError("the members are larger than the file, so they overlap")
    return sizes


def _check_array(archive: zipfile.ZipFile, name: str) -> None:
    """Compare the array that a header promises with the bytes that follow."""
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    with archive.open(name) as member:
        version = np.lib.format.read_magic(member)
        if version not in read_header:
            raise ValueError(f"{name} has the unknown version {version}")
        shape, _, dtype = read_header[version](member)
        rest = archive.getinfo(name).file_size - member.tell()
    if dtype.hasobject:
        raise ValueError(f"{name} holds objects")
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != rest:
        raise ValueError(
            f"{name} promises an array of shape {shape} and dtype {dtype}, but holds "
            f"{rest} bytes"
        )
    if math.prod(max(size, 1) for size in shape) > max(rest, _MAX_EMPTY):
        raise ValueError(f"{name} has the shape {shape}, but no elements")


def _readers(schema: Any) -> dict[str, set]:
    """Check the tree, and return the objects that read each member.

    If skops meets a node with a known id, it takes the node for a reference to the
    earlier one. References to references would let a short file stand for a huge tree.
    Nodes of one id must therefore be equally large. Then no node can refer to one that
    contains it, and the tree has no more nodes than the text.
    """
    readers: dict[str, set] = {}
    sizes_by_id: dict[Any, int] = {}
    if not isinstance(schema, dict):
        raise ValueError(f"{SCHEMA} is a {type(schema).__name__}")
    # Children come after their parents, so a sum from the end knows their sizes first.
    values: list[tuple[Any, int]] = [(schema, -1)]
    depths = [1]
    for position, (value, _) in enumerate(values):
        if isinstance(value, dict):
            children = list(value.values())
        elif isinstance(value, list):
            children = value
        else:
            continue
        values += [(child, position) for child in children]
        depths += [depths[position] + 1] * len(children)
    if max(depths) > _MAX_DEPTH:
        raise ValueError(f"objects are nested more than {_MAX_DEPTH} levels deep")
    sizes = [1] * len(values)
    for position in range(len(values) - 1, 0, -1):
        sizes[values[position][1]] += sizes[position]
    sizes[0] -= sum(key in schema for key in _ONLY_IN_THE_ROOT)
    for (value, _), size in zip(values, sizes, strict=True):
        if not isinstance(value, dict):
            continue
        identity = value.get("__id__", f"node {id(value)}")
        # A dict of nodes may have any keys, but its values are nodes, not numbers.
        if not isinstance(identity, dict | list | None) and (
            sizes_by_id.setdefault(identity, size) != size
        ):
            raise ValueError(f"object {identity} refers to itself or to a part of it")
        if value.get("__loader__") == "JsonNode" and not _is_plain(value["content"]):
            raise ValueError("a plain value is written as a list or as an object")
        if isinstance(value.get("file"), str):
            readers.setdefault(value["file"], set()).add(str(identity))
    return readers


def _is_plain(text: Any) -> bool:
    """Whether JSON text is a string, a number, a boolean or null."""
    return isinstance(text, str) and text.lstrip()[:1] not in ("[", "{")


def unmap_arrays(data: bytes) -> bytes:
    """Rewrite an archive of skops so that memory-mapped arrays are plain ones."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        text = archive.read(SCHEMA)
        if b'"memmap"' not in text:
            return data
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as plain:
            for name in archive.namelist():
                content = archive.read(name)
                if name == SCHEMA:
                    schema = json.loads(content, object_hook=_unmapped)
                    content = json.dumps(schema).encode()
                plain.writestr(name, content)
    return buffer.getvalue()


def _unmapped(node: dict[str, Any]) -> dict[str, Any]:
    if node.get("__loader__") == "NdArrayNode" and node["__class__"] == "memmap":
        return {**node, "__class__": "ndarray", "__module__": "numpy"}
    return node
