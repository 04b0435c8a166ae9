"""`CacheConfig`: everything a cache is built from, in one frozen struct."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from msgspec import UNSET

from clusterdb.monitoring.config import MetricsConfig
from clusterdb.tracing.config import TracingConfig

from .backend import CacheBackend, Memory, Redis
from .backup import BackupConfig
from .coherence import CacheCoherence, CoherenceMode, InvalidationConfig, WriteBehind
from .management import MaintenanceConfig
from .observation import MonitoringConfig
from .partitioning import PartitioningConfig
from .policy import CachePolicy
from .quantities import Items, Name, Ttl, preset
from .region import CacheRegion
from .serialization import SerializationConfig
from .settings import Settings, require
from .warm_start import WarmStart

__all__ = ["CACHE_SECTION", "CacheConfig"]

CACHE_SECTION: Final = (
    "name", "backend", "policy", "serialization", "ttl", "partitioning", "monitoring",
)  # fmt: skip
"""The settings that stand under ``cache:`` in a file; the others stand beside it."""


_LEAST: Final = 10


class CacheConfig(Settings, frozen=True, kw_only=True):
    """The configuration of a cache.

    In a file, the settings from `name` to `monitoring` stand under ``cache:`` and the others beside
    it. `ttl` is the default time to live, None for no expiry.
    """

    name: Name = "main"
    backend: CacheBackend = Memory()
    policy: CachePolicy = CachePolicy()
    serialization: SerializationConfig = SerializationConfig()
    ttl: Ttl = preset(None)
    partitioning: PartitioningConfig = PartitioningConfig()
    monitoring: MonitoringConfig = MonitoringConfig()
    regions: Items[CacheRegion] = preset(())
    coherence: CacheCoherence | None = None
    invalidation: InvalidationConfig | None = None
    maintenance: MaintenanceConfig | None = None
    backup: BackupConfig | None = None
    metrics: MetricsConfig | None = None
    tracing: TracingConfig | None = None
    warm_start: WarmStart | None = None

    def _check(self) -> None:
        """Check that no two regions have one name, and that a ring has what it needs."""
        seen: set[str] = set()
        for at, region in enumerate(self.regions):
            message = f"a second region is named {region.name!r}; each name is used once"
            require(region.name not in seen, f"regions[{at}].name", message)
            seen.add(region.name)
        self._check_total(len(seen | {"default"}))
        if isinstance(self.backend, Redis) and self.backend.is_ring:
            self._check_ring(len(self.backend.urls))
        for region in self.regions:
            self._check_mode(self.mode_of(region), f"regions.{region.name}.mode", region)
        self._check_mode(self.mode_of(None), "coherence.mode", None)

    def mode_of(self, region: CacheRegion | None) -> CoherenceMode | None:
        """How writes of a region reach storage; of one without settings of its own: None."""
        if region is not None and region.mode is not UNSET:
            return region.mode
        return None if self.coherence is None else self.coherence.mode

    def _check_mode(
        self, mode: CoherenceMode | None, where: str, region: CacheRegion | None
    ) -> None:
        """Check that cache and storage can be kept together."""
        if mode is None:
            return
        backend = self.backend
        ring = isinstance(backend, Redis) and backend.is_ring
        copies = self.partitioning.strategy.replicas if ring else 1
        message = f"a ring of {copies} copies has no one server that could decide: use one copy"
        require(copies == 1, where, message)
        kept = isinstance(backend, Memory) and backend.persist is not None
        message = "storage keeps what a persistent memory backend would: leave persist out"
        require(not kept, where, message)
        replicated = isinstance(mode, WriteBehind) and mode.durability == "replicated"
        message = "durability 'replicated' needs a Redis backend: use 'journal'"
        require(not replicated or isinstance(backend, Redis), where, message)
        ahead = region is not None and region.loads.refresh_ahead > 0
        message = "what storage has is not loaded again: leave loads.refresh_ahead at 0"
        require(not ahead, where, message)

    def _check_total(self, regions: int) -> None:
        """Check that each region can have a share of what there is for all."""
        name = "max_total_memory" if isinstance(self.backend, Memory) else "near_total"
        total = getattr(self.backend, name)
        message = f"{total} is too little for {regions} regions, which need {_LEAST} each: raise it"
        require(total is None or total >= _LEAST * regions, f"backend.{name}", message)

    def _check_ring(self, servers: int) -> None:
        """Check that there is a server for each copy, and a weight for each server if for any."""
        strategy, where = self.partitioning.strategy, "partitioning.strategy"
        message = f"{strategy.replicas} copies of each key need as many urls; there are {servers}"
        require(strategy.replicas <= servers, f"{where}.replicas", message)
        for at, region in enumerate(self.regions):
            possible = strategy.replicas == 1 or not region.loads.refresh_ahead
            message = "a ring of several copies can't store on a condition: leave it at 0"
            require(possible, f"regions[{at}].loads.refresh_ahead", message)
        weights = len(strategy.weights)
        message = f"{weights} weights for {servers} urls: give one for each, in their order"
        require(weights in (0, servers), f"{where}.weights", message)

    @staticmethod
    def from_yaml(
        path: str | os.PathLike[str], *, environ: Mapping[str, str] | None = None
    ) -> CacheConfig:
        """Read a YAML file (UTF-8, at most 1 MiB).

        ``${VAR}`` in texts is replaced from `environ`, by default the process environment.
        Raises `ConfigError` with the path of the wrong setting, `MissingVariable` for a variable
        that is not set.
        """
        from .load import load_file

        return load_file(path, environ)

    @staticmethod
    def from_yaml_text(text: str, *, environ: Mapping[str, str] | None = None) -> CacheConfig:
        """Read YAML text; otherwise as `from_yaml`."""
        from .load import load_text

        return load_text(text, environ)

    @staticmethod
    def from_dict(
        mapping: Mapping[str, Any], *, environ: Mapping[str, str] | None = None
    ) -> CacheConfig:
        """Read a mapping of the form a file has; otherwise as `from_yaml`."""
        from .load import load_mapping

        return load_mapping(mapping, environ)

    @staticmethod
    def from_url(url: str) -> CacheConfig:
        """Read a URL: ``memory://``, ``disk:///path``, ``redis://host:6379/0?near=0&ttl=1h``."""
        from .url import load_url

        return load_url(url)

    @staticmethod
    def json_schema() -> dict[str, Any]:
        """Return the JSON Schema of the file form, for editors and for checks."""
        from .schema import file_schema

        return file_schema()
