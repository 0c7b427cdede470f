"""tierloom probe: is this model Matryoshka? By measurement, whatever its label says."""

import sys
from collections.abc import Sequence
from typing import Final

import click
import msgspec
import numpy as np
from numpy.typing import NDArray

from index_builder.probing.omissions import Omission, declared_steps, measure_omissions, omission_inputs
from index_builder.probing.prefixes import FEWEST_ROWS, MOST_ROWS, model_verdict, probe_prefixes
from index_builder.probing.sizes import probed_sizes
from pipelines.affording import exact_count, refuse_beyond
from pipelines.commands.options import dimensions_option
from pipelines.commands.probing import Probed, embedded, of_collection, of_sources, stored_vectors
from pipelines.commands.spending_options import cap_options
from pipelines.telling import say, say_error
from tierloom.checkpoint import Checkpoint, Role
from tierloom.declaring import declared_checkpoint
from tierloom.embedders.embedder import Embedder
from tierloom.embedders.opening import open_model
from tierloom.errors import CapReached, TierloomError
from tierloom.gate import Estimate, PrefixProbe, Verdict
from tierloom.spending.account import Account
from tierloom.spending.terms import Allowance, Caps, spending_for

# What is embedded again to show what leaving out a declared step does.
_OMISSION_TEXTS: Final = 1000

_STATUS: Final[dict[Verdict, int]] = {"matryoshka": 0, "refused": 1, "undecided": 3}
_NOT_MEASURED: Final = 2


@click.command("probe")
@click.argument("named", nargs=-1, required=True, metavar="STORE | --model MODEL SOURCE...")
@click.option("--model", help="Probe this model before there is a collection: a known one, or a TOML file.")
@click.option("--base-url", help="Where an OpenAI-compatible endpoint answers.")
@click.option("--api-key-env", help="The environment variable that holds its key.  [default: that of the model]")
@click.option(
    "--chunk-tokens", default=512, show_default=True, type=click.IntRange(1), help="Tokens of a chunk, at most."
)
@dimensions_option("Prefixes to probe.  [default: the trained ones, and powers of two]")
@click.option(
    "--sample", default=MOST_ROWS, show_default=True, type=click.IntRange(100, MOST_ROWS), help="Chunks to take."
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of the sample and the controls.")
@click.option(
    "--omissions/--no-omissions",
    default=None,
    help="Embed chunks again, to show what leaving out declared steps does.  [default: if the model runs in-process]",
)
@cap_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    named: tuple[str, ...],
    model: str | None,
    base_url: str | None,
    api_key_env: str | None,
    chunk_tokens: int,
    dimensions: tuple[int, ...],
    sample: int,
    seed: int,
    omissions: bool | None,
    caps: Caps,
    as_json: bool,
) -> None:
    """Measure whether a model's prefixes carry more than any other dimensions would.

    Takes chunks of STORE with their vectors, or with --model chunks of each SOURCE, as `tierloom ingest` reads them,
    and embeds these first. A prefix is compared with random projections and random subsets of as many dimensions.

    Exit status: 0 Matryoshka, 1 not, 3 too few chunks to tell, 4 it would pass a cap, 2 it could not be measured.
    """
    if model is None and len(named) > 1:
        raise click.UsageError("one STORE is probed at a time; SOURCEs go with --model")
    try:
        if model is None:
            probed = of_collection(named[0], sample, seed)
        else:
            checkpoint = declared_checkpoint(model, base_url, api_key_env)
            probed = of_sources(checkpoint, named, chunk_tokens, sample, seed)
        verdict = _probe(probed, dimensions, seed, omissions, caps, as_json)
    except CapReached:
        raise
    except TierloomError as error:
        # Not 1, which is an answer.
        say_error(error)
        sys.exit(_NOT_MEASURED)
    sys.exit(_STATUS[verdict])


def _probe(
    probed: Probed, dimensions: Sequence[int], seed: int, omissions: bool | None, caps: Caps, as_json: bool
) -> Verdict:
    checkpoint = probed.checkpoint
    space = checkpoint.space
    sizes = dimensions or probed_sizes(space)
    again = space.in_process if omissions is None else omissions
    texts = probed.texts[:_OMISSION_TEXTS] if again else []
    first = [space.document_prompt + text for text in probed.texts] if probed.vectors is None else []
    further = omission_inputs(space, texts)
    refuse_beyond(caps, [(checkpoint, [*first, *further])])
    with _Asking(checkpoint, caps) as asking:
        vectors = probed.vectors
        if vectors is None:
            _announce(checkpoint, first)
            vectors = stored_vectors(checkpoint, asking.embed(first))
        probes = probe_prefixes(vectors, sizes, seed)
        if further:
            _announce(checkpoint, further)
        left_out = measure_omissions(space, asking.embed, texts, sizes, asking.embed_queries)
    verdict = model_verdict(probes, space.trained_prefixes)
    shown = _as_json if as_json else _as_text
    click.echo(shown(checkpoint, len(vectors), probes, verdict, left_out))
    if not again and (steps := declared_steps(space)):
        say(f"what leaving out {' or '.join(steps)} does is measured with --omissions")
    return verdict


