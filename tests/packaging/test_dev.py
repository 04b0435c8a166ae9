"""``./dev`` never runs a compiled package beside sources that were edited since."""

import fcntl
import importlib.util
import os
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest
from tests.house.sources import ROOT
from tests.packaging.package import (
    COMPILER,
    copy_of_the_sources,
    hasty_compiler,
    needs_build_tools,
)

pytestmark = pytest.mark.build

LIBRARY = "clusterdb_cache__mypyc.so"


@pytest.fixture
def dev(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The command as a module, at work on a copy of the sources, with this environment's tools."""
    loader = SourceFileLoader("dev_under_test", str(ROOT / "dev"))
    spec = importlib.util.spec_from_loader("dev_under_test", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader.exec_module(module)
    copy = tmp_path / "copy"
    copy_of_the_sources(copy)
    monkeypatch.setattr(module, "ROOT", copy)
    monkeypatch.setattr(module, "COMPILED", copy / "build" / "compiled")
    monkeypatch.setattr(module, "VENV", Path(sys.prefix))
    monkeypatch.setattr(module, "BIN", Path(sys.executable).parent)
    for name in ("CC", "CFLAGS", "CPPFLAGS", "LDFLAGS", "CLUSTERDB_PURE"):
        monkeypatch.delenv(name, raising=False)
    return module


@pytest.fixture
def built(dev: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the packages made so far, by a stand-in that compiles nothing."""
    names: list[str] = []

    def compile_package() -> Path:
        place: Path = dev.COMPILED / dev.fingerprint(dev.ROOT)
        place.mkdir(parents=True)
        (place / LIBRARY).touch()
        names.append(place.name)
        return place

    monkeypatch.setattr(dev, "compile_package", compile_package)
    monkeypatch.setattr(dev, "compiler", lambda: "/usr/bin/cc")
    return names


def test_what_is_up_to_date_is_not_built_again(dev, built):
    first = dev.compiled()

    assert dev.compiled() == first == dev.COMPILED / built[0]
    assert len(built) == 1


@pytest.mark.parametrize(
    "name", ["src/clusterdb/cache/table.py", "src/clusterdb/cache/manager.py", "setup.py"]
)
def test_an_edit_makes_another_package(dev, built, name):
    first = dev.compiled()
    source = dev.ROOT / name
    source.write_text(source.read_text(encoding="utf-8") + "# edited\n", encoding="utf-8")
    second = dev.compiled()

    assert first != second
    assert built == [first.name, second.name]


def test_new_and_removed_sources_count_too(dev, built):
    seen = {dev.fingerprint(dev.ROOT)}
    extra = dev.ROOT / "src/clusterdb/cache/extra.py"
    extra.touch()
    seen.add(dev.fingerprint(dev.ROOT))
    extra.rename(extra.with_name("other.py"))
    seen.add(dev.fingerprint(dev.ROOT))

    assert len(seen) == 3


@pytest.mark.parametrize("switch", ["CC", "CFLAGS", "LDFLAGS"])
def test_so_do_the_switches_of_the_compiler(dev, monkeypatch, switch):
    before = dev.fingerprint(dev.ROOT)
    monkeypatch.setenv(switch, "other")

    assert dev.fingerprint(dev.ROOT) != before


def test_what_a_run_leaves_behind_does_not_count(dev):
    before = dev.fingerprint(dev.ROOT)
    for name in ("src/clusterdb/cache/__pycache__/a.pyc", "src/x.egg-info/b", "build/c"):
        (dev.ROOT / name).parent.mkdir(parents=True, exist_ok=True)
        (dev.ROOT / name).touch()
    (dev.ROOT / "README.md").write_text("other", encoding="utf-8")

    assert dev.fingerprint(dev.ROOT) == before


def test_pure_can_be_asked_for(dev, built, monkeypatch):
    monkeypatch.setenv("CLUSTERDB_PURE", "1")

    assert dev.compiled() is None
    assert not built


def test_without_a_compiler_one_line_says_so(dev, built, monkeypatch, capsys):
    monkeypatch.setattr(dev, "compiler", lambda: None)

    assert dev.compiled() is None
    assert capsys.readouterr().err == "./dev: no C compiler was found, so plain Python runs\n"
    assert not built


def test_a_package_without_libraries_is_not_put_first(dev, built, capsys):
    package = dev.compiled()
    (package / LIBRARY).unlink()
    capsys.readouterr()

    assert dev.compiled() is None
    assert capsys.readouterr().err.count("\n") == 1


def test_old_packages_go_once_nobody_uses_them(dev, built):
    old = dev.COMPILED / "old"
    cut_short = dev.COMPILED / "unfinished-1"
    busy = dev.COMPILED / "busy"
    for place in (old, cut_short, busy):
        place.mkdir(parents=True)
    user = os.open(busy, os.O_RDONLY)
    fcntl.flock(user, fcntl.LOCK_SH)
    package = dev.compiled()

    assert set(dev.COMPILED.iterdir()) == {busy, package}
    os.close(user)
    dev.clean_up(package)
    assert set(dev.COMPILED.iterdir()) == {package}


def test_a_package_in_use_stays_in_use_by_what_dev_turns_into(dev, built):
    package = dev.compiled()
    child = "import sys; sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", child], stdin=subprocess.PIPE, close_fds=False
    ) as process:
        dev.clean_up(dev.COMPILED / "another")
        assert package.exists()
        process.communicate(b"")


def test_tests_are_not_compiled_again_by_each_process(dev, monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    assert "PYTHONDONTWRITEBYTECODE" not in dev.environment()


def run(dev: ModuleType, package: Path) -> str:
    script = (
        "from clusterdb.cache.guard import Guard, __file__ as f; print(f.rsplit('.')[-1], end=' ');"
        "from clusterdb.cache import guard; print(getattr(guard, 'EDITED', 'as before'))"
    )
    command = [sys.executable, "-c", script]
    environment = dev.environment(package)
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    ).stdout.strip()


@needs_build_tools
@pytest.mark.skipif(COMPILER is None, reason="there is no C compiler")
def test_the_edited_source_is_what_runs(dev, tmp_path, monkeypatch):
    monkeypatch.setenv("CC", hasty_compiler(tmp_path))
    package = dev.compiled()
    assert run(dev, package) == "so as before"
    source = dev.ROOT / "src/clusterdb/cache/guard.py"
    source.write_text(
        source.read_text(encoding="utf-8") + '\nEDITED = "edited"\n', encoding="utf-8"
    )
    assert run(dev, dev.compiled()) == "so edited"


@needs_build_tools
def test_an_edit_during_the_build_is_not_called_built(dev, monkeypatch):
    """The copy is made, then the source changes: the package is the copy's, by name too."""
    monkeypatch.setenv("CC", "/bin/false")
    before = dev.fingerprint(dev.ROOT)
    run_pip = dev.captured

    def edit_then_run(command):
        source = dev.ROOT / "src/clusterdb/cache/guard.py"
        source.write_text(source.read_text(encoding="utf-8") + "\n# later\n", encoding="utf-8")
        return run_pip(command)

    monkeypatch.setattr(dev, "captured", edit_then_run)

    assert dev.compile_package() == dev.COMPILED / before
    assert dev.fingerprint(dev.ROOT) != before


@needs_build_tools
def test_a_source_that_cannot_be_built_is_told_in_words(dev):
    (dev.ROOT / "setup.py").write_text("raise SystemExit('no')", encoding="utf-8")

    with pytest.raises(dev.Failure, match="could not be built"):
        dev.compile_package()
    assert not list(dev.COMPILED.iterdir())


def test_servers_that_are_missing_are_named_with_the_remedy(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(dev, "SERVERS", {"no-such-program": "some-package"})
    monkeypatch.setattr(dev.os, "geteuid", lambda: 1000)

    dev.install_servers()

    told = "".join(capsys.readouterr())
    assert "not installed: some-package; on Debian: sudo apt-get install some-package" in told


def test_servers_that_are_missing_are_installed_by_root(
    dev: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    installer, asked = tmp_path / "bin" / "apt-get", tmp_path / "asked"
    installer.parent.mkdir()
    installer.write_text(f'#!/bin/sh\necho "$@" >> {asked}\ntest "$2" != install\n')
    installer.chmod(0o755)
    monkeypatch.setenv("PATH", f"{installer.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(dev, "SERVERS", {"no-such-program": "some-package"})
    monkeypatch.setattr(dev.os, "geteuid", lambda: 0)

    dev.install_servers()

    assert asked.read_text().splitlines() == [
        "-q update",
        "-q install -y --no-install-recommends some-package",
    ]
    assert "apt-get install failed" in "".join(capsys.readouterr())
