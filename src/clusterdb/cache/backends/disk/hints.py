"""Hints between the processes of one cache file: "something was committed, look".

Each member has a datagram socket of the system beside the file. A hint carries nothing and may be
lost: who gets one looks at the file, and everybody looks at the file often enough without any. It
also tells the dead: a socket whose process is gone refuses. Where there are no such sockets there
are no hints.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Final

__all__ = ["Hints"]

_LONGEST: Final = 100
_AT_ONCE: Final = 256


class Hints:
    """The socket of one member; ``address`` is empty where there is none."""

    def __init__(self, file: Path) -> None:
        self._directory = -1
        self._folder = file.parent
        self._name = re.compile(re.escape(file.name) + r"-[0-9a-f]+-[0-9a-f]{8}\.sock", re.ASCII)
        self.socket: socket.socket | None = None
        self.address = ""
        if hasattr(socket, "AF_UNIX"):
            self._listen(f"{file.name}-{os.getpid():x}-{os.urandom(4).hex()}.sock")

    def _listen(self, name: str) -> None:
        try:
            found = self._bind(name)
        except OSError:
            return
        self.socket, self.address = found, name

    @property
    def lost(self) -> bool:
        """Whether the socket file was removed, as that of a process long silent is."""
        return self.socket is not None and not (self._folder / self.address).exists()

    def restore(self) -> None:
        """Bind again, at the same address."""
        self.abandon()
        self._listen(self.address)

    def _bind(self, name: str) -> socket.socket:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        made.setblocking(False)
        try:
            made.bind(self._reach(name))
            (self._folder / name).chmod(0o600)
        except OSError:
            made.close()
            raise
        return made

    def _reach(self, name: str) -> str:
        """A path to a socket; by the folder's descriptor where the path is too long for one."""
        path = str(self._folder / name)
        if len(os.fsencode(path)) <= _LONGEST:
            return path
        if self._directory < 0:
            self._directory = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._directory}/{name}"

    def tell(self, addresses: Iterable[str]) -> list[str]:
        """Hint to the members at ``addresses``; those whose process is gone. Never waits."""
        gone: list[str] = []
        own = self.socket  # the loop may close it meanwhile
        if own is None:
            return gone
        for address in addresses:
            if address == self.address or not self._name.fullmatch(address):
                continue
            try:
                own.sendto(b"", self._reach(address))
            except (ConnectionRefusedError, FileNotFoundError):
                gone.append(address)
            except OSError:  # its buffer is full: it has hints enough
                continue
        return gone

    def take(self) -> None:
        """Take the hints that came."""
        if self.socket is None:
            return
        with contextlib.suppress(BlockingIOError):
            for _ in range(_AT_ONCE):
                self.socket.recv(16)

    def forget(self, address: str) -> None:
        """Remove the socket file of a member that is gone."""
        if self._name.fullmatch(address):  # the file may name anything
            with contextlib.suppress(OSError):
                (self._folder / address).unlink()

    def abandon(self) -> None:
        """Let go of the socket; in the child of a fork it is the parent's."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def close(self) -> None:
        """End the socket."""
        if self.socket is not None:
            self.socket.close()
            self.forget(self.address)
            self.socket = None
        if self._directory >= 0:
            os.close(self._directory)
            self._directory = -1
