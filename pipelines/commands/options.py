"""Options that several commands have."""

import click

concurrency_option = click.option(
    "--concurrency",
    default=8,
    show_default=True,
    type=click.IntRange(1, 1024),
    help="Requests in flight to the model, per worker.",
)
