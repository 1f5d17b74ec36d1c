"""A Zarr store on S3 by any client of ours, each request in a thread: for the backend that Zarr has no store for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype

from cagdask.storage.s3_client import S3Client


class ClientStore(Store):
    """Keys of a Zarr store below a client's prefix.

    Parameters
    ----------
    client
        With the prefix of the store.
    read_only
        Whether nothing may be written.
    """

    supports_writes = True
    supports_deletes = True
    supports_partial_writes = False
    supports_listing = True

    def __init__(self, client: S3Client, *, read_only: bool = False) -> None:
        super().__init__(read_only=read_only)
        self.client = client

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ClientStore) and self.client is other.client

    __hash__ = None  # type: ignore[assignment]  # as Zarr's own stores

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """All of an object, or a part of it; None where there is none."""
        data = await asyncio.to_thread(self._read, key, byte_range)
        return None if data is None else prototype.buffer.from_bytes(data)

    def _read(self, key: str, part: ByteRequest | None) -> bytes | None:
        try:
            if isinstance(part, RangeByteRequest):
                return self.client.get_range(key, part.start, part.end)
            if isinstance(part, SuffixByteRequest):
                return self.client.get_tail(key, part.suffix)[0]
        except FileNotFoundError:
            return None
        found = self.client.get(key)
        if found is None:
            return None
        return found[0][part.offset :] if isinstance(part, OffsetByteRequest) else found[0]

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Parts of several objects."""
        return list(await asyncio.gather(*(self.get(key, prototype, part) for key, part in key_ranges)))

    async def exists(self, key: str) -> bool:
        """Whether there is an object."""
        return await asyncio.to_thread(self.client.head, key) is not None

    async def getsize(self, key: str) -> int:
        """Bytes of an object."""
        found = await asyncio.to_thread(self.client.head, key)
        if found is None:
            raise FileNotFoundError(key)
        return int(found["size"])

    async def set(self, key: str, value: Buffer) -> None:
        """Write an object."""
        self._check_writable()
        await asyncio.to_thread(self.client.put, key, value.as_buffer_like())

    async def delete(self, key: str) -> None:
        """Delete an object; one that is not there is no error."""
        self._check_writable()
        await asyncio.to_thread(self.client.delete, [key])

    async def list(self) -> AsyncIterator[str]:
        """Keys of all objects."""
        for name in await asyncio.to_thread(self.client.listing, ""):
            yield name

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Keys of the objects below a folder."""
        folder = prefix.strip("/")
        for name in await asyncio.to_thread(self.client.listing, folder):
            yield f"{folder}/{name}" if folder else name

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Names of what is in a folder."""
        names = await asyncio.to_thread(self.client.listing, prefix.strip("/"))
        for name in dict.fromkeys(name.partition("/")[0] for name in names):
            yield name
