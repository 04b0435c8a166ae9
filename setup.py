"""The compiled build: what ``pyproject.toml`` can't say.

The modules of the hit path are translated to C by mypyc, and one small C file reads the clock. A
build without a working compiler, without mypy or with ``CLUSTERDB_PURE=1`` makes the same package
of plain Python by itself, with a line that says so. Two rules keep it honest:

- **All or nothing.** mypyc makes one library and a thin module for each source that loads it. If
  any of them can't be built, all of them are left out: half of them could not be imported.
- **Never in place.** An editable install stays plain Python, as a library beside a source that was
  edited since would win over it in silence.
"""

from __future__ import annotations

import os
import runpy
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

PACKAGE = Path("src", "clusterdb", "cache")
GROUP = "clusterdb_cache"
CLOCK = "clusterdb.cache._boottime"
TARGET = Path("build", "mypyc")
BUILDS = {"bdist_wheel", "build", "build_ext", "install"}

# The checking is done by `./dev lint`, strictly and with the dependencies installed. Here mypy only
# has to know the types, and an isolated build environment has none of the dependencies.
TRANSLATION = """\
[mypy]
mypy_path = src
namespace_packages = True
explicit_package_bases = True
follow_imports = silent
ignore_missing_imports = True
cache_dir = {cache}
"""


def extensions() -> list[Extension]:
    """What to compile: translating takes seconds, so only a command that builds does it."""
    if os.environ.get("CLUSTERDB_PURE") == "1":
        return []
    clock = [Extension(CLOCK, [str(PACKAGE / "_boottime.c")], optional=True)]
    known = clock if hasattr(time, "CLOCK_BOOTTIME") else []
    return [*known, *translated()] if BUILDS.intersection(sys.argv) else known


def translated() -> list[Extension]:
    """The hot modules as C in ``TARGET``; nothing where mypyc can't do it."""
    if find_spec("mypyc") is None:
        return told("mypy is not installed")
    from mypyc.build import mypycify

    modules = runpy.run_path(str(PACKAGE / "hot.py"))["HOT_MODULES"]
    sources = [str(PACKAGE.joinpath(*name.split("."))) + ".py" for name in modules]
    TARGET.mkdir(parents=True, exist_ok=True)
    settings = TARGET / "mypy.ini"
    settings.write_text(TRANSLATION.format(cache=TARGET / "cache"), encoding="utf-8")
    try:
        extensions: list[Any] = mypycify(
            [f"--config-file={settings}", *sources],
            opt_level="3",
            multi_file=True,  # one huge file takes the compiler twice as long
            group_name=GROUP,
            target_dir=str(TARGET),
        )
    except (Exception, SystemExit) as error:  # noqa: BLE001 - mypyc exits on an error in a source
        return told(f"mypyc could not translate them ({error!r})")
    for extension in extensions:
        extension.optional = True
        flags = extension.extra_compile_args
        extension.extra_compile_args = [flag for flag in flags if flag != "-Werror"]
    return extensions


def told(why: str) -> list[Extension]:
    """Say that the hot modules stay plain Python."""
    print(f"warning: the hot modules are not compiled: {why}", file=sys.stderr, flush=True)
    return []


class BuildExtensions(build_ext):
    """Translates and compiles, or leaves no trace of having tried."""

    def run(self) -> None:
        """Build, except in place."""
        if self.inplace or self.editable_mode:
            self.extensions = []
        super().run()

    def build_extensions(self) -> None:
        """Compile; where one of the hot modules is missing then, take all of them out."""
        for extension in self.extensions:
            self.output(extension).unlink(missing_ok=True)  # of an earlier build
        compile_at_once(self.compiler)
        super().build_extensions()
        hot = [each for each in self.extensions if each.name != CLOCK]
        if not all(self.output(each).exists() for each in hot):
            for each in hot:
                self.output(each).unlink(missing_ok=True)
            told("the C compiler failed (see above)")
        self.extensions = [each for each in self.extensions if self.output(each).exists()]
        if not self.extensions:
            self.call_the_wheel_pure()

    def output(self, extension: Extension) -> Path:
        """The file of a built extension."""
        return Path(self.get_ext_fullpath(extension.name))

    def call_the_wheel_pure(self) -> None:
        """A wheel without a library runs everywhere: its name and its layout should say so."""
        self.distribution.ext_modules = []
        wheel: Any = self.distribution.get_command_obj("bdist_wheel", create=False)
        if wheel is not None:
            wheel.root_is_pure = True


def compile_at_once(compiler: Any) -> None:
    """Let it compile the files of an extension on all cores, and not one after another."""
    one, all_of_them = compiler._compile, compiler.compile  # noqa: SLF001 - there is no other seam

    def compile_all(*arguments: Any, **options: Any) -> Any:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            running = []
            compiler._compile = lambda *each: running.append(pool.submit(one, *each))  # noqa: SLF001
            objects = all_of_them(*arguments, **options)
            for job in running:
                job.result()
        return objects

    compiler.compile = compile_all


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildExtensions})
