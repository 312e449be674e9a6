"""One event loop in a thread of its own, on which all synchronous calls run their coroutines.

HTTP clients are bound to the loop that opened them, so a loop per call would break them; and a caller that
already runs a loop (Jupyter) cannot wait on it. This loop lives as long as the process and is closed with it.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")

_CLEAN_UP = 10.0  # seconds that cancelled work may take to write what it has

_guard = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_closers: list[Callable[[], Awaitable[None]]] = []


class Running(Generic[_T]):
    """A coroutine that runs on the background loop.

    Attributes:
        future: its result; cancelling it does not wait, which `stop` does.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, _T]) -> None:
        self._ended = threading.Event()
        self.future = asyncio.run_coroutine_threadsafe(self._whole(coroutine), background_loop())

    async def _whole(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        try:
            return await coroutine
        finally:
            self._ended.set()

    def stop(self) -> None:
        """Cancel it if it runs, and wait until it has cleaned up."""
        if self.future.cancel():
            self._ended.wait(timeout=_CLEAN_UP)


def start(coroutine: Coroutine[Any, Any, _T]) -> Running[_T]:
    """Have a coroutine run while the caller goes on."""
    return Running(coroutine)


def run(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """The coroutine's result. Ctrl-C cancels it, waits until it has cleaned up, and is raised again."""
    running = start(coroutine)
    try:
        return running.future.result()
    except KeyboardInterrupt:
        running.stop()
        raise


async def submit(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """The same from a coroutine on another loop; cancelling the waiter cancels the work."""
    if asyncio.get_running_loop() is background_loop():
        return await coroutine
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, background_loop()))


async def brief(function: Callable[..., _T], *arguments: Any) -> _T:
    """The result of a function that blocks for well under a millisecond.

    On the background loop it is simply called; on a loop of somebody else, such as a server's, which may
    refuse whatever blocks, it is called in a thread.
    """
    if asyncio.get_running_loop() is _loop:
        return function(*arguments)
    return await asyncio.to_thread(function, *arguments)


def background_loop() -> asyncio.AbstractEventLoop:
    """The loop, started on first use."""
    global _loop
    with _guard:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="cluster-r1", daemon=True).start()
            atexit.register(_close)
        return _loop


def close_with_loop(closer: Callable[[], Awaitable[None]]) -> None:
    """Have a client that lives on the background loop closed when the process ends."""
    _closers.append(closer)


def _close() -> None:
    if _loop is None or not _loop.is_running():
        return

    async def close_all() -> None:
        await asyncio.gather(*(close() for close in _closers), return_exceptions=True)

    asyncio.run_coroutine_threadsafe(close_all(), _loop).result(timeout=5)
    _loop.call_soon_threadsafe(_loop.stop)
