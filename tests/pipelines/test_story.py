"""A move to another model, from the plan to the last byte of the old one, while documents change and people ask."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

import msgspec
import pytest

import tierloom
from pipelines.exit_codes import ExitCode
from tests.embedders.endpoint import Endpoint
from tests.generations import agreed_texts, texts_in
from tests.pipelines.command_line import ROOT, apart, head_of, ok, run, write_records
from tests.pipelines.docstrings import questions_and_answers
from tests.pipelines.served_wordllama import DOCUMENT, ServedWordllama
from tests.pipelines.test_killed import Killer
from tierloom import Answer
from tierloom.following import Follower
from tierloom.lease import leases
from tierloom.sealed import seal
from tierloom.stores.opening import open_store
from tierloom.versions import read_manifest, stored_versions

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

DOCUMENTS: Final = 3000
BLOCK: Final = 256
# A part has so many chunks, and a request 64.
PART: Final = 1000
# In the middle of the second part.
KILLED_AT: Final = PART // 64 + 8
Record = dict[str, object]


class Corpus:
    """Documents that change: `truth` has the sequence and the text of those that live; `texts` each text there was."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pairs = questions_and_answers(DOCUMENTS + 300)
        self._next = 0
        self._sequence = 0
        self.truth: dict[str, tuple[int, str]] = {}
        self.texts: set[str] = set()

    def put(self, name: str, documents: Sequence[int], gone: Sequence[int] = ()) -> Path:
        """A file that gives each of these documents a text that is new, and deletes others."""
        self._sequence += 1
        records = [self._put(f"d{number}") for number in documents] + [self._delete(f"d{number}") for number in gone]
        return write_records(self._folder / name, records)

    def _put(self, document_id: str) -> Record:
        text = self._pairs[self._next][1].strip()
        self._next += 1
        self.texts.add(text)
        self.truth[document_id] = (self._sequence, text)
        return {"id": document_id, "sequence": self._sequence, "text": text}

    def _delete(self, document_id: str) -> Record:
        del self.truth[document_id]
        return {"id": document_id, "sequence": self._sequence, "deleted": True}

    def questions(self, documents: Sequence[int]) -> list[tuple[str, str]]:
        """Questions, each with the document that has had its answer from the beginning."""
        return [(self._pairs[number][0], f"d{number}") for number in documents]

    @property
    def chunks(self) -> dict[tuple[str, int, int], str]:
        """What every generation must hold: each document is one chunk."""
        return {(document_id, sequence, 0): text for document_id, (sequence, text) in self.truth.items()}


