"""Which path does what."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tierloom.errors import TierloomError
from tierloom.server import pages
from tierloom.server.canary import Canary
from tierloom.server.door import Door
from tierloom.server.limits import ServerOptions
from tierloom.server.metrics import Metrics
from tierloom.server.openapi import describe, operation
from tierloom.server.refusals import Refused, refusal_of, unforeseen
from tierloom.server.replies import refusal_response
from tierloom.server.search_api import SearchApi
from tierloom.server.served import Served
from tierloom.server.status_api import StatusApi
from tierloom.server.workers import Workers

_ASKING: Final = (400, 401, 408, 413, 415, 422, 429, 503, 504)
_KINDS: Final = {404: "NotFound", 405: "MethodNotAllowed"}


@dataclass(frozen=True, slots=True)
class Application:
    """The ASGI application, and what stops it has to ask."""

    asgi: Door
    served: Served
    workers: Workers


def make_application(options: ServerOptions, failed: Callable[[], None]) -> Application:
    """`failed` is called, from a thread, when the collection cannot be opened."""
    metrics = Metrics()
    served = Served(options, metrics, failed)
    workers = Workers(options.limits)
    canary = Canary(options, served, metrics)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        served.start()
        canary.start()
        yield
        canary.close()
        workers.close()

    app = FastAPI(
        title="Tierloom", version="1", lifespan=lifespan, openapi_url="/openapi.json", docs_url=None, redoc_url=None
    )
    _add_searching(app, SearchApi(options, served, workers, metrics, canary))
    _add_status(app, StatusApi(options.channel, served, metrics))
    _add_pages(app)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(TierloomError, _failed)
    app.add_exception_handler(HTTPException, _unknown)
    app.add_exception_handler(Exception, _unforeseen)
    describe(app, options.token is not None)
    return Application(Door(app, options, served, metrics), served, workers)


def _add_searching(app: FastAPI, api: SearchApi) -> None:
    add = partial(app.add_api_route, methods=["POST"], response_model=None)
    add(
        "/v1/search",
        api.search,
        tags=["search"],
        summary="Search by a question, a vector or a batch of them",
        openapi_extra=operation(("AnswerReply", "BatchReply"), _ASKING, "Question"),
    )
    add(
        "/v1/compare",
        api.compare,
        tags=["search"],
        summary="Ask every tier, alone and reranked, and exact search",
        openapi_extra=operation(("ComparisonReply",), _ASKING, "Comparison"),
    )


def _add_status(app: FastAPI, api: StatusApi) -> None:
    add = partial(app.add_api_route, response_model=None, tags=["status"])
    add(
        "/v1/version",
        api.version,
        summary="What is served: version, tiers, profiles, routes",
        openapi_extra=operation(("VersionReply",), (401, 503)),
    )
    add("/healthz", api.healthz, summary="The process lives", openapi_extra=operation(("Health",), ()))
    add("/readyz", api.readyz, summary="A version is open", openapi_extra=operation(("Health",), (503,)))
    add("/metrics", api.metrics, summary="Figures for Prometheus", openapi_extra=operation((), (401,)))


def _add_pages(app: FastAPI) -> None:
    add = partial(app.add_api_route, response_model=None, include_in_schema=False)
    add("/", pages.search_page)
    add("/docs", pages.docs_page)
    add("/docs/files/{name}", pages.swagger_file)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return refusal_response(error)


async def _failed(_: Request, error: Exception) -> Response:
    assert isinstance(error, TierloomError)
    return refusal_response(refusal_of(error))


async def _unknown(_: Request, error: Exception) -> Response:
    """A path that is not there, or a method that it does not have."""
    assert isinstance(error, HTTPException)
    kind = _KINDS.get(error.status_code, "BadRequest")
    return refusal_response(
        Refused(error.status_code, kind, f"{error.detail}; /docs lists what there is", error.headers)
    )


async def _unforeseen(_: Request, error: Exception) -> Response:
    """The error goes on to the door, which logs it."""
    return refusal_response(unforeseen())
