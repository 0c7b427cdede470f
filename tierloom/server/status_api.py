"""What is served and how it fares: `/v1/version`, `/healthz`, `/readyz`, `/metrics`."""

from datetime import datetime

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from tierloom.collection import Tier
from tierloom.manifest import Manifest
from tierloom.server.metrics import Metrics
from tierloom.server.refusals import not_ready
from tierloom.server.replies import json_response
from tierloom.server.served import Served
from tierloom.serving import Profile


class TierReply(msgspec.Struct, frozen=True):
    """A tier and what the gate measured: `recall` of the tier alone, and `reranked_recall` of its safe shortlist."""

    name: str
    dimensions: int
    kind: str
    safe_shortlist: int | None
    recall: float | None
    reranked_recall: float | None


class VersionReply(msgspec.Struct, frozen=True):
    """What is served. `since` is when this server took the version up; `last_error` why the channel could not be
    followed at the last look, if it could not."""

    version: int
    channel: str
    created: str
    since: datetime
    checkpoint: str
    model: str
    revision: str
    dimensions: int
    live_chunks: int
    recall_floor: float
    tiers: list[TierReply]
    profiles: dict[str, Profile]
    routes: dict[str, str]
    default: str | None
    last_error: str | None


class Health(msgspec.Struct, frozen=True):
    status: str


class StatusApi:
    def __init__(self, channel: str, served: Served, metrics: Metrics) -> None:
        self._channel = channel
        self._served = served
        self._metrics = metrics

    async def version(self, request: Request) -> Response:
        follower = self._served.follower
        with follower.pinned() as snapshot:
            manifest, space, tiers = snapshot.manifest, snapshot.checkpoint.space, snapshot.tiers
        collection, error = manifest.collection, follower.last_error
        return json_response(
            VersionReply(
                version=manifest.version,
                channel=self._channel,
                created=manifest.created,
                since=follower.moved_at,
                checkpoint=collection.checkpoint,
                model=space.model,
                revision=space.revision,
                dimensions=space.dimensions,
                live_chunks=manifest.live_chunks,
                recall_floor=collection.recall_floor,
                tiers=[_tier_reply(manifest, tier) for tier in tiers],
                profiles=dict(collection.serving.profiles),
                routes=dict(collection.serving.routes),
                default=collection.serving.default,
                last_error=None if error is None else str(error),
            )
        )

    async def healthz(self, request: Request) -> Response:
        return json_response(Health("alive"))

    async def readyz(self, request: Request) -> Response:
        if (reason := self._served.unready) is not None:
            raise not_ready(reason)
        return json_response(Health("ready"))

    async def metrics(self, request: Request) -> Response:
        return Response(self._metrics.exposition(), media_type=CONTENT_TYPE_LATEST)


def _tier_reply(manifest: Manifest, tier: Tier) -> TierReply:
    quality = manifest.gate.of_tier(tier.name) if manifest.gate else None
    safe = quality.safe_shortlist if quality else None
    reranked = (found for found in (quality.reranked if quality else ()) if found.shortlist == safe)
    return TierReply(
        name=tier.name,
        dimensions=tier.dimensions,
        kind=tier.kind,
        safe_shortlist=safe,
        recall=quality.alone.recall.mean if quality else None,
        reranked_recall=next((found.quality.recall.mean for found in reranked), None),
    )
