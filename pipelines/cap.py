"""How a run ends that its cap stopped: what is complete is published, and the rest is told."""

from pipelines.commands.tables import count
from tierloom.errors import CapReached
from tierloom.spending.terms import PICO, Spending


def raise_if_left(documents: int, least: int, tokens: int, canary_tokens: int, spending: Spending, onward: str) -> None:
    """Raises `CapReached` when the cap left `documents`, the smallest of which takes up to `least` tokens. So many
    `tokens` were paid for until then, `canary_tokens` before, and `onward` says how to go on."""
    if not documents:
        return
    if not tokens:
        raise CapReached(
            f"{spending.caps} is less than any of {count(documents, 'document')} takes beside the canaries, so only "
            f"these were paid for; the smallest needs {_least(least, canary_tokens, spending)}"
        )
    raise CapReached(f"{spending.caps}: stopped before that was passed; {count(documents, 'document')} left. {onward}")


def _least(tokens: int, canary_tokens: int, spending: Spending) -> str:
    """The smallest cap that would do."""
    tokens = tokens * spending.shares + canary_tokens
    if spending.caps.usd is None:
        return f"--max-tokens {tokens}"
    usd = f"--max-usd {tokens * spending.picodollars_per_token / PICO:.12f}".rstrip("0").rstrip(".")
    return usd if spending.caps.tokens is None else f"--max-tokens {tokens} {usd}"
