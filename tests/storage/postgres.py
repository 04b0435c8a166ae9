"""A PostgreSQL server for tests and for `./dev postgres`.

Needs nothing but Python and PostgreSQL's own programs (Debian's `postgresql`). The server refuses
to run as root, so it runs as `postgres` then, in a directory of its own that is made for it: it
never touches a server or a directory that was there before. A test's server dies with the test,
even when that is killed. As a program it starts a server that outlives it:

    python tests/storage/postgres.py up
    python tests/storage/postgres.py down
"""

from __future__ import annotations

import json
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["PostgresServer", "missing", "start"]

HOST = "127.0.0.1"
USER = "postgres"
_STARTS_WITHIN = 30.0
_SETTINGS = {
    "listen_addresses": HOST,
    "fsync": "on",
    "synchronous_commit": "on",
    "max_connections": "200",
    "autovacuum": "off",  # its transactions would come between ours now and then
    "log_min_messages": "warning",
}


def program(name: str) -> str | None:
    """One of PostgreSQL's programs, which Debian keeps out of the path."""
    found = shutil.which(name)
    if found:
        return found
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=_release)
    return str(places[-1]) if places else None


def _release(path: Path) -> float:
    name = path.parents[1].name
    return float(name) if name.replace(".", "", 1).isdecimal() else 0.0


def missing() -> list[str]:
    """The programs that are needed and not installed."""
    absent = [name for name in ("initdb", "postgres") if program(name) is None]
    return absent + [name for name in ("setpriv",) if shutil.which(name) is None]


def free_port() -> int:
    """A port below those that the system gives to clients."""
    while True:
        port = random.randint(20_000, 29_999)
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        return port


@dataclass
class PostgresServer:
    """One server, its data in ``place``; ``options`` are further settings."""

    place: Path
    options: dict[str, str] = field(default_factory=dict)
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        return f"postgresql://{USER}@{HOST}:{self.port}/{database}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def create(self) -> PostgresServer:
        """Make its data directory."""
        self.port = self.port or free_port()
        self.place.mkdir(parents=True, exist_ok=False)
        self.place.chmod(0o700)
        if os.geteuid() == 0:
            account = pwd.getpwnam(USER)
            os.chown(self.place, account.pw_uid, account.pw_gid)
        words = [str(program("initdb")), "-D", str(self.data), "-A", "trust", "-U", USER, "-N"]
        subprocess.run(
            [*_as_postgres(), *words, "-E", "UTF8", "--locale=C.UTF-8"],
            check=True,
            capture_output=True,
            cwd=self.place,
            timeout=60,
        )
        return self

    @property
    def data(self) -> Path:
        return self.place / "data"

    def start(self, *, outlives: bool = False) -> PostgresServer:
        """Start it and wait until it takes connections."""
        settings = _SETTINGS | {"port": str(self.port)} | self.options
        settings |= {"unix_socket_directories": str(self.place)}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        words = [str(program("postgres")), "-D", str(self.data), *options]
        with (self.place / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*_as_postgres(dies=not outlives), *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.place,
                start_new_session=outlives,
            )
        end = time.monotonic() + _STARTS_WITHIN
        while not self._answers():
            if time.monotonic() > end or self.process.poll() is not None:
                text = (self.place / "log").read_text(encoding="utf-8", errors="replace")
                raise RuntimeError(f"postgres in {self.place} did not start:\n{text[-2000:]}")
            time.sleep(0.02)
        return self

    def _answers(self) -> bool:
        """Whether a session gets as far as the server's first prompt: it takes connections, and
        refuses them, before it is ready.
        """
        words = b"user\0" + USER.encode() + b"\0database\0postgres\0\0"
        hello = (196608).to_bytes(4, "big") + words
        try:
            with socket.create_connection((HOST, self.port), timeout=2) as line:
                line.sendall((len(hello) + 4).to_bytes(4, "big") + hello)
                answer = b""
                while b"Z\x00\x00\x00\x05I" not in answer:
                    more = line.recv(4096)
                    if not more:
                        return False
                    answer += more
        except OSError:
            return False
        return True

    def crash(self) -> None:
        """End it at once, as a power cut does: it recovers when it starts again."""
        self._end(signal.SIGQUIT)

    def stop(self) -> None:
        """End it in good order, sessions included."""
        self._end(signal.SIGINT)

    def _end(self, which: signal.Signals) -> None:
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(which)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None

    def remove(self) -> None:
        """Stop it and remove its data."""
        self.stop()
        shutil.rmtree(self.place, ignore_errors=True)


def _as_postgres(*, dies: bool = True) -> list[str]:
    """How a program becomes the server's user, and dies with us."""
    words = ["setpriv"]
    if os.geteuid() == 0:
        account = pwd.getpwnam(USER)
        words += [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
    if dies:
        words += ["--pdeathsig", "QUIT"]
    return [*words, "--"] if len(words) > 1 else []


def start(place: Path | None = None, *, outlives: bool = False) -> PostgresServer:
    """A new server in a directory that others may not look into; below the system's for temporary
    files, as the server's user must reach it.
    """
    if place is None:
        place = Path(tempfile.mkdtemp(prefix="clusterdb-postgres-"))
        place.rmdir()
    server = PostgresServer(place).create()
    try:
        return server.start(outlives=outlives)
    except BaseException:
        server.remove()
        raise


# -- for a person who wants to play


def _up(state: Path) -> int:
    if state.exists():
        print("a server is up already; first: ./dev postgres down", file=sys.stderr)
        return 1
    server = start(outlives=True)
    state.parent.mkdir(parents=True, exist_ok=True)
    state.write_text(json.dumps({"pid": server.pid, "place": str(server.place)}), encoding="utf-8")
    print(f"postgresql: process {server.pid}, files and log in {server.place}")
    print(f"backend:\n  type: postgresql\n  url: {server.url}")
    return 0


def _down(state: Path) -> int:
    if not state.exists():
        print("no server is up")
        return 0
    known = json.loads(state.read_text(encoding="utf-8"))
    pid, place = known["pid"], Path(known["place"])
    stopped = _is_ours(pid, place)
    if stopped:
        os.kill(pid, signal.SIGINT)
        end = time.monotonic() + 20
        while _is_ours(pid, place) and time.monotonic() < end:
            time.sleep(0.05)
    shutil.rmtree(place, ignore_errors=True)
    state.unlink()
    print("1 process stopped" if stopped else "it had ended already")
    return 0


def _is_ours(pid: int, place: Path) -> bool:
    """Whether a process is still the one we started: it works below our directory."""
    try:
        return Path(f"/proc/{pid}/cwd").resolve(strict=True).is_relative_to(place.resolve())
    except OSError:
        return False


def main(words: list[str]) -> int:
    state = Path(__file__).resolve().parents[2] / "build" / "postgres" / "server.json"
    if words == ["down"]:
        return _down(state)
    if words != ["up"]:
        print("usage: ./dev postgres up\n       ./dev postgres down")
        return 2
    absent = missing()
    if absent:
        wanted = "apt-get install postgresql"
        print(f"not installed: {', '.join(absent)}; on Debian: {wanted}", file=sys.stderr)
        return 1
    return _up(state)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
