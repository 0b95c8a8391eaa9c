"""Does anything answer at the address of a cluster? Asked before Ray is, which goes on for a quarter of an hour where nothing does."""

from __future__ import annotations

import os
import socket
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from paft_ray.errors import UserError, one_line

_CONNECT_S, _ANSWER_S = 5.0, 10.0
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""How a client of gRPC begins: the preface of HTTP/2, and settings, of which none are changed."""
_SETTINGS = 4


def reach(target: str) -> None:
    """Raises `UserError` within seconds where no process, or one that does not speak gRPC, listens at `target` (`auto`, HOST:PORT, ray://HOST:PORT)."""
    scheme, mark, place = target.rpartition("://")
    if mark and scheme != "ray":
        raise UserError(f"--address {target}: not the address of a cluster; give HOST:PORT, ray://HOST:PORT or auto (http://HOST:8265 is for paft submit)")
    found = _host_and_port(place, client=bool(mark))
    if found is None:
        return
    shown = f"auto ({found[0]}:{found[1]})" if target == "auto" else target
    try:
        with socket.create_connection(found, timeout=_CONNECT_S) as connection:
            speaks = _speaks_grpc(connection)
    except OSError as error:  # refused, no such host, no answer
        raise UserError(f"--address {shown}: no Ray cluster answers ({one_line(error)}); see that it is up (`ray status` there){_leave_out()}") from None
    if not speaks:
        raise UserError(f"--address {shown}: what listens there is no Ray cluster; give the head's HOST:PORT, usually port 6379{_leave_out()}")


def reach_job_api(address: str | None) -> None:
    """As `reach`, for the address of a job API, or of the cluster that Ray asks for it; None: the one that Ray finds."""
    target = address or os.environ.get("RAY_API_SERVER_ADDRESS") or os.environ.get("RAY_ADDRESS") or "auto"
    url = urlsplit(target)
    if url.scheme not in ("http", "https"):
        reach(target)
    elif url.hostname and (url.scheme not in getproxies() or proxy_bypass(url.hostname)):
        try:
            socket.create_connection((url.hostname, url.port or (443 if url.scheme == "https" else 80)), timeout=_CONNECT_S).close()
        except (OSError, ValueError) as error:
            remedy = "give http://HOST:8265, through `ray dashboard` where it is closed"
            raise UserError(f"--address {target}: no job API answers ({one_line(error)}); {remedy}") from None


def _host_and_port(target: str, *, client: bool) -> tuple[str, int] | None:
    """Where Ray would look for the cluster (but for its client at the address of the machine, for 127.0.0.1); None where it must find out, or refuse."""
    from ray._private.services import canonicalize_bootstrap_address, extract_ip_port

    try:
        address = target if client else canonicalize_bootstrap_address(target)
        return None if address is None else extract_ip_port(address)
    except (ValueError, OSError):
        return None


def _speaks_grpc(connection: socket.socket) -> bool:
    if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
        return True  # it says nothing to a client without a certificate
    connection.settimeout(_ANSWER_S)
    connection.sendall(_HELLO)
    head = b""
    while len(head) < 9 and (more := connection.recv(9 - len(head))):
        head += more
    return len(head) == 9 and head[3] == _SETTINGS


def _leave_out() -> str:
    return ", or unset RAY_ADDRESS for a local Ray" if os.environ.get("RAY_ADDRESS") else ", or leave --address out for a local Ray"
