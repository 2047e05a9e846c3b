"""Versions of kinds: MAJOR.MINOR. A minor version adds optional variables; a major one needs an upgrade."""

import re

_PATTERN = re.compile(r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)")


def parse_version(text: object) -> tuple[int, int] | None:
    """Return (major, minor), or None where the text is not a version."""
    match = _PATTERN.fullmatch(text) if isinstance(text, str) else None
    return (int(match[1]), int(match[2])) if match else None
