"""`make demo`, as a user sees it."""

import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text()


@pytest.mark.engine
def test_the_demo_ends_with_the_table_that_the_readme_shows(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.demo", str(tmp_path / "demo")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "version        1 published" in done.stdout
    found = {row[:22].strip(): float(row.split()[-1]) for row in done.stdout.splitlines()[-7:]}
    assert all(name in README for name in found)
    assert found["exact, full vectors"] == 1.0
    assert all(share >= 0.9 for name, share in found.items() if "rerank" in name)
    assert 0.4 < found["tier 64 alone"] <= found["tier 256 alone"]
