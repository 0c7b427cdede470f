import time

import pytest

from transforms.reading.markup import html_to_markdown
from transforms.reading.refused import Refused

PAGE = """<!DOCTYPE html>
<html><head><title>
 Set &amp; up</title><style>p {color: red}</style><script>var hidden = "<p>no</p>";</script></head>
<body><nav><a href="/">Home</a></nav><header><h1>Setting up</h1></header>
<main><h2>Install<a class="headerlink" href="#i">¶</a></h2><p>Run <code>pip install x_y</code> &lt;now&gt;.</p>
<pre><code class="language-python">def f():
    return "a  b"
</code></pre>
<table><tr><th>a</th><th>b</th></tr><tr><td>1|2</td><td>3</td></tr></table>
<ul><li>one<ul><li>two</li></ul></li></ul>
<img src="data:image/png;base64,AAAA" alt="The logo">
</main><footer>Imprint</footer></body></html>"""


def test_a_page_becomes_markdown_without_what_stands_around_it() -> None:
    marked = html_to_markdown(PAGE)

    assert marked.title == "Set & up"
    for kept in [
        "# Setting up",
        "## Install\n",
        "`pip install x_y`",
        '    return "a  b"',
        "```",
        "| 1\\|2 | 3 |",
        "two",
    ]:
        assert kept in marked.text
    for dropped in ["hidden", "color", "Home", "Imprint", "base64", "¶"]:
        assert dropped not in marked.text
    assert "The logo" in marked.text


def test_links_leave_their_text_alone() -> None:
    source = (
        '<h2><a href="#i">Set</a></h2><p>see <a href="x.html" title="t">the <b>part</b></a></p><pre><a href="y">T</a>'
    )
    text = html_to_markdown(source).text
    assert "## Set\n" in text
    assert "see the **part**\n" in text
    assert "```\nT" in text
    assert html_to_markdown("<p><a href='x'>skip</a> <a href='y'>continue</a></p>").text.strip() == "skip continue"


def test_without_a_title_the_first_heading_is_it() -> None:
    assert html_to_markdown("<p>x</p><h2>Two <em>words</em></h2>").title == "Two words"
    assert html_to_markdown("<p>x</p>").title == ""


@pytest.mark.parametrize(
    "source",
    ["<div>" * 20_000, "<ul><li>" * 5000, "<b>" * 100_000, "<table><tr><td>" * 2000],
)
def test_text_nested_too_deeply_is_refused_not_lost(source: str) -> None:
    with pytest.raises(Refused, match="invalid-markup: the HTML is nested too deeply"):
        html_to_markdown(source + "lost")


@pytest.mark.parametrize(
    "source",
    ["<p>one<p>kept<b>bold<i>x</b>y<table><tr><td>c", "kept & < > &bogus; &#xffffffff;", "<div>" * 300 + "kept",
     "kept</div></div></p>", "<!-- x --><p>kept", "<html><body><h1>kept", "kept"],
)  # fmt: skip
def test_broken_html_keeps_its_text(source: str) -> None:
    assert "kept" in html_to_markdown(source).text


def test_a_large_page_is_no_matter_of_minutes() -> None:
    body = PAGE[PAGE.index("<h2>") : PAGE.index("</main>")]
    started = time.process_time()
    html_to_markdown(body * (1_000_000 // len(body)))
    # 0.2 s on the machine this was written on; a quadratic parser takes minutes.
    assert time.process_time() - started < 20
