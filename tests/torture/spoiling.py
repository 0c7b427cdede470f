"""Ways to spoil a file, as disks, people and enemies do. Files are hard links: none is changed in place."""

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from tierloom.sealed import canonical

Spoil = Callable[[Path, Path, random.Random], str]

_PAGE: Final = 4096


def objects(folder: Path) -> list[Path]:
    """All that belongs to the store, in order."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


def spoil(folder: Path, draw: random.Random) -> str:
    """Spoil one file (or two), and say how."""
    kind = draw.choice(list(SPOILERS))
    every = objects(folder)
    # A kind of object first: else most of what is drawn would be graphs.
    place = draw.choice(sorted({path.relative_to(folder).parts[0] for path in every}))
    victim = draw.choice([path for path in every if path.relative_to(folder).parts[0] == place])
    done = SPOILERS[kind](folder, victim, draw)
    return f"{kind} {victim.relative_to(folder)}: {done}"


def _rewritten(path: Path, data: bytes) -> None:
    path.unlink()
    path.write_bytes(data)


def _flip(folder: Path, victim: Path, draw: random.Random) -> str:
    data = bytearray(victim.read_bytes())
    bits = [draw.randrange(8 * len(data)) for _ in range(draw.choice((1, 1, 2, 16)))]
    for bit in bits:
        data[bit // 8] ^= 1 << bit % 8
    _rewritten(victim, bytes(data))
    return f"bits {bits}"


def _cut(folder: Path, victim: Path, draw: random.Random) -> str:
    data = victim.read_bytes()
    length = draw.choice((0, 1, len(data) - 1, draw.randrange(len(data))))
    _rewritten(victim, data[:length])
    return f"at {length}"


def _grow(folder: Path, victim: Path, draw: random.Random) -> str:
    more = draw.choice((b"\0", b"\n", draw.randbytes(draw.randrange(1, 9000)), bytes(_PAGE)))
    at = draw.choice((None, draw.randrange(victim.stat().st_size)))
    data = victim.read_bytes()
    _rewritten(victim, data + more if at is None else data[:at] + more + data[at:])
    return f"by {len(more)} at {at}"


def _page(data: bytes, draw: random.Random) -> tuple[int, int]:
    begin = draw.randrange(0, len(data), draw.choice((_PAGE, 512, 1)))
    return begin, min(len(data), begin + draw.choice((_PAGE, 512, 64)))


def _zero(folder: Path, victim: Path, draw: random.Random) -> str:
    data = victim.read_bytes()
    begin, end = _page(data, draw)
    _rewritten(victim, data[:begin] + bytes(end - begin) + data[end:])
    return f"{begin}..{end}"


def _scribble(folder: Path, victim: Path, draw: random.Random) -> str:
    data = victim.read_bytes()
    begin, end = _page(data, draw)
    _rewritten(victim, data[:begin] + draw.randbytes(end - begin) + data[end:])
    return f"{begin}..{end}"


def _pad(folder: Path, victim: Path, draw: random.Random) -> str:
    """What a crash of the system leaves of a file that was not synced: its length, and zeros."""
    data = victim.read_bytes()
    at = draw.randrange(len(data))
    _rewritten(victim, data[:at] + bytes(len(data) - at))
    return f"zeros from {at}"


def _swap(folder: Path, victim: Path, draw: random.Random) -> str:
    """Two objects change places: of the same kind, if there are two."""
    others = [path for path in objects(folder) if path != victim]
    alike = [path for path in others if path.suffix == victim.suffix] or others
    other = draw.choice(alike)
    mine, theirs = victim.read_bytes(), other.read_bytes()
    _rewritten(victim, theirs)
    _rewritten(other, mine)
    return f"with {other.relative_to(folder)}"


def _lose(folder: Path, victim: Path, draw: random.Random) -> str:
    victim.unlink()
    return "gone"


def _odd(folder: Path, victim: Path, draw: random.Random) -> str:
    """Something that is no plain file, or leads out of the store."""
    how = draw.choice(("folder", "link", "dangling", "pipe", "linked folder"))
    outside = folder.parent / "outside"
    outside.mkdir(exist_ok=True)
    if how == "linked folder" and victim.parent != folder:
        shutil.rmtree(outside)
        shutil.move(victim.parent, outside)
        victim.parent.symlink_to(outside)
        return how
    shutil.copy(victim, outside / victim.name)
    victim.unlink()
    if how == "folder":
        victim.mkdir()
    elif how == "pipe":
        os.mkfifo(victim)
    else:
        victim.symlink_to(outside / (victim.name if how == "link" else "nothing"))
    return how


def _edit(folder: Path, victim: Path, draw: random.Random) -> str:
    """A manifest edited by hand, or by someone who can compute seals. Only what contradicts the files is edited under a
    new seal: whoever may write a whole new version may write anything."""
    manifest = draw.choice([path for path in sorted((folder / "manifests").iterdir()) if path.stem[-1] in "12"])
    members = json.loads(manifest.read_bytes())
    sealed = draw.random() < 0.7
    stored = draw.choice([*members["vector_shards"], *members["index_shards"]] or [members])
    member = draw.choice([name for name in _EDITS if name in stored] or ["version"])
    before = stored[member]
    stored[member] = _EDITS.get(member, _more)(before, draw)
    if sealed:
        del members["sha256"]
        members["sha256"] = hashlib.sha256(canonical(members)).hexdigest()
    _rewritten(manifest, canonical(members) + b"\n")
    return f"{manifest.name} {'sealed' if sealed else 'unsealed'} {member}: {before!r} -> {stored[member]!r}"


def _number(value: int, draw: random.Random) -> Any:
    return draw.choice(
        (value + 1, max(value - 1, 0), 0, -1, 2 * value, 10**6, 2**32, 10**12, 10**15, 2**63, float(value))
    )


def _digest(value: str, draw: random.Random) -> str:
    return draw.choice((value[::-1], "0" * 64, value.upper(), value[:-1]))


def _name(value: str, draw: random.Random) -> str:
    return draw.choice(
        (f"../{value}", f"/{value}", "/etc/passwd", "file:///etc/passwd", "gs://bucket/x", f"{value}/..", f"{value}x",
         value.replace("/", "//"), "channels/prod.json", f"./{value}", value.replace("a", "b"), "")
    )  # fmt: skip


def _parameters(value: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    member = draw.choice(("dimensions", "connectivity", "expansion_search", "metric"))
    # The graph itself says how many edges it has, and how it compares.
    changed = "hamming" if member == "metric" else _number(value[member], draw)
    return value | {member: changed}


def _listed(value: list[str], draw: random.Random) -> list[str]:
    return draw.choice((value + value[:1], [*value, "shards/x.parquet"], value[:-1]))


def _tier(value: str, draw: random.Random) -> str:
    return draw.choice(("4", "8", "16", "x", "../x")) + draw.choice(("", "0"))


def _footer(value: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    return value | {"bytes": _number(value["bytes"], draw)}


def _more(value: Any, draw: random.Random) -> Any:
    return value + 1


_EDITS: Final[Mapping[str, Callable[[Any, random.Random], Any]]] = {
    "path": _name,
    "bytes": _number,
    "sha256": _digest,
    "rows": _number,
    "codes": _number,
    "parameters": _parameters,
    "vector_shards": _listed,
    "tier": _tier,
    "checkpoint": _digest,
    "footer": _footer,
}

SPOILERS: Final[Mapping[str, Spoil]] = {
    "flip": _flip,
    "cut": _cut,
    "grow": _grow,
    "zero": _zero,
    "scribble": _scribble,
    "pad": _pad,
    "swap": _swap,
    "lose": _lose,
    "odd": _odd,
    "edit": _edit,
}
