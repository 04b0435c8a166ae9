"""Commands that ask a server which answers with whatever could harm them."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tests.unit.cache.cli.commands import Run, runner

pytestmark = pytest.mark.server

TOKEN = "a-token-of-many-letters-0123456789"
Serve = Callable[[int, bytes], str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("CLUSTERDB_CACHE_TOKEN", TOKEN)
    return runner(capsys)


class Answer(BaseHTTPRequestHandler):
    status, content, location = 200, b"", ""
    tokens: list[str]

    def do_GET(self) -> None:
        self.tokens.append(self.headers["Authorization"])
        self.send_response(self.status)
        if self.location:
            self.send_header("Location", self.location)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def answer() -> Iterator[type[Answer]]:
    kind = type("Own", (Answer,), {"tokens": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        kind.url = f"http://127.0.0.1:{server.server_port}"  # type: ignore[attr-defined]
        yield kind
        server.shutdown()
        thread.join()


NONSENSE = [
    b"",
    b"<html>",
    b"[" * 100_000,
    b'{"cache": 5}',
    b'{"checks": [{"name": "a", "status": "[bold]"}]}',
    b"null",
    b"\xff",
]


@pytest.mark.parametrize("content", NONSENSE, ids=lambda content: repr(content[:12]))
@pytest.mark.parametrize("command", ["status", "health", "top --once", "metrics show", "doctor"])
def test_nonsense_is_one_line(run: Run, answer, command: str, content: bytes):
    answer.content = content
    code, out, err = run(*command.split(), "--url", answer.url)
    if command == "doctor":  # it goes on and says so
        assert code == 1
        assert "server: " in out
    else:
        assert (code, out, err.count("\n")) == (3, "", 1)
    assert TOKEN not in out + err


def test_names_are_no_markup_and_no_escapes(run: Run, answer):
    evil = "[bold]\x1b[2Jx[/]"
    answer.content = json.dumps(
        {
            "region": evil,
            "policy": evil,
            "size": 5,
            "hit_ratio": 0.5,
            "sampled": 1000,
            "curve": [[1, 0.1], [5, 0.5]],
            "at": {evil: 0.5},
            "policies": {evil: 0.5},
            "hot_keys": [[evil, 0.5]],
        }
    ).encode()
    code, out, _ = run("advise", "--url", answer.url)
    assert code == 0
    assert "\x1b" not in out
    assert out.count("[bold]\\x1b[2Jx[/]") >= 4


def test_a_redirection_does_not_take_the_token_elsewhere(run: Run, answer):
    answer.status, answer.location = 302, f"{answer.url}/elsewhere"
    code, _, err = run("status", "--url", answer.url)
    assert code == 3
    assert "302" in err
    assert answer.tokens == [f"Bearer {TOKEN}"]
