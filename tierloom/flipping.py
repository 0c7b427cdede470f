"""The models of whoever follows a channel: the query side of another checkpoint is opened and tried before any query
meets its vectors."""

from tierloom.errors import EmbedderError, EmbedderRefused, FlipRefused, MissingExtra, QueryError
from tierloom.generations import told
from tierloom.manifest import Manifest
from tierloom.query_vectors import QueryVectors
from tierloom.stores.store import Store
from tierloom.versions import read_checkpoint


class QueryModels:
    """What a follower of `channel` embeds its queries with. Its caller sees to it that one thread is in here at a time.

    A model that was tried is kept until what it is for can be opened: it is not asked again at every look.
    """

    def __init__(self, store: Store, channel: str) -> None:
        self._store = store
        self._channel = channel
        self._tried: QueryVectors | None = None

    def of(self, manifest: Manifest, before: QueryVectors | None) -> QueryVectors:
        """Those of before if they are of the checkpoint of this generation, else new ones.

        Raises `FlipRefused`, which names the model and what is missing, if the new model cannot be asked where that of
        before can: a fleet that is asked by vectors alone needs none.
        """
        if before is not None and before.checkpoint.fingerprint == manifest.checkpoint:
            return before
        if self._tried is None or self._tried.checkpoint.fingerprint != manifest.checkpoint:
            self.close()
            vectors = QueryVectors(read_checkpoint(self._store, manifest.checkpoint))
            if before is not None and _embeds(before):
                self._try_out(vectors, before, manifest.version)
            self._tried = vectors
        return self._tried

    def taken(self) -> None:
        """What was given last is in use: whoever uses it closes it."""
        self._tried = None

    def close(self) -> None:
        """Let go of a model that never came into use."""
        if self._tried is not None:
            self._tried.close()
            self._tried = None

    def _try_out(self, vectors: QueryVectors, before: QueryVectors, version: int) -> None:
        try:
            vectors.try_out()
        except (EmbedderError, MissingExtra, QueryError) as error:
            vectors.close()
            raise FlipRefused(
                f"channel {self._channel} names {_told(vectors)} in version {version}, and this process cannot embed "
                f"queries for it: {error}. {_told(before)} is served on"
            ) from error


def _told(vectors: QueryVectors) -> str:
    return told(vectors.checkpoint.space.model, vectors.checkpoint.fingerprint)


def _embeds(vectors: QueryVectors) -> bool:
    try:
        vectors.embedder()
    except (EmbedderRefused, MissingExtra):
        return False
    return True
