import time
from pathlib import Path

import pytest

from transforms.reading.refused import Refused
from transforms.reading.restructuredtext import restructuredtext_to_markdown

SPHINX = """
Running
=======

Use :func:`asyncio.run`, :class:`~package.Thing`, :ref:`the label <foo>`, :py:meth:`!plain` and `key`:kbd:. ``lit``

.. versionadded:: 3.7
   It is new.

.. deprecated:: 3.9
   Use :prop_test:`Other` instead.

.. py:function:: run(coro, *args, **options)
   :module: x
   :no-index:

   Execute the *coroutine*.

   .. note:: An inner note.

.. toctree::
   :maxdepth: 2

   other-page

.. code-block:: python3
   :emphasize-lines: 1

   import asyncio

Details
-------

Text |unknown| and `a link <http://example.org>`_ and broken_ ref and *unclosed

==== ====
crossing it
==== ====
"""


def test_text_in_sphinx_roles_and_directives_is_kept() -> None:
    text = restructuredtext_to_markdown(SPHINX).text

    assert "Use asyncio.run, Thing, the label, plain and key. lit" in text
    assert "versionadded: 3.7" in text
    assert "It is new." in text
    assert "deprecated: 3.9\nUse Other instead." in text
    assert "py:function: run(coro, *args, **options)" in text
    assert "Execute the *coroutine*." in text
    assert "An inner note." in text
    assert "```\nimport asyncio\n```" in text
    for kept in ["|unknown| and a link and ", "broken_", "*unclosed", "crossing it"]:
        assert kept in text
    for dropped in ["other-page", "no-index", "emphasize", "System Message", "ERROR"]:
        assert dropped not in text


def test_sections_are_headings_and_the_first_is_the_title() -> None:
    marked = restructuredtext_to_markdown(SPHINX)
    assert marked.title == "Running"
    assert "# Running\n" in marked.text
    assert "## Details\n" in marked.text


@pytest.mark.parametrize(
    "source", [".. include:: {path}", ".. raw:: html\n   :file: {path}", ".. csv-table:: x\n   :file: {path}",
               ".. literalinclude:: {path}", ".. |x| include:: {path}"],
)  # fmt: skip
def test_no_file_is_included(tmp_path: Path, source: str) -> None:
    path = tmp_path / "secret.txt"
    path.write_text("planted secret")

    assert "planted" not in restructuredtext_to_markdown(f"Title\n=====\n\n{source.format(path=path)}\n\nend\n").text


def test_raw_html_is_left_out() -> None:
    assert "alert" not in restructuredtext_to_markdown("x\n\n.. raw:: html\n\n   <script>alert(1)</script>\n").text


def test_a_wrong_directive_keeps_its_text() -> None:
    source = "x\n\n.. list-table::\n   :widths: 1 2 3\n\n   * - a cell\n\n.. figure::\n\n   a legend\n"
    text = restructuredtext_to_markdown(source).text
    assert "a cell" in text
    assert "a legend" in text


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    restructuredtext_to_markdown(
        "Bad\n==\n\n*unclosed\n\n.. nowhere::\n\n:bad:`x` |y|\n\n+--+\n| x\n\nA\n~~\n\nB\n--\n"
    )
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("levels", [300])
def test_what_docutils_cannot_parse_is_refused(levels: int) -> None:
    with pytest.raises(Refused, match="invalid-markup: docutils: RecursionError"):
        restructuredtext_to_markdown("\n".join("  " * level + "* x\n" for level in range(levels)))


@pytest.mark.parametrize("unit", ["a_ ", ":a", "`", "|a", "[a"])
def test_long_lines_take_no_quadratic_time(unit: str) -> None:
    started = time.process_time()
    restructuredtext_to_markdown(unit * 20_000)
    # Without a bound, 55 s of docutils' own.
    assert time.process_time() - started < 15
