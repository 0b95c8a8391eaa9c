"""Where requests may go: which hosts hold a cloud's own credentials, and where a key may go unencrypted."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterator, Sequence
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?\.?")
_METADATA_NAMES = {
    *("metadata", "metadata.google.internal", "metadata.goog", "metadata.azure.internal", "metadata.tencentyun.com"),
    *("instance-data", "instance-data.ec2.internal"),
}
_METADATA_NETWORKS = [
    ipaddress.ip_network(network)
    for network in (
        *("169.254.0.0/16", "fe80::/10", "fd00:ec2::/32", "fd20:ce::/32", "fd00:c1::a9fe:a9fe/128", "fd00:42::42/128"),
        *("100.100.100.200/32", "192.0.0.192/32", "168.63.129.16/32"),
    )
]
"""Link-local addresses, and what AWS, Google, Oracle, Scaleway, Alibaba and Azure use in addition."""
_ENDS_IN_IPV4 = [
    ipaddress.ip_network(network) for network in ("64:ff9b::/96", "64:ff9b:1::/48", "::/96", "::ffff:0:0:0/96")
]
"""NAT64 of everyone and of one's own network, and IPv6 that stands for IPv4 (RFC 6052, 8215, 4291, 2765)."""
_NOT_OF_A_URL = re.compile(r"[\x00-\x20\x7f]")


def split_url(url: str, name: str) -> SplitResult:
    """The parts of a URL whose host is an address or a name in ASCII. Raises `ValueError`, which never shows the URL:
    it may hold a key."""
    if _NOT_OF_A_URL.search(url):  # `urlsplit` drops some of them, clients do not
        raise ValueError(
            f"{name}: white space or a control character stands in the URL; write http(s)://HOST:PORT/PATH"
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # whose message shows what stands in the port's place
        raise ValueError(f"{name}: a port or a bracket of the URL is wrong; write http(s)://HOST:PORT/PATH") from None
    host = parts.hostname or ""
    if (host and not (address(host) if "[" in parts.netloc else _HOST.fullmatch(host))) or port == 0:
        raise ValueError(
            f"{name}: the host of the URL is neither a name in ASCII (xn--... for others) nor an address, or its "
            "port is 0"
        )
    return parts


def refusal(url: str, *, keyed: bool, allowed: Sequence[str]) -> str | None:
    """Why nothing may be sent to the URL; None where it may. `keyed`: a key goes with it; `allowed`: hosts that are
    exempt, by name."""
    parts = urlsplit(url)
    host = canonical(parts.hostname or "")
    if host in map(canonical, allowed):
        return None
    found = address(host)
    if host in _METADATA_NAMES or (found and serves_metadata(found)):
        return (
            f"{host} is a link-local or metadata address, where a cloud keeps credentials; give another one, or "
            f"allow it: insecure_hosts=['{host}']"
        )
    if keyed and parts.scheme == "http" and not is_loopback(host):
        return (
            f"the key would go to {host} unencrypted, over plain http; write https://, or allow it: "
            f"insecure_hosts=['{host}']"
        )
    return None


def resolved_refusal(url: str, found: Sequence[str], allowed: Sequence[str]) -> str | None:
    """As `refusal`, for the addresses that the host of the URL resolves to."""
    host = canonical(urlsplit(url).hostname or "")
    bad = next((text for text in found if (one := address(text)) and serves_metadata(one)), None)
    if bad is None or host in map(canonical, allowed):
        return None
    return (
        f"{host} resolves to {bad}, a link-local or metadata address, where a cloud keeps credentials; allow it if "
        f"it is right: insecure_hosts=['{host}']"
    )


def address(host: str) -> Address | None:
    """The IP address that the host is, in any spelling that a resolver takes (2852039166, 0xA9FEA9FE, 0251.254.43518);
    None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, ValueError):
        return None


def canonical(host: str) -> str:
    """One spelling per host: lower case, no dot at the end, an address in its usual form."""
    name = host.lower().rstrip(".")
    found = address(name)
    return name if found is None else str(getattr(found, "ipv4_mapped", None) or found)


def is_loopback(host: str) -> bool:
    """127.0.0.0/8, ::1 and `localhost`."""
    found = address(canonical(host))
    return canonical(host) == "localhost" if found is None else found.is_loopback


def serves_metadata(found: Address) -> bool:
    """Whether an address, or the IPv4 address within it, is link-local or a cloud's metadata service."""
    return any(one in network for one in _within(found) for network in _METADATA_NETWORKS)


def _within(found: Address) -> Iterator[Address]:
    yield found
    if isinstance(found, ipaddress.IPv6Address):
        yield from filter(None, [found.ipv4_mapped, found.sixtofour, *(found.teredo or ())])
        if any(found in network for network in _ENDS_IN_IPV4):
            yield ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)


def _check_host(host: str) -> str:
    if not _HOST.fullmatch(host) and address(host) is None:
        raise ValueError(
            "the name or address of a host is needed as it stands in the URL, without scheme, port and brackets; "
            "no pattern such as *"
        )
    return host


Host = Annotated[str, AfterValidator(_check_host)]
"""Name or address of a host."""
