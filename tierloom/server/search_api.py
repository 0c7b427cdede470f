"""`POST /v1/search` and `POST /v1/compare`."""

from functools import partial

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tierloom.answer import Answer
from tierloom.errors import TierloomError
from tierloom.server.bodies import json_body
from tierloom.server.canary import Canary
from tierloom.server.comparing import compared
from tierloom.server.limits import ServerOptions
from tierloom.server.metrics import Metrics
from tierloom.server.questions import Comparison, Question, comparison_of, question_of
from tierloom.server.refusals import Refused
from tierloom.server.replies import answer_reply, batch_reply, encoded_response
from tierloom.server.served import Served
from tierloom.server.workers import Workers
from tierloom.snapshot import Snapshot


class SearchApi:
    """Bodies are read in the event loop; embedding, searching and encoding are work of the threads."""

    def __init__(
        self, options: ServerOptions, served: Served, workers: Workers, metrics: Metrics, canary: Canary
    ) -> None:
        self._options = options
        self._limits = options.limits
        self._served = served
        self._workers = workers
        self._metrics = metrics
        self._canary = canary

    async def search(self, request: Request) -> Response:
        try:
            question = question_of(await json_body(request, self._limits), self._limits)
            return encoded_response(await self._workers.run(partial(self._answer, question)))
        except Refused as refused:
            self._metrics.unanswered(refused.kind)
            raise
        except TierloomError as error:
            self._metrics.unanswered(type(error).__name__)
            raise

    async def compare(self, request: Request) -> Response:
        comparison = comparison_of(await json_body(request, self._limits), self._limits)
        return encoded_response(await self._workers.run(partial(self._compare, comparison)))

    def _answer(self, question: Question) -> bytes:
        with self._served.follower.pinned() as snapshot:
            answers = _asked(snapshot, question)
            local_model = snapshot.checkpoint.space.in_process
        self._metrics.answered(answers)
        if answers and _is_sampled(question):
            self._canary.offer(question.asked[0], answers[0], local_model)
        if question.queries is not None:
            return msgspec.json.encode(batch_reply(answers, question.text))
        return msgspec.json.encode(answer_reply(answers[0], question.text))

    def _compare(self, comparison: Comparison) -> bytes:
        with self._served.follower.pinned() as snapshot:
            return msgspec.json.encode(compared(snapshot, comparison, self._options.exact_chunks))


def _asked(snapshot: Snapshot, question: Question) -> list[Answer]:
    return snapshot.search_many(
        question.asked,
        query_class=question.query_class,
        profile=question.profile,
        tier=question.tier,
        shortlist=question.shortlist,
        rerank=question.rerank,
        top=question.top,
        documents=question.documents,
        by_document=question.by_document,
        describe=question.text,
        checkpoint=question.checkpoint,
    )


def _is_sampled(question: Question) -> bool:
    """Whether the collection's own profile answered as it is declared: what a canary is to watch."""
    choices = (question.tier, question.shortlist, question.rerank, question.documents)
    return not question.by_document and all(choice is None for choice in choices)
