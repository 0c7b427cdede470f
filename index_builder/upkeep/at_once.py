"""Asking a store several things at once: one waits for each answer, and a bucket's takes its time."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

T = TypeVar("T")
R = TypeVar("R")

AT_ONCE: Final = 16


def of_each(work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """`work` of each item, several at a time; the results in order."""
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="upkeep") as pool:
        return list(pool.map(work, items))
