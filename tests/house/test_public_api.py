"""The public list of `clusterdb.cache`, pinned, and what importing it costs.

Run this file with Python to write the list anew: a change to it is a change for users.
"""

import subprocess
import sys
from pathlib import Path

PINNED = Path(__file__).with_name("public_api.txt")

OPTIONAL = {
    "asyncpg",
    "cronsim",
    "fastavro",
    "hiredis",
    "obstore",
    "opentelemetry",
    "prometheus_client",
    "redis",
    "rich",
    "starlette",
    "typer",
    "uvicorn",
    "zstandard",
}

REGENERATE = f"""
The public names of clusterdb.cache changed. If that is meant, write the list anew and mention the
change in CHANGELOG.md:

    .venv/bin/python tests/house/{Path(__file__).name}
"""


def public_names() -> list[str]:
    import clusterdb.cache

    return sorted(clusterdb.cache.__all__)


def test_the_public_list_is_the_pinned_one():
    pinned = PINNED.read_text(encoding="utf-8").split() if PINNED.exists() else []
    added = sorted(set(public_names()) - set(pinned))
    gone = sorted(set(pinned) - set(public_names()))

    assert (added, gone) == ([], []), REGENERATE


def test_each_public_name_exists():
    import clusterdb.cache

    assert [name for name in public_names() if not hasattr(clusterdb.cache, name)] == []


def test_importing_the_cache_imports_no_extra():
    script = "import sys, clusterdb.cache; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60
    )

    assert done.returncode == 0, done.stderr
    assert {name.partition(".")[0] for name in done.stdout.split()} & OPTIONAL == set()


if __name__ == "__main__":
    PINNED.write_text("\n".join(public_names()) + "\n", encoding="utf-8")
    print(f"wrote {PINNED}")
