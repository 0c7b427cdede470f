"""What a command tells besides its result: on standard error, as text or as one JSON object a line.

There is one voice in a process, that of the command it runs: progress is told by threads that know nothing of it.
"""

import contextlib
import json
import logging
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import click

from tierloom.errors import TierloomError

LogFormat = Literal["text", "json"]
Level = Literal["info", "warning", "error"]


@dataclass(slots=True)
class Voice:
    """How the command under way is told. `about` are members of every line: command, store and run. `result` is what
    it came to, once it did; `metrics_file` where that is to be written; `interrupted`,
    that a signal ended it, which we may have sent ourselves: then `ended_by` says why."""

    format: LogFormat = "text"
    about: dict[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] = field(default_factory=dict)
    metrics_file: Path | None = None
    interrupted: bool = False
    ended_by: TierloomError | None = None


_voice = Voice()
# Whose warnings are for the user too.
_HEARD: Final = ("tierloom", "py.warnings")
_writing: Final = threading.Lock()


def voice() -> Voice:
    """The voice of the command under way."""
    return _voice


@contextlib.contextmanager
def speaking(format_: LogFormat) -> Iterator[Voice]:
    """One command is told, from its start to its end."""
    global _voice
    before = _voice
    _voice = Voice(format_)
    handlers = logging.root.handlers[:]
    levels = {name: logging.getLogger(name).level for name in ("root", *_HEARD)}
    try:
        if format_ == "json":
            speak_json()
        yield _voice
    finally:
        _voice = before
        logging.captureWarnings(False)
        logging.root.handlers[:] = handlers
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def speak_json() -> None:
    """From now on every line of standard error is JSON, those of libraries too."""
    _voice.format = "json"
    handler = logging.StreamHandler(_LiveStandardError())
    handler.setFormatter(_JsonLine())
    # Of others only errors: several have warnings for us that no user can do anything about.
    logging.basicConfig(level=logging.ERROR, handlers=[handler], force=True)
    logging.captureWarnings(True)
    for name in _HEARD:
        logging.getLogger(name).setLevel(logging.WARNING)


def is_structured() -> bool:
    """Whether lines are JSON: then nothing is drawn, though there be a terminal."""
    return _voice.format == "json"


def say(text: str, event: str = "note", level: Level = "info", **values: Any) -> None:
    """One line for people; as JSON it is the `message` beside `values`, which must be JSON values."""
    line = json_line(event, level, text, values) if is_structured() else text
    with _writing:
        click.echo(line, err=True)


def give_result(values: Mapping[str, Any], text: str, as_json: bool) -> None:
    """The end of a command: on standard output as JSON or as `text`; in a structured log as a line besides."""
    note_result(values)
    click.echo(json.dumps(values) if as_json else text)
    sys.stdout.flush()


def note_result(values: Mapping[str, Any]) -> None:
    """What a command came to: for the log, if it is structured, and for the metrics."""
    _voice.result = values
    if is_structured():
        say("done", "result", result=values)


def say_error(error: BaseException) -> None:
    """Why a command ended."""
    say(str(error) if is_structured() else f"error: {error}", "error", "error", type=type(error).__name__)


def say_usage(error: click.ClickException) -> None:
    """That a command line was none."""
    if is_structured():
        say(error.format_message(), "error", "error", type=type(error).__name__)
    else:
        error.show()


def say_unforeseen(error: Exception) -> None:
    """An error that is none of ours, with its traceback."""
    lines = "".join(traceback.format_exception(error))
    said = (str(error) or type(error).__name__) if is_structured() else lines.rstrip()
    say(said, "error", "error", type=type(error).__name__, traceback=lines)


def json_line(event: str, level: str, message: str, values: Mapping[str, Any]) -> str:
    """One line of a structured log. `values` never hide what every line has."""
    every = {"time": rfc3339(datetime.now(UTC)), "level": level, "event": event, **_voice.about, "message": message}
    return json.dumps({**every, **{name: value for name, value in values.items() if name not in every}}, default=str)


def rfc3339(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def wanted_format(arguments: Sequence[str], environment: Mapping[str, str]) -> LogFormat:
    """What a command line asks for, wherever it says so: known before click has found out that it is none."""
    said = environment.get(LOG_FORMAT_VARIABLE, "")
    for at, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == "--log-format":
            said = value if equals else "".join(arguments[at + 1 : at + 2])
    return "json" if said == "json" else "text"


LOG_FORMAT_VARIABLE: Final = "TIERLOOM_LOG_FORMAT"


def log_format_option() -> click.Option:
    """Of every command; `wanted_format` has read it already."""
    return click.Option(
        ["--log-format"],
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        envvar=LOG_FORMAT_VARIABLE,
        expose_value=False,
        help="Of standard error: lines for people, or a JSON object a line.",
    )


class _LiveStandardError:
    """Whatever `sys.stderr` is at the moment."""

    def write(self, text: str) -> None:
        with _writing:
            sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


class _JsonLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        values: dict[str, Any] = {"logger": record.name}
        if record.exc_info:
            values["traceback"] = self.formatException(record.exc_info)
        return json_line("log", record.levelname.lower(), record.getMessage(), values)
