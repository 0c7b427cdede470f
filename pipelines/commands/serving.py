"""tierloom serving: how a collection is searched."""

from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from pipelines.commands.generation_option import checkpoint_option, generation_named
from pipelines.commands.tables import table
from tierloom.declaring_serving import declared_serving
from tierloom.gate import Estimate, Gate
from tierloom.manifest import Manifest
from tierloom.serving import DEFAULT_SHORTLIST, Profile, Serving
from tierloom.stores.opening import open_store
from tierloom.stores.store import Store
from tierloom.versions import read_head


@click.command("serving")
@click.argument("store")
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path), metavar="[FILE.toml]")
@checkpoint_option
@click.option("--json", "as_json", is_flag=True, help="Print the profiles and routes as JSON.")
def command(store: str, file: Path | None, generation: str | None, as_json: bool) -> None:
    """Show how STORE is searched: its profiles, and which class of queries gets which. With FILE.toml, set them.

    A new version says so; its documents and tiers are those of the one before. Classes that no route names, and queries
    without a class, get the default profile. Each generation is searched by profiles of its own.
    """
    opened = open_store(store)
    manifest = generation_named(generation, read_head(opened), opened)
    if file is not None:
        manifest = _set(opened, file, manifest.checkpoint)
    click.echo(msgspec.json.encode(_values(manifest)) if as_json else "\n".join(_lines(manifest)))


def _set(store: Store, file: Path, checkpoint: str) -> Manifest:
    # Here, for publishing takes the libraries that measure, and who only looks does without.
    from index_builder.upkeep.serving import set_serving

    return set_serving(store, declared_serving(file), checkpoint)


def _lines(manifest: Manifest) -> Iterator[str]:
    serving = manifest.collection.serving
    yield f"version {manifest.version}, recall floor {manifest.collection.recall_floor:g}"
    yield table(
        [
            ("default", serving.default or "none: the largest int8 tier, reranked"),
            *((f"profile {name}", _described(profile, manifest.gate)) for name, profile in _by_name(serving)),
            *((f"route {query_class}", profile) for query_class, profile in sorted(serving.routes.items())),
        ]
    )


def _by_name(serving: Serving) -> list[tuple[str, Profile]]:
    return sorted(serving.profiles.items())


def _described(profile: Profile, gate: Gate | None) -> str:
    steps = [f"tier {profile.tier}", f"shortlist {_shortlist(profile, gate):,} ({_chosen(profile, gate)})"]
    steps += [f"best {step.keep:,} by {step.dimensions:,} dimensions" for step in profile.funnel]
    if profile.rerank:
        steps.append("reranked")
    recall = _recall(profile, gate)
    measured = f"; recall {recall.mean:.3f} ({recall.low:.3f} to {recall.high:.3f})" if recall else "; not measured"
    return f"{', '.join(steps)}, top {profile.top:,}{measured}"


def _shortlist(profile: Profile, gate: Gate | None) -> int:
    """The shortlist in force."""
    return profile.shortlist or _safe(profile, gate) or DEFAULT_SHORTLIST


def _safe(profile: Profile, gate: Gate | None) -> int | None:
    quality = gate.of_tier(profile.tier) if gate else None
    return quality.safe_shortlist if quality else None


def _chosen(profile: Profile, gate: Gate | None) -> str:
    if profile.shortlist:
        return "declared"
    return "measured to be safe" if _safe(profile, gate) else "nothing was measured"


def _recall(profile: Profile, gate: Gate | None) -> Estimate | None:
    """What was measured of the tier alone, or of its largest reranked shortlist that is not above this one; a funnel
    may lose more."""
    if gate is None or profile.funnel or (quality := gate.of_tier(profile.tier)) is None:
        return None
    if not profile.rerank:
        return quality.alone.recall
    shortlist = _shortlist(profile, gate)
    known = [one.quality.recall for one in quality.reranked if one.shortlist <= shortlist]
    return known[-1] if known else None


def _values(manifest: Manifest) -> dict[str, object]:
    serving = manifest.collection.serving
    return {
        "version": manifest.version,
        "recall_floor": manifest.collection.recall_floor,
        "measured_floor": manifest.gate.floor if manifest.gate else None,
        "default": serving.default,
        "routes": serving.routes,
        "profiles": {
            name: msgspec.to_builtins(profile)
            | {
                "shortlist_in_force": _shortlist(profile, manifest.gate),
                "safe_shortlist": _safe(profile, manifest.gate),
                "recall": msgspec.to_builtins(_recall(profile, manifest.gate)),
            }
            for name, profile in _by_name(serving)
        },
    }
