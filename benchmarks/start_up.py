"""How long it takes to start: the command line and the library, beside the bare interpreter."""

import subprocess
import sys
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks import corpus
from benchmarks.measuring import in_turn, seconds, show_claim, sizes
from tierloom.stores.local import LocalStore


def commands(store: str) -> dict[str, list[str]]:
    """What is started, by the name to print."""
    tierloom = [str(Path(sys.executable).with_name("tierloom"))]
    return {
        "tierloom --help": [*tierloom, "--help"],
        "tierloom show STORE": [*tierloom, "show", store],
        "tierloom dead-letters STORE": [*tierloom, "dead-letters", store],
        "tierloom init --help": [*tierloom, "init", "--help"],
        "import tierloom": [sys.executable, "-c", "import tierloom"],
        "tierloom.open(STORE)": [sys.executable, "-c", f"import tierloom; tierloom.open({store!r})"],
    }


def _start(command: list[str]) -> float:
    return seconds(partial(subprocess.run, command, check=True, stdout=subprocess.DEVNULL))


def main() -> None:
    size = sizes(__doc__, {"runs": 15}, {"runs": 5})
    with TemporaryDirectory(prefix="tierloom-") as folder:
        store = LocalStore(Path(folder) / "store")
        corpus.create(store, corpus.checkpoint())
        show_claim(f"start-up: medians of {size.runs} runs, each in turn with a bare interpreter")
        for name, command in commands(store.url).items():
            timings = in_turn(partial(_start, command), partial(_start, [sys.executable, "-c", ""]), size.runs)
            ours, bare = median(timings.ours), median(timings.reference)
            print(
                f"  {name:<28}  {ours:6.3f} s   bare interpreter  {bare:6.3f} s   ({1 / timings.ratio:.1f} times)",
                flush=True,
            )
    print("  (target: well under a second)")


if __name__ == "__main__":
    main()
