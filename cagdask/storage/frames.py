"""Tables of pandas as files."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

from cagdask.storage.files import write_bytes

if TYPE_CHECKING:
    import pandas as pd


def write_frame(frame: pd.DataFrame, url: str) -> None:
    """Write a table without its index as Parquet if ``url`` ends so, else as TSV; in place of what is there."""
    buffer = BytesIO()
    if url.endswith(".parquet"):
        frame.to_parquet(buffer, index=False)
    else:
        buffer.write(frame.to_csv(sep="\t", index=False, lineterminator="\n").encode())
    write_bytes(url, buffer.getvalue())
