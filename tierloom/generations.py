"""The generations of a version as people name them: by model, or by how a checkpoint's fingerprint begins. A known
model has the name that it is declared by, too."""

from dataclasses import dataclass

from tierloom.declaring import known_declarations
from tierloom.errors import CheckpointError, NotFound
from tierloom.manifest import KEY_UNITS, Manifest
from tierloom.stores.store import Store
from tierloom.versions import read_checkpoint


@dataclass(frozen=True, slots=True)
class Named:
    """A generation in front of its version. `model` is None where its checkpoint is not here: a mirror has one."""

    manifest: Manifest
    model: str | None

    @property
    def told(self) -> str:
        """Its model and the begin of its fingerprint, for people."""
        return told(self.model, self.manifest.checkpoint)


def told(model: str | None, fingerprint: str) -> str:
    """A checkpoint for people: `nomic-embed-text-v1.5 (3f6c0a81)`."""
    return f"{model} ({fingerprint[:8]})" if model else f"checkpoint {fingerprint[:8]}"


def named_generations(manifest: Manifest, store: Store) -> tuple[Named, ...]:
    """The generations of a version, the one in its front first. Raises `Corrupt`, `Malformed` or
    `CheckpointMismatch`."""
    return tuple(Named(generation, _model(generation.checkpoint, store)) for generation in manifest.generations)


def find_generation(manifest: Manifest, name: str, store: Store) -> Manifest:
    """The version with the generation in front whose model is `name`, or whose fingerprint begins with it.

    Raises `CheckpointError`, which lists those there are, for a name of none, or of both.
    """
    if name in manifest.checkpoints:
        return manifest.of(name)
    there = named_generations(manifest, store)
    models = {name, known_declarations().get(name, {}).get("model")}
    meant = [one for one in there if one.model in models] or [
        one for one in there if name and one.manifest.checkpoint.startswith(name.lower())
    ]
    if len(meant) == 1:
        return meant[0].manifest
    known = " and ".join(f"{one.model or 'unknown'} ({one.manifest.checkpoint})" for one in there)
    raise CheckpointError(
        f"{name!r} may be either generation of version {manifest.version}: {known}; name one by its fingerprint"
        if meant
        else f"version {manifest.version} has no generation {name!r}; it has {known}"
    )


def shortest_name(manifest: Manifest, store: Store) -> str:
    """What finds the generation in front: its model, or the begin of its fingerprint where both have the same model."""
    own, *others = named_generations(manifest, store)
    if own.model and all(one.model != own.model for one in others):
        return own.model
    return manifest.checkpoint[:8]


def told_checkpoint(fingerprint: str, store: Store) -> str:
    """A checkpoint of a store for people."""
    return told(_model(fingerprint, store), fingerprint)


def told_served(manifest: Manifest, store: Store) -> str:
    """A version for people; and which generation of it is in front, if it has two."""
    if manifest.other is None:
        return f"version {manifest.version}"
    return f"version {manifest.version} of {told_checkpoint(manifest.checkpoint, store)}"


def progress(manifest: Manifest) -> str:
    """How far the building of the generation in front is."""
    return percent_built(manifest.reached)


def percent_built(reached: int) -> str:
    """How far the building of a generation is: `43.7 %`; rounded down, so that 100 % is all."""
    return f"{1000 * reached // KEY_UNITS / 10:g} %"


def _model(fingerprint: str, store: Store) -> str | None:
    try:
        return read_checkpoint(store, fingerprint).space.model
    except NotFound:
        return None
