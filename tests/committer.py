"""Commits some versions and prints their numbers: a process for the tests of the commit loop.

Usage: python committer.py STORE NAME COUNT
"""

import sys
from pathlib import Path

import msgspec

from tierloom.commit import commit
from tierloom.manifest import DocumentCounts, Manifest, RunRecord
from tierloom.stores.local import LocalStore


def commit_one(store: LocalStore, run: str) -> int:
    """Publish a version that counts one document more than the one before; answer with its number."""

    def change(head: Manifest) -> Manifest:
        return msgspec.structs.replace(
            head,
            version=head.version + 1,
            run=RunRecord(run=run, command="test"),
            documents=DocumentCounts(documents_in=head.documents.documents_in + 1, live=head.documents.live + 1),
        )

    return commit(store, change).version


def main() -> None:
    folder, name, count = sys.argv[1:]
    for at in range(int(count)):
        print(commit_one(LocalStore(Path(folder)), f"{name}-{at}"), flush=True)


if __name__ == "__main__":
    main()
