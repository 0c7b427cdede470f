"""Collections of a model whose price and rates are known, at a loopback endpoint."""

from pathlib import Path

from tests.embedders.batch_server import BatchServer
from tests.embedders.endpoint import Endpoint
from tests.pipelines.command_line import KEY_VARIABLE
from tierloom.checkpoint import Checkpoint, Limits, Price, Space
from tierloom.checkpoint import Endpoint as Address
from tierloom.collection import Chunking, Collection, Sizes, plan_tiers
from tierloom.creating import create_collection
from tierloom.stores.opening import open_store

PRICE = Price(0.02, "2026-11-01", "https://example.org/prices", batch_usd_per_million_tokens=0.01)


def priced_collection(
    folder: Path,
    endpoint: Endpoint | BatchServer,
    *,
    tokenizer: str = "utf8-bytes",
    limits: Limits | None = None,
    price: Price | None = PRICE,
    max_tokens: int = 64,
    block_chunks: int = 16,
) -> Path:
    """The store of a new collection."""
    checkpoint = Checkpoint(
        space=Space("openai", "test-model", "1", 16, (4, 8, 16)),
        tokenizer=tokenizer,
        limits=limits or Limits(inputs_per_request=7),
        endpoint=Address(base_url=endpoint.base_url, api_key_env=KEY_VARIABLE),
        price=price,
    )
    collection = Collection(
        checkpoint=checkpoint.fingerprint,
        prefix_dimensions=16,
        tiers=plan_tiers(checkpoint, (8, 16), untrained_prefixes=False),
        chunking=Chunking(max_tokens=max_tokens),
        sizes=Sizes(block_chunks=block_chunks, vector_shard_rows=1000, index_shard_rows=4000),
    )
    create_collection(open_store(str(folder)), checkpoint, collection)
    return folder
