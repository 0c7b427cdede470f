"""tierloom advise: which tiers should this corpus have? By measurement on a sample of it."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
import numpy as np
from numpy.typing import NDArray

from index_builder.advising.candidates import candidate_tiers
from index_builder.advising.choosing import Wish, choose
from index_builder.advising.measuring import Option, try_tier
from index_builder.advising.trial import Trial, held_out, make_trial
from index_builder.probing.prefixes import probe_prefixes
from index_builder.probing.sizes import probed_sizes
from index_builder.sampling import sample_live
from pipelines.affording import questions, refuse_beyond
from pipelines.commands.advice import Advice, as_json_object, as_lines
from pipelines.commands.options import Size, dimensions_option
from pipelines.commands.spending_options import cap_options
from pipelines.telling import say
from tierloom.checkpoint import Checkpoint
from tierloom.collection import Tier
from tierloom.embedders.opening import embed_queries, open_embedder
from tierloom.errors import InputError
from tierloom.gate import PrefixProbe
from tierloom.manifest import Manifest
from tierloom.object_files import ObjectFiles
from tierloom.spending.terms import Caps
from tierloom.stores.opening import open_store
from tierloom.versions import read_checkpoint, read_head

SHORTLISTS: Final = (20, 50, 100, 200, 500)
_QUERIES: Final = 200
_FEWEST_ROWS: Final = 100


@click.command("advise")
@click.argument("store")
@click.option("--memory", type=Size(), help="What a tier may take, such as 2GB.")
@click.option("--recall", type=click.FloatRange(0, 1), help="What must be found.  [default: the collection's floor]")
@click.option(
    "--queries", type=click.Path(path_type=Path), help="A file with a question on each line.  [default: chunks]"
)
@dimensions_option("Prefixes to try.  [default: the trained ones, powers of two, and the tiers there are]")
@click.option("--sample", default=20_000, show_default=True, type=click.IntRange(200, 100_000), help="Rows to try on.")
@click.option(
    "--seconds", default=60, show_default=True, type=click.IntRange(1), help="Begin no further tier after so long."
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of the sample.")
@cap_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    store: str,
    memory: int | None,
    recall: float | None,
    queries: Path | None,
    dimensions: tuple[int, ...],
    sample: int,
    seconds: int,
    seed: int,
    caps: Caps,
    as_json: bool,
) -> None:
    """Measure which tiers STORE should have: what each finds, and what it costs in memory and time.

    Graphs are built over a sample of the live rows, and asked for chunks that are held out of them or for --queries.
    Nothing is published. Prefixes that carry no more than other dimensions (`tierloom probe`) are not tried.
    """
    began = time.monotonic()
    opened = open_store(store)
    head = read_head(opened)
    checkpoint = read_checkpoint(opened, head.collection.checkpoint)
    if beyond := [d for d in dimensions if d > checkpoint.space.dimensions]:
        raise click.BadParameter(f"{beyond} lie beyond the {checkpoint.space.dimensions} native dimensions")
    asked = _embedded(queries, checkpoint, caps) if queries else None
    vectors = sample_live(head, ObjectFiles(opened), sample, seed).gather("vector")
    probes = probe_prefixes(vectors, dimensions or _sizes(head, checkpoint), seed)
    trial = _trial(vectors, asked, head, seed)
    tiers = candidate_tiers(_worth_trying(probes, head, checkpoint, dimensions))
    options, untried = _tried(tiers, trial, began + seconds)
    wish = Wish(head.collection.recall_floor if recall is None else recall, memory)
    chosen = choose(options, wish, len(trial.vectors), head.live_chunks, head.collection.prefix_dimensions)
    options.sort(key=lambda o: (o.tier.dimensions, o.tier.kind, o.tier.connectivity, o.shortlist))
    advice = Advice(head, checkpoint, len(trial.vectors), wish, probes, options, untried, chosen)
    click.echo(as_json_object(advice) if as_json else "\n".join(as_lines(advice, store)))


def _sizes(head: Manifest, checkpoint: Checkpoint) -> list[int]:
    return sorted({*probed_sizes(checkpoint.space), *(tier.dimensions for tier in head.collection.tiers)})


def _worth_trying(
    probes: Sequence[PrefixProbe], head: Manifest, checkpoint: Checkpoint, dimensions: Sequence[int]
) -> list[int]:
    """What was not refused. The native dimensions are no prefix, and tried where they are asked for or served."""
    native = checkpoint.space.dimensions
    whole = native in (dimensions or [tier.dimensions for tier in head.collection.tiers])
    sizes = [probe.dimensions for probe in probes if probe.verdict != "refused"] + [native] * whole
    if not sizes:
        raise InputError(
            f"no prefix of {checkpoint.space.model} carries more than any other choice of dimensions would: "
            f"it is not made for tiers; see tierloom probe. To try its {native} dimensions: --dimensions {native}"
        )
    return sizes


def _trial(vectors: NDArray[np.float16], asked: NDArray[np.float32] | None, head: Manifest, seed: int) -> Trial:
    if len(vectors) < _FEWEST_ROWS:
        raise InputError(f"{len(vectors)} live chunks are too few to measure tiers on; it takes {_FEWEST_ROWS}")
    if asked is None:
        vectors, asked = held_out(vectors, min(_QUERIES, len(vectors) // 5), seed)
    return make_trial(vectors, asked, head.collection.prefix_dimensions)


def _embedded(path: Path, checkpoint: Checkpoint, caps: Caps) -> NDArray[np.float32]:
    """The unit vectors of the questions in a file, one on each line."""
    try:
        asked = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    if not asked:
        raise InputError(f"{path} holds no question; write one on each line")
    refuse_beyond(caps, [questions(checkpoint, asked)])
    embedder = open_embedder(checkpoint, role="queries")
    try:
        vectors = embed_queries(embedder, checkpoint, asked)
    finally:
        embedder.close()
    unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def _tried(tiers: Sequence[Tier], trial: Trial, until: float) -> tuple[list[Option], list[Tier]]:
    """The options of the tiers that were tried in time, the first one in any case; and those that were not."""
    options: list[Option] = []
    for number, tier in enumerate(tiers):
        if number and time.monotonic() >= until:
            return options, list(tiers[number:])
        say(f"trying {number + 1} of {len(tiers)}: {tier.name}, M={tier.connectivity}", "trial", tier=tier.name)
        options += try_tier(tier, trial, SHORTLISTS)
    return options, []
