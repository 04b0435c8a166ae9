"""Configuration as data: frozen structs that code and files build alike.

`CacheConfig` holds everything. Kinds (backends, policies, ...) are classes in code and ``type:``
words in a file. Nothing here opens a connection or a file other than the configuration's own.
"""

from clusterdb.monitoring.config import AlertConfig, MetricsConfig
from clusterdb.tracing.config import TracingConfig

from .backend import CacheBackend, Disk, Memory, PoolConfig, Redis, SentinelConfig, TlsConfig
from .backup import S3, BackupConfig, BackupEncryption, BackupStorage, Directory
from .breaker import BreakerConfig
from .cache import CacheConfig
from .coherence import (
    CacheCoherence,
    CoherenceMode,
    InvalidationConfig,
    NotificationBackend,
    NotificationConfig,
    ReadThrough,
    RedisChannel,
    RedisStream,
    ReplicationConfig,
    WriteAround,
    WriteBehind,
    WriteThrough,
)
from .management import Cleanup, Compact, MaintenanceConfig, MaintenanceTask, Rebalance
from .near import NearConfig
from .observation import CacheStatistics, MonitoringConfig
from .partitioning import Consistent, PartitioningConfig
from .policy import (
    ARC,
    FIFO,
    LFU,
    LIRS,
    LRU,
    S3FIFO,
    SIEVE,
    Adaptive,
    Admission,
    CachePolicy,
    Compression,
    EvictionPolicy,
    TwoQueue,
    WTinyLFU,
)
from .region import CacheRegion, LoadConfig
from .serialization import SchemaConfig, SerializationConfig
from .storage import CallableStorage, PostgreSQL, RowMapping, SQLite, StorageBackend
from .warm_start import WarmStart

__all__ = [
    "ARC",
    "FIFO",
    "LFU",
    "LIRS",
    "LRU",
    "S3",
    "S3FIFO",
    "SIEVE",
    "Adaptive",
    "Admission",
    "AlertConfig",
    "BackupConfig",
    "BackupEncryption",
    "BackupStorage",
    "BreakerConfig",
    "CacheBackend",
    "CacheCoherence",
    "CacheConfig",
    "CachePolicy",
    "CacheRegion",
    "CacheStatistics",
    "CallableStorage",
    "Cleanup",
    "CoherenceMode",
    "Compact",
    "Compression",
    "Consistent",
    "Directory",
    "Disk",
    "EvictionPolicy",
    "InvalidationConfig",
    "LoadConfig",
    "MaintenanceConfig",
    "MaintenanceTask",
    "Memory",
    "MetricsConfig",
    "MonitoringConfig",
    "NearConfig",
    "NotificationBackend",
    "NotificationConfig",
    "PartitioningConfig",
    "PoolConfig",
    "PostgreSQL",
    "ReadThrough",
    "Rebalance",
    "Redis",
    "RedisChannel",
    "RedisStream",
    "ReplicationConfig",
    "RowMapping",
    "SQLite",
    "SchemaConfig",
    "SentinelConfig",
    "SerializationConfig",
    "StorageBackend",
    "TlsConfig",
    "TracingConfig",
    "TwoQueue",
    "WTinyLFU",
    "WarmStart",
    "WriteAround",
    "WriteBehind",
    "WriteThrough",
]