class Asking:
    """People who ask a follower without a break; `answers` are those they got, each with its question."""

    def __init__(self, follower: Follower, questions: Sequence[str]) -> None:
        self._follower = follower
        self._questions = questions
        self._over = threading.Event()
        self._got = threading.Condition()
        self.answers: list[tuple[str, Answer]] = []
        self.failures: list[Exception] = []

    @contextmanager
    def by(self, number: int) -> Iterator[None]:
        threads = [threading.Thread(target=self._ask) for _ in range(number)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def _ask(self) -> None:
        at = 0
        # The others need the processors too.
        while not self._over.wait(0.02):
            at += 1
            question = self._questions[at % len(self._questions)]
            try:
                answer = self._follower.search(question, top=3)
            except Exception as error:  # each of them is a query that failed
                self.failures.append(error)
            else:
                with self._got:
                    self.answers.append((question, answer))
                    self._got.notify_all()

    def wait_for_answer_of(self, checkpoint: str, version: int = 0) -> None:
        """Until one comes from this generation, of this version or a newer one. Fails when none does."""
        with self._got:
            known = len(self.answers)

            def has_come() -> bool:
                return any(one.checkpoint == checkpoint and one.version >= version for _, one in self.answers[known:])

            assert self._got.wait_for(has_come, timeout=60)


@pytest.fixture
def served(endpoint: Endpoint) -> ServedWordllama:
    endpoint.script = served = ServedWordllama()
    return served


def test_a_move_to_another_model_while_documents_change_and_people_ask(
    tmp_path: Path, endpoint: Endpoint, served: ServedWordllama
) -> None:
    store, corpus = tmp_path / "store", Corpus(tmp_path)
    first = corpus.put("first.jsonl", range(DOCUMENTS))
    asked = corpus.questions(range(500, 700))
    ok(run("init", store, "--model", "wordllama", "--tiers", "64,256", "--block-chunks", BLOCK, "--shard-rows", PART))
    ok(run("ingest", store, first))
    ok(run("promote", store, "latest", "--channel", "prod"))
    old = head_of(store).checkpoint
    with tierloom.follow(store, "prod", interval=timedelta(milliseconds=50)) as follower:
        asking = Asking(follower, [question for question, _ in asked[:20]])
        with asking.by(2):
            model = served.declare(tmp_path, endpoint)
            build(store, model, corpus, served)
            judge(store, write_queries(tmp_path, asked))
            new = flip_back_and_forth(store, old, asking)
            assert_answers_are_of_one_generation(store, asking, {old, new})
            retire(store, corpus, old, new, asking)
    assert asking.failures == []
    assert follower.last_error is None


def build(store: Path, model: Path, corpus: Corpus, served: ServedWordllama) -> None:
    """Build the second generation: killed once, changed meanwhile, stopped at a cap, and gone on with."""
    reembed = ("reembed", store, "--model", model, "--tiers", "128,256")
    plan = ("plan", store, "reembed", "--model", model, "--json")
    planned = ok(run(*plan)).json["tokens"]
    assert planned == served.tokens_of([DOCUMENT + text for _, text in corpus.truth.values()])
    assert not served.billed

    kill(reembed, served)
    shown = ok(run("show", store)).out
    reached = head_of(store).generations[1]
    assert 0 < reached.live_chunks < DOCUMENTS
    assert f"; {reached.documents.live:,} of {DOCUMENTS:,} documents are in it" in shown
    assert "building" in shown

    changed = corpus.put("changes.jsonl", [*range(100), *range(DOCUMENTS, DOCUMENTS + 50)], gone=range(100, 160))
    ok(run("ingest", store, changed))
    streamed = corpus.put("stream.jsonl", range(80, 100), gone=range(160, 180))
    ok(run("stream", store, streamed, "--once", "--interval", 0))

    before, left = served.tokens, ok(run(*plan)).json["tokens"]
    capped = run(*reembed, "--max-tokens", left // 2)
    assert capped.status == ExitCode.CAPPED, capped
    assert 0 < served.tokens - before <= left // 2
    ok(run(*reembed))
    assert served.tokens - before == left

    assert agreed_texts(store) == corpus.chunks
    assert {DOCUMENT + text for _, text in corpus.truth.values()} <= served.billed.keys()
    assert served.billed.keys() <= {DOCUMENT + text for text in corpus.texts}
    # What was on its way when it was killed.
    assert served.billed.total() - len(served.billed) <= BLOCK


def kill(command: Sequence[object], served: ServedWordllama) -> None:
    """Start a command, and end it with `kill -9` at one of its requests."""
    served.killer = Killer(at=KILLED_AT)
    nothing = subprocess.DEVNULL
    served.killer.victim = subprocess.Popen(apart(command), cwd=ROOT, stdout=nothing, stderr=nothing)
    assert served.killer.victim.wait(timeout=100) == -signal.SIGKILL
    served.killer = None


def write_queries(folder: Path, asked: Sequence[tuple[str, str]]) -> Path:
    return write_records(folder / "queries.jsonl", [{"query": query, "relevant": [name]} for query, name in asked])


def judge(store: Path, queries: Path) -> None:
    """Put both side by side."""
    found = ok(run("compare", store, "--queries", queries, "--json")).json
    for side in (found["first"], found["second"]):
        assert side["live_documents"] == head_of(store).documents.live
        assert side["exact"]["hit_rate"]["mean"] > 0.3
    told = ok(run("compare", store, "--queries", queries)).out
    [rates] = [line for line in told.splitlines() if line.startswith("  exact hit rate  ")]
    assert all(f"{side['exact']['hit_rate']['mean']:.3f} (" in rates for side in (found["first"], found["second"]))
    assert "served-wordllama" in told.splitlines()[-1]


def flip_back_and_forth(store: Path, old: str, asking: Asking) -> str:
    """Promote the new one, roll back, and promote it again; its checkpoint."""
    new = head_of(store).checkpoints[1]
    promote = ("promote", store, "latest", "--channel", "prod", "--checkpoint", "served-wordllama")
    asking.wait_for_answer_of(old)
    for command, serves in ((promote, new), (("rollback", store, "--channel", "prod"), old), (promote, new)):
        ok(run(*command))
        asking.wait_for_answer_of(serves)
    return new


def assert_answers_are_of_one_generation(store: Path, asking: Asking, checkpoints: set[str]) -> None:
    """Each is what the generation that it names answers in the version that it names, and nothing else."""
    assert {answer.checkpoint for _, answer in asking.answers} == checkpoints
    for version, checkpoint in {(answer.version, answer.checkpoint) for _, answer in asking.answers}:
        own = [each for each in asking.answers if (each[1].version, each[1].checkpoint) == (version, checkpoint)]
        questions = list(dict.fromkeys(question for question, _ in own))
        with tierloom.open(store, version, checkpoint=checkpoint) as snapshot:
            again = dict(zip(questions, map(names_of, snapshot.search_many(questions, top=3)), strict=True))
        assert all(names_of(answer) == again[question] for question, answer in own)


def names_of(answer: Answer) -> list[str]:
    return [hit.document_id for hit in answer]


def retire(store: Path, corpus: Corpus, old: str, new: str, asking: Asking) -> None:
    """Drop the old one, and remove all that only it had."""
    ok(run("retire", store, "--checkpoint", old))
    ok(run("promote", store, "latest", "--channel", "prod"))
    # What a rollback would go back to is kept: a version that had both, until something else was served.
    ok(run("ingest", store, corpus.put("later.jsonl", range(180, 190))))
    ok(run("promote", store, "latest", "--channel", "prod"))
    newest = head_of(store).version
    asking.wait_for_answer_of(new, newest)
    ok(run("retention", store, "--versions", 1, "--age", "0s"))
    let_two_days_pass(store)
    ok(run("gc", store))
    asking.wait_for_answer_of(new, newest)
    ok(run("verify", store))
    head = head_of(store)
    assert head.checkpoints == (new,)
    assert texts_in(store, head) == corpus.chunks
    assert_holds_nothing_of(store, old)


def let_two_days_pass(store: Path) -> None:
    """For every object: nothing is young any more, and the lease of the run that was killed has ended."""
    then, opened = time.time() - 2 * 86_400, open_store(str(store))
    for listed, lease in leases(opened):
        assert lease.holder.startswith("reembed ")
        found = opened.read_revision(listed.name)
        assert found
        opened.swap(listed.name, seal(msgspec.structs.replace(lease, expires=then)), found[1])
    for path in store.rglob("*"):
        os.utime(path, (then, then))


def assert_holds_nothing_of(store: Path, checkpoint: str) -> None:
    """Every shard and index shard is one that a version names, and no version has any of that checkpoint."""
    opened = open_store(str(store))
    kept = [read_manifest(opened, version) for version in stored_versions(opened)]
    named = {shard.path for manifest in kept for shard in manifest.objects()}
    stored = {listed.name for folder in ("shards/", "indexes/") for listed in opened.list(folder)}
    assert stored <= named
    for generation in (generation for manifest in kept for generation in manifest.generations):
        assert generation.checkpoint != checkpoint or not generation.vector_shards
