"""POST requests to one endpoint: our own headers alone, no redirects, limits on the time and the bytes of an answer.

Of the environment only proxies (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY; never for this machine's own addresses)
and certificates (SSL_CERT_FILE, SSL_CERT_DIR) count, since companies need them. No .netrc file is read, no cookie kept,
and no header comes from a variable.
"""

from __future__ import annotations

import asyncio
import email.utils
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx

from paft_ray.config import GeneratorConfig
from paft_ray.config.addresses import canonical, is_loopback, refusal, resolved_refusal
from paft_ray.errors import UserError, one_line

MOST_BYTES = 4 * 2**20
_LONGEST_RETRY_AFTER_S = 120.0
_RETRIED = (408, 409, 429)
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 8.0
_TRANSPORT_ERRORS = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, ValueError)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """The outcome of one request."""

    status: int | None
    """None where no answer came, or not to its end."""
    body: bytes = b""
    trouble: str = ""
    """Why the body is missing or incomplete."""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def succeeded(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    def retry_in_s(self, attempt: int) -> float | None:
        """Seconds until the request is sent again after attempt 0, 1, ...; None where it is not, or where the endpoint
        asks for too long a wait."""
        if self.status is not None and self.status not in _RETRIED and self.status < 500:
            return None
        asked_s = _retry_after_s(self.headers)
        if asked_s is not None and asked_s > _LONGEST_RETRY_AFTER_S:
            return None
        if asked_s is not None and asked_s > 0:
            return asked_s
        return min(_FIRST_WAIT_S * 2.0 ** min(attempt, 10), _LONGEST_WAIT_S) * random.uniform(0.75, 1)

    def location(self, asked: str) -> str:
        """Where a redirect leads, without the parts of a URL that may hold a secret."""
        try:
            parts = urlsplit(urljoin(asked, self.headers.get("location", "")))
            port = f":{parts.port}" if parts.port else ""
            return f"{parts.scheme}://{parts.hostname}{port}{parts.path}" if parts.hostname else "no host"
        except ValueError:
            return "what is no URL"


class Exchange:
    """An open connection pool to one endpoint, as an asynchronous context manager."""

    def __init__(self, generator: GeneratorConfig, key: str, insecure_hosts: Sequence[str] = ()) -> None:
        """Raises `UserError` where nothing may be sent to the endpoint's address, or proxy or certificate settings of
        the environment are wrong."""
        assert generator.endpoint is not None
        self._endpoint, self._label, self._allowed = generator.endpoint, generator.label, insecure_hosts
        self.url = f"{self._endpoint.base_url.rstrip('/')}/chat/completions"
        self._headers = {"Accept": "application/json", "Content-Type": "application/json", "User-Agent": "paft-ray"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._host = urlsplit(self.url).hostname or ""
        self._stays_here = is_loopback(self._host)
        self._refuse(refusal(self.url, keyed=bool(key), allowed=insecure_hosts))
        try:
            direct = dict.fromkeys(("all://", "http://", "https://")) if self._stays_here else None
            limits = httpx.Limits(max_connections=None)  # `concurrency` bounds them
            self._client = httpx.AsyncClient(mounts=direct, limits=limits, timeout=None)  # noqa: S113 (`post` bounds the whole)
        except (ValueError, ImportError, OSError, httpx.InvalidURL) as error:
            names = "HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, SSL_CERT_FILE, SSL_CERT_DIR"
            raise UserError(
                f"generator {self._label}: one of {names} in the environment cannot be used "
                f"({one_line(error)[:200]}); correct it"
            ) from None

    async def __aenter__(self) -> Exchange:
        """Raises `UserError` where the host's name resolves to an address that nothing may be sent to."""
        try:
            found = await asyncio.wait_for(
                asyncio.get_running_loop().getaddrinfo(self._host, None), self._endpoint.timeout_s
            )
        except (OSError, ValueError):  # each request will say so; a proxy may know the name
            found = []
        self._refuse(resolved_refusal(self.url, [str(entry[4][0]) for entry in found], self._allowed))
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.__aexit__(kind, error, trace)

    async def post(self, content: bytes) -> Reply:
        """What the endpoint answers to a JSON body, within `timeout_s`. Raises `UserError` where the connection leads
        to a forbidden address."""
        timeout_s = self._endpoint.timeout_s
        response: httpx.Response | None = None
        try:
            async with asyncio.timeout(timeout_s):
                request = httpx.Request(
                    "POST", self.url, headers=self._headers, content=content, extensions={"trace": self._connected}
                )
                response = await self._client.send(request, stream=True, follow_redirects=False)
                try:
                    body, trouble = await _limited(response)
                finally:
                    await response.aclose()
            return Reply(status=response.status_code, body=body, trouble=trouble, headers=response.headers)
        except UserError:
            raise
        except TimeoutError:
            trouble = f"no answer within endpoint.timeout_s={timeout_s} s"
        except _TRANSPORT_ERRORS:
            what = "no connection to" if response is None else "the answer broke off from"
            trouble = f"{what} {self._endpoint.base_url}"
        if response is not None and not response.is_success:  # its status says enough
            return Reply(status=response.status_code, trouble=trouble, headers=response.headers)
        return Reply(status=None, trouble=trouble)

    async def _connected(self, event: str, info: Mapping[str, Any]) -> None:
        """Looks at the address of every new connection before anything is sent on it: what a name resolves to may
        change."""
        if not event.endswith("connect_tcp.complete"):
            return
        stream = info["return_value"]
        peer = str(stream.get_extra_info("server_addr")[0])
        reason = resolved_refusal(self.url, [peer], self._allowed)
        if (
            reason is None
            and self._stays_here
            and not is_loopback(peer)
            and canonical(self._host) not in map(canonical, self._allowed)
        ):
            reason = f"{self._host} resolves to {peer}, which is another machine"
        if reason:
            await stream.aclose()
        self._refuse(reason)

    def _refuse(self, reason: str | None) -> None:
        if reason:
            raise UserError(f"generator {self._label}: endpoint.base_url: {reason}")


async def _limited(response: httpx.Response) -> tuple[bytes, str]:
    """(body, why it is missing). Compressed bytes were not asked for; they are not read, since a few of them can make
    gigabytes."""
    coding = response.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("", "identity"):
        return b"", f"a compressed answer came ({coding}), though a plain one was asked for"
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > MOST_BYTES:
            return b"", f"the answer is longer than {MOST_BYTES // 2**20} MiB"
    return bytes(body), ""


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds from now; None where the endpoint names no time."""
    for name, per_second in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            return float(headers[name]) / per_second
        except (KeyError, ValueError):
            continue
    try:
        at = email.utils.parsedate_tz(headers.get("retry-after", ""))
        return None if at is None else email.utils.mktime_tz(at) - time.time()
    except (TypeError, ValueError, OverflowError, IndexError):
        return None
