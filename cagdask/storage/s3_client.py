"""What an S3 client does: the same requests by obstore (:mod:`.s3_obstore`) and by s3fs (:mod:`.s3_s3fs`)."""

from __future__ import annotations

from typing import Any, Protocol

RETRY_SECONDS = 90
"""How long a request is repeated before it fails."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 5.0
"""Seconds before a request is repeated for the first time, and later on."""
CONNECT_SECONDS = 5
_TRY_SECONDS = 60
PART_BYTES = 64 * 2**20
"""Objects up to this size are put by one request, larger ones by several of it."""
DIGEST = "sha256"
"""Metadata of an object: the SHA-256 of what its writer sent."""


def seconds_of_a_try(seconds: int) -> int:
    """How long one request may take of one that is repeated for so long: a short look has time for two of them."""
    return _TRY_SECONDS if seconds >= _TRY_SECONDS else -(-seconds // 2)


class S3Client(Protocol):
    """Requests for one bucket, repeated as :mod:`cagdask.storage.s3` says; keys may begin below a prefix."""

    def put(self, key: str, data: Any, *, version: str | None = None, create: bool = False, digest: str = "") -> str:
        """Put a whole object; its tag.

        Parameters
        ----------
        key, data
            Where, and bytes or an open file.
        version
            Only in place of the object with this tag.
        create
            Only where there is none.
        digest
            SHA-256 to note with it.

        Raises
        ------
        FileExistsError
            There is another object than the condition says.
        """

    def get(self, key: str) -> tuple[bytes, str] | None:
        """An object and its tag, or None."""

    def get_range(self, key: str, start: int, end: int) -> bytes:
        """Bytes ``start`` to ``end`` of an object.

        Raises
        ------
        FileNotFoundError
            There is none.
        """

    def get_tail(self, key: str, n_bytes: int) -> tuple[bytes, int]:
        """The last bytes of an object, all of a smaller one, and its size.

        Raises
        ------
        FileNotFoundError
            There is none.
        """

    def head(self, key: str) -> dict[str, Any] | None:
        """Size (``size``) and tag (``e_tag``) of an object, or None where there is none."""

    def digest_sent(self, key: str) -> tuple[int, str] | None:
        """Size of an object, and the digest of what was sent; None where that was not noted.

        Requests are signed with a digest of what they carry, so the server has compared it with what came. Where the
        option ``unsigned_payload`` is set, nobody has, and this is None.
        """

    def listing(self, key: str) -> dict[str, int]:
        """Sizes of the objects below a key, by what follows the key."""

    def any_below(self, key: str) -> bool:
        """Whether there is an object below a key."""

    def delete(self, keys: list[str]) -> None:
        """Delete objects; those that are not there are no error."""

    def copy(self, source: str, goal: str) -> None:
        """Copy an object within the bucket."""
