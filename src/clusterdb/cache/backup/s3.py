"""Backups in a bucket of S3, or of a store that speaks its protocol, by ``obstore``.

A file goes up in parts and appears when the last one is there; the manifest is created on the
condition that there is none. Downloads ask for ranges, so that each request is short and has its
own limit of time: what stalls is asked for again, and a throttled request (503) waits longer each
time. What was begun and never finished stays hidden in the bucket: a lifecycle rule
(``AbortIncompleteMultipartUpload``) removes it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store as Bucket

from ..config import S3
from ..errors import BackupCorrupt, BackupUnavailable
from .objects import StoredObject, Upload, check_name

if TYPE_CHECKING:
    from obstore import AsyncWritableFile

__all__ = ["S3Store"]

_PARTS_AT_ONCE: Final = 2
_PAGE: Final = 1000


class S3Store:
    """Objects of a bucket, below a prefix."""

    def __init__(self, config: S3) -> None:
        self._config = config
        self._bucket = Bucket(
            config.bucket,
            prefix=config.prefix.strip("/") or None,
            config=_settings(config),
            client_options={
                "timeout": timedelta(seconds=config.timeout),
                "connect_timeout": timedelta(seconds=min(config.timeout, 5.0)),
                "allow_http": (config.endpoint or "").startswith("http://"),
            },
            retry_config={
                "max_retries": config.retries,
                "retry_timeout": timedelta(seconds=config.timeout * (config.retries + 1)),
            },
        )

    @property
    def place(self) -> str:
        return f"s3://{self._config.bucket}/{self._config.prefix.strip('/')}"

    async def upload(self, name: str) -> Upload:
        writer = obstore.open_writer_async(
            self._bucket,
            check_name(name),
            buffer_size=int(self._config.part_size),
            max_concurrency=_PARTS_AT_ONCE,
        )
        return _BucketUpload(writer, self.place)

    async def put(self, name: str, content: bytes) -> None:
        with _refused(self.place):
            await obstore.put_async(self._bucket, check_name(name), content, use_multipart=False)

    async def create(self, name: str, content: bytes) -> bool:
        with _refused(self.place):
            try:
                await obstore.put_async(self._bucket, check_name(name), content, mode="create")
            except AlreadyExistsError:
                # Our own first attempt may have stored it, and only its reply was lost.
                return await self.read(name, 0, len(content) + 1) == content
        return True

    async def read(self, name: str, start: int, length: int) -> bytes:
        with _refused(self.place):
            try:
                found = await obstore.get_range_async(
                    self._bucket, check_name(name), start=start, length=length
                )
            except FileNotFoundError as error:
                raise BackupCorrupt(name, "is missing") from error
        return bytes(found)

    async def list(self, prefix: str) -> AsyncGenerator[Sequence[StoredObject], None]:
        stream = obstore.list(self._bucket, prefix or None, chunk_size=_PAGE)
        with _refused(self.place):
            async for page in stream:
                yield [
                    StoredObject(each["path"], each["size"], each["last_modified"].timestamp())
                    for each in page
                ]

    async def delete(self, names: Sequence[str]) -> None:
        with _refused(self.place):
            await obstore.delete_async(self._bucket, [check_name(name) for name in names])

    async def aclose(self) -> None:
        """Connections are the library's, and end when they idle."""


class _BucketUpload:
    """A file on its way up: its parts stay hidden unless it is closed."""

    def __init__(self, writer: AsyncWritableFile, place: str) -> None:
        self._writer: AsyncWritableFile | None = writer
        self._place = place

    async def write(self, data: bytes) -> None:
        assert self._writer is not None, "the upload has ended"
        with _refused(self._place):
            await self._writer.write(data)

    async def close(self) -> None:
        assert self._writer is not None, "the upload has ended"
        with _refused(self._place):
            await self._writer.close()
        self._writer = None

    async def abort(self) -> None:
        self._writer = None


def _settings(config: S3) -> Any:
    given = {
        "region": config.region,
        "endpoint": config.endpoint,
        "access_key_id": config.access_key,
        "secret_access_key": config.secret_key,
        "session_token": config.session_token,
    }
    return {name: value for name, value in given.items() if value is not None}


@contextmanager
def _refused(place: str) -> Iterator[None]:
    """Name the place that an error of the bucket is of; the library's text has no credentials."""
    try:
        yield
    except BackupUnavailable:
        raise
    except (BaseError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise BackupUnavailable(
            f"backups in {place!r}: {reason}; check the endpoint, the bucket and the credentials"
        ) from error
