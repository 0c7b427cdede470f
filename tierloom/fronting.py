"""Promoting a generation for `latest`: it follows every publish and serves what is in front, so a version is published
that is like the newest, with that generation in front."""

import uuid
from dataclasses import dataclass

import msgspec

from tierloom import names
from tierloom.channel import Channel, Move
from tierloom.commit import commit, now, writer
from tierloom.errors import InputError, PromotionRefused
from tierloom.generations import find_generation, told_served
from tierloom.manifest import Manifest, RunRecord
from tierloom.moving import Moved, mover
from tierloom.promotion_checks import (
    doubts,
    floor_of,
    reasons_against,
    refuse_incomplete,
    refuse_missing_objects,
)
from tierloom.run_report import RunReport, store_report
from tierloom.stores.probing import probe_preconditions
from tierloom.stores.store import Store
from tierloom.versions import read_head


def promote_latest(store: Store, checkpoint: str, version: int | None, message: str, force: bool) -> Moved:
    """Let `latest` serve the generation of `checkpoint` (a model, or the begin of a fingerprint) from now on.
    `version`, if it is given, must be the newest. Who loses a race for the next version checks the new head.

    Raises as `tierloom.promoting.promote` does, and `InputError` for a message, which nothing would keep.
    """
    if message:
        raise InputError(f"{names.LATEST} keeps no history of moves: leave the message {message!r} out")
    run = RunRecord(run=uuid.uuid4().hex, command="promote")
    before = _newest(store, version)
    chosen = find_generation(before, checkpoint, store)
    if chosen.checkpoint == before.checkpoint:
        return Moved(_latest(before.version), None, doubts(before))
    _refuse_unfit(chosen, store, force)
    probe_preconditions(store)
    refuse_missing_objects(chosen, store)
    fronting = _Fronting(store, chosen.checkpoint, run, force)
    published = commit(store, fronting.successor)
    fronted = published.run.run == run.run
    store_report(RunReport(record=run, other=run, version=published.version, published=fronted), store)
    return Moved(_latest(published.version), _told_move(published, before), doubts(published))


@dataclass(frozen=True, slots=True)
class _Fronting:
    store: Store
    checkpoint: str
    run: RunRecord
    force: bool

    def successor(self, head: Manifest) -> Manifest | None:
        """The head with that generation in front; None where it is there already."""
        if head.checkpoint == self.checkpoint:
            return None
        turned = head.of(self.checkpoint)
        _refuse_unfit(turned, self.store, self.force)
        behind = msgspec.structs.replace(head.own, run=self.run)
        return msgspec.structs.replace(
            turned, version=head.version + 1, created=now(), writer=writer(), run=self.run, other=behind
        )


def _newest(store: Store, version: int | None) -> Manifest:
    head = read_head(store)
    if version not in (None, head.version):
        raise InputError(
            f"{names.LATEST} serves the newest version, which is {head.version}, and never {version}; promote that "
            "(or latest), or point another channel at the other one"
        )
    return head


def _refuse_unfit(manifest: Manifest, store: Store, force: bool) -> None:
    refuse_incomplete(manifest, store)
    against = reasons_against(manifest, floor_of(manifest, store), store.url)
    if against and not force:
        raise PromotionRefused(
            f"{told_served(manifest, store)} is not brought to the front: {'; '.join(against)}. "
            "--force promotes it all the same"
        )


def _latest(version: int) -> Channel:
    return Channel(name=names.LATEST, version=version, serial=0)


def _told_move(published: Manifest, before: Manifest) -> Move:
    """For people: `latest` keeps no moves."""
    return Move(
        version=published.version,
        checkpoint=published.checkpoint,
        previous=before.version,
        previous_checkpoint=before.checkpoint,
        action="promote",
        at=published.created,
        by=mover(),
    )
