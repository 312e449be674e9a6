"""Calls of which some may go wrong: what an attempt can do without, and what ends the run."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from cluster_r1.agents.parsing import AnswerError
from cluster_r1.errors import RefusedError

_T = TypeVar("_T")

UNUSABLE = (AnswerError, RefusedError)
"""Failures of one attempt. Others (a server that is gone, a spent budget) end the run, to be continued."""


async def all_of(
    calls: Iterable[Coroutine[Any, Any, _T]],
) -> tuple[list[_T | None], AnswerError | RefusedError | None]:
    """The answers, in order, None where one cannot be used; and the last failure."""
    answers: list[_T | None] = []
    last = None
    for result in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(result, UNUSABLE):
            last = result
            answers.append(None)
        elif isinstance(result, BaseException):
            raise result
        else:
            answers.append(result)
    return answers, last
