"""Questions with their answers, of which every machine that runs these tests has tens of thousands: the first lines of
docstrings, and what follows them."""

import re
import sys
import sysconfig
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

_EMPTY_LINE: Final = re.compile(r"\n[ \t]*\n")


def questions_and_answers(count: int) -> list[tuple[str, str]]:
    """`count` pairs, no two with the same answer."""
    found = list(islice(_pairs(), count))
    assert len(found) == count
    return found


def _pairs() -> Iterator[tuple[str, str]]:
    seen = set[str]()
    packages = sorted(folder for folder in sys.path if folder.endswith("site-packages"))
    for folder in (sysconfig.get_path("stdlib"), *packages):
        for path in sorted(Path(folder).rglob("*.py")):
            # What is between the first and the second, the third and the fourth, and so on.
            for docstring in path.read_text(errors="replace").split('"""')[1::2]:
                question, *rest = _EMPTY_LINE.split(docstring, maxsplit=1)
                question, answer = " ".join(question.split()), " ".join("".join(rest).split())[:600]
                if 20 <= len(question) <= 200 and len(answer) >= 80 and answer not in seen:
                    seen.add(answer)
                    yield question, answer
