"""Tells Ray when the cloud takes this spot machine away: `spot_notice.py aws|gcp`, started beside `ray start`.

The instance metadata of AWS and Google Cloud announce it two minutes and half a minute before. Ray does not look there;
`ray drain-node` makes training save a checkpoint at once and go on elsewhere. Standard library only, no credentials.
Ends after the notice was handed over.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime

HOSTS = {"aws": "http://169.254.169.254", "gcp": "http://169.254.169.254"}
POLL_S = {"aws": 5.0, "gcp": 1.0}
_GCP_NOTICE_S = 25
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the address is this machine's own


def aws_notice(host: str, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> int | None:
    """Seconds until the machine ends, at least 0; None where nothing is announced. Raises `OSError` where the metadata
    do not answer, `ValueError` where they answer something else. IMDSv2: a session token, then the document."""
    token = _read(f"{host}/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"}, method="PUT")
    try:
        document = _read(f"{host}/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": token})
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise
    at = datetime.strptime(json.loads(document)["time"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    return max(0, int((at - now()).total_seconds()))


def gcp_notice(host: str) -> int | None:
    """As `aws_notice`; Google Cloud names no time, and gives 30 s."""
    answer = _read(f"{host}/computeMetadata/v1/instance/preempted", {"Metadata-Flavor": "Google"})
    if answer not in ("TRUE", "FALSE"):
        raise ValueError(f"TRUE or FALSE expected, found {answer[:40]!r}")
    return _GCP_NOTICE_S if answer == "TRUE" else None


NOTICES = {"aws": aws_notice, "gcp": gcp_notice}


def drained(seconds: int) -> bool:
    """True where Ray has taken the notice for this node."""
    command = ["ray", "drain-node", "--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=spot machine taken away"]
    return subprocess.run([*command, f"--deadline-remaining-seconds={seconds}"], check=False).returncode == 0


def watch(cloud: str, host: str, poll_s: float) -> None:
    """Returns once a notice came and Ray has it; says each new trouble once."""
    said = None
    while True:
        trouble = None
        try:
            seconds = NOTICES[cloud](host)
            if seconds is not None:
                print(f"spot_notice: this machine ends in {seconds} s", file=sys.stderr, flush=True)
                if drained(seconds):
                    return
                trouble = "Ray did not take the notice; asking again"
        except (OSError, ValueError, KeyError, TypeError) as error:
            trouble = f"no instance metadata: {error}"
        if trouble and trouble != said:
            print(f"spot_notice: {trouble}", file=sys.stderr, flush=True)
        said = trouble
        time.sleep(poll_s)


def _read(url: str, headers: dict[str, str], method: str = "GET") -> str:
    request = urllib.request.Request(url, headers=headers, method=method)  # noqa: S310 (http, from a constant)
    with _DIRECT.open(request, timeout=5) as response:
        return str(response.read(4096).decode())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("cloud", choices=sorted(NOTICES))
    parser.add_argument("--metadata", help="address of the instance metadata, for tests")
    chosen = parser.parse_args()
    watch(chosen.cloud, chosen.metadata or HOSTS[chosen.cloud], POLL_S[chosen.cloud])
