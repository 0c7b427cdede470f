"""tierloom serve: a collection behind HTTP."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from pipelines.telling import say, speak_json
from tierloom.errors import InputError, MissingExtra
from tierloom.server.hosts import is_loopback
from tierloom.server.limits import Limits, ServerOptions

_LIMITS: Final = Limits()


def _limit(name: str, help_: str, least: int = 1) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """An option that is a member of `Limits`."""
    return click.option(
        f"--{name.replace('_', '-')}",
        name.replace("-", "_"),
        default=getattr(_LIMITS, _MEMBERS[name]),
        show_default=True,
        type=click.IntRange(least),
        help=help_,
    )


_MEMBERS: Final = {
    "max-body": "body_bytes",
    "max-query": "query_characters",
    "max-top": "top",
    "max-shortlist": "shortlist",
    "max-batch": "batch",
    "max-documents": "documents",
    "max-requests": "requests",
    "threads": "threads",
    "queue": "queue",
}


@click.command("serve")
@click.argument("store")
@click.option("--channel", default="prod", show_default=True, help="The channel to follow.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option("--token-env", metavar="NAME", help="Ask for the bearer token that this environment variable holds.")
@click.option("--open-metrics", is_flag=True, help="Ask for no token at /metrics.")
@click.option("--cache", type=click.Path(path_type=Path, file_okay=False), help="Where a bucket's files are kept.")
@click.option(
    "--interval",
    default=2.0,
    show_default=True,
    type=click.FloatRange(0.05),
    help="Seconds between two looks at the channel.",
)
@click.option(
    "--timeout",
    default=_LIMITS.seconds,
    show_default=True,
    type=click.FloatRange(0.01),
    help="Seconds that a body may take to arrive, and then an answer to be found.",
)
@_limit("threads", "Threads that embed and search: one a core.")
@_limit("queue", "Searches that wait for a thread; more get 429.", least=0)
@_limit("max-requests", "Requests under way at once; more get 429.")
@_limit("max-body", "Bytes of a request's body.")
@_limit("max-query", "Characters of a question.")
@_limit("max-top", "Hits of an answer.")
@_limit("max-shortlist", "Candidates that a request may ask for.")
@_limit("max-batch", "Queries of a batch.")
@_limit("max-documents", "Document ids of a filter.")
@click.option(
    "--drain",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0.0),
    help="Seconds that a stopping server takes requests while /readyz sends new ones elsewhere.",
)
@click.option(
    "--grace",
    default=30.0,
    show_default=True,
    type=click.FloatRange(1.0),
    help="Seconds that it then waits for those under way.",
)
@click.option(
    "--canary",
    default=10.0,
    show_default=True,
    type=click.FloatRange(0.0),
    help="Compare a query with exact search every so many seconds; 0 never.",
)
@click.option(
    "--canary-chunks",
    default=200_000,
    show_default=True,
    type=click.IntRange(0),
    help="Compare none where more chunks are live.",
)
@click.option(
    "--exact-chunks",
    default=100_000,
    show_default=True,
    type=click.IntRange(0),
    help="The search page shows exact answers up to so many live chunks.",
)
@click.option(
    "--log-format", default="json", show_default=True, type=click.Choice(["json", "text"]), help="Of standard error."
)
def command(store: str, token_env: str | None, timeout: float, log_format: str, **given: Any) -> None:
    """Answer queries over HTTP from the version that a channel of STORE names, and follow it.

    POST /v1/search, GET /v1/version, /healthz, /readyz, /metrics; /docs describes them, / is a page to search with.
    """
    if log_format == "json":
        speak_json()
    limits = Limits(seconds=timeout, **{member: given.pop(name.replace("-", "_")) for name, member in _MEMBERS.items()})
    options = ServerOptions(store=store, token=_token(token_env), limits=limits, **given)
    _warn_of_strangers(options)
    try:
        # Late: an optional extra.
        from tierloom.server.logs import set_up_logs
        from tierloom.server.running import run_server
    except ModuleNotFoundError as error:
        raise MissingExtra("serve", f"tierloom serve ({error.name})") from error
    set_up_logs("json" if log_format == "json" else "text")
    run_server(options, listening=lambda url: click.echo(f"listening on {url}"))


def _token(name: str | None) -> str | None:
    """Never an argument: those are seen by every user of the machine."""
    if name is None:
        return None
    if not (token := os.environ.get(name, "").strip()):
        raise InputError(f"the environment variable {name} holds no token: set it, or leave --token-env out")
    return token


def _warn_of_strangers(options: ServerOptions) -> None:
    if options.token is None and not is_loopback(options.host):
        say(
            f"warning: whoever reaches {options.host} can read this collection: ask for a token with --token-env",
            "open",
            "warning",
        )
