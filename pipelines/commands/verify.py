"""tierloom verify: every object against the manifest."""

import sys

import click

from index_builder.audit import audit
from tierloom.stores.opening import open_store


@click.command("verify")
@click.argument("store")
@click.argument("version", required=False, type=click.IntRange(0))
def command(store: str, version: int | None) -> None:
    """Check every object of a VERSION of STORE (default: the newest); exit 1 with the list of what is wrong."""
    findings = audit(open_store(store), version)
    for problem in findings.problems:
        click.echo(f"wrong: {problem}")
    checked = f"{findings.objects:,} objects, {findings.bytes:,} bytes checked"
    click.echo(f"version {findings.version}: {checked}, {len(findings.problems):,} wrong")
    sys.exit(1 if findings.problems else 0)
