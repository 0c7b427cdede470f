"""What a collection holds in each of its generations."""

from collections import Counter
from pathlib import Path

from tierloom.manifest import Manifest
from tierloom.object_files import ObjectFiles
from tierloom.snapshot import Snapshot
from tierloom.stores.opening import open_store
from tierloom.versions import read_checkpoint, read_head

Texts = dict[tuple[str, int, int], str]


def open_generation(store: str | Path, generation: Manifest) -> Snapshot:
    """A version as one of its generations has it."""
    opened = open_store(str(store))
    return Snapshot(generation, read_checkpoint(opened, generation.checkpoint), ObjectFiles(opened))


def texts_in(store: str | Path, generation: Manifest) -> Texts:
    """The text of every live chunk by document, sequence and ordinal. Each is there once, and once in each tier; the
    counts add up."""
    with open_generation(store, generation) as snapshot:
        chunks = list(snapshot.chunks())
        texts = {(chunk.document_id, chunk.sequence, chunk.ordinal): chunk.text for chunk in chunks}
        assert len(texts) == len(chunks)
        whole = Counter((chunk.document_id, chunk.ordinal) for chunk in chunks)
        query = [1.0] * snapshot.checkpoint.space.dimensions
        for tier in generation.collection.tiers:
            hits = snapshot.search(query, tier=tier.name, shortlist=100_000, top=100_000)
            assert Counter((hit.document_id, hit.ordinal) for hit in hits) == whole
    assert generation.documents.adds_up
    assert generation.documents.live == len({document_id for document_id, _, _ in texts})
    return texts


def agreed_texts(store: str | Path) -> Texts:
    """The same of both generations, which hold the same."""
    one, two = read_head(open_store(str(store))).generations
    assert one.is_complete
    assert two.is_complete
    texts = texts_in(store, one)
    assert texts_in(store, two) == texts
    return texts
