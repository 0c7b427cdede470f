"""A collection with one canary, so that it is known what each request takes."""

from pathlib import Path
from typing import Final

import msgspec

from tierloom import names
from tierloom.canaries import LONGEST_TEXT, canary_texts
from tierloom.canary_check import check_model
from tierloom.stores.local import LocalStore
from tierloom.versions import read_checkpoint, read_head

CANARY: Final = canary_texts()[0]
# What a request is billed for it, and what is set aside for any one.
WATCHED: Final = len(CANARY)
ASIDE: Final = LONGEST_TEXT


def keep_one_canary(store: str | Path) -> None:
    """Ask the model for all canaries, and keep the first."""
    opened = LocalStore(Path(store))
    checkpoint = read_checkpoint(opened, read_head(opened).checkpoint)
    every = check_model(opened, checkpoint).canaries
    one = msgspec.structs.replace(every, texts=(CANARY,), vectors=every.vectors[: 4 * every.dimensions])
    (opened.root / names.canaries(checkpoint.fingerprint)).unlink()
    opened.create(names.canaries(checkpoint.fingerprint), one.to_bytes())
