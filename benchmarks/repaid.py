"""A re-embedding that is killed again and again: tokens of texts billed at the endpoint, over those that they have.

The endpoint is a real HTTP server on loopback, in a process of its own. What was sent and not answered when a process
died is billed twice; `--block-chunks` bounds that, and is small here, because so is the corpus: a kill may cost as
many chunks out of 100,000 as a hundred times as many of ten million. The kills come at random times.

Canaries are told apart: one goes with each request, and requests of such small blocks are small.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measuring import show_claim, sizes
from tests.embedders.endpoint import Endpoint
from tierloom.stores.opening import open_store
from tierloom.versions import read_head

_KEY = "TIERLOOM_BENCHMARK_KEY"
_WORDS = 12
_SECONDS = 20.0
# Each small shard is an open file until a run is settled, and of these a system allows so many.
_AT_ONCE = 20_000


def main() -> None:
    size = sizes(__doc__, {"chunks": 100_000, "kills": 20}, {"chunks": 4000, "kills": 3})
    show_claim(f"re-embedding {size.chunks:,} chunks, killed {size.kills} times")
    os.environ[_KEY] = "none"
    draw = random.Random(1)
    with TemporaryDirectory(prefix="tierloom-") as folder, Endpoint(dimensions=16, recording=False) as endpoint:
        store = _collection(Path(folder), size.chunks)
        model = _declared(Path(folder), endpoint)
        kills = sum(_killed(store, model, draw.uniform(3, _SECONDS)) for _ in range(size.kills))
        _tierloom("reembed", store, "--model", model, "--untrained-prefixes", "--tiers", "16", "--concurrency", "1")
        generation = read_head(open_store(store)).generations[1]
        unique = sum(len(f"new: {_text(number)}") for number in range(size.chunks))
    assert generation.is_complete
    assert generation.live_chunks == size.chunks
    print(f"  kills         {kills:10,}")
    billed = endpoint.billed_tokens - endpoint.canary_tokens
    print(f"  billed        {billed:10,} tokens of texts, which have {unique:,}")
    print(f"  ratio         {billed / unique:10.5f}   (target: at most 1.001)")
    print(f"  canaries      {endpoint.canary_tokens:10,} tokens in {endpoint.requests:,} requests", flush=True)


def _collection(folder: Path, chunks: int) -> str:
    """With the embedded model, which costs nothing."""
    store = str(folder / "store")
    _tierloom("init", store, "--model", "wordllama", "--tiers", "64", "--untrained-prefixes", "--block-chunks", "12")
    for start in range(0, chunks, _AT_ONCE):
        source = folder / f"{start}.jsonl"
        with source.open("w") as file:
            for number in range(start, min(start + _AT_ONCE, chunks)):
                file.write(json.dumps({"id": f"d{number}", "sequence": 1, "text": _text(number)}) + "\n")
        _tierloom("ingest", store, source)
    return store


def _text(number: int) -> str:
    draw = random.Random(number)
    return " ".join(f"{draw.randrange(1 << 20):05x}" for _ in range(_WORDS))


def _declared(folder: Path, endpoint: Endpoint) -> Path:
    path = folder / "new.toml"
    path.write_text(
        'provider = "openai"\nmodel = "test"\ndimensions = 16\ntrained_prefixes = [16]\ndocument_prompt = "new: "\n'
        f'endpoint = {{ base_url = "{endpoint.base_url}", api_key_env = "{_KEY}" }}\n'
    )
    return path


def _command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "pipelines", *map(str, arguments)]


def _tierloom(*arguments: object) -> None:
    subprocess.run(_command(*arguments), check=True, stdout=subprocess.DEVNULL)


def _killed(store: str, model: Path, seconds: float) -> bool:
    """Whether it was killed, and had not ended."""
    running = subprocess.Popen(
        _command("reembed", store, "--model", model, "--untrained-prefixes", "--tiers", "16", "--concurrency", "1"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(seconds)
    running.kill()
    return running.wait() == -signal.SIGKILL


if __name__ == "__main__":
    main()
