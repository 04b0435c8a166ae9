"""``${VAR}``: replaced in values only, after parsing, and never shown."""

import pytest

from clusterdb.cache.config import LRU, CacheConfig, CachePolicy, Redis
from clusterdb.cache.errors import ConfigError, MissingVariable


def load(text, **environ):
    return CacheConfig.from_yaml_text(text, environ=environ)


def test_a_variable_is_replaced():
    config = load("cache: {backend: {type: disk, path: '${DIR}/${FILE}.db'}}", DIR="/a", FILE="b")
    assert config.backend.path == "/a/b.db"
    assert type(config.backend.path) is str


def test_numbers_and_switches_may_come_from_variables():
    text = """
    cache:
      ttl: ${TTL}
      policy: {eviction: {type: "${KIND}", max_items: "${N}", max_memory: "${SIZE}"}}
      backend: {type: redis, urls: ["redis://h"], cluster: "${CLUSTER}"}
    tracing: {sampling_rate: "${RATE}"}
    """
    config = load(text, TTL="60", KIND="lru", N="12", SIZE="1MB", CLUSTER="true", RATE="0.5")
    assert config.ttl == 60.0
    assert config.policy == CachePolicy(eviction=LRU(max_items=12, max_memory=1_000_000))
    assert config.backend == Redis(urls=("redis://h",), cluster=True)
    assert config.tracing is not None
    assert config.tracing.sampling_rate == 0.5


def test_a_plain_text_never_stands_for_a_number():
    with pytest.raises(ConfigError, match="expected a whole number, got '12'"):
        load("cache: {policy: {eviction: {type: lru, max_items: '12'}}}")


def test_defaults_and_dollar_signs():
    assert load("cache: {name: '${A:-b}'}").name == "b"
    assert load("cache: {name: '${A:-b}'}", A="").name == "b"
    assert load("cache: {name: '${A:-b}'}", A="c").name == "c"
    assert load("tracing: {service_name: 'a$$b$$${A:-}$c'}").tracing.service_name == "a$b$$c"


def test_an_unset_variable_names_itself_and_its_place():
    with pytest.raises(MissingVariable, match=r"NODE is not set.*\$\{NODE:-default\}") as caught:
        load("cache: {backend: {type: redis, urls: ['redis://h', 'redis://${NODE}']}}")
    assert caught.value.path == "cache.backend.urls[1]"


@pytest.mark.parametrize("text", ["${}", "${", "${A", "${1A}", "${A B}", "${A-b}", "a${{A}}"])
def test_what_is_no_variable(text):
    with pytest.raises(ConfigError, match=r"written \$\{NAME\}") as caught:
        load(f"cache: {{name: '{text}'}}", A="x")
    assert caught.value.path == "cache.name"


def test_the_environment_of_the_process_is_the_default(monkeypatch):
    monkeypatch.setenv("CLUSTERDB_TEST_NAME", "from-process")
    assert (
        CacheConfig.from_yaml_text("cache: {name: '${CLUSTERDB_TEST_NAME}'}").name == "from-process"
    )
    with pytest.raises(MissingVariable):
        CacheConfig.from_yaml_text("cache: {name: '${CLUSTERDB_TEST_NAME}'}", environ={})


def test_a_value_cannot_change_the_structure():
    value = "x, b: c}\nregions: {evil: {}}\n# ${OTHER}"
    config = load("tracing: {service_name: '${A}'}", A=value)
    assert config.tracing is not None
    assert config.tracing.service_name == value
    assert config.regions == ()


def test_keys_are_not_replaced():
    with pytest.raises(ConfigError, match="is not a name"):
        load("regions: {'${A}': {}}", A="session")


@pytest.mark.parametrize(
    "setting",
    [
        "cache: {ttl: '${S}'}",
        "cache: {name: '${S}'}",
        "cache: {serialization: {format: '${S}'}}",
        "cache: {policy: {eviction: {type: '${S}'}}}",
        "cache: {policy: {eviction: {type: lru, max_items: '${S}'}}}",
        "cache: {policy: {eviction: {type: lru, max_memory: 'x${S}'}}}",
        "cache: {backend: {type: redis, urls: ['${S}']}}",
        "cache: {backend: {type: redis, urls: ['redis://:${S}@h:port']}}",
        "cache: {backend: '${S}'}",
        "regions: '${S}'",
        "backup: {schedule: '${S}'}",
        "backup: {schedule: '${S} * * * *'}",
        "coherence: {mode: {type: write_around, backend: {type: sqlite, path: a, table: '${S}'}}}",
        "coherence: {mode: {type: write_around, backend: {type: postgresql, url: '${S}'}}}",
    ],
)
def test_the_value_of_a_variable_is_not_in_errors(setting):
    with pytest.raises(ConfigError) as caught:
        load(setting, S="hunter 2")
    assert "hunter" not in str(caught.value)
