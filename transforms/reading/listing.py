"""Which files a source names: a folder, a glob or a file, on disk or under `gs://`."""

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pyarrow import fs

from tierloom.errors import SourceError
from transforms.reading.filesystems import GCS, file_info, filesystem_of

_WILD: Final = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Found:
    """A file of a source. `identity` is one spelling for one place; `name` its path from the source's root."""

    uri: str
    identity: str
    name: str
    size: int
    modified_ns: int
    explicit: bool = False


def find_files(source: str) -> Iterator[Found]:
    """The files of `source`, hidden ones left out unless it names them. Raises `SourceError`."""
    try:
        yield from _find_remote(source) if source.startswith(GCS) else _find_local(source)
    except OSError as error:
        raise SourceError(f"source {shown_path(source)!r} cannot be listed: {error}") from error


def covers(source: str, uri: str) -> bool:
    """Whether `uri`, a file that may be no more, is one that `source` would name."""
    root = source.rstrip("/") if source.startswith(GCS) else shown_path(os.path.abspath(source))  # noqa: PTH100
    if uri == root or uri.startswith(f"{root}/"):
        return True
    if not _WILD.search(source):
        return False
    glob = split_glob(root)
    relative = uri.removeprefix(f"{glob.base.rstrip('/')}/")
    return relative != uri and glob.matches(relative)


def shown_path(path: str) -> str:
    """`path` with what is not UTF-8 in it escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _find_local(source: str) -> Iterator[Found]:
    path = Path(os.path.abspath(source))  # noqa: PTH100 - `resolve` would replace the link that the user named
    if path.is_dir():
        yield from _walk(path, _EVERY)
    elif os.path.lexists(path):
        yield _explicit(path, source)
    elif _WILD.search(source):
        glob = split_glob(path.as_posix())
        yield from _walk(Path(glob.base), glob)
    else:
        raise _missing(source)


def _explicit(path: Path, source: str) -> Found:
    found = _local(path, path.name, explicit=True)
    if found is None:
        raise SourceError(f"source {shown_path(source)!r} is not a regular file")
    return found


def _walk(root: Path, glob: "Glob") -> Iterator[Found]:
    # Links to folders are not followed (as `grep -r`, `find`): no loop, and no file under two names.
    for folder, folders, files in os.walk(root, onerror=_raise):
        folders[:] = sorted(name for name in folders if glob.hidden or not name.startswith("."))
        for file in sorted(files):
            path = Path(folder, file)
            relative = path.relative_to(root).as_posix()
            if glob.matches(relative) and (found := _local(path, _under(root.name, relative))):
                yield found


def _raise(error: OSError) -> None:
    raise error


def _local(path: Path, name: str, explicit: bool = False) -> Found | None:
    """None for what is no regular file: reading a pipe might never end."""
    uri = shown_path(path.as_posix())
    identity = shown_path(os.path.join(os.path.realpath(path.parent), path.name))  # noqa: PTH118
    try:
        state = path.stat()
    except OSError:  # a link to nothing, say: the reader will tell
        return Found(uri, identity, shown_path(name), 0, 0, explicit)
    if not stat.S_ISREG(state.st_mode):
        return None
    return Found(uri, identity, shown_path(name), state.st_size, state.st_mtime_ns, explicit)


def _find_remote(source: str) -> Iterator[Found]:
    uri = source.rstrip("/")
    info = file_info(uri)
    if info.type == fs.FileType.File:
        yield _remote(info, info.base_name, explicit=True)
    elif info.type == fs.FileType.Directory:
        yield from _select(uri, _EVERY)
    elif _WILD.search(source):
        glob = split_glob(source)
        yield from _select(glob.base, glob)
    else:
        raise _missing(source)


def _select(base: str, glob: "Glob") -> Iterator[Found]:
    filesystem, root = filesystem_of(base)
    selector = fs.FileSelector(root, allow_not_found=True, recursive=True)
    for info in sorted(filesystem.get_file_info(selector), key=lambda info: info.path):
        relative = info.path.removeprefix(root).lstrip("/")
        if info.type == fs.FileType.File and glob.matches(relative):
            yield _remote(info, _under(root.rpartition("/")[2], relative))


def _remote(info: fs.FileInfo, name: str, explicit: bool = False) -> Found:
    uri = GCS + info.path
    return Found(uri, uri, name, info.size or 0, info.mtime_ns or 0, explicit)


def _under(root_name: str, relative: str) -> str:
    return f"{root_name}/{relative}" if root_name else relative


def _missing(source: str) -> SourceError:
    return SourceError(
        f"source {shown_path(source)!r} does not exist; name a file, a folder or a glob, here or under gs://"
    )


@dataclass(frozen=True, slots=True)
class Glob:
    """A pattern below the folder `base`; `hidden` if it names something that starts with a dot."""

    base: str
    pattern: re.Pattern[str]
    hidden: bool

    def matches(self, relative: str) -> bool:
        return self.pattern.fullmatch(relative) is not None


def split_glob(source: str) -> Glob:
    """The folder before the first wildcard of `source`, and what the path below it must match.

    `*`, `?` and `[...]` stay inside one name, `**` crosses folders; a name that starts with a dot is matched
    only by a segment that does. Raises `SourceError` for a pattern that is none.
    """
    segments = source.split("/")
    first = next(number for number, segment in enumerate(segments) if _WILD.search(segment))
    wild = segments[first:]
    try:
        pattern = re.compile(_expression(wild), re.DOTALL)
    except re.error as error:
        raise SourceError(f"source {shown_path(source)!r} is not a valid glob: {error}") from error
    return Glob("/".join(segments[:first]) or "/", pattern, any(segment.startswith(".") for segment in wild))


def _expression(segments: list[str]) -> str:
    last = len(segments) - 1
    parts = []
    for number, segment in enumerate(segments):
        if segment == "**":
            parts.append(r"(?:(?!\.)[^/]+/)*" + (r"(?!\.)[^/]+" if number == last else ""))
        else:
            parts.append(_segment(segment) + ("" if number == last else "/"))
    return "".join(parts)


def _segment(segment: str) -> str:
    guard = "" if segment.startswith(".") else r"(?!\.)"
    pieces = re.split(r"(\*+|\?|\[!?\]?[^\]]*\])", segment)
    return guard + "".join(_wildcard(piece) for piece in pieces)


def _wildcard(piece: str) -> str:
    if piece.startswith("*"):
        return "[^/]*"
    if piece == "?":
        return "[^/]"
    if piece.startswith("[") and piece.endswith("]"):
        inside = piece[1:-1].replace("\\", r"\\")
        return "[" + ("^" + inside[1:] if inside.startswith("!") else inside) + "]"
    return re.escape(piece)


_EVERY: Final = split_glob("./**")
