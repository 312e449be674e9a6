"""How fast one endpoint is asked: how many calls are under way, how many calls and tokens a minute."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from weakref import WeakKeyDictionary, WeakValueDictionary

from cluster_r1.agents.models.failures import status_of
from cluster_r1.errors import InputError

_OVERLOADED = {429, 503, 529}  # too many calls; 529 is Anthropic's
_GROWTH = 0.1  # of the limit, in the time that as many calls take; by one alone, 64 takes 2,000 answers


@dataclass(frozen=True, slots=True)
class Limits:
    """What an endpoint may be asked at most.

    Attributes:
        concurrency: calls under way at once, at least 1.
        requests_per_minute: that are begun, each attempt of a repeated call counting; None for no limit.
        tokens_per_minute: of prompts and answers together; None for no limit.

    Raises:
        InputError: a limit is below 1.
    """

    concurrency: int = 64
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None

    def __post_init__(self) -> None:
        for name in ("concurrency", "requests_per_minute", "tokens_per_minute"):
            if (limit := getattr(self, name)) is not None and limit < 1:
                raise InputError(f"{name} is {limit}: give 1 or more")


class Pacer:
    """Spaces amounts evenly, so that no more than so many fall on any minute. It allows no burst.

    Attributes:
        free_at: from when on the next may begin, in seconds of the caller's clock.
    """

    __slots__ = ("_seconds", "free_at")

    def __init__(self, per_minute: int | None) -> None:
        self._seconds = 60 / per_minute if per_minute else 0.0
        self.free_at = -math.inf

    def take(self, amount: float, now: float) -> None:
        """Have an amount begin now; the next may begin when it has had its time."""
        self.free_at = max(self.free_at, now) + amount * self._seconds

    def charge(self, amount: float) -> None:
        """Enter what an amount that began was short of; a negative one gives back."""
        self.free_at += amount * self._seconds


class Pace:
    """Lets the calls to one endpoint begin, in the order in which they come.

    How many may be under way adapts (AIMD, as in TCP): the limit begins at the user's number, is halved when
    the server says that it is overloaded, and grows by about one for as many answers as it is wide, or by a
    tenth if that is more. What was under way when it was halved does not halve it again. It belongs to one
    event loop.

    Args:
        limits: that are never exceeded.
        clock: gives the seconds by which calls are spaced.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = limits.concurrency
        self._width = float(limits.concurrency)
        self._requests = Pacer(limits.requests_per_minute)
        self._tokens = Pacer(limits.tokens_per_minute)
        self._clock = clock
        self._under_way = 0
        self._cuts = 0
        self._waiting: deque[tuple[asyncio.Future[None], float]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = -math.inf

    @property
    def limit(self) -> int:
        """How many calls may be under way now, from 1 to the concurrency."""
        return int(self._width)

    @property
    def under_way(self) -> int:
        """How many calls are under way."""
        return self._under_way

    def call(self) -> PacedCall:
        """A call that is about to be made, once or in several attempts."""
        return PacedCall(self)

    async def _enter(self, tokens: float) -> None:
        now = self._clock()
        if not self._waiting and self._under_way < self.limit and self._free_at() <= now:
            self._begin(tokens, now)
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((turn, tokens))
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._admit()  # else it would stay in the queue until somebody leaves
            else:  # its turn came in the same moment: nothing was sent
                self._requests.charge(-1)
                self._tokens.charge(-tokens)
                self._leave()
            raise

    def _begin(self, tokens: float, now: float) -> None:
        self._under_way += 1
        self._requests.take(1, now)
        self._tokens.take(tokens, now)

    def _leave(self) -> None:
        self._under_way -= 1
        self._admit()

    def _admit(self) -> None:
        """Let those begin whose turn it is, and come back when it is the next one's."""
        now = self._clock()
        while self._waiting:
            turn, tokens = self._waiting[0]
            if not turn.done():  # else it was cancelled
                if self._under_way >= self.limit:
                    return
                if (free_at := self._free_at()) > now:
                    self._come_back(turn.get_loop(), free_at, free_at - now)
                    return
                self._begin(tokens, now)
                turn.set_result(None)
            self._waiting.popleft()
        self._forget_timer()  # it would keep a closed loop alive

    def _free_at(self) -> float:
        return max(self._requests.free_at, self._tokens.free_at)

    def _come_back(self, loop: asyncio.AbstractEventLoop, at: float, seconds: float) -> None:
        if self._timer is not None and self._timer_at == at:
            return
        self._forget_timer()
        self._timer, self._timer_at = loop.call_later(seconds, self._tick), at

    def _tick(self) -> None:
        self._timer = None
        self._admit()

    def _forget_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _learn(self, error: BaseException | None, cuts: int) -> None:
        """What an attempt that ended, and began after so many cuts, says of the limit."""
        if error is None:
            self._width = min(self._width + max(1 / self._width, _GROWTH), self._most)
        elif isinstance(error, Exception) and status_of(error) in _OVERLOADED and cuts == self._cuts:
            self._cuts += 1
            self._width = max(self._width / 2, 1.0)


class PacedCall:
    """One call in all its attempts, which are made one after another.

    `async with call.attempt(tokens)` waits for its turn and holds a slot for the length of the block. What
    leaves the block as an exception is read as the server's answer to the pace.

    Attributes:
        queued: seconds that it has waited for its turns.
    """

    __slots__ = ("_cuts", "_pace", "_tokens", "queued")

    def __init__(self, pace: Pace) -> None:
        self.queued = 0.0
        self._pace = pace
        self._tokens = 0.0
        self._cuts = 0

    def attempt(self, tokens: float) -> PacedCall:
        """The next attempt, for `async with`. `tokens` is about how many its prompt has."""
        self._tokens = tokens
        return self

    def used(self, tokens: float) -> None:
        """Enter how many tokens prompt and answer really had."""
        self._pace._tokens.charge(tokens - self._tokens)

    async def __aenter__(self) -> PacedCall:
        came = time.monotonic()
        try:
            await self._pace._enter(self._tokens)
        finally:
            self.queued += time.monotonic() - came
        self._cuts = self._pace._cuts
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pace._learn(error, self._cuts)
        self._pace._leave()


_guard = threading.Lock()
_paces: WeakKeyDictionary[asyncio.AbstractEventLoop, WeakValueDictionary[tuple[str, Limits], Pace]]
_paces = WeakKeyDictionary()


def shared_pace(endpoint: str, limits: Limits) -> Pace:
    """The pace of an endpoint on the running event loop, shared by all that have the same limits.

    It lasts as long as somebody keeps it.
    """
    with _guard:
        known = _paces.setdefault(asyncio.get_running_loop(), WeakValueDictionary())
        pace = known.get((endpoint, limits))
        if pace is None:
            pace = known[endpoint, limits] = Pace(limits)
        return pace
