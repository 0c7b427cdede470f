"""Options that several commands have."""

import re
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Final

import click

from tierloom.collection import parse_tier_name
from tierloom.errors import CheckpointError


def model_options(command: Callable[..., None]) -> Callable[..., None]:
    """The model of a second generation, and the tiers that it is served in."""
    return with_options(
        command,
        click.option("--model", required=True, help="A known model, or a TOML file that declares one."),
        click.option(
            "--tiers",
            "names",
            default="",
            callback=lambda context, parameter, given: tier_names(context, parameter, given) if given else (),
            help="Prefixes to serve, such as 64,128,256.  [default: those of the generation that serves]",
        ),
        click.option("--base-url", help="Where an OpenAI-compatible endpoint answers."),
        click.option("--api-key-env", help="The environment variable that holds its key.  [default: OPENAI_API_KEY]"),
        click.option("--untrained-prefixes", is_flag=True, help="Accept tiers that the model was not trained for."),
    )


def delete_at_most_option(help_: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """How much may be deleted because a source no longer has it; `help_` says what happens beyond that."""
    return click.option(
        "--delete-at-most",
        default=20.0,
        show_default=True,
        type=click.FloatRange(0, 100),
        metavar="PERCENT",
        help=help_,
    )


def dimensions_option(help_: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """`--dimensions 64,128`: a tuple, empty unless it is given."""
    return click.option("--dimensions", default="", callback=_dimensions, metavar="LIST", help=help_)


def _dimensions(_: click.Context, __: click.Parameter, text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(part) for part in text.split(",") if text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not a list of dimensions such as 64,128") from error
    if len(set(sizes)) != len(sizes) or any(d < 1 for d in sizes):
        raise click.BadParameter(f"{text!r}: name each number of dimensions once, and none below 1")
    return sizes


def field_options(command: Callable[..., None]) -> Callable[..., None]:
    """Which fields of a record are which."""
    return with_options(
        command,
        click.option(
            "--id-field", default="id", show_default=True, help="The field of a record that is its document id."
        ),
        click.option("--text-field", default="text", show_default=True, help="The field that is embedded."),
        click.option(
            "--sequence-field",
            default="sequence",
            show_default=True,
            help="The field that rises with every change of the document.",
        ),
        click.option(
            "--deleted-field",
            default="deleted",
            show_default=True,
            help="The field that is true where a document is deleted.",
        ),
    )


_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


_SIZE_UNITS: Final = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}


class Size(click.ParamType[int]):
    """A number of bytes, such as 500MB or 2GB (powers of 1000)."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?)\s*([kmgt]b)?", str(value).strip().lower())
        if match is None or not (size := int(float(match[1]) * _SIZE_UNITS[match[2] or ""])):
            self.fail(f"{value!r} is no size such as 500MB or 2GB", param, ctx)
        return size


class Duration(click.ParamType[timedelta]):
    """A number of seconds, minutes, hours or days, such as 90s, 30m, 24h or 7d."""

    name = "duration"

    def __init__(self, least: int = 0) -> None:
        self._least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        if not (match := re.fullmatch(r"(\d{1,9})([smhd])", str(value))):
            self.fail(f"{value!r} is no duration; write a number with s, m, h or d, such as 24h", param, ctx)
        seconds = int(match[1]) * _UNITS[match[2]]
        if seconds < self._least:
            self.fail(f"{value!r} is too short; the least is {self._least}s", param, ctx)
        return timedelta(seconds=seconds)


def duration(seconds: float) -> str:
    """Seconds as `Duration` reads them: in the largest unit that says them exactly."""
    whole = round(seconds)
    unit = next(unit for unit in ("d", "h", "m", "s") if whole % _UNITS[unit] == 0 and (whole or unit == "s"))
    return f"{whole // _UNITS[unit]}{unit}"


def tier_names(_: click.Context, __: click.Parameter, given: str | Sequence[str]) -> tuple[str, ...]:
    """Names of tiers: arguments, or the value of one option with commas between them."""
    names = tuple(name.strip() for name in (given.split(",") if isinstance(given, str) else given))
    try:
        for name in names:
            parse_tier_name(name)
    except CheckpointError as error:
        raise click.BadParameter(str(error)) from error
    return names


def graph_options(command: Callable[..., None]) -> Callable[..., None]:
    """How the graphs of a tier are built and searched."""
    return with_options(
        command,
        click.option(
            "--connectivity",
            default=16,
            show_default=True,
            type=click.IntRange(2, 128),
            help="Edges of a graph node (usearch's M).",
        ),
        click.option(
            "--expansion-add",
            default=128,
            show_default=True,
            type=click.IntRange(1, 4096),
            help="Candidates looked at when a node is added.",
        ),
        click.option(
            "--expansion-search",
            default=128,
            show_default=True,
            type=click.IntRange(1, 4096),
            help="Candidates looked at in a search.",
        ),
    )


def retention_options(command: Callable[..., None]) -> Callable[..., None]:
    """What a collection's retention is made of."""
    return with_options(
        command,
        click.option("--deletions", type=Duration(least=1), help="How long a deletion is remembered, such as 90d."),
        click.option("--versions", type=click.IntRange(1), help="How many of the newest versions are kept."),
        click.option("--age", type=Duration(), help="How old a version may be that is kept besides, such as 7d."),
    )


def with_options(
    command: Callable[..., None], *options: Callable[[Callable[..., None]], Callable[..., None]]
) -> Callable[..., None]:
    """A command with these options, in this order in its help."""
    for option in reversed(options):
        command = option(command)
    return command


def retention_members(deletions: timedelta | None, versions: int | None, age: timedelta | None) -> dict[str, int]:
    """What `retention_options` were given, as members of a `tierloom.manifest.Retention`."""
    seconds = {"deletions_seconds": deletions, "versions_seconds": age}
    members = {name: round(given.total_seconds()) for name, given in seconds.items() if given is not None}
    return members if versions is None else {**members, "versions": versions}
