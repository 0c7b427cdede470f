"""Options of commands that pay a model: how it is asked, how fast, and for how much."""

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any, get_args

import click

from pipelines.commands.options import with_options
from tierloom.spending.terms import Allowance, Caps, Lane

concurrency_option = click.option(
    "--concurrency",
    default=8,
    show_default=True,
    type=click.IntRange(1, 1024),
    help="Requests in flight to the model, per worker; with --lane batch, batches under way.",
)

lane_option = click.option(
    "--lane",
    default="requests",
    show_default=True,
    type=click.Choice(get_args(Lane)),
    help="How the model is asked: request by request, or by the provider's Batch API, cheaper and within a day.",
)


def spending_options(command: Callable[..., None]) -> Callable[..., None]:
    """What a command that pays may spend, and how fast: an `Allowance`, as its argument `allowance`."""

    @wraps(command)
    def allowed(*arguments: Any, allowance: Allowance, caps: Caps, machines: int | None, **others: Any) -> None:
        command(*arguments, allowance=replace(allowance, caps=caps, machines=machines), **others)

    return with_options(
        rate_options(cap_options(allowed)),
        click.option(
            "--machines",
            type=click.IntRange(1),
            help="Over how many machines a --runner spreads its workers: each has its share of caps and limits.  "
            "[default: what Beam's own options say]",
        ),
    )


def cap_options(command: Callable[..., None]) -> Callable[..., None]:
    """What a command may spend: its argument `caps`."""

    @wraps(command)
    def capped(*arguments: Any, max_tokens: int | None, max_usd: float | None, **others: Any) -> None:
        command(*arguments, caps=Caps(max_tokens, max_usd), **others)

    return with_options(
        capped,
        click.option("--max-tokens", type=click.IntRange(1), help="Stop before the model bills more tokens."),
        click.option(
            "--max-usd",
            type=click.FloatRange(0, min_open=True),
            help="Stop before the model costs more dollars, by the price in its checkpoint.",
        ),
    )


def rate_options(command: Callable[..., None]) -> Callable[..., None]:
    """How fast a command may ask: an `Allowance` without caps, as its argument `allowance`."""

    @wraps(command)
    def allowed(*arguments: Any, requests_per_minute: int | None, tokens_per_minute: int | None, **others: Any) -> None:
        allowance = Allowance(Caps(), requests_per_minute, tokens_per_minute)
        command(*arguments, allowance=allowance, **others)

    return with_options(
        allowed,
        click.option(
            "--requests-per-minute",
            type=click.IntRange(1),
            help="Ask no more often.  [default: the limit in the checkpoint]",
        ),
        click.option(
            "--tokens-per-minute",
            type=click.IntRange(1),
            help="Send no more tokens.  [default: the limit in the checkpoint]",
        ),
    )
