"""Queries of the owner's own, one JSON object a line: `query` (a text) or `vector` (of the native dimensions), and
`relevant`, the ids of the documents that answer it, where they are known."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tierloom.errors import InputError


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    query: str | None = None
    vector: tuple[float, ...] | None = None
    relevant: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JudgedQuery:
    """A question or a query vector, and the ids of the documents that answer it; none where that is not known."""

    asked: str | tuple[float, ...]
    relevant: tuple[str, ...]


def read_queries(path: Path) -> list[JudgedQuery]:
    """The queries in a file. Raises `InputError` that names the line which is none, or the file if there are none."""
    try:
        with path.open("rb") as file:
            queries = list(_parsed(file, path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    if not queries:
        raise InputError(f'{path}: holds no query; write one JSON object a line, such as {{"query": "how to ..."}}')
    return queries


def _parsed(lines: Iterator[bytes], path: Path) -> Iterator[JudgedQuery]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _query(line, f"{path}, line {number}")


def _query(line: bytes, where: str) -> JudgedQuery:
    try:
        parsed = msgspec.json.decode(line, type=_Line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{where}: {error}; the members of a query are query, vector and relevant") from error
    if (parsed.query is None) == (parsed.vector is None):
        raise InputError(f"{where}: name either a query or a vector")
    return JudgedQuery(parsed.query if parsed.query is not None else parsed.vector or (), parsed.relevant)
