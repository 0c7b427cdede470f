"""tierloom init: create a collection."""

from datetime import timedelta

import click

from pipelines.commands.options import graph_options, retention_members, retention_options, tier_names
from tierloom.collection import Chunking, Collection, Sizes, plan_tiers
from tierloom.creating import create_collection
from tierloom.declaring import declared_checkpoint
from tierloom.gate import DEFAULT_FLOOR
from tierloom.manifest import Retention
from tierloom.model_input import check_chunking
from tierloom.stores.opening import open_store


@click.command("init")
@click.argument("store")
@click.option(
    "--model",
    required=True,
    help="A known model (wordllama, text-embedding-3-small, ...) or a TOML file that declares one.",
)
@click.option(
    "--tiers",
    "names",
    required=True,
    callback=tier_names,
    help="Prefixes to serve, by their dimensions, such as 64,128,256; 256-binary keeps one bit of each.",
)
@click.option("--base-url", help="Where an OpenAI-compatible endpoint answers.")
@click.option("--api-key-env", help="The environment variable that holds its key.  [default: that of the model]")
@click.option(
    "--untrained-prefixes",
    is_flag=True,
    help="Accept tiers that the model was not trained for; recorded in the manifest.",
)
@graph_options
@click.option(
    "--chunk-tokens", default=512, show_default=True, type=click.IntRange(1), help="Tokens of a chunk, at most."
)
@click.option(
    "--chunk-overlap",
    default=0,
    show_default=True,
    type=click.IntRange(0),
    help="Tokens that a chunk shares with the one before.",
)
@click.option(
    "--block-chunks",
    default=4096,
    show_default=True,
    type=click.IntRange(1),
    help="Chunks that a worker may have embedded and not yet stored: what a crash may cost.",
)
@click.option(
    "--shard-rows", default=131_072, show_default=True, type=click.IntRange(1), help="Rows of a merged vector shard."
)
@click.option(
    "--recall-floor",
    default=DEFAULT_FLOOR,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="The share of the exact answers that each tier must find after reranking to be published.",
)
@retention_options
def command(
    store: str,
    model: str,
    names: tuple[str, ...],
    base_url: str | None,
    api_key_env: str | None,
    untrained_prefixes: bool,
    connectivity: int,
    expansion_add: int,
    expansion_search: int,
    chunk_tokens: int,
    chunk_overlap: int,
    block_chunks: int,
    shard_rows: int,
    recall_floor: float,
    deletions: timedelta | None,
    versions: int | None,
    age: timedelta | None,
) -> None:
    """Create a collection in STORE: its model, its chunking rule, its tiers, its retention.

    See `tierloom tiers` and `tierloom retention` for changing these, and `tierloom reembed` for another model.
    """
    checkpoint = declared_checkpoint(model, base_url, api_key_env)
    tiers = plan_tiers(checkpoint, names, untrained_prefixes, connectivity, expansion_add, expansion_search)
    chunking = Chunking(max_tokens=chunk_tokens, overlap_tokens=chunk_overlap)
    check_chunking(checkpoint, chunking)
    collection = Collection(
        checkpoint=checkpoint.fingerprint,
        prefix_dimensions=tiers[-1].dimensions,
        tiers=tiers,
        chunking=chunking,
        sizes=Sizes(block_chunks=block_chunks, vector_shard_rows=shard_rows),
        untrained_prefixes=untrained_prefixes,
        recall_floor=recall_floor,
    )
    opened = open_store(store)
    create_collection(opened, checkpoint, collection, Retention(**retention_members(deletions, versions, age)))
    served = ", ".join(tier.name for tier in tiers)
    click.echo(f"{opened.url}: a collection of {checkpoint.space.model} ({checkpoint.space.dimensions} dimensions)")
    click.echo(f"served in tiers of {served}; checkpoint {checkpoint.fingerprint}")
