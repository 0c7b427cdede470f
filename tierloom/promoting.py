"""Promotions: a channel is pointed at a generation of a version, once that is known to be fit for it."""

from typing import Literal

from tierloom import names
from tierloom.channel import Channel, Served
from tierloom.errors import PromotionRefused
from tierloom.fronting import promote_latest
from tierloom.generations import find_generation, told_served
from tierloom.manifest import Manifest
from tierloom.mirroring.mirror import refuse_mirror
from tierloom.moving import Decision, Moved, move_to, moved, refuse_unfit
from tierloom.promotion_checks import floor_of, reasons_against, refuse_incomplete
from tierloom.stores.store import Store
from tierloom.versions import head_version, read_manifest


def promote(
    store: Store,
    version: int | Literal["latest"],
    channel: str,
    message: str = "",
    force: bool = False,
    checkpoint: str | None = None,
) -> Moved:
    """Point `channel` at a generation of a version, once its tiers are known to reach the recall floor and its objects
    to be there: that of `checkpoint` (a model, or the begin of a fingerprint), else that of the checkpoint which the
    channel serves now, else the one in the version's front. For `latest`, a version is published that has it there.

    `force` makes it go where it is refused for what was measured; the history then says so, and why. Who loses a race
    checks anew, and moves on from where the other has put it.

    Raises:
        PromotionRefused: the generation is not complete; or, without `force`, a tier misses the floor or was not
            measured, or nothing is live.
        InputError: there is no such version (any more), or generation in it; `channel` cannot be moved by hand; the
            store is a mirror.
        Corrupt: an object of the generation is gone.
    """
    refuse_mirror(store)
    if channel == names.LATEST and checkpoint is not None:
        return promote_latest(store, checkpoint, None if isinstance(version, str) else version, message, force)
    refuse_unfit(channel, message)
    stored = read_manifest(store, head_version(store) if isinstance(version, str) else version)
    chosen = None if checkpoint is None else find_generation(stored, checkpoint, store)

    def decide(seen: Channel | None) -> Decision:
        manifest = chosen or _like_before(stored, seen)
        if seen and Served(seen.version, seen.checkpoint or stored.checkpoint) == (stored.version, manifest.checkpoint):
            return Decision(manifest)
        refuse_incomplete(manifest, store)
        against = reasons_against(manifest, floor_of(manifest, store), store.url)
        if against and not force:
            raise PromotionRefused(
                f"{told_served(manifest, store)} is not promoted to {channel}: {'; '.join(against)}. "
                "--force promotes it all the same, and the channel's history will say so"
            )
        return Decision(manifest, move_to("promote", manifest, seen, message, against))

    return moved(store, channel, stored.version, decide)


def _like_before(manifest: Manifest, seen: Channel | None) -> Manifest:
    """The generation that the channel serves now, if the version has it; else the one in its front."""
    same = seen is not None and seen.checkpoint in manifest.checkpoints
    return manifest.of(seen.checkpoint if seen and same else None)
