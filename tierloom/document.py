"""Documents and chunks: what is read, and the pieces that are embedded."""

import hashlib
from dataclasses import dataclass

from tierloom.dead_letter import KeptRecord

KEY_BYTES = 8
DOCUMENT_HASH_BYTES = 16
CONTENT_HASH_BYTES = 16


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a document was read: an absolute path, a `gs://` name or a stream, and the record in it.

    `offset` and `length` count bytes, or rows of a Parquet file; `length` is None for the rest of the source.
    `record` is there if the source cannot be read again; `stored_key` if all that is known of it is its `key`.
    """

    source: str
    offset: int = 0
    length: int | None = None
    record: KeptRecord | None = None
    stored_key: int | None = None

    @property
    def key(self) -> int:
        """The hash of the source's name, by which the documents that came from it are found again."""
        return source_key(self.source) if self.stored_key is None else self.stored_key


@dataclass(frozen=True, slots=True)
class Document:
    """The unit of change. `text` is Markdown if `markdown` is set, else plain text; `metadata` a JSON object."""

    document_id: str
    sequence: int
    text: str
    metadata: str
    origin: Origin
    title: str = ""
    markdown: bool = False


@dataclass(frozen=True, slots=True)
class Deletion:
    """A document that is to be no more. At equal sequences it wins over the document."""

    document_id: str
    sequence: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document. `model_input` is exactly what the model is sent; `tokens` is its length, by the
    tokenizer of the checkpoint."""

    document_id: str
    ordinal: int
    sequence: int
    heading: str
    text: str
    metadata: str
    model_input: str
    tokens: int
    origin: Origin

    @property
    def content_hash(self) -> bytes:
        """16 bytes of BLAKE2b over the bytes sent to the model."""
        return content_hash(self.model_input)


def content_hash(model_input: str) -> bytes:
    """16 bytes of BLAKE2b over what the model is sent."""
    return hashlib.blake2b(model_input.encode(), digest_size=CONTENT_HASH_BYTES).digest()


def document_hash(document_id: str) -> bytes:
    """16 bytes of BLAKE2b over the id: how a document is remembered when nothing of it may be kept."""
    return hashlib.blake2b(document_id.encode(), digest_size=DOCUMENT_HASH_BYTES).digest()


def source_key(source: str) -> int:
    """The 64-bit hash of the name of a source, by which the documents that came from it are found again."""
    return document_key(source)


def document_key(document_id: str) -> int:
    """The 64-bit hash under which a document's rows are sorted. Keys may collide; ids decide."""
    digest = hashlib.blake2b(document_id.encode(), digest_size=KEY_BYTES).digest()
    return int.from_bytes(digest, "little")
