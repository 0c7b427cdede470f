"""What a run came to, as a textfile of Prometheus: for the collector of that name, or to be pushed.

docs/schedules.md has the table. A run that failed keeps the time of the last success from the file before.
"""

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click

from pipelines.telling import say, voice
from tierloom.errors import MissingExtra

_PREFIX: Final = "tierloom_run"
_LABELS: Final = ("command", "store")
_LAST_SUCCESS: Final = f"{_PREFIX}_last_success_timestamp_seconds"


def metrics_file_option(command: Any) -> Any:
    """`--metrics-file`, of what runs on a schedule."""
    return click.option(
        "--metrics-file",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="PATH.prom",
        expose_value=False,
        is_eager=True,
        callback=_note_file,
        help="Write what the run came to as a Prometheus textfile, whether it succeeds or not.",
    )(command)


def _note_file(_: click.Context, __: click.Parameter, path: Path | None) -> None:
    if path is None:
        return
    if path.suffix != ".prom":
        raise click.BadParameter(f"{path} does not end in .prom: the textfile collector reads nothing else")
    if not os.access(path.absolute().parent, os.W_OK | os.X_OK):
        raise click.BadParameter(f"{path.absolute().parent} is no folder that can be written to")
    try:
        import prometheus_client  # noqa: F401 -- asked before anything is done or paid
    except ModuleNotFoundError as error:
        raise MissingExtra("pipeline", "--metrics-file") from error
    voice().metrics_file = path


def write_run_metrics(
    path: Path, about: Mapping[str, Any], values: Mapping[str, Any], code: int | None, began: float
) -> None:
    """Write the file at once and whole. `values` are a command's result; `began` is by `time.monotonic`.

    The code is None while the run lasts. A disk that refuses is told, and changes nothing about the run.
    """
    # Late: an optional extra.
    from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

    registry = CollectorRegistry()
    labels = [str(about.get(name, "")) for name in _LABELS]
    now = time.time()

    def put(name: str, help_: str, value: float, **more: str) -> None:
        if (gauge := gauges.get(name)) is None:
            gauge = gauges[name] = Gauge(f"{_PREFIX}_{name}", help_, (*_LABELS, *more), registry=registry)
        gauge.labels(*labels, *more.values()).set(value)

    gauges: dict[str, Gauge] = {}
    if code is not None:
        put("success", "Whether the run ended with status 0", code == 0)
        put("exit_code", "With which status the run ended", code)
    put("timestamp_seconds", "When this was written: at the end, and now and then by a stream", now)
    put("duration_seconds", "How long the run took until then", time.monotonic() - began)
    succeeded = now if code == 0 else _last_success(path, labels)
    if succeeded is not None:
        put("last_success_timestamp_seconds", "When a run last ended with status 0", succeeded)
    for name, help_, more, value in _of_result(values):
        put(name, help_, value, **more)
    try:
        write_to_textfile(str(path), registry)
    except OSError as error:
        say(f"warning: {path} was not written: {error.strerror or error}", "metrics", "warning")


def _of_result(values: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, str], float]]:
    """The figures of a result that has any, with their labels."""
    for member, (name, help_) in _SINGLE.items():
        if isinstance(value := values.get(member), int | float):
            yield name, help_, {}, value
    for name, help_, kinds in _BY_KIND:
        for kind, member in kinds.items():
            if isinstance(value := _found(values, member), int | float):
                yield name, help_, {"kind": kind}, value


def _found(values: Mapping[str, Any], path: str) -> Any:
    found: Any = values
    for member in path.split("."):
        found = found.get(member) if isinstance(found, Mapping) else None
    return found


def _last_success(path: Path, labels: list[str]) -> float | None:
    """What the file before says of the same command and store; None where there is none that can be read."""
    from prometheus_client.parser import text_string_to_metric_families

    wanted = dict(zip(_LABELS, labels, strict=True))
    try:
        families = list(text_string_to_metric_families(path.read_text()))
    except (OSError, ValueError):
        return None
    samples = (sample for family in families for sample in family.samples)
    return next((s.value for s in samples if s.name == _LAST_SUCCESS and s.labels == wanted), None)


_SINGLE: Final = {
    "version": ("version", "The version that was the newest when the run ended"),
    "tokens": ("tokens", "Tokens paid for"),
    "retired": ("retired_versions", "Versions that were retired"),
    "bytes": ("freed_bytes", "Bytes that were removed"),
    "checked_objects": ("checked_objects", "Objects that were checked"),
    "wrong_objects": ("wrong_objects", "Things found wrong"),
    "minimum_cosine": ("canary_minimum_cosine", "Of the canaries, with what the model answered first"),
}
_BY_KIND: Final = (
    (
        "documents",
        "Documents by what became of them in this run, and how many are live now",
        {
            "in": "documents.documents_in",
            "superseded": "documents.superseded",
            "deleted": "documents.deleted",
            "dead_lettered": "documents.dead_lettered",
            "added": "added",
            "changed": "changed",
            "removed": "removed",
            "live": "live_documents",
        },
    ),
    (
        "chunks",
        "Chunks by where their vectors came from, and how many are live now",
        {"embedded": "embedded_chunks", "copied": "copied_chunks", "found": "found_chunks", "live": "live_chunks"},
    ),
)
