"""The page says what the facts say, and nothing that comes from a store can be anything but text in it."""

import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index_builder.reporting.facts import Facts, gather
from pipelines.report.page import MOVES, ROWS, page
from tests.made_reports import NEW, STATES, building, compared, empty, flipped, grown, measured, run_of, sharded, steps
from tests.made_versions import CHECKPOINT, Step, point, retire, store_versions
from tests.pipelines.report.written_page import WrittenPage
from tierloom.channel import Channel
from tierloom.errors import InputError
from tierloom.stores.local import LocalStore

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'; --></style></title></svg><script>alert(1)</script>",
    "{{ 7 * 7 }}{% raw %}",
    "$\\frac{1}{2}$ &amp; &lt;b&gt;",
    "a\u202eb\u2066c\x00d\x1be\r\n\u2028f",
    "javascript:alert(1)",
    "字" * 5000,
]


def written(facts: Facts) -> WrittenPage:
    return WrittenPage(page(facts))


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    return gather(grown(tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="module")
def read(facts: Facts) -> WrittenPage:
    """The page of `facts`, which takes a second to draw."""
    return written(facts)


def test_the_tiers_table_states_what_was_measured(facts: Facts, read: WrittenPage) -> None:
    gate = facts.head.gate
    assert gate

    assert [cell.split()[0] for cell in read.column("tiers", "tier")] == ["64", "128", "256-binary", "exact"]
    assert read.column("tiers", "safe K") == [str(tier.safe_shortlist) for tier in gate.tiers] + ["–"]  # noqa: RUF001
    recalls = [cell.split() for cell in read.column("tiers", "recall, reranked at K")]
    for tier, (mean, ends) in zip(gate.tiers, recalls, strict=False):
        safe = next(one.quality.recall for one in tier.reranked if one.shortlist == tier.safe_shortlist)
        assert mean == f"{safe.mean:.3f}"
        assert ends == f"{safe.low:.3f}–{safe.high:.3f}"  # noqa: RUF001


def test_every_measured_number_is_in_a_table(facts: Facts, read: WrittenPage) -> None:
    gate = facts.head.gate
    assert gate

    expected = [
        f"{quality.recall.mean:.3f}"
        for tier in gate.tiers
        for quality in (tier.alone, *(reranked.quality for reranked in tier.reranked))
    ]
    assert [cell.split()[0] for cell in read.column("measured", "recall")] == expected


@pytest.mark.parametrize(
    ("heading", "member"),
    [
        ("added", "added"),
        ("changed", "changed"),
        ("removed", "removed"),
        ("embedded", "embedded_chunks"),
        ("copied", "copied_chunks"),
        ("found", "found_chunks"),
        ("tokens", "tokens"),
        ("dead", "dead_letters"),
    ],
)
def test_the_runs_table_states_what_each_run_did(facts: Facts, read: WrittenPage, heading: str, member: str) -> None:
    numbers = [f"{getattr(version.run, member):,}" for version in reversed(facts.versions)]

    assert read.column("runs", heading) == numbers


def test_the_headline_names_the_version_the_model_and_what_is_live(facts: Facts, read: WrittenPage) -> None:
    text = read.text

    for said in (
        facts.url,
        "nomic-embed-text-v1.5",
        f"{facts.head.live_chunks:,}",
        facts.head.collection.checkpoint[:12],
    ):
        assert said in text


def test_channels_and_profiles_are_listed(facts: Facts, read: WrittenPage) -> None:

    assert read.column("channels", "channel") == ["latest", "canary", "prod"]
    assert read.column("channels", "version") == ["12", "12", "9"]
    assert read.column("profiles", "profile") == ["analyst", "deep", "fast"]
    assert read.column("profiles", "for queries of class") == ["and every other", "research", "autocomplete"]
    assert read.column("profiles", "shortlist") == ["200", "safe K = 200", "–"]  # noqa: RUF001


def test_the_last_moves_of_a_channel_are_told_newest_first(read: WrittenPage) -> None:
    moves = read.column("channels", "last moves")[2]

    assert moves.index("rollback 11 → 9") < moves.index("promote 8 → 11") < moves.index("8 2026-01-01 00:00:00 UTC")
    assert "answers were worse than before" in moves
    assert "forced although tier 64 misses the floor" in moves


def test_only_the_newest_of_many_moves_are_told(tmp_path: Path) -> None:
    store = grown(tmp_path)
    for version in (10, 11) * 20:
        point(store, "prod", version)

    assert written(gather(store)).column("channels", "last moves")[2].count("promote") == MOVES


@pytest.mark.parametrize("state", STATES)
def test_every_state_has_a_page(tmp_path: Path, state: str) -> None:
    read = written(gather(STATES[state](tmp_path)))

    assert read.column("runs", "version")
    ids = [value for _, name, value in read.attributes if name == "id"]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("state", STATES)
def test_a_page_asks_nobody_and_runs_nothing(tmp_path: Path, state: str) -> None:
    read = written(gather(STATES[state](tmp_path)))

    assert not {"script", "iframe", "object", "embed", "form", "base", "image"} & {name for name, _ in read.elements}
    for _, name, value in read.attributes:
        assert not name.startswith("on")
        if name in ("href", "src", "xlink:href"):
            assert value.startswith(("#", "data:"))
        if name == "style":
            assert "url(" not in value.replace("url(#", "")


def test_both_generations_are_told(tmp_path: Path) -> None:
    facts = gather(flipped(tmp_path))
    read = written(facts)
    first, second = facts.generations

    assert read.tables["generations"][0] == ["", "nomic-embed-text-v1.5", "embedding-2"]
    rows = {row[0]: [cell.strip() for cell in row[1:]] for row in read.tables["generations"]}
    assert rows["built"] == ["complete", "complete"]
    assert rows["served by"] == ["latest", "prod"]
    assert rows["live chunks"] == [f"{first.head.live_chunks:,}", f"{second.head.live_chunks:,}"]
    assert [cell.split()[0] for cell in rows["checkpoint"]] == [CHECKPOINT.fingerprint[:12], NEW.fingerprint[:12]]
    assert "256 safe" in rows["tiers"][1]
    assert "256-binary" in rows["tiers"][0]
    assert read.column("channels", "checkpoint") == [CHECKPOINT.fingerprint[:12], NEW.fingerprint[:12]]
    moves = read.column("channels", "last moves")[1]
    assert f"to checkpoint {NEW.fingerprint[:12]}, from {CHECKPOINT.fingerprint[:12]}" in moves
    assert "comparison" not in read.tables
    assert "tierloom compare" in read.text


def test_a_lineage_is_drawn_of_each_generation(tmp_path: Path) -> None:
    read = written(gather(flipped(tmp_path)))

    ids = [value for name, attribute, value in read.attributes if (name, attribute) == ("figure", "id")]
    assert [name for name in ids if name.startswith("lineage")] == ["lineage", "lineage-2"]


def test_how_far_the_building_is_is_told(tmp_path: Path) -> None:
    read = written(gather(building(tmp_path)))

    assert {row[0]: row[1:] for row in read.tables["generations"]}["built"] == ["complete", "50 %"]
    assert "A generation of embedding-2 is being built: 50 % of it is there." in read.text


@pytest.mark.parametrize("judged", [True, False])
def test_a_comparison_is_shown(tmp_path: Path, judged: bool) -> None:
    read = written(gather(flipped(tmp_path), comparison=compared(judged)))

    rows = {row[0]: [cell.strip() for cell in row[1:]] for row in read.tables["comparison"]}
    assert rows["exact, time"] == ["12.30 ms", "12.30 ms"]
    assert [cell.split()[0] for cell in rows["tier 64, recall"]] == ["0.970", "0.970"]
    assert rows["tier 128, recall"][1] == rows["tier 256, in memory"][0] == "–"  # noqa: RUF001
    assert ("exact, nDCG" in rows) == ("embedding a question" in rows) == judged
    common = {row[0]: row[1] for row in read.tables["common"]}
    assert common["the same documents in the exact first ten"].startswith("0.710")
    assert ("the same chunks in the exact first ten" in common) is not judged
    if judged:
        assert common["embedding-2 is ahead in nDCG by"] == "+0.021 (+0.011 to +0.031)"


def test_a_comparison_of_other_generations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"of checkpoints {CHECKPOINT.fingerprint} and {NEW.fingerprint}; version 12"):
        gather(grown(tmp_path), comparison=compared())


