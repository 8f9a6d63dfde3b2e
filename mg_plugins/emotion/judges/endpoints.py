"""Addresses of endpoints: whether one is this machine, and when to ask it again."""

from __future__ import annotations

import ipaddress
import math
import time
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit


def host_of(url: str) -> str:
    try:
        parts = urlsplit(url)
        host = parts.hostname
        usable = parts.scheme in ('http', 'https') and host and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(f'the base URL {url!r} cannot be used: http://HOST:PORT/v1 was expected')
    if parts.username or parts.password or parts.query:
        raise ValueError(
            f'the base URL for {host} holds a user or a query; keys belong into the environment '
            '(--key-env NAME)'
        )
    return host


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its very name: ``localhost``, 127.0.0.0/8 or ``::1``.

    Nothing is looked up: whoever answers for another name may say 127.0.0.1 now and something else
    at the next request.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == 'localhost'
    return address.version == 4 and address.is_loopback or address == ipaddress.IPv6Address(1)


def retry_after(headers: Any) -> float | None:
    """Seconds that a response asks to wait (a number, or the date until when), or None."""
    value = headers.get('retry-after')
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (TypeError, ValueError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
