"""A worker's account: what it may ask a model for is paid from the run's budget, and waits for its turn."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tierloom.errors import CapReached
from tierloom.spending.bucket import Bucket
from tierloom.spending.budget import Budget, Spent
from tierloom.spending.terms import Caps, Spending

# Waits so many seconds; less when there is no more reason to.
Wait = Callable[[float], object]


class Account:
    """What one worker process spends on one model. Safe to use from several threads; never pickled."""

    def __init__(self, spending: Spending, bucket: Bucket | None = None) -> None:
        self._spending = spending
        self._budget = Budget(spending)
        self._bucket = bucket or Bucket(spending)
        self._set_aside = 0
        self._lock = threading.Lock()

    @property
    def tokens_at_once(self) -> int | None:
        """See `Bucket.tokens_at_once`."""
        return self._bucket.tokens_at_once

    @property
    def caps(self) -> Caps:
        """What it may not pass."""
        return self._spending.caps

    def spent(self) -> Spent:
        """See `Budget.spent`."""
        return self._budget.spent()

    def set_aside(self, bound: int) -> bool:
        """Set aside the tokens of requests that are to follow, so that the cap refuses none of them; whether it allows
        that."""
        tokens = self._budget.stretched(bound)
        if not self._budget.set_aside(tokens):
            return False
        with self._lock:
            self._set_aside += tokens
        return True

    def release(self, bound: int) -> None:
        """Of what was set aside, so many tokens will not be asked for."""
        tokens = self._budget.stretched(bound)
        with self._lock:
            covered = min(tokens, self._set_aside)
            self._set_aside -= covered
        self._budget.settle(0, covered, 0)

    def pay(self, bound: int) -> "Payment":
        """Pay for a request of at most `bound` tokens, from what was set aside as far as that reaches. Raises
        `CapReached`."""
        tokens = self._budget.stretched(bound)
        with self._lock:
            covered = min(tokens, self._set_aside)
            self._set_aside -= covered
        if tokens > covered and not self._budget.set_aside(tokens - covered):
            with self._lock:
                self._set_aside += covered
            raise CapReached(
                f"{self._spending.caps}: a request of up to {bound:,} tokens would pass it, so it was not sent"
            )
        return Payment(self, bound, tokens)

    def request(self, bound: int, wait: Wait) -> "Payment":
        """`pay`, and wait until the limits per minute allow the request."""
        payment = self.pay(bound)
        try:
            while (seconds := self._bucket.take(bound)) > 0:
                wait(seconds)
        except BaseException:
            payment.void()
            raise
        payment.taken = True
        return payment

    def heed(self, headers: Mapping[str, str], retry_after: float | None) -> None:
        """See `Bucket.heed`."""
        self._bucket.heed(headers, retry_after)

    def settle(self, payment: "Payment", billed: int) -> None:
        """See `Payment`."""
        self._budget.settle(payment.bound, payment.held, billed)
        if payment.taken and payment.bound > billed:
            self._bucket.give_back(payment.bound - billed)

    def close(self) -> None:
        """Let go of files. What was set aside and never asked for stays counted."""
        self._budget.close()
        self._bucket.close()


@dataclass(slots=True)
class Payment:
    """What is held for one request of at most `bound` tokens: `held` of the budget; of the minute, if they are `taken`,
    `bound`. Unless it is settled or void, it stays counted: it may have been billed."""

    account: Account
    bound: int
    held: int
    taken: bool = False

    def settle(self, billed: int) -> None:
        """The answer is there, and so many tokens were billed."""
        self.account.settle(self, billed)

    def void(self) -> None:
        """Nothing was billed, for sure."""
        self.account.settle(self, 0)
