"""A real corpus that every machine has: the documentation inside the installed Python."""

import importlib
import inspect
import json
import pkgutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

# Importing these opens a browser, prints, starts a window or runs tests.
_NOT_IMPORTED = frozenset({"antigravity", "idlelib", "test", "this", "tkinter", "turtle", "turtledemo"})

# Shorter ones say nothing that could answer a question.
_SHORTEST = 40


def write_documentation(path: Path) -> int:
    """Write one JSONL record for each documented module, class, function and method; return how many.

    Their `sequence` is the version of Python: writing them again changes nothing.
    """
    written = 0
    with path.open("w", encoding="utf-8") as file:
        for record in _records():
            file.write(json.dumps(record, ensure_ascii=True) + "\n")
            written += 1
    return written


def _records() -> Iterator[dict[str, Any]]:
    seen: set[str] = set()
    for module in _modules():
        for name, kind, documented in _documented(module):
            text = _text(documented)
            if len(text) >= _SHORTEST and name not in seen and text not in seen:
                # Aliases and inherited docs are there once.
                seen |= {name, text}
                yield _record(name, kind, module.__name__, _signature(documented), text)


def _record(name: str, kind: str, module: str, signature: str, text: str) -> dict[str, Any]:
    return {
        "id": name,
        "title": name + signature,
        "text": text,
        "sequence": sys.hexversion,
        "kind": kind,
        "module": module,
    }


def _modules() -> Iterator[ModuleType]:
    for name in sorted(sys.stdlib_module_names - _NOT_IMPORTED):
        if not name.startswith("_") and (module := _imported(name)):
            yield module
            for inner in sorted(info.name for info in pkgutil.iter_modules(getattr(module, "__path__", []))):
                if not inner.startswith("_") and inner not in _NOT_IMPORTED | {"tests"}:
                    yield from filter(None, [_imported(f"{name}.{inner}")])


def _imported(name: str) -> ModuleType | None:
    """The module, or None where it cannot be imported on this machine (another system's, or not built)."""
    with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except (Exception, SystemExit):  # what a module of the standard library raises at import is its own affair
            return None


def _documented(module: ModuleType) -> Iterator[tuple[str, str, Any]]:
    yield module.__name__, "module", module
    for name, member in sorted(vars(module).items()):
        if name.startswith("_") or getattr(member, "__module__", None) not in (module.__name__, None):
            continue
        if inspect.isclass(member):
            yield f"{module.__name__}.{name}", "class", member
            yield from _methods(f"{module.__name__}.{name}", member)
        elif inspect.isroutine(member):
            yield f"{module.__name__}.{name}", "function", member


def _methods(owner: str, documented: type) -> Iterator[tuple[str, str, Any]]:
    for name, member in sorted(vars(documented).items()):
        if not name.startswith("_") and (inspect.isroutine(member) or isinstance(member, property)):
            yield f"{owner}.{name}", "method", member


def _text(documented: Any) -> str:
    try:
        text = inspect.getdoc(documented)
    except Exception:  # descriptors may run code of their own
        return ""
    return text if isinstance(text, str) else ""


def _signature(documented: Any) -> str:
    try:
        return str(inspect.signature(documented)) if inspect.isroutine(documented) else ""
    except Exception:  # a signature may be an expression that cannot be evaluated here
        return ""
