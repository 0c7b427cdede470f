"""How a run ends that its cap stopped: what is complete is published, and the rest is told."""

from pipelines.commands.tables import count
from tierloom.errors import CapReached
from tierloom.spending.terms import PICO
from transforms.job import Job


def raise_if_left(documents: int, least: int, tokens: int, canary_tokens: int, job: Job, onward: str) -> None:
    """Raises `CapReached` when the cap left `documents`, the smallest of which takes up to `least` tokens. So many
    `tokens` were paid for until then, `canary_tokens` before, and `onward` says how to go on."""
    if not documents:
        return
    caps = job.allowance.caps
    if not tokens:
        raise CapReached(
            f"{caps} is less than any of {count(documents, 'document')} takes beside the canaries, so only "
            f"these were paid for; the smallest needs {_least(least, canary_tokens, job)}"
        )
    raise CapReached(f"{caps}: stopped before that was passed; {count(documents, 'document')} left. {onward}")


def _least(tokens: int, canary_tokens: int, job: Job) -> str:
    """The smallest cap that would do."""
    tokens *= job.spending.shares
    said = f"--max-tokens {tokens + canary_tokens}"
    if job.allowance.caps.usd is None:
        return said
    price, canary_price = job.spending.picodollars_per_token, job.checking.picodollars_per_token
    usd = f"--max-usd {(tokens * price + canary_tokens * canary_price) / PICO:.12f}".rstrip("0").rstrip(".")
    return usd if job.allowance.caps.tokens is None else f"{said} {usd}"
