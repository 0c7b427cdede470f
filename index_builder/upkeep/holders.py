"""Who keeps a version: channels that name it, and leases of those who read it or work on top of it."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tierloom import names
from tierloom.channel import Channel, read_channels
from tierloom.lease import CLOCK_SKEW, LeaseRecord, leases
from tierloom.stores.store import Listed, Store


@dataclass(frozen=True, slots=True)
class Holders:
    """`channels` without `latest`, which means the newest version wherever a writer that died has left it. `expired`
    are leases that hold nothing any more, as they were listed."""

    channels: tuple[Channel, ...]
    leases: tuple[tuple[Listed, LeaseRecord], ...]
    expired: tuple[Listed, ...]

    @property
    def of(self) -> dict[int, list[str]]:
        """Who keeps each version that anybody keeps, as people would say it."""
        found: defaultdict[int, list[str]] = defaultdict(list)
        for channel in self.channels:
            found[channel.version].append(f"channel {channel.name}")
        for _, lease in self.leases:
            found[lease.version].append(f"lease of {lease.holder}")
        return dict(found)

    @property
    def kept(self) -> frozenset[int]:
        """The versions that are not retired: those that anybody keeps, and the one that each channel would roll back
        to."""
        back = (served.version for channel in self.channels for served in channel.served[-2:])
        return frozenset((*self.of, *back))

    @property
    def working_since(self) -> float:
        """Nothing younger than this is garbage: somebody is at work on it. Infinite when nobody is."""
        began = [lease.working_since for _, lease in self.leases if lease.working_since is not None]
        return min(began, default=float("inf")) - CLOCK_SKEW.total_seconds()


def read_holders(store: Store, now: float) -> Holders:
    """Who keeps what at `now` (seconds since 1970). List the manifests before (`tierloom.lease` says why)."""
    every = list(leases(store))
    return Holders(
        channels=tuple(channel for channel in read_channels(store) if channel.name != names.LATEST),
        leases=tuple((listed, lease) for listed, lease in every if not lease.expired(now)),
        expired=tuple(listed for listed, lease in every if lease.expired(now)),
    )


def channels_at(channels: Sequence[Channel], version: int) -> tuple[Channel, ...]:
    """The channels that point to a version."""
    return tuple(channel for channel in channels if channel.version == version)
