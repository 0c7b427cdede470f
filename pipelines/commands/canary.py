"""tierloom canary: is the model still the one that the collection was made with?"""

import sys
from datetime import timedelta
from typing import Any, Final

import click

from pipelines.commands.tables import table
from pipelines.exit_codes import ExitCode
from pipelines.run_metrics import metrics_file_option
from pipelines.telling import give_result
from pipelines.turns import take_turn_to_look, wait_option
from tierloom.canaries import CHANGED, DRIFTED
from tierloom.canary_check import CanaryCheck, ModelState, check_model
from tierloom.stores.opening import open_store
from tierloom.stores.probing import probe_preconditions
from tierloom.versions import read_checkpoint, read_head

_CODES: Final[dict[ModelState, ExitCode]] = {
    "same": ExitCode.DONE,
    "drifted": ExitCode.DRIFTED,
    "changed": ExitCode.CHANGED,
}
_SHOWN: Final = 3


@click.command("canary")
@click.argument("store")
@click.option("--record", is_flag=True, help="Where no canaries are kept yet, keep what the model answers now.")
@wait_option
@metrics_file_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(store: str, record: bool, wait: timedelta, as_json: bool) -> None:
    """Ask the model of STORE for its canaries, and compare with what it answered when they were recorded. Of two
    generations both models are asked.

    Costs some 64 short texts. Exit status: 0 the same, 5 a minimum cosine under 0.999, 6 one under 0.99: another model;
    1 it could not be asked or compared.
    """
    opened = open_store(store)
    if record:
        probe_preconditions(opened)
    with take_turn_to_look(opened, "canary", wait):
        head = read_head(opened)
        checks = [check_model(opened, read_checkpoint(opened, each), record=record) for each in head.checkpoints]
    give_result(_values(head.version, checks), "\n".join(map(_described, checks)), as_json)
    sys.exit(max(_CODES[check.state] for check in checks))


def _values(version: int, checks: list[CanaryCheck]) -> dict[str, Any]:
    return {
        "version": version,
        "tokens": sum(check.tokens for check in checks),
        "minimum_cosine": min(check.minimum for check in checks),
        "state": max((check.state for check in checks), key=_CODES.__getitem__),
        "checkpoints": [
            {
                "checkpoint": check.checkpoint.fingerprint,
                "model": check.checkpoint.space.model,
                "state": check.state,
                "recorded": check.canaries.recorded,
                "recorded_now": check.recorded,
                "canaries": len(check.cosines),
                "minimum": check.minimum,
                "median": check.median,
                "worst": [{"text": text, "cosine": cosine} for text, cosine in check.worst(_SHOWN)],
                "tokens": check.tokens,
            }
            for check in checks
        ],
    }


def _described(check: CanaryCheck) -> str:
    space = check.checkpoint.space
    head = f"{space.model} ({space.revision}), checkpoint {check.checkpoint.fingerprint}"
    if check.recorded:
        return f"{head}: {len(check.cosines)} canaries recorded for {check.tokens:,} tokens; compared from now on"
    rows = [
        ("canaries", f"{len(check.cosines)}, recorded {check.canaries.recorded}; {check.tokens:,} tokens"),
        ("minimum cosine", f"{check.minimum:.6f}"),
        ("median cosine", f"{check.median:.6f}"),
        *(("worst", f"{cosine:.6f}  {text}") for text, cosine in check.worst(_SHOWN)),
        ("the model", _SAID[check.state]),
    ]
    return f"{head}\n{table(rows)}"


_SAID: Final[dict[ModelState, str]] = {
    "same": "is the same",
    "drifted": f"answers a little otherwise: under {DRIFTED:g}",
    "changed": f"is another one: under {CHANGED:g}; nothing is embedded with it",
}