def test_one_generation_has_no_such_section(read: WrittenPage) -> None:
    assert "generations" not in read.tables


def hostile(facts: Facts, text: str) -> Facts:
    """The same facts, with a text in every place where a store can hold one."""
    space = msgspec.structs.replace(facts.checkpoint.space, model=text, revision=text, document_prompt=text)
    beside = facts.comparison and msgspec.structs.replace(
        facts.comparison,
        first=msgspec.structs.replace(facts.comparison.first, model=text, revision=text),
        second=msgspec.structs.replace(facts.comparison.second, model=text, revision=text),
    )
    head = msgspec.structs.replace(facts.head, writer=text, created=text)
    changed: dict[str, Any] = {
        "url": text,
        "head": head,
        "checkpoint": msgspec.structs.replace(facts.checkpoint, space=space),
        "behind": facts.behind and msgspec.structs.replace(facts.behind, space=space),
        "comparison": beside,
        "channels": tuple(_hostile_channel(channel, text) for channel in facts.channels),
        "versions": tuple(_hostile_version(version, text) for version in facts.versions),
    }
    return Facts(**({name: getattr(facts, name) for name in Facts.__dataclass_fields__} | changed))


def _hostile_channel(channel: Channel, text: str) -> Channel:
    members = {"by": text, "at": text, "message": text, "refused_because": text}
    return msgspec.structs.replace(
        channel, moves=tuple(msgspec.structs.replace(move, **members) for move in channel.moves)
    )


