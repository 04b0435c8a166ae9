"""``cache backup``, on a cache file and a directory."""

import json
from pathlib import Path

import pytest
from tests.unit.cache.cli.commands import Run, runner

FILE = """
cache:
  backend: {{type: disk, path: {home}/cache.db}}
regions:
  other: {{ttl: 1h}}
backup:
  schedule: "0 0 * * *"
  retention: 7d
  storage: {{type: directory, path: {home}/backups}}
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    config = tmp_path / "cache.yaml"
    config.write_text(FILE.format(home=tmp_path))
    monkeypatch.setenv("CLUSTERDB_CACHE_CONFIG", str(config))
    return tmp_path


@pytest.fixture
def cli(home: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    run = runner(capsys)
    assert run("set", "user:1", '"Ann"')[0] == 0
    assert run("set", "page:1", "1")[0] == 0
    return run


def backup(cli: Run, *words: str, code: int = 0):
    done = cli("backup", *words, "--json")
    assert done[0] == code, done[2]
    return json.loads(done[1]) if done[1] else done[2]


def lose(home: Path) -> None:
    for file in home.glob("cache.db*"):
        file.unlink()


def test_a_lost_cache_file_is_restored(cli, home):
    code, out, err = cli("backup", "create")
    assert (code, err) == (0, "")
    assert "full, 2 entries, 2 of them stored" in out
    lose(home)

    assert "good" in cli("backup", "list")[1]  # while there is no cache
    assert "good; 2 files of 1 backups" in cli("backup", "verify")[1]
    assert "2 restored, 0 left as they are" in cli("backup", "restore")[1]
    assert cli("get", "user:1")[1] == "Ann\n"


def test_what_is_written_by_json(cli, home):
    made = backup(cli, "create")
    assert (made["kind"], made["entries"]) == ("full", 2)
    cli("set", "user:2", "2")
    more = backup(cli, "create", "--incremental")
    assert (more["kind"], more["stored"]) == ("incremental", 1)

    assert [each["id"] for each in backup(cli, "list")["backups"]] == [made["id"], more["id"]]
    assert backup(cli, "verify", made["id"])["good"] is True
    lose(home)
    assert backup(cli, "restore", made["id"], "--dry-run")["restored"] == 2
    assert backup(cli, "restore", "--pattern", "user:*")["restored"] == 2
    assert backup(cli, "restore", "--overwrite", "never")["kept"] == 2
    assert backup(cli, "prune") == {"backups": [], "unfinished": [], "dry_run": False}


def test_a_damaged_backup_fails_the_check_and_the_restore(cli, home):
    made = backup(cli, "create")
    file = home / "backups" / "main" / made["id"] / "entries-00001.avro"
    content = bytearray(file.read_bytes())
    content[len(content) // 2 + 100] ^= 1
    file.write_bytes(content)

    code, out, _ = cli("backup", "verify")
    assert (code, "DAMAGED" in out, file.name in out) == (1, True, True)
    code, _, err = cli("backup", "restore")
    assert code == 4
    assert "the restore stopped after 0 entries" in err


def test_another_place_by_option(cli, home):
    place = home / "elsewhere"
    backup(cli, "create", "--storage", str(place))

    assert backup(cli, "list")["backups"] == []
    assert len(backup(cli, "list", "--storage", str(place))["backups"]) == 1


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("restore",), 2, "no complete backup"),
        (("restore", "no-such"), 2, "no backup 'no-such'"),
        (("create", "--full", "--incremental"), 2, "exclude each other"),
        (("list", "--storage", "ftp://x"), 2, "a directory or s3://"),
        (("list", "--storage", "/dev/null/x"), 0, ""),
        (("create", "--storage", "/dev/null/x"), 3, "Not a directory"),
    ],
)
def test_what_goes_wrong_is_one_line(cli, words, code, says):
    done = cli("backup", *words)

    assert done[0] == code
    assert says in done[2]
    assert done[2].count("\n") == (1 if code else 0)


def test_a_cache_without_a_place_of_backups_says_what_to_write(cli, home, tmp_path):
    bare = tmp_path / "bare.yaml"
    bare.write_text(FILE.format(home=tmp_path).partition("backup:")[0])

    code, _, err = cli("backup", "list", "--config", str(bare))

    assert code == 2
    assert "storage" in err
