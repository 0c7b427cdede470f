"""Probing a generation that is being built, as soon as a verdict can be passed: before the rest of it is paid for."""

from index_builder.gate.refusing import refuse_other_models
from index_builder.probing.prefixes import MOST_ROWS, probe_prefixes
from index_builder.sampling import sample_live
from tierloom.column_files import ColumnFiles
from tierloom.errors import NotMatryoshka
from tierloom.manifest import Manifest

_SEED = 0


def refuse_untrained(generation: Manifest, native: int, files: ColumnFiles, url: str) -> bool:
    """Measure the prefixes of the generation in front; whether there was enough of it for a verdict.

    Raises `NotMatryoshka` when they carry no more than as many other dimensions of the `native` ones would.
    """
    sizes = sorted({tier.dimensions for tier in generation.collection.tiers} - {native})
    if not sizes or not generation.live_chunks:
        return not sizes
    probes = probe_prefixes(sample_live(generation, files, MOST_ROWS, _SEED).gather("vector"), sizes, _SEED)
    try:
        refuse_other_models(probes, generation.collection)
    except NotMatryoshka as error:
        raise NotMatryoshka(
            f"{error} The re-embedding stopped after {generation.live_chunks:,} chunks, while it was cheap: throw them "
            f"away with tierloom retire {url} --checkpoint {generation.checkpoint[:12]} --force"
        ) from error
    return all(probe.verdict != "undecided" for probe in probes)
