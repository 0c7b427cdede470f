"""Before a run pays for anything: are the models still those that the collection was made with?"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial

from pipelines.telling import say
from tierloom.canary_check import check_model
from tierloom.checkpoint import Checkpoint
from tierloom.spending.account import Account
from tierloom.spending.terms import Allowance, spending_for
from tierloom.stores.opening import open_store
from tierloom.stores.store import Store
from transforms.base import version_of
from transforms.job import Job

_say_warning: Callable[[str], None] = partial(say, event="canaries", level="warning")


def check_models_first(job: Job, tell: Callable[[str], None] = _say_warning) -> Job:
    """Ask the model of each generation that the run writes to. The job with the tokens that this took, and with what it
    may still pay.

    Tells and raises as `check_model_first`.
    """
    store = open_store(job.store)
    paid, allowance = [], job.allowance
    for generation in version_of(job).generations:
        each = job.of(generation, store)
        tokens = check_model_first(store, each.checkpoint, each.concurrency, job.allowance, tell)
        paid.append((each.fingerprint, tokens))
        allowance = allowance.beside(tokens, tokens * each.checking.picodollars_per_token)
    return replace(job, canary_tokens=tuple(paid), allowance=allowance)


def check_model_first(
    store: Store,
    checkpoint: Checkpoint,
    concurrency: int,
    allowance: Allowance,
    tell: Callable[[str], None] = _say_warning,
) -> int:
    """Ask a model for its canaries; the tokens that this took, of those that are allowed. Where none are kept yet,
    these are.

    A warning goes to `tell`. Raises `ModelChanged` when this is another model, and as `check_model` does.
    """
    if (allowance.machines or 1) > 1:
        # This is one machine, before the others begin: it pays from what is allowed to all of them.
        allowance = replace(allowance, machines=1, folder=None)
    with closing(Account(spending_for(checkpoint, allowance))) as account:
        check = check_model(store, checkpoint, concurrency, account=account)
    check.refuse_changed()
    if (warning := check.warning()) is not None:
        tell(warning)
    return check.tokens
