"""The sources of the package, copied; and what this environment can build them with."""

import re
import shlex
import shutil
import sysconfig
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.house.sources import ROOT

__all__ = ["COMPILER", "FEW", "copy_of_the_sources", "hasty_compiler", "needs_build_tools"]

FILES = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "NOTICE", "dev")

COMPILER = shutil.which(shlex.split(sysconfig.get_config_var("CC") or "cc")[0])
"""The C compiler of this machine, whatever CC says."""


FEW = ("entries", "guard", "tags", "claims", "wheel", "table")
"""The hot modules of a copy: enough to tell what becomes of them, and quickly built. None has a
subclass elsewhere, as a plain class can't inherit from a compiled one."""


def _can_build() -> bool:
    try:
        setuptools = int(version("setuptools").partition(".")[0])
    except PackageNotFoundError:
        return False
    return setuptools >= 80 and find_spec("mypyc") is not None


needs_build_tools = pytest.mark.skipif(
    not _can_build(), reason="this environment has no setuptools >= 80 or no mypyc"
)


def copy_of_the_sources(place: Path) -> None:
    """Everything a build reads, and nothing that an earlier one left. Only `FEW` are hot."""
    left_out = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.so")
    shutil.copytree(ROOT / "src", place / "src", ignore=left_out)
    for name in FILES:
        shutil.copy2(ROOT / name, place)
    hot = place / "src/clusterdb/cache/hot.py"
    text, found = re.subn(
        r"HOT_MODULES: Final = \(.*?\n\)", f"HOT_MODULES: Final = {FEW}", hot.read_text("utf-8"),
        flags=re.DOTALL,
    )  # fmt: skip
    assert found == 1, "hot.py has another form"
    hot.write_text(text, encoding="utf-8")


def hasty_compiler(place: Path, fails_on: str = "nothing-at-all") -> str:
    """A compiler that does not optimise, to save the tests' time, and can be made to fail."""
    script = place / "cc"
    lines = [
        "#!/bin/sh",
        f'case "$*" in *{fails_on}*) exit 1;; esac',
        f'exec {COMPILER} "$@" -O0',
    ]
    script.write_text("\n".join(lines) + "\n", encoding="utf-8")
    script.chmod(0o755)
    return str(script)
