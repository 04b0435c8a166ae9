import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from clusterdb.cache import CacheConfig
from clusterdb.cache.cli import main
from clusterdb.cache.cli.app import app
from clusterdb.cache.cli.config import check_file

SHOP = """
cache:
  name: shop
  ttl: 1h
  serialization: {format: json}
regions:
  session: {ttl: 30m, size: 64MiB}
  users: {ttl: null, policy: {type: lfu, max_items: 5000}}
backup:
  schedule: "0 3 * * *"
  retention: 7d
  storage: {type: directory, path: /var/backup}
"""

SECRETS = """
cache:
  backend:
    type: redis
    urls: ["redis://app:hunter2@one:6379/0", "redis://:hunter3@two:6379/0"]
    username: app
    password: hunter4
"""


def invoke(*argv: str) -> Result:
    return CliRunner().invoke(app, argv)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    path = tmp_path / "shop.yaml"
    path.write_text(SHOP, encoding="utf-8")
    return path


def test_a_valid_file_is_summed_up(shop: Path):
    done = invoke("config", "check", str(shop))

    assert done.exit_code == 0
    lines = [line.split() for line in done.output.splitlines()]
    assert ["cache", "shop"] in lines
    assert ["backend", "memory"] in lines
    assert ["default", "adaptive", "1,000,000", "no", "limit", "1h"] in lines
    assert ["session", "adaptive", "no", "limit", "64MiB", "30m"] in lines
    assert ["users", "lfu", "5,000", "no", "limit", "no", "expiry"] in lines
    assert "'serialization' was checked and kept" in done.output


def test_json_says_the_same(shop: Path):
    done = invoke("config", "check", "--json", str(shop))

    assert done.exit_code == 0
    said = json.loads(done.output)
    [inactive] = said.pop("inactive")
    assert "'serialization'" in inactive
    assert said == {
        "ok": True,
        "file": str(shop),
        "name": "shop",
        "backend": "memory",
        "at": [],
        "regions": [
            {"name": "default", "policy": "adaptive", "max_items": 1_000_000, "max_memory": None,
             "ttl": 3600.0},
            {"name": "session", "policy": "adaptive", "max_items": None, "max_memory": 64 * 2**20,
             "ttl": 1800.0},
            {"name": "users", "policy": "lfu", "max_items": 5000, "max_memory": None,
             "ttl": None},
        ],
    }  # fmt: skip


def test_a_file_that_configures_the_default_region_has_it_once(tmp_path: Path):
    path = tmp_path / "cache.yaml"
    path.write_text("regions:\n  default: {ttl: 5m}\n", encoding="utf-8")

    [region] = check_file(path).regions
    assert (region.name, region.ttl) == ("default", 300.0)


def test_nothing_is_inactive_in_an_empty_file(tmp_path: Path):
    path = tmp_path / "cache.yaml"
    path.write_text("", encoding="utf-8")

    assert check_file(path).inactive == []


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_secrets_are_never_printed(options: list[str], tmp_path: Path):
    path = tmp_path / "cache.yaml"
    path.write_text(SECRETS, encoding="utf-8")
    done = invoke("config", "check", *options, str(path))

    assert done.exit_code == 0
    assert "hunter" not in done.output
    assert "redis://***@one:6379/0" in done.output


def test_a_wrong_setting_is_one_line_with_its_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "cache.yaml"
    path.write_text("regions:\n  session:\n    tll: 30m\n", encoding="utf-8")

    assert main(["config", "check", str(path)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"cache: {path}: regions.session.tll: ")
    assert err.count("\n") == 1


def test_json_tells_errors_too(tmp_path: Path):
    path = tmp_path / "cache.yaml"
    path.write_text("regions:\n  session:\n    tll: 30m\n", encoding="utf-8")
    done = invoke("config", "check", "--json", str(path))

    assert done.exit_code == 1
    said = json.loads(done.output)
    assert (said["ok"], said["path"]) == (False, "regions.session.tll")
    assert "'ttl'" in said["error"]


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"cache: [", b"- a\n- b\n", b"a: &a [*a]"])
def test_what_is_no_configuration_is_refused_in_one_line(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "cache.yaml"
    path.write_bytes(content)

    assert main(["config", "check", str(path)]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)


def test_the_schema_is_the_one_of_the_library():
    done = invoke("config", "schema")

    assert done.exit_code == 0
    assert json.loads(done.output) == json.loads(json.dumps(CacheConfig.json_schema()))
