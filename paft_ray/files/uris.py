"""URIs of storage."""

from __future__ import annotations


def split_uri(uri: str) -> tuple[str, str]:
    """(place, options of its filesystem with the `?` before them) of a URI; a local path has no options."""
    place, mark, options = uri.partition("?") if "://" in uri else (uri, "", "")
    return place, mark + options
