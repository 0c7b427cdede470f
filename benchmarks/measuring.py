"""How every claim is measured and printed: two ways of doing one thing, run in turn, and the ratio of their speeds."""

import argparse
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds of each run: entry n of both was measured side by side, so that a busy machine slows both."""

    ours: tuple[float, ...]
    reference: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Our speed over that of the reference: the median over the pairs of runs."""
        return median(theirs / ours for ours, theirs in zip(self.ours, self.reference, strict=True))


def seconds(work: Callable[[], object]) -> float:
    """How long `work` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def in_turn(ours: Callable[[], float], reference: Callable[[], float], runs: int) -> Timings:
    """Run both `runs` times, A B B A A B ...: each gives the seconds it took of what is to be compared."""
    timed: list[tuple[float, float]] = []
    for run in range(runs):
        if run % 2:
            theirs, own = reference(), ours()
        else:
            own, theirs = ours(), reference()
        timed.append((own, theirs))
    return Timings(tuple(own for own, _ in timed), tuple(theirs for _, theirs in timed))


def show(claim: str, names: tuple[str, str], timings: Timings, amount: float, unit: str, target: float) -> None:
    """Print ours, the reference and their ratio; `amount` units of work were done in each run."""
    show_claim(f"{claim}; medians of {len(timings.ours)} runs in turn")
    width = max(map(len, names))
    for name, times in zip(names, (timings.ours, timings.reference), strict=True):
        middle = median(times)
        print(f"  {name:<{width}}  {middle:10.4f} s  {amount / middle:14,.1f} {unit}/s")
    print(f"  {'ratio':<{width}}  {timings.ratio:10.2f}    (target: at least {target:g})", flush=True)


def show_claim(claim: str) -> None:
    """The heading of a figure: what was measured, and where."""
    print(f"{claim}; {len(os.sched_getaffinity(0))} cores, {platform.machine()}, Python {platform.python_version()}")


def sizes(description: str | None, full: Mapping[str, int], quick: Mapping[str, int]) -> argparse.Namespace:
    """The sizes to measure at, from the command line: those of `full`, with `--quick` those of `quick`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller sizes, for a first look")
    for name, size in full.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=int, help=f"default {size:,}, with --quick {quick[name]:,}"
        )
    given = vars(parser.parse_args())
    chosen = quick if given["quick"] else full
    return argparse.Namespace(**{name: size if given[name] is None else given[name] for name, size in chosen.items()})
