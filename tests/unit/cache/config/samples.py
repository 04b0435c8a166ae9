"""Texts of configurations that several tests read."""

__all__ = ["BACKUP", "CACHE", "FULL", "REGIONS"]

# The three blocks of the specification's section "Configuration", as they are printed there.
CACHE = """\
cache:
  backend:
    type: redis
    urls:
      - redis://node1:6379
      - redis://node2:6379
    cluster: true
    pool:
      min_connections: 5
      max_connections: 20
  
  policy:
    eviction:
      type: lru
      max_memory: 10GB
      max_items: 1000000
"""  # noqa: W293

REGIONS = """\
regions:
  user-profile:
    size: 100MB
    ttl: 1h
    policy:
      type: lru
      max_items: 10000
  
  session:
    size: 500MB
    ttl: 30m
    policy:
      type: fifo
      max_items: 50000
"""  # noqa: W293

BACKUP = """\
backup:
  schedule: "0 0 * * *"
  retention: 7d
  storage:
    type: s3
    bucket: cache-backup
    prefix: daily/
"""

# Every part once, also in spellings that the loader forgives.
FULL = """
cache:
  name: orders
  backend:
    type: Redis
    urls: [rediss://h1, rediss://h2]
    sentinel: {master: main, password: p}
    username: u
    password: "${REDIS_PASSWORD}"
    pool: {idle_timeout: 5m}
    tls: {cert: /c, key: /k, ca: /a}
    near: false
  policy:
    eviction: {type: LRU, max_memory: 10GB}
    compression: {algorithm: LZ4, min_size: 1kB, level: 6}
  serialization:
    format: MessagePack
    compression: true
    schema: {type: Avro, path: schemas/cache.avsc}
  ttl: 1h
  partitioning: {strategy: {type: consistent, replicas: 3, virtual_nodes: 256}}
  monitoring: {metrics: true, tracing: true, statistics: {enabled: true, interval: 60s}}
regions:
  no:
    ttl: null
    ttl_jitter: 0.1
    grace: 10s
    isolation: copy
    on_unavailable: load
    loads: {soft_deadline: 100ms, hard_deadline: null, negative_ttl: 5, max_concurrent_loads: 8}
  plain:
coherence:
  mode:
    type: write-behind
    backend: {type: postgresql, url: postgres://localhost/db, table: cache_storage}
    durability: replicated
  consistency: Strong
  invalidation: lazy
  replication: {mode: synchronous, factor: 2, consistency: quorum}
invalidation:
  mode: versioned
  notification: {backend: {type: redis, channel: cache-invalidation}}
maintenance:
  schedule: 0 * * * *
  tasks:
    - {type: cleanup, older_than: 7d}
    - {type: compact, threshold: 0.3}
backup:
metrics:
  metrics: [cache_hits, cache_misses]
  alerts: {max_memory_usage: 0.9, max_eviction_rate: 1000}
tracing: {service_name: cache-service, sampling_rate: 0.1, context_propagation: true}
"""
