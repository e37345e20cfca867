"""One request to an OpenAI-compatible server: bytes in, events out, and every way in which that can go wrong as one of two exceptions.

`Refused` is what a server said no to, `Broken` a connection that gave way. httpx is used directly, not the official SDK, because an SDK
stream cannot tell a finished answer from a connection that closed in the middle of one, hides the fields that servers add of their own
(`stop_reason`, `reasoning`), and closes its inner generators only when they are collected, while a cancelled call must be gone at once.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import re
import weakref
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx

from pondera.errors import BadInput, ModelError

LINE_LIMIT = 1 << 24  # bytes; no event of this protocol is longer
ERROR_LIMIT = 1 << 16  # bytes of an error's body that are read
TRANSIENT = {408, 409, 429}
LONGEST_WAIT = 60.0  # seconds
FIELDS = (b"data:", b"event:", b"id:", b"retry:", b":")


@dataclass(eq=False)
class Refused(Exception):
    """The server answered with an error, before or amid a stream."""

    status: int
    message: str = ""
    param: str = ""
    code: str = ""
    retry_after: float | None = None

    @property
    def transient(self) -> bool:
        return self.status in TRANSIENT or self.status >= 500


@dataclass(eq=False)
class Broken(Exception):
    """The connection could not be made ("down"), went silent ("stall") or ended too early ("cut")."""

    kind: Literal["down", "stall", "cut"]
    retry_after: float | None = None


@dataclass(slots=True)
class Place:
    """What belongs to one event loop: sockets, slots and a lock cannot be carried to another."""

    client: httpx.AsyncClient
    slots: asyncio.Semaphore
    probing: asyncio.Lock


class Wire:
    """A server's address and key. Never shows the key."""

    def __init__(self, base_url: str, key: str, concurrency: int, timeout: float) -> None:
        try:
            parts = urlsplit(base_url)
            port = parts.port
        except ValueError:
            raise BadInput("A base_url has a number for a port, like http://127.0.0.1:8000/v1.") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadInput("A base_url begins with http:// or https:// and names a host, like http://127.0.0.1:8000/v1.")
        if parts.username or parts.password or parts.query or parts.fragment:  # it is shown, and kept in records
            raise BadInput("A base_url holds no user, password or query: give the key in the variable OPENAI_API_KEY.")
        if not key.isascii() or not key.isprintable():
            raise BadInput("The API key holds characters that no key has (a line break, an accent): copy it again.")
        if concurrency < 1 or not (timeout > 0 and math.isfinite(timeout)):
            raise BadInput("concurrency must be at least 1, and timeout a number of seconds above 0.")
        self.base = base_url.rstrip("/")
        self.host = parts.hostname + (f":{port}" if port else "")
        self._key = key
        self._concurrency = concurrency
        self.timeout = timeout
        self._places: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Place] = weakref.WeakKeyDictionary()

    def here(self) -> Place:
        """The place of the running loop, made when it is first asked for."""
        loop = asyncio.get_running_loop()
        if (place := self._places.get(loop)) is None:
            # Over plain http a new connection costs next to nothing, and none is then left open when a loop ends without close().
            keep = self._concurrency if self.base.startswith("https") else 0
            client = httpx.AsyncClient(
                headers={"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"},
                timeout=httpx.Timeout(self.timeout, connect=min(self.timeout, 10.0), pool=None),
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=keep),
            )
            place = Place(client, asyncio.Semaphore(self._concurrency), asyncio.Lock())
            self._places[loop] = place
        return place

    async def close(self) -> None:
        if (place := self._places.pop(asyncio.get_running_loop(), None)) is not None:
            await place.client.aclose()

    async def events(self, path: str, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """The events of a stream, as JSON objects; a server that does not stream gives one. Closing it closes the connection."""
        try:
            async with self.here().client.stream("POST", self.base + path, content=json.dumps(body)) as response:
                if response.status_code != 200:
                    raise self.refusal(response, await _head(response, ERROR_LIMIT))
                kind = response.headers.get("content-type", "")
                if "json" in kind and "event-stream" not in kind:
                    yield self._object(await _head(response, LINE_LIMIT))
                    return
                async with aclosing(self._frames(response)) as frames:
                    async for frame in frames:
                        if frame.strip() == b"[DONE]":
                            return
                        yield self._object(frame)
        except httpx.HTTPError as error:
            raise self._broken(error) from None

    async def ask(self, method: str, url: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """One plain JSON request to an absolute address."""
        content = None if body is None else json.dumps(body)
        try:
            async with self.here().client.stream(method, url, content=content) as response:
                data = await _head(response, LINE_LIMIT)
                if response.status_code != 200:
                    raise self.refusal(response, data)
                return self._object(data)
        except httpx.HTTPError as error:
            raise self._broken(error) from None

    def refusal(self, response: httpx.Response, data: bytes) -> Refused:
        """An error's body, in whichever of the usual shapes, without the key."""
        if 300 <= response.status_code < 400 or response.status_code < 200:
            raise self.garbage("a redirect")
        try:
            body = json.loads(data)
        except (ValueError, RecursionError):
            body = {}
        return self._refusal(response.status_code, body, wait(response.headers.get("retry-after")))

    def _refusal(self, status: int, body: Any, retry_after: float | None = None) -> Refused:
        body = body if isinstance(body, dict) else {"detail": body}
        error = body.get("error", body)
        error = error if isinstance(error, dict) else {"message": error}
        said = error.get("message") or error.get("detail") or ""
        text = self.clean(said if isinstance(said, str) else json.dumps(said))
        code, param = error.get("code") or error.get("type"), error.get("param")
        return Refused(status, text, param if isinstance(param, str) else "", str(code or ""), retry_after)

    def clean(self, text: str) -> str:
        """A server's words, fit for an error message: one line, not too long, without the key."""
        text = re.sub(r"(?i)bearer\s+\S+", "Bearer ***", text.replace(self._key, "***") if len(self._key) > 3 else text)
        text = re.sub(r"\bsk-[\w\-*.]{4,}", "***", text)
        return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:300]

    def garbage(self, what: str) -> ModelError:
        return ModelError(
            f"The server at {self.host} answered with {what}, not with the OpenAI protocol: check base_url (often it ends in /v1)."
        )

    def _object(self, data: bytes) -> dict[str, Any]:
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            raise self.garbage("something that is not JSON") from None
        if not isinstance(value, dict):
            raise self.garbage("JSON of another shape")
        if error := value.get("error"):
            code = error.get("code") if isinstance(error, dict) else None
            status = code if isinstance(code, int) and 400 <= code < 600 else 500
            raise self._refusal(status, value)
        return value

    async def _frames(self, response: httpx.Response) -> AsyncGenerator[bytes, None]:
        """The data of each server-sent event. Lines end at a line feed only: JSON may hold U+2028 and its like."""
        data: list[bytes] = []
        async with aclosing(self._lines(response.aiter_bytes())) as lines:
            async for line in lines:
                if line.startswith(b"data:"):
                    data.append(line[5:])
                elif line.strip():
                    if not line.lstrip(b"\xef\xbb\xbf").startswith(FIELDS):
                        raise self.garbage("something that is not an event stream")
                elif data:
                    yield b"\n".join(data)
                    data = []
        if data and (data[0].strip() == b"[DONE]"):
            yield data[0]

    async def _lines(self, chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        rest = b""
        async for chunk in chunks:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield line.removesuffix(b"\r")
            if len(rest) > LINE_LIMIT:
                raise self.garbage("a line without end")
        if rest.strip():
            yield rest

    def _broken(self, error: httpx.HTTPError) -> Exception:
        match error:
            case httpx.ConnectError() | httpx.ConnectTimeout():
                return Broken("down")
            case httpx.TimeoutException():
                return Broken("stall")
            case httpx.DecodingError():
                return self.garbage("bytes that cannot be decompressed")
            case _:
                return Broken("cut")


async def _head(response: httpx.Response, limit: int) -> bytes:
    """The body, up to a limit."""
    parts: list[bytes] = []
    async for chunk in response.aiter_bytes():
        parts.append(chunk)
        if (limit := limit - len(chunk)) <= 0:
            break
    return b"".join(parts)


def wait(header: str | None) -> float | None:
    """The seconds that a Retry-After header asks for, in either of its forms, at most a minute."""
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            then = parsedate_to_datetime(header)
        except ValueError:
            return None
        then = then if then.tzinfo else then.replace(tzinfo=UTC)
        seconds = (then - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 0.0), LONGEST_WAIT) if math.isfinite(seconds) else None


def pause(tries: int, retry_after: float | None) -> float:
    """Seconds until the next try: exponential backoff with full jitter, after what the server asked for."""
    jitter = random.uniform(0, min(0.5 * 2**tries, 16.0))
    return jitter if retry_after is None else retry_after + min(jitter, 1.0)
