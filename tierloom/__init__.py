"""One embedding, woven into every serving tier: the reader of Tierloom collections.

>>> import tierloom
>>> with tierloom.open("my-store") as snapshot:  # doctest: +SKIP
...     for hit in snapshot.search("how do I open a file?", tier=64):
...         print(hit.score, hit.document_id, hit.text)
"""

from tierloom.opening import open_snapshot as open  # noqa: A004 -- read as `tierloom.open`
from tierloom.snapshot import Hit, LiveChunk, Snapshot

__all__ = ["Hit", "LiveChunk", "Snapshot", "open"]
