"""tierloom verify: every object against the manifest."""

import sys
from datetime import timedelta

import click

from index_builder.audit import Findings, audit
from pipelines.run_metrics import metrics_file_option
from pipelines.telling import give_result
from pipelines.turns import take_turn_to_look, wait_option
from tierloom.stores.opening import open_store


@click.command("verify")
@click.argument("store")
@click.argument("version", required=False, type=click.IntRange(0))
@wait_option
@metrics_file_option
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def command(store: str, version: int | None, wait: timedelta, as_json: bool) -> None:
    """Check every object of a VERSION of STORE (default: the newest); exit 1 with the list of what is wrong."""
    opened = open_store(store)
    with take_turn_to_look(opened, "verify", wait):
        findings = audit(opened, version)
    give_result(_values(findings), _told(findings), as_json)
    sys.exit(1 if findings.problems else 0)


def _values(findings: Findings) -> dict[str, object]:
    return {
        "version": findings.version,
        "checked_objects": findings.objects,
        "checked_bytes": findings.bytes,
        "wrong_objects": len(findings.problems),
        "problems": list(findings.problems),
    }


def _told(findings: Findings) -> str:
    checked = f"{findings.objects:,} objects, {findings.bytes:,} bytes checked"
    lines = [f"wrong: {problem}" for problem in findings.problems]
    return "\n".join([*lines, f"version {findings.version}: {checked}, {len(findings.problems):,} wrong"])
