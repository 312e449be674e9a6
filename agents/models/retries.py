"""The one layer that repeats failed calls: what is worth repeating, how long to wait, when to give up."""

from __future__ import annotations

import asyncio
import math
import random
import re
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from cluster_r1.agents.models.failures import briefly, explain, refuses_request, worth_repeating
from cluster_r1.errors import ModelError, RefusedError

_T = TypeVar("_T")

_LONGEST_ASKED = 60.0  # seconds that a server may ask to be left alone

tell_wait: ContextVar[Callable[[str], None] | None] = ContextVar("tell_wait", default=None)
"""Is told before each wait what failed and when the next attempt is; set by whoever shows progress."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How stubbornly a failed call is repeated. Waits are in seconds and double, with full jitter.

    Attributes:
        attempts: how often it is made at most.
        first_wait: bound of the first wait.
        longest_wait: bound of all waits; a server that names a time is waited for up to a minute.
        patience: seconds after which it is not repeated any more; waiting for its turn does not count.
    """

    attempts: int = 6
    first_wait: float = 0.5
    longest_wait: float = 60.0
    patience: float = math.inf


def _never_queued() -> float:
    return 0.0


async def with_retries(
    call: Callable[[], Awaitable[_T]],
    policy: RetryPolicy,
    model: str,
    queued: Callable[[], float] = _never_queued,
) -> _T:
    """The result of `call`, repeated after transport errors and the statuses 408, 409, 425, 429 and 5xx.

    Args:
        call: one attempt; it takes its own turn at the server, so that no wait between attempts holds one.
        policy: how often, and for how long.
        model: as named in messages.
        queued: seconds that the attempts have waited for their turns up to now.

    Raises:
        ModelError: the failure is not worth repeating, or the attempts are used up.
    """
    attempt, begun = 0, time.monotonic()
    while True:
        attempt += 1
        try:
            return await call()
        except ModelError:
            raise  # it explains itself
        except Exception as error:  # noqa: BLE001 - every provider has its own exceptions; classified below
            passed = time.monotonic() - begun - queued()
            given_up = attempt >= policy.attempts or passed > policy.patience
            if given_up or not worth_repeating(error):
                # Not chained: what a provider says of a wrong key quotes it, and traces keep whole chains.
                kind = RefusedError if refuses_request(error) else ModelError
                raise kind(explain(error, attempt, model)) from None
            seconds = _wait(error, attempt, policy)
            if tell := tell_wait.get():
                tell(_waiting(error, attempt, policy, seconds, passed, model))
            await asyncio.sleep(seconds)


def _waiting(
    error: Exception, attempt: int, policy: RetryPolicy, seconds: float, passed: float, model: str
) -> str:
    """What failed, when it is tried again, and when it will be given up."""
    again = f"{briefly(error)}, attempt {attempt + 1} of {policy.attempts} in {math.ceil(seconds)} s"
    if policy.patience == math.inf:
        return again
    left = max(0, math.ceil(policy.patience - passed))
    return f"{model}: {briefly(error)}, tried again in {math.ceil(seconds)} s, given up in {left} s"


def _wait(error: Exception, attempt: int, policy: RetryPolicy) -> float:
    asked = _retry_after(error)
    if asked is not None:
        return min(asked, max(policy.longest_wait, _LONGEST_ASKED)) + random.uniform(
            0, 0.1 * policy.first_wait
        )
    return random.uniform(0, min(policy.first_wait * 2**attempt, policy.longest_wait))


def _retry_after(error: Exception) -> float | None:
    """Seconds named by `Retry-After` (a number or a date), if any."""
    headers = getattr(getattr(error, "response", None), "headers", None)
    value = headers.get("retry-after") if headers is not None else None
    if value is None:
        return None
    if re.fullmatch(r"\s*[0-9]+(\.[0-9]+)?\s*", value):
        return float(value)
    try:
        return max((parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return None  # neither a number nor a date: wait as if nothing had been said
