"""A second process at work on the same store: `python rival.py <pickled store> <action> <arguments>`.

It says `ready`, waits for a line, and then does the action, so that several start together.
"""

import hashlib
import pickle
import sys
from pathlib import Path
from typing import Final

from tierloom.errors import AlreadyExists, RevisionMismatch
from tierloom.stores.store import Store


def create(store: Store, name: str, letter: str, length: str) -> None:
    """Create an object of one repeated letter and say whether that succeeded."""
    try:
        store.create(name, letter.encode() * int(length))
    except AlreadyExists:
        print("lost", flush=True)
    else:
        print("won", flush=True)


def count(store: Store, name: str, times: str) -> None:
    """Add one to a number, so many times, whoever else is counting."""
    for _ in range(int(times)):
        while not add_one(store, name):
            pass


def add_one(store: Store, name: str) -> bool:
    found = store.read_revision(name)
    number, revision = (int(found[0]), found[1]) if found else (0, None)
    try:
        store.swap(name, b"%d" % (number + 1), revision)
    except RevisionMismatch:
        return False
    return True


def churn(store: Store, prefix: str, length: str) -> None:
    """Create objects that are named by their sha256 until killed, by both ways of creating."""
    number = 0
    while True:
        data = number.to_bytes(8, "little") * (int(length) // 8)
        name = prefix + hashlib.sha256(data).hexdigest()
        file = store.scratch() / f"{hashlib.sha256(name.encode()).hexdigest()}.churn"
        print(name, flush=True)
        if number % 2:
            file.write_bytes(data)
            store.create_from_file(name, file)
            file.unlink(missing_ok=True)
        else:
            store.create(name, data)
        number += 1


ACTIONS: Final = {"create": create, "count": count, "churn": churn}


if __name__ == "__main__":
    _, pickled, action, *arguments = sys.argv
    rival_store: Store = pickle.loads(Path(pickled).read_bytes())
    print("ready", flush=True)
    sys.stdin.readline()
    ACTIONS[action](rival_store, *arguments)  # type: ignore[operator]