class _Asking:
    """The model, opened for each role when it is first asked in it, and paid from one account."""

    def __init__(self, checkpoint: Checkpoint, caps: Caps) -> None:
        self._checkpoint = checkpoint
        self._count = exact_count(checkpoint) if caps else _byte_counts
        # What was counted beforehand may be billed twice, where requests fail.
        self._account = Account(spending_for(checkpoint, Allowance(caps)))
        self._embedders: dict[Role, Embedder] = {}

    def embed(self, inputs: Sequence[str]) -> NDArray[np.float32]:
        return self._embed(inputs, "documents")

    def embed_queries(self, inputs: Sequence[str]) -> NDArray[np.float32]:
        # A model in this process is the same for both, and may take gigabytes.
        return self._embed(inputs, "documents" if self._checkpoint.space.in_process else "queries")

    def _embed(self, inputs: Sequence[str], role: Role) -> NDArray[np.float32]:
        if role not in self._embedders:
            self._embedders[role] = open_model(self._checkpoint, role=role, account=self._account)
        limit = self._checkpoint.limits.tokens_per_input
        return embedded(self._embedders[role], inputs, [min(tokens, limit) for tokens in self._count(inputs)])

    def __enter__(self) -> "_Asking":
        return self

    def __exit__(self, *_: object) -> None:
        for embedder in self._embedders.values():
            embedder.close()
        self._account.close()


def _byte_counts(inputs: Sequence[str]) -> list[int]:
    """What bounds the tokens of each input, without a tokenizer."""
    return [len(text.encode()) for text in inputs]


def _announce(checkpoint: Checkpoint, inputs: Sequence[str]) -> None:
    """What will be paid for."""
    count, most = len(inputs), sum(_byte_counts(inputs))
    say(f"embedding {count:,} inputs of up to {most:,} tokens with {checkpoint.space.model}", "embedding", inputs=count)


def _as_json(
    checkpoint: Checkpoint, rows: int, probes: Sequence[PrefixProbe], verdict: Verdict, left_out: Sequence[Omission]
) -> str:
    members = {
        "checkpoint": checkpoint.fingerprint,
        "model": checkpoint.space.model,
        "chunks": rows,
        "verdict": verdict,
        "prefixes": probes,
        "omissions": left_out,
    }
    return msgspec.json.encode(members).decode()


def _as_text(
    checkpoint: Checkpoint, rows: int, probes: Sequence[PrefixProbe], verdict: Verdict, left_out: Sequence[Omission]
) -> str:
    space = checkpoint.space
    lines = [f"{space.model} ({space.revision}), {space.dimensions} dimensions, {rows:,} chunks"]
    if probes:
        lines += ["share of the ten nearest chunks that are found, with 95 % intervals", _HEAD]
        lines += [_line(probe, probe.dimensions in space.trained_prefixes) for probe in probes]
    lines.append(_said(probes, verdict, rows))
    if left_out:
        lines += ["", "share of the ten nearest chunks found when a declared step is left out"]
        lines += [f"{'':18}{'dimensions':>11}{'declared':>10}{'without':>9}"]
        lines += [f"  {o.step:<16}{o.dimensions:>11}{o.declared:>10.3f}{o.without:>9.3f}" for o in left_out]
    return "\n".join(lines)


_HEAD: Final = f"{'dimensions':>12}{'prefix':>16}{'projection':>16}{'subset':>16}{'ahead by':>16}  verdict"


def _line(probe: PrefixProbe, trained: bool) -> str:
    shares = "".join(f"{_share(e):>16}" for e in (probe.overlap, probe.projected, probe.subset))
    half = probe.advantage.high - probe.advantage.mean
    ahead = f"{probe.advantage.mean:+.3f} ±{half:.3f}"
    return f"{probe.dimensions:>12}{shares}{ahead:>16}  {probe.verdict}{', trained' if trained else ''}"


def _share(estimate: Estimate) -> str:
    return f"{estimate.mean:.3f} ±{(estimate.high - estimate.low) / 2:.3f}"


def _said(probes: Sequence[PrefixProbe], verdict: Verdict, rows: int) -> str:
    good = ", ".join(str(probe.dimensions) for probe in probes if probe.verdict == "matryoshka")
    if verdict == "matryoshka":
        return f"Matryoshka: prefixes of {good} dimensions carry more than any other choice of as many would"
    if verdict == "refused":
        but = f" (those of {good} do)" if good else ""
        return f"not Matryoshka: prefixes carry no more than any other choice of as many dimensions would{but}"
    few = f": {rows:,} chunks, of {FEWEST_ROWS:,} that it takes" if rows < FEWEST_ROWS else ""
    return f"undecided: too few chunks, or too small a lead, to tell{few}"
