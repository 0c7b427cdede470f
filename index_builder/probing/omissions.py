"""What becomes of the neighbours when a step that the checkpoint declares is left out: the layer norm before the cut,
the prompt of documents, the prompt of queries."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from index_builder.probing.neighbours import unit_rows
from tierloom.checkpoint import Space
from tierloom.gate import TOP
from tierloom.post_processing import layer_norm

# Raw vectors, float32 (n, D), of what a model is sent.
Embed = Callable[[Sequence[str]], NDArray[np.float32]]

MOST_QUERIES: Final = 500


@dataclass(frozen=True, slots=True)
class Omission:
    """The share of the ten nearest documents, as they are with every declared step and full vectors, that prefixes of
    `dimensions` find: with all steps (`declared`), and without `step`."""

    step: str
    dimensions: int
    declared: float
    without: float


def omission_inputs(space: Space, texts: Sequence[str]) -> list[str]:
    """What `measure_omissions` sends for these texts: nothing where no step is declared that could be left out."""
    if not declared_steps(space):
        return []
    asked = texts[:MOST_QUERIES]
    declared = [space.document_prompt + text for text in texts] + [space.query_prompt + text for text in asked]
    return [*declared, *(texts if space.document_prompt else ()), *(asked if space.query_prompt else ())]


def declared_steps(space: Space) -> tuple[str, ...]:
    """What can be left out."""
    named = {
        "layer norm": "layer-norm" in space.post_processing,
        "document prompt": space.document_prompt,
        "query prompt": space.query_prompt,
    }
    return tuple(name for name, declared in named.items() if declared)


def measure_omissions(
    space: Space,
    embed: Embed,
    texts: Sequence[str],
    dimensions: Sequence[int],
    embed_queries: Embed | None = None,
) -> list[Omission]:
    """Each declared step left out, at each of `dimensions` and at the native ones. `embed_queries` asks the model as
    for queries, where that is another request.

    `texts` are inputs of documents without the document prompt. The first of them are asked as questions, each of the
    other documents.
    """
    steps = declared_steps(space)
    if not steps or len(texts) <= TOP + 1:
        return []
    asked = texts[:MOST_QUERIES]
    embed_queries = embed_queries or embed
    documents = embed([space.document_prompt + text for text in texts])
    queries = embed_queries([space.query_prompt + text for text in asked])
    normed = layer_norm if "layer norm" in steps else _unchanged
    declared = normed(queries), normed(documents)
    others = {
        "layer norm": lambda: (queries, documents),
        "document prompt": lambda: (declared[0], normed(embed(texts))),
        "query prompt": lambda: (normed(embed_queries(asked)), declared[1]),
    }
    cuts = [d for d in dimensions if d < space.dimensions] + [space.dimensions]
    wanted = _nearest(*declared, space.dimensions)
    with_all = {cut: _share(*declared, cut, wanted) for cut in cuts}
    found = []
    for step in steps:
        without = others[step]()
        found += [Omission(step, cut, with_all[cut], _share(*without, cut, wanted)) for cut in cuts]
    return found


def _unchanged(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors


def _share(queries: NDArray[np.float32], documents: NDArray[np.float32], cut: int, wanted: NDArray[np.int64]) -> float:
    found = _nearest(queries, documents, cut)
    return float(np.mean([len(np.intersect1d(a, b)) / TOP for a, b in zip(found, wanted, strict=True)]))


def _nearest(queries: NDArray[np.float32], documents: NDArray[np.float32], cut: int) -> NDArray[np.int64]:
    """The nearest documents (q, TOP) of each query, its own text excepted, by the first `cut` dimensions."""
    scores = unit_rows(queries[:, :cut]) @ unit_rows(documents[:, :cut]).T
    scores[np.arange(len(scores)), np.arange(len(scores))] = -np.inf
    return np.argpartition(-scores, TOP - 1, axis=1)[:, :TOP]
