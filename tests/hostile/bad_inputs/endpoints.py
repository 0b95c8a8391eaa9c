"""Addresses of endpoints and trackers that nothing, or no key, may be sent to."""

from tests.hostile.bad_inputs.case import Case, setting


def endpoint(given: str, says: str, url: str, key: str = "", more: str = "") -> Case:
    """The demo configuration with one endpoint."""
    named = f", api_key_env: {key}" if key else ""
    return setting(
        given, says, f"prompts.generators=[{{id: g, endpoint: {{base_url: '{url}'{named}{more}}}}}]", dry=True
    )


def tracker(given: str, says: str, url: str) -> Case:
    return setting(given, says, f"tracking.mlflow='{url}'", dry=True)


_LOCAL = "is a link-local or metadata address, where a cloud keeps credentials"
_OPEN = "unencrypted, over plain http; write https://"
CASES = [
    endpoint(
        "a metadata service as an endpoint", f"endpoint.base_url: 169.254.169.254 {_LOCAL}", "http://169.254.169.254/v1"
    ),
    *(
        endpoint(
            f"a request with its own {name}",
            f"request.{name}: paft decides it",
            "https://h/v1",
            more=f", request: {{{name}: {value}}}",
        )
        for name, value in (("messages", "[{role: user, content: rows}]"), ("model", "other"), ("stream", "true"))
    ),
    endpoint("a metadata service as one number", f"169.254.169.254 {_LOCAL}", "http://2852039166/v1"),
    endpoint("a metadata service in hexadecimal digits", f"169.254.169.254 {_LOCAL}", "https://0xa9fea9fe/v1"),
    endpoint("a metadata service in octal digits", f"169.254.169.254 {_LOCAL}", "http://0251.0376.0251.0376/v1"),
    endpoint("a metadata service in an IPv6 address", f"169.254.169.254 {_LOCAL}", "http://[::ffff:a9fe:a9fe]/v1"),
    endpoint("a metadata service behind NAT64", _LOCAL, "http://[64:ff9b::a9fe:a9fe]/v1"),
    endpoint("a link-local IPv6 address as an endpoint", f"fe80::1 {_LOCAL}", "https://[fe80::1]:8000/v1"),
    endpoint(
        "a metadata service by its name",
        f"metadata.google.internal {_LOCAL}",
        "http://Metadata.Google.Internal./computeMetadata/v1",
    ),
    endpoint(
        "a key over plain http", f"the key would go to example.com {_OPEN}", "http://example.com/v1", "EXAMPLE_KEY"
    ),
    endpoint(
        "a key over plain http into a private network",
        f"the key would go to 10.1.2.3 {_OPEN}",
        "http://10.1.2.3:8000/v1",
        "EXAMPLE_KEY",
    ),
    endpoint(
        "a key over plain http to a name like this machine's", _OPEN, "http://localhost.example.com/v1", "EXAMPLE_KEY"
    ),
    endpoint("a host of fullwidth digits", "neither a name in ASCII", "http://\uff11\uff16\uff19.254.169.254/v1"),
    endpoint(
        "a password in the place of a port",
        "a port or a bracket of the URL is wrong",
        "http://host:s3cr3t-made-up-0123456789/v1",
    ),
    endpoint("an address with an encoded host", "neither a name in ASCII", "http://169.254%2e169.254/v1"),
    endpoint(
        "an endpoint that gives no answer",
        "request.n: an integer above 0 is needed",
        "https://h/v1",
        more=", request: {n: 0}",
    ),
    endpoint(
        "a longest answer below zero",
        "request.max_tokens: an integer above 0",
        "https://h/v1",
        more=", request: {max_tokens: -1}",
    ),
    tracker("a metadata service as a tracker", f"tracking.mlflow: 169.254.169.254 {_LOCAL}", "http://169.254.169.254"),
    tracker("a metadata service as a tracker in short form", f"169.254.169.254 {_LOCAL}", "http://169.254.43518/"),
    tracker("a link-local tracker with its interface", f"fe80::1%25eth0 {_LOCAL}", "https://[fe80::1%25eth0]/"),
    tracker(
        "a tracker's address with a bracket that is not closed",
        "tracking.mlflow: a port or a bracket of the URL is wrong",
        "http://[::1/",
    ),
    setting("a pattern of insecure hosts", "no pattern such as *", "insecure_hosts=['*']", dry=True),
    setting("a URL as an insecure host", "without scheme, port and brackets", "insecure_hosts=['http://h']", dry=True),
    setting("an empty insecure host", "insecure_hosts.0", "insecure_hosts=['']", dry=True),
]
