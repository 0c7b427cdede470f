"""How numbers and tables look on a terminal. Plain text, so that a log holds the same as a screen."""

from collections.abc import Sequence


def table(rows: Sequence[tuple[str, str]]) -> str:
    """Two columns: names, and what they are."""
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join(f"  {name:<{width}}  {value}" for name, value in rows)


def count(number: int, noun: str) -> str:
    """A number with its noun: `1 document`, `2 documents`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def size(number: int) -> str:
    """Bytes, as people say them (powers of 1000)."""
    if number < 1000:
        return f"{number} B"
    scaled = float(number)
    for unit in ("kB", "MB", "GB"):
        scaled /= 1000
        if scaled < 999.95:
            return f"{scaled:.1f} {unit}"
    return f"{scaled / 1000:.1f} TB"
