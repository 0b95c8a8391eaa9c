"""Does anything answer at the address of a cluster? Asked before Ray is, which tries for a quarter of an hour where
nothing does."""

from __future__ import annotations

import os
import socket
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from paft_ray.compat.ray import CLIENT_SERVER_CALL, HEAD_CALL, bootstrap_address
from paft_ray.errors import UserError, one_line

_CONNECT_S, _ANSWER_S = 5.0, 10.0


def reach(target: str) -> None:
    """Raises `UserError` within seconds where no Ray cluster listens at `target` (`auto`, HOST:PORT,
    ray://HOST:PORT)."""
    scheme, mark, place = target.rpartition("://")
    if mark and scheme != "ray":
        raise UserError(
            f"--address {target}: not the address of a cluster; give HOST:PORT, ray://HOST:PORT or auto "
            "(http://HOST:8265 is for paft submit)"
        )
    try:
        found = _host_and_port(place, client=bool(mark))
    except (ValueError, OSError) as error:
        raise UserError(
            f"--address {target}: no Ray cluster could be found ({one_line(error)}); give HOST:PORT, usually "
            f"port 6379{_leave_out()}"
        ) from None
    if found is None:
        return
    shown = f"auto ({found[0]}:{found[1]})" if target == "auto" else target
    try:
        socket.create_connection(found, timeout=_CONNECT_S).close()
    except (OSError, UnicodeError) as error:  # refused, no such host, no name of one (`a..b`), no answer
        raise UserError(
            f"--address {shown}: no Ray cluster answers ({one_line(error)}); see that it is up (`ray status` "
            f"there){_leave_out()}"
        ) from None
    if not _is_ray(*found, CLIENT_SERVER_CALL if mark else HEAD_CALL):
        raise UserError(
            f"--address {shown}: what listens there is no Ray cluster; give the head's HOST:PORT, usually port "
            f"6379{_leave_out()}"
        )


def reach_job_api(address: str | None) -> None:
    """As `reach`, for the address of a job API, or of the cluster that Ray asks for it; None: the one that Ray
    finds."""
    target = address or os.environ.get("RAY_API_SERVER_ADDRESS") or os.environ.get("RAY_ADDRESS")
    url = urlsplit(target or "")
    if target and url.scheme not in ("http", "https"):
        reach(target)
    elif url.hostname and (url.scheme not in getproxies() or proxy_bypass(url.hostname)):
        import httpx

        try:  # any answer will do, also one that asks for a token
            httpx.get(
                f"{url.scheme}://{url.netloc}/api/version",
                timeout=httpx.Timeout(_ANSWER_S, connect=_CONNECT_S),
                trust_env=False,
            )
        except (OSError, ValueError, httpx.HTTPError, httpx.InvalidURL) as error:
            remedy = "give http://HOST:8265, through `ray dashboard` where it is closed"
            raise UserError(f"--address {target}: no job API answers ({one_line(error)}); {remedy}") from None


def _host_and_port(place: str, *, client: bool) -> tuple[str, int] | None:
    """Where Ray would look for the cluster (but for its client at the address of the machine, for 127.0.0.1); None
    where it starts one.

    Raises `ValueError` for what is no HOST:PORT, `ConnectionError` where `auto` finds none.
    """
    address = place if client else bootstrap_address(place)
    if address is None:
        return None
    url = urlsplit(f"//{address}")
    if not url.hostname or not url.port:
        raise ValueError("HOST:PORT is needed")
    return url.hostname, url.port


def _is_ray(host: str, port: int, method: str) -> bool:
    """Whether the server knows a call of Ray's. One that asks for a token does; whether ours is right, Ray finds
    out."""
    if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
        return True  # it says nothing to a client without a certificate
    import grpc

    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    with grpc.insecure_channel(place, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary(method)(b"", timeout=_ANSWER_S)
        except grpc.RpcError as error:
            return error.code() not in (
                grpc.StatusCode.UNAVAILABLE,
                grpc.StatusCode.DEADLINE_EXCEEDED,
                grpc.StatusCode.UNIMPLEMENTED,
            )
    return True


def _leave_out() -> str:
    return (
        ", or unset RAY_ADDRESS for a local Ray"
        if os.environ.get("RAY_ADDRESS")
        else ", or leave --address out for a local Ray"
    )
