"""Which names are this machine's own."""

import re
from ipaddress import ip_address
from typing import Final

_HOST: Final = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]*)(:[0-9]{1,5})?")


def is_loopback(host: str) -> bool:
    """Whether an address or a name is reached from this machine alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def names_loopback(header: str) -> bool:
    """Whether a `Host` header names loopback. A page of elsewhere that lets its own name resolve to loopback (DNS
    rebinding) sends that name."""
    match = _HOST.fullmatch(header)
    return match is not None and is_loopback(match[1])
