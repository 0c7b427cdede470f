"""A model that runs in the worker itself: it has no requests, and is paid for by what it is given."""

from collections.abc import Sequence

from tierloom.embedders.embedder import Embedded, Embedder
from tierloom.spending.account import Account


class Metered:
    """An embedder whose tokens count against the caps of a run."""

    def __init__(self, embedder: Embedder, account: Account) -> None:
        """`embedder` has no account of its own."""
        self._embedder = embedder
        self._account = account

    def embed(self, inputs: Sequence[str], token_bounds: Sequence[int]) -> Embedded:
        """See `Embedder.embed`. Raises `CapReached` before anything is embedded."""
        payment = self._account.pay(sum(token_bounds))
        embedded = self._embedder.embed(inputs, token_bounds)
        payment.settle(embedded.tokens)
        return embedded

    def close(self) -> None:
        self._embedder.close()
