"""The log of a server: one line an event, on standard error."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal

from tierloom.server.tracing import REQUEST_ID

LogFormat = Literal["json", "text"]


def set_up_logs(kind: LogFormat) -> None:
    """Ours from INFO on; of others only what went wrong."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if kind == "json" else _TextLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("tierloom").setLevel(logging.INFO)


class _JsonLines(logging.Formatter):
    """An object a line. A message that is a JSON object itself gives its members; an error brings its traceback."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            **_members(record),
        }
        if (request_id := REQUEST_ID.get()) is not None:
            line.setdefault("request_id", request_id)
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class _TextLines(logging.Formatter):
    """Time, logger and message, and the request they belong to."""

    def format(self, record: logging.LogRecord) -> str:
        said = " ".join(f"{name}={_shown(value)}" for name, value in _members(record).items())
        request_id = REQUEST_ID.get()
        line = f"{_time(record)} {record.levelname.lower()} {record.name} [{request_id or '-'}] {said}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _members(record: logging.LogRecord) -> dict[str, Any]:
    message = record.getMessage()
    if record.name.startswith("tierloom.") and message.startswith("{"):
        members: dict[str, Any] = json.loads(message)
        return members
    return {"message": message}


def _shown(value: Any) -> str:
    """What was sent by others cannot begin a line of its own."""
    return value if isinstance(value, str) and value.isprintable() else json.dumps(value)