def _hostile_version(version: Any, text: str) -> Any:
    members = {name: getattr(version, name) for name in type(version).__dataclass_fields__}
    return type(version)(**members | {"run": msgspec.structs.replace(version.run, command=text, run=text)})


@pytest.fixture(scope="module")
def plain(facts: Facts) -> list[tuple[str, tuple[str, ...]]]:
    """The elements of a page about a store whose texts are plain."""
    return written(hostile(facts, "plain")).elements


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_text_of_the_store_is_never_markup(facts: Facts, plain: list[tuple[str, tuple[str, ...]]], text: str) -> None:
    html = page(hostile(facts, text))

    assert WrittenPage(html).elements == plain
    assert len(html) < 1_000_000


@pytest.mark.parametrize("text", HOSTILE[2:4], ids=range(2))
def test_text_of_two_generations_is_never_markup(tmp_path: Path, text: str) -> None:
    facts = gather(flipped(tmp_path), comparison=compared())

    assert written(hostile(facts, text)).elements == written(hostile(facts, "plain")).elements


@settings(max_examples=40, deadline=None)
@given(text=st.text())
def test_whatever_a_store_holds_the_page_has_the_same_elements(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    facts = gather(empty(tmp_path_factory.mktemp("store")))

    html = page(hostile(facts, text))

    assert WrittenPage(html).elements == written(hostile(facts, "plain")).elements
    assert not any(steering in html for steering in "\x00\x1b\u202e\u2066\u2028")
    html.encode()


def test_the_same_state_gives_the_same_bytes(tmp_path: Path) -> None:
    store = grown(tmp_path)

    assert page(gather(store)) == page(gather(store))


def test_a_thousand_versions_make_a_page_of_bounded_size_and_time(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store_versions(store, [Step([[1000 + at]], measured(at), run_of(at)) for at in range(999)])
    retire(store, *range(100, 140))
    began = time.process_time()

    html = page(gather(store))

    assert time.process_time() - began < 10
    assert len(html) < 2_000_000
    read = WrittenPage(html)
    assert len(read.column("runs", "version")) == ROWS
    assert read.column("runs", "version")[0] == "999"


def test_many_shards_are_drawn_as_a_few(tmp_path: Path) -> None:
    read = written(gather(sharded(tmp_path)))

    assert "40 shards" in read.text
    assert sum(name == "rect" for name, _ in read.elements) < 40


def test_a_checkpoint_of_one_dimension_and_the_least_connectivity_can_be_drawn(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    tiny = msgspec.structs.replace(CHECKPOINT.space, dimensions=1, trained_prefixes=(1,))
    tiers = tuple(
        msgspec.structs.replace(tier, connectivity=1)
        for tier in gather(grown(tmp_path / "other")).head.collection.tiers
    )
    store_versions(store, steps(1), msgspec.structs.replace(CHECKPOINT, space=tiny), tiers)

    assert written(gather(store)).column("tiers", "verdict") == ["safe"] * 3
