"""Spool files: the records of transactions too large for memory.

A spool file has no name: it is unlinked as it is made. So nobody else can read its rows, and the kernel frees its
space however the process ends; there is never anything to clean up.
"""

from __future__ import annotations

import io
import os
import struct
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from contexts.errors import CarveoutError, StreamStopped

_CHUNK: Final = 64 * 1024
_LENGTH = struct.Struct(">I")


class SpoolFull(CarveoutError):
    """A transaction larger than memory allows could not be written to the spool folder."""


class Spool:
    """Records written once from front to back, then read once.

    The file is closed, and with that deleted, by :meth:`close` or when the object is gone.
    """

    def __init__(self, folder: Path) -> None:
        """:raises SpoolFull: no file can be made in ``folder``."""
        self._folder = folder
        self._batch = bytearray()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Unbuffered: a buffer that could not be written would fail again when the file is closed.
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
        except OSError as error:
            raise _spool_full(folder, error) from error
        self.close = weakref.finalize(self, self._file.close)

    def append(self, record: bytes) -> None:
        """Add a record.

        :raises SpoolFull: the file cannot grow.
        """
        self._batch += _LENGTH.pack(len(record))
        self._batch += record
        if len(self._batch) >= _CHUNK:
            self.flush()

    def extend(self, records: Iterable[bytes]) -> None:
        """Add records; see :meth:`append`."""
        for record in records:
            self.append(record)

    def flush(self) -> None:
        """Hand what was added to the operating system; it need not survive a crash.

        :raises SpoolFull: the file cannot grow.
        """
        batch, self._batch = memoryview(self._batch), bytearray()
        try:
            while batch:
                batch = batch[os.write(self._file.fileno(), batch) :]
        except OSError as error:
            raise _spool_full(self._folder, error) from error

    def read(self) -> Iterator[bytes]:
        """The records in the order they were added; the file is deleted at the end.

        :raises StreamStopped: the file does not hold what was written.
        """
        try:
            self.flush()
            self._file.seek(0)
            file = io.BufferedReader(self._file, _CHUNK)
            while header := file.read(_LENGTH.size):
                yield self._record(file, header)
        finally:
            self.close()

    def _record(self, file: io.BufferedReader[io.FileIO], header: bytes) -> bytes:
        if len(header) == _LENGTH.size:
            length: int = _LENGTH.unpack(header)[0]
            if len(record := file.read(length)) == length:
                return record
        raise StreamStopped(
            f"{self._folder}: a spool file is shorter than what was written to it",
            unchanged="the slot was not acknowledged: the server sends the transaction again",
            next_step="check the disk, then start the worker again",
        )


def _spool_full(folder: Path, error: OSError) -> SpoolFull:
    return SpoolFull(
        f"{folder}: a large transaction cannot be spooled: {error.strerror}",
        unchanged="the transaction was not applied, and the slot was not acknowledged: nothing is lost",
        next_step="free disk space there or name another spool folder, then start the worker again",
    )
