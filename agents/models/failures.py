"""Reads the exceptions of client libraries: whether a call is worth repeating, and what to tell the user."""

from __future__ import annotations

import errno
import json
import socket
import ssl
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from cluster_r1.secrets import redact

_WORTH_REPEATING = {408, 409, 425, 429}
_ABOUT_THE_REQUEST = {400, 413, 422}
_TRANSPORT = {"APIConnectionError", "APITimeoutError", "TransportError", "ClientError", "ReadTimeout"}
_NOT_CONNECTED = {"ConnectError", "ConnectTimeout", "ClientConnectorError"}
_ENDPOINTS = ("/chat/completions", "/responses", "/messages")

_REFUSED = "connection refused"
_UNKNOWN_HOST = "unknown host"


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
    return bool(_names(error) & _TRANSPORT)


def refuses_request(error: Exception) -> bool:
    """Whether it is this request that the server does not take, rather than any."""
    return status_of(error) in _ABOUT_THE_REQUEST


def status_of(error: Exception) -> int | None:
    """The failing HTTP status that an exception of any client library carries, if any.

    A body that cannot be read may come with status 200; that is no status of a failure.
    """
    response = getattr(error, "response", None)
    status = getattr(error, "status_code", None) or getattr(response, "status_code", None)
    return status if isinstance(status, int) and status >= 400 else None


def explain(error: Exception, attempts: int, model: str) -> str:
    """One line: what failed, where, how often, and what to do about it."""
    status, missed = status_of(error), _no_connection(error)
    if status is None and missed:
        tries = f"{attempts} attempts" if attempts > 1 else "1 attempt"
        where = _address(error) or f"the server of {model}"
        return f"cannot connect to {where} ({tries}): {missed}. {_connection_remedy(missed)}"
    tries = f"after {attempts} attempts" if attempts > 1 else "at the first attempt"
    said = _said(error)
    return f"{model} failed {tries}{f' (HTTP {status})' if status else ''}: {said}{_remedy(status, error)}"


def briefly(error: Exception) -> str:
    """The failure in a few words, for a line of progress."""
    status = status_of(error)
    return f"HTTP {status}" if status else _no_connection(error) or _said(error)[:60]


def _said(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return "the server answered no JSON"
    return " ".join(redact(str(error)).split())[:300].rstrip(".") or type(error).__name__


def _remedy(status: int | None, error: Exception) -> str:
    if status in (401, 403):
        return ". Check the API key in the environment"
    if status == 404:
        return ". Check the model's name and the server's address"
    if status == 429:
        return ". Wait, lower the concurrency, or raise the account's limit; finished calls are kept"
    if status is None and worth_repeating(error):
        return ". Check that the server runs and can be reached; finished calls are kept"
    return ""


def _no_connection(error: BaseException) -> str:
    """Why no connection came about; empty where there was one.

    The chain of causes tells: clients report a refused connection as a time-out or as nothing in particular.
    """
    chain = list(_causes(error))
    for cause in reversed(chain):
        if isinstance(cause, socket.gaierror):
            return _UNKNOWN_HOST
        if isinstance(cause, ssl.SSLError):
            return f"TLS failed ({' '.join(filter(None, [cause.reason])) or cause})"
        if isinstance(cause, OSError) and cause.errno == errno.ECONNREFUSED:
            return _REFUSED
        if isinstance(cause, ConnectionRefusedError):
            return _REFUSED
    if not any(_names(cause) & _NOT_CONNECTED for cause in chain):
        return ""
    said = next((cause.strerror for cause in reversed(chain) if isinstance(cause, OSError)), None)
    return str(said or "no answer").lower()


def _connection_remedy(missed: str) -> str:
    if missed == _REFUSED:
        return "Is the server running?"
    return "Check the address" if missed == _UNKNOWN_HOST else "Check the address and the network"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception, and what led to it."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def _names(error: BaseException) -> set[str]:
    """The class names of an exception: libraries that may not be installed are known by them."""
    return {kind.__name__ for kind in type(error).__mro__}


def _address(error: BaseException) -> str:
    """The server's address, as users name it: without endpoint, user and password."""
    request: Any = error.__dict__.get("request")
    url = urlsplit(str(getattr(request, "url", "")))
    if not url.hostname:
        return ""
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    path = url.path
    for endpoint in _ENDPOINTS:
        path = path.removesuffix(endpoint)
    return f"{url.scheme}://{host}{f':{url.port}' if url.port else ''}{path}"
