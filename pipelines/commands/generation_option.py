"""`--checkpoint NAME`: one of the generations of a version, as users name them."""

import click

from tierloom.generations import find_generation
from tierloom.manifest import Manifest
from tierloom.stores.store import Store

checkpoint_option = click.option(
    "--checkpoint",
    "generation",
    metavar="NAME",
    help="The generation of this model, or whose fingerprint begins so.  [default: the one that serves]",
)


def generation_named(name: str | None, manifest: Manifest, store: Store) -> Manifest:
    """The version with that generation in front; without a name, as it is. Raises `CheckpointError`."""
    return manifest if name is None else find_generation(manifest, name, store)
