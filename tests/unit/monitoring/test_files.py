"""The dashboard and the alert rules name metrics and labels that there are."""

import json
import re
from importlib.resources import files
from typing import Any

import pytest
import yaml

from clusterdb.cache.measures import METRICS

DATA = files("clusterdb.monitoring") / "data"
DASHBOARD: dict[str, Any] = json.loads((DATA / "grafana-dashboard.json").read_text("utf-8"))
RULES: dict[str, Any] = yaml.safe_load((DATA / "prometheus-rules.yaml").read_text("utf-8"))

LABELS = {
    series: {*each.labels, *({"le"} if series.endswith("_bucket") else ())}
    for each in METRICS.values()
    for series in each.exposed
}
ADDED_BY_A_SCRAPE = {"instance", "job"}

PANELS = {panel["title"]: panel for panel in DASHBOARD["panels"]}
ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]}
QUERIES = {
    **{
        f"{title} {target['refId']}": target["expr"]
        for title, panel in PANELS.items()
        for target in panel["targets"]
    },
    **{name: rule["expr"] for name, rule in ALERTS.items()},
}


def problems(query: str) -> list[str]:
    """Metrics that are not there, and labels that those of the query don't have."""
    named = set(re.findall(r"\b(cache_\w+)\b", query))
    found = [f"no metric {name}" for name in named - LABELS.keys()]
    known = set.intersection(*[LABELS[name] for name in named & LABELS.keys()] or [set()])
    used = set(re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"', query))
    for group in re.findall(r"\bby \(([^)]*)\)", query):
        used |= {label.strip() for label in group.split(",")}
    found += [f"no label {label}" for label in used - known - ADDED_BY_A_SCRAPE]
    if query.count("(") != query.count(")") or query.count("{") != query.count("}"):
        found.append("brackets don't match")
    for name in named & LABELS.keys():
        grows = name.endswith(("_total", "_bucket", "_count"))
        rated = re.search(rf"(?:rate|increase)\({name}\b", query) is not None
        if grows != rated:
            found.append(f"{name} is {'' if rated else 'not '}rated")
    return found


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_asks_for_what_there_is(name):
    assert QUERIES[name].count("cache_") > 0
    assert problems(QUERIES[name]) == []


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("rate(cache_hist_total[5m])", "no metric cache_hist_total"),
        ("cache_hits", "no metric cache_hits"),
        ('rate(cache_hits_total{shard="1"}[5m])', "no label shard"),
        ("sum by (server) (rate(cache_hits_total[5m]))", "no label server"),
        ("sum(cache_up", "brackets don't match"),
        ("sum(cache_hits_total)", "cache_hits_total is not rated"),
        ("rate(cache_size[5m])", "cache_size is rated"),
    ],
)
def test_each_mistake_is_found(query, problem):
    assert problem in problems(query)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_is_wrong_and_what_to_do(name):
    rule = ALERTS[name]
    labels = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
    grouped = set(re.findall(r"\w+", " ".join(re.findall(r"\bby \(([^)]*)\)", rule["expr"]))))

    assert set(rule["annotations"]) == {"summary", "description"}
    assert rule["labels"]["severity"] in {"info", "warning", "critical"}
    assert labels <= grouped, "a label that the result has not would be shown empty"


def test_the_panels_do_not_lie_on_each_other():
    taken: set[tuple[int, int]] = set()
    for panel in PANELS.values():
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len(PANELS) == len(DASHBOARD["panels"])
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(PANELS)


def test_the_variables_of_the_queries_exist():
    known = {each["name"] for each in DASHBOARD["templating"]["list"]} | {"__rate_interval"}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD["panels"])))

    assert used <= known
