"""tierloom report: where it writes, and what it needs."""

from pathlib import Path

import pytest

from tests.made_reports import grown
from tests.pipelines.command_line import ok, run, run_apart


@pytest.fixture
def store(tmp_path: Path) -> Path:
    grown(tmp_path / "store")
    return tmp_path / "store"


def test_it_writes_one_file(tmp_path: Path, store: Path) -> None:
    page = tmp_path / "page.html"

    finished = ok(run("report", store, "-o", page))

    assert finished.out == f"{page}: {page.stat().st_size / 1000:.1f} kB\n"
    assert page.read_text().startswith("<!doctype html>")


def test_the_bytes_are_the_same_in_other_processes(tmp_path: Path, store: Path) -> None:
    pages = [tmp_path / f"{at}.html" for at in range(2)]
    settings = tmp_path / "settings"
    settings.mkdir()
    (settings / "matplotlibrc").write_text("font.size: 30\naxes.facecolor: red\nsvg.fonttype: path\n")
    other = {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "LC_ALL": "C", "MATPLOTLIBRC": str(settings)}

    ok(run("report", store, "-o", pages[0]))
    ok(run_apart("report", store, "-o", pages[1], environment=other))

    assert pages[0].read_bytes() == pages[1].read_bytes()


def test_only_the_last_versions_are_drawn_if_so_asked(tmp_path: Path, store: Path) -> None:
    ok(run("report", store, "-o", tmp_path / "page.html", "--last", 3))

    assert "3 versions, 10 to 12." in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize("missing", ["matplotlib", "jinja2"])
def test_it_names_the_extra_that_is_missing(tmp_path: Path, store: Path, missing: str) -> None:
    finished = run_apart("report", store, "-o", tmp_path / "page.html", before=f"sys.modules[{missing!r}] = None")

    assert "tierloom[report]" in finished.error
    assert not (tmp_path / "page.html").exists()


def test_it_needs_neither_beam_nor_a_display(tmp_path: Path, store: Path) -> None:
    forbidden = "\n".join(f"sys.modules[{name!r}] = None" for name in ("apache_beam", "matplotlib.pyplot", "tkinter"))

    ok(run_apart("report", store, "-o", tmp_path / "page.html", before=forbidden))


def test_a_page_that_cannot_be_written_is_an_error_of_one_line(tmp_path: Path, store: Path) -> None:
    assert "-o" in run("report", store, "-o", tmp_path / "no" / "such" / "page.html").error


def test_what_is_no_collection_is_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()

    assert "holds no collection" in run("report", tmp_path / "nothing", "-o", tmp_path / "page.html").error


def test_the_templates_are_part_of_the_wheel() -> None:
    from hatchling.builders.wheel import WheelBuilder

    root = Path(__file__).parents[3]
    files = {included.distribution_path for included in WheelBuilder(str(root)).recurse_included_files()}

    templates = {path.relative_to(root).as_posix() for path in (root / "pipelines/report/templates").iterdir()}
    assert len(templates) >= 7
    assert templates <= files
