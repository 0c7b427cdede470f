"""One embedding, woven into every serving tier: the reader of Tierloom collections.

>>> import tierloom
>>> with tierloom.open("my-store") as snapshot:  # doctest: +SKIP
...     for hit in snapshot.search("how do I open a file?", tier=64):
...         print(hit.score, hit.document_id, hit.text)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tierloom.answer import Answer, Hit
    from tierloom.following import Follower, follow
    from tierloom.opening import open_snapshot as open  # noqa: A004 -- read as `tierloom.open`
    from tierloom.serving import Narrowing, Profile
    from tierloom.snapshot import LiveChunk, Snapshot

__all__ = ["Answer", "Follower", "Hit", "LiveChunk", "Narrowing", "Profile", "Snapshot", "follow", "open"]

_HOMES: Final = {
    "Answer": ("tierloom.answer", "Answer"),
    "Follower": ("tierloom.following", "Follower"),
    "Hit": ("tierloom.answer", "Hit"),
    "LiveChunk": ("tierloom.snapshot", "LiveChunk"),
    "Narrowing": ("tierloom.serving", "Narrowing"),
    "Profile": ("tierloom.serving", "Profile"),
    "Snapshot": ("tierloom.snapshot", "Snapshot"),
    "follow": ("tierloom.following", "follow"),
    "open": ("tierloom.opening", "open_snapshot"),
}


def __getattr__(name: str) -> Any:
    """Load the reader when it is first named: its libraries take half a second, and most commands need none."""
    if name not in _HOMES:
        raise AttributeError(f"module 'tierloom' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)
