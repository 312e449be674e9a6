"""The one layer that repeats failed calls: what is worth repeating, how long to wait, when to give up."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from cluster_r1.errors import ModelError
from cluster_r1.secrets import redact

_T = TypeVar("_T")

_WORTH_REPEATING = {408, 409, 425, 429}
_TRANSPORT = ("APIConnectionError", "APITimeoutError", "TransportError", "ClientError", "ReadTimeout")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How stubbornly a failed call is repeated. Waits are in seconds and double, with full jitter."""

    attempts: int = 6
    first_wait: float = 0.5
    longest_wait: float = 60.0


async def with_retries(call: Callable[[], Awaitable[_T]], policy: RetryPolicy, model: str) -> _T:
    """The result of `call`, repeated after transport errors and the statuses 408, 409, 425, 429 and 5xx.

    Raises:
        ModelError: the failure is not worth repeating, or the attempts are used up.
    """
    attempt = 0
    while True:
        attempt += 1
        try:
            return await call()
        except Exception as error:  # noqa: BLE001 - every provider has its own exceptions; classified below
            if not worth_repeating(error) or attempt >= policy.attempts:
                # Not chained: what a provider says of a wrong key quotes it, and traces keep whole chains.
                raise ModelError(_explain(error, attempt, model)) from None
            await asyncio.sleep(_wait(error, attempt, policy))


def worth_repeating(error: Exception) -> bool:
    """Whether the same call may succeed later."""
    status = status_of(error)
    if status is not None:
        spent = status == 429 and "insufficient_quota" in str(error)
        return (status in _WORTH_REPEATING or status >= 500) and not spent
    if isinstance(error, TimeoutError | ConnectionError | json.JSONDecodeError):
        return True
    # LangChain answers a body that is no chat completion with one of these.
    if type(error) in (ValueError, KeyError, TypeError, IndexError):
        return True
    return any(kind.__name__ in _TRANSPORT for kind in type(error).__mro__)


def status_of(error: Exception) -> int | None:
    """The failing HTTP status that an exception of any client library carries, if any.

    A body that cannot be read may come with status 200; that is no status of a failure.
    """
    status = getattr(error, "status_code", None) or getattr(_response(error), "status_code", None)
    return status if isinstance(status, int) and status >= 400 else None


def _response(error: Exception) -> Any:
    return getattr(error, "response", None)


def _wait(error: Exception, attempt: int, policy: RetryPolicy) -> float:
    asked = _retry_after(error)
    if asked is not None:
        return min(asked, policy.longest_wait) + random.uniform(0, 0.1 * policy.first_wait)
    return random.uniform(0, min(policy.first_wait * 2**attempt, policy.longest_wait))


def _retry_after(error: Exception) -> float | None:
    """Seconds named by `Retry-After` (a number or a date), if any."""
    headers = getattr(_response(error), "headers", None)
    value = headers.get("retry-after") if headers is not None else None
    if value is None:
        return None
    if re.fullmatch(r"\s*[0-9]+(\.[0-9]+)?\s*", value):
        return float(value)
    try:
        return max((parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return None  # neither a number nor a date: wait as if nothing had been said


def _explain(error: Exception, attempts: int, model: str) -> str:
    status = status_of(error)
    said = " ".join(redact(str(error)).split())[:300] or type(error).__name__
    tries = f"after {attempts} attempts" if attempts > 1 else "at the first attempt"
    return f"{model} failed {tries}{f' (HTTP {status})' if status else ''}: {said}{_remedy(status, error)}"


def _remedy(status: int | None, error: Exception) -> str:
    if status in (401, 403):
        return ". Check the API key in the environment"
    if status == 404:
        return ". Check the model's name and the server's address"
    if status == 429:
        return ". Wait, lower --concurrency, or raise the account's limit; finished calls are kept"
    if status is None and worth_repeating(error):
        return ". Check that the server runs and can be reached; finished calls are kept"
    return ""
