"""Looking for a document in a folder, without any code that erases one."""

from pathlib import Path

import msgspec
import pyarrow.parquet as pq

from tierloom.stores.local import LocalStore


def found_in(store: LocalStore, document_id: str, among: str = "") -> list[Path]:
    """Every file of the folder, or of one of its folders, in which the id is: as bytes, or in a column of Parquet."""
    return [path for path in (store.root / among).rglob("*") if path.is_file() and _says(path, document_id)]


def _says(path: Path, document_id: str) -> bool:
    data = path.read_bytes()
    spellings = (document_id.encode(), msgspec.json.encode(document_id)[1:-1], repr(document_id)[1:-1].encode())
    if any(spelled in data for spelled in spellings):
        return True
    if not data.endswith(b"PAR1"):
        return False
    columns = pq.read_table(path).to_pydict().values()
    return any(document_id in str(value) for column in columns for value in column)
