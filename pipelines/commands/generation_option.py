"""`--checkpoint NAME`: one of the generations of a version, as users name them."""

import click

from tierloom.errors import InputError
from tierloom.manifest import Manifest
from tierloom.stores.store import Store
from tierloom.versions import read_checkpoint

checkpoint_option = click.option(
    "--checkpoint",
    "generation",
    metavar="NAME",
    help="The generation of this model, or whose fingerprint begins so.  [default: the one that serves]",
)


def generation_named(name: str | None, manifest: Manifest, store: Store) -> Manifest:
    """The version with that generation in front. Raises `InputError` for a name of none, or of two."""
    models = {checkpoint: read_checkpoint(store, checkpoint).space.model for checkpoint in manifest.checkpoints}
    found = [one for one, model in models.items() if name is None or name == model or one.startswith(name)]
    if name is None or len(found) == 1:
        return manifest.of(found[0])
    there = " and ".join(f"{model} ({checkpoint})" for checkpoint, model in models.items())
    wrong = "names two generations" if found else "names no generation"
    raise InputError(f"--checkpoint {name} {wrong} of version {manifest.version}; it has {there}")
