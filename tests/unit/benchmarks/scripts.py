"""The scripts of benchmarks/, which import each other by their bare names as when they are run."""

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

__all__ = ["BENCHMARKS", "script"]

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


def script(name: str) -> ModuleType:
    """A module of benchmarks/."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return import_module(name)
    finally:
        sys.path.remove(str(BENCHMARKS))
