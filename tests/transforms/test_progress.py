"""What a run says of itself while it lasts."""

from pathlib import Path

from pipelines.progress_display import progress_line
from transforms.progress import Progress, total_progress


def test_batches_that_are_waited_for_are_shown(tmp_path: Path) -> None:
    first, second = Progress(str(tmp_path)), Progress(str(tmp_path))
    first.add(done=10, cut=40, bytes=500)
    first.waits_for(2, 1000, 24, since=1_700_000_000.5)
    second.waits_for(1, 2000, 1000, since=1_690_000_000.0)
    line = progress_line(total_progress(tmp_path), 1000, 5.0)
    assert line.endswith("; 3 batches under way since 2023-07-22 04:26 UTC, 1,024 of 3,000 requests answered")
    second.waits_for(0, 0, 0, since=None)
    first.waits_for(1, 1, 0, since=1_700_000_000.0)
    line = progress_line(total_progress(tmp_path), 1000, 5.0)
    assert line.endswith("; 1 batch under way since 2023-11-14 22:13 UTC, 0 of 1 request answered")
    first.waits_for(0, 0, 0, since=None)
    assert "batch" not in progress_line(total_progress(tmp_path), 1000, 5.0)


def test_where_nobody_watches_nothing_is_written(tmp_path: Path) -> None:
    for folder in (None, str(tmp_path / "absent")):
        Progress(folder).waits_for(1, 1, 1, since=1.0)
    assert not list(tmp_path.iterdir())
