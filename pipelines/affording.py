"""Caps of commands that ask a model all at once: what they need is counted first, and either all of it is asked or
nothing."""

from collections.abc import Callable, Iterable, Sequence

from tierloom.checkpoint import Checkpoint
from tierloom.errors import CapReached, MissingExtra
from tierloom.spending.terms import PICO, Allowance, Caps, Spending, spending_for

# A model, and what it would be sent, prompts included.
Asked = tuple[Checkpoint, Sequence[str]]


def refuse_beyond(caps: Caps, asked: Iterable[Asked]) -> None:
    """Raises `CapReached` when these models would bill more for all of this than `caps` allow; nothing has been asked
    then. `InputError` for a cap in dollars on a model without a price."""
    if not caps:
        return
    tokens = picodollars = 0
    for checkpoint, inputs in asked:
        spending = spending_for(checkpoint, Allowance(caps))
        counted = sum(exact_count(checkpoint)(inputs))
        tokens += counted
        picodollars += counted * spending.picodollars_per_token
    _refuse(Spending(caps), tokens, picodollars)


def exact_count(checkpoint: Checkpoint) -> Callable[[Sequence[str]], list[int]]:
    """Counts the tokens of inputs by the checkpoint's own tokenizer. Raises `MissingExtra` or `CheckpointError`."""
    try:
        # Late: an optional extra, which nothing but a cap needs here.
        from transforms.chunking.tokens import open_count
    except ModuleNotFoundError as error:
        raise MissingExtra("pipeline", f"a cap ({error.name})") from error
    return open_count(checkpoint.tokenizer)


def _refuse(allowed: Spending, tokens: int, picodollars: int) -> None:
    too_many = allowed.max_tokens is not None and tokens > allowed.max_tokens
    too_dear = allowed.max_picodollars is not None and picodollars > allowed.max_picodollars
    if too_many or too_dear:
        costs = f", ${picodollars / PICO:.6f}," if picodollars else ""
        raise CapReached(
            f"{allowed.caps}: this takes {tokens:,} tokens{costs} and the model was not asked; raise the cap"
        )


def questions(checkpoint: Checkpoint, asked: Iterable[object]) -> Asked:
    """What the model would be sent for questions; given vectors, which may be among them, are sent to none."""
    return checkpoint, [checkpoint.space.query_prompt + text for text in asked if isinstance(text, str)]
