"""reStructuredText to Markdown, by way of docutils and HTML.

docutils does not know Sphinx's roles and directives: their text is kept, as is that of a directive it finds wrong.
File inclusion and raw markup are off.
"""

import re
from collections import defaultdict
from typing import Any, Final

from docutils import nodes
from docutils.core import publish_doctree, publish_from_doctree
from docutils.parsers.rst import Directive, Parser, directives, roles
from docutils.parsers.rst.languages import en
from docutils.parsers.rst.states import Inliner
from docutils.utils import Reporter, unescape
from docutils.writers.html5_polyglot import Writer

from transforms.reading.markup import Marked, html_to_markdown
from transforms.reading.refused import Refused

_SETTINGS: Final[dict[str, Any]] = {
    "_disable_config": True,
    "doctitle_xform": False,
    "embed_stylesheet": False,
    "file_insertion_enabled": False,
    "halt_level": Reporter.SEVERE_LEVEL + 1,
    "initial_header_level": 1,
    "line_length_limit": 1 << 26,
    "math_output": "LaTeX",
    "output_encoding": "unicode",
    "raw_enabled": False,
    "report_level": Reporter.SEVERE_LEVEL + 1,
    "syntax_highlight": "none",
    "warning_stream": False,
}
_DIRECTIVE: Final = re.compile(r"^[ \t]*\.\. +(?:\|[^|\n]+\| +)?([\w.:+-]+?)::(?:[ \t]|$)", re.MULTILINE)
_ROLE: Final = re.compile(r":([\w.:+-]{1,64}):`|`:([\w.:+-]{1,64}):")
_LONGEST_INLINE: Final = 10_000
_TARGET: Final = re.compile(r"\s*<[^<>]*>$")
# What only arranges the pages of a manual, and what is off.
_SILENT: Final = frozenset({"toctree", "index", "highlight", "currentmodule", "include", "raw", "tabularcolumns"})
_CODE: Final = ("code", "code-block", "sourcecode", "parsed-literal", "doctest", "testcode", "prompt")


def restructuredtext_to_markdown(source: str) -> Marked:
    """The text as Markdown, titled by its first heading. Raises `Refused` (`invalid-markup`)."""
    _register(source)
    try:
        doctree = publish_doctree(source, parser=Parser(inliner=_Inliner()), settings_overrides=_SETTINGS)
        _keep_refused(doctree)
        page: str = publish_from_doctree(doctree, writer=Writer(), settings_overrides=_SETTINGS)
    except Exception as error:  # docutils raises what its parts happen to raise, RecursionError among them
        raise Refused("invalid-markup", f"docutils: {type(error).__name__}: {error}") from error
    return html_to_markdown(page[page.index("<body") :])


class _Inliner(Inliner):
    """Leaves very long paragraphs as they are: docutils takes time quadratic in their length (60 kB: 40 s)."""

    # docutils builds its patterns from the variables of the very class, not of its bases.
    locals().update({name: value for name, value in vars(Inliner).items() if isinstance(value, str)})

    def parse(
        self, text: str, lineno: int, memo: Any, parent: nodes.Element
    ) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        if len(text) > _LONGEST_INLINE:
            return [nodes.Text(text)], []
        parsed: tuple[list[nodes.Node], list[nodes.system_message]] = super().parse(text, lineno, memo, parent)
        return parsed


class _Kept(Directive):
    """Any directive: its name and arguments as a paragraph, then its content."""

    has_content = True
    optional_arguments = 1
    final_argument_whitespace = True
    # Any option is accepted; the one that is named makes the mapping true, as docutils asks.
    option_spec = defaultdict(lambda: directives.unchanged, {"name": directives.unchanged})  # noqa: RUF012

    def run(self) -> list[nodes.Node]:
        kept: list[nodes.Node] = []
        if self.arguments:
            # The first line may be a signature: its asterisks are no emphasis.
            first, _, further = self.arguments[0].partition("\n")
            inline, _ = self.state.inline_text(further, self.lineno)
            kept.append(nodes.paragraph("", f"{self.name}: {first}\n", *inline))
        container = nodes.Element()
        self.state.nested_parse(self.content, self.content_offset, container)
        return kept + container.children


class _Code(_Kept):
    """Code in a language that need not be known, with any option."""

    def run(self) -> list[nodes.Node]:
        text = "\n".join(self.content)
        return [nodes.literal_block(text, text)] if text else []


class _Silent(_Kept):
    """A directive that says nothing to a reader."""

    def run(self) -> list[nodes.Node]:
        return []


def _kept_role(
    _name: str, rawtext: str, text: str, _line: int, _inliner: Inliner, *_options: object
) -> tuple[list[nodes.Node], list[nodes.system_message]]:
    """Any role: what Sphinx would show of "title <target>", "~package.name" and "!name"."""
    said = unescape(text)
    if said.startswith("~"):
        said = said.rpartition(".")[2].lstrip("~")
    said = _TARGET.sub("", said).removeprefix("!") or said
    return [nodes.inline(rawtext, said)], []


def _register(source: str) -> None:
    """Make known to docutils what `source` uses and docutils lacks."""
    for match in _DIRECTIVE.finditer(source):
        if (name := match[1].lower()) not in en.directives and name not in _OWN:
            directives.register_directive(name, _Kept)
    for match in _ROLE.finditer(source):
        if (name := (match[1] or match[2]).lower()) not in en.roles:
            roles.register_local_role(name, _kept_role)


def _keep_refused(doctree: nodes.document) -> None:
    """Put the source of what docutils found wrong back in its place, without the message."""
    for message in list(doctree.findall(nodes.system_message)):
        blocks = [child for child in message.children if isinstance(child, nodes.literal_block)]
        message.parent.replace(message, blocks)
    for problem in list(doctree.findall(nodes.problematic)):
        problem.parent.replace(problem, nodes.Text(problem.astext()))


_OWN: Final = dict.fromkeys(_CODE, _Code) | dict.fromkeys(_SILENT, _Silent)
for _name, _directive in _OWN.items():
    directives.register_directive(_name, _directive)
