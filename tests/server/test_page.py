"""The admin page in Chromium: it shows what there is, runs nothing hostile, and can be read."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.server.chromium import PROGRAM, Browser, Page

from clusterdb.cache import (
    LRU,
    AlertConfig,
    BackendUnavailable,
    Cache,
    CacheConfig,
    CacheRegion,
    CacheStatistics,
    CacheStats,
    Health,
    HealthCheck,
    MetricsConfig,
    MonitoringConfig,
)
from clusterdb.cache.stats import StorageStats

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(PROGRAM is None, reason="chromium is missing: apt-get install chromium"),
]

TOKEN = "a-token-of-many-letters-0123456789"
HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    '"><svg onload=alert(1)>',
    "javascript:alert(1)",
    "</pre></dialog><script src='//evil.example/x.js'></script>",
    "{{constructor.constructor('alert(1)')()}}",
]
LIVE = "document.querySelector('#events-state').textContent === 'live'"
WIDTHS = {"desktop": (1280, 1000), "phone": (360, 740)}


@pytest.fixture
async def cache() -> AsyncIterator[Cache]:
    regions = (CacheRegion("session", size="1MB"), CacheRegion("small", policy=LRU(max_items=10)))
    async with Cache(CacheConfig(name="shop", regions=regions)) as cache:
        yield cache


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture
async def page(serve, browser: Browser) -> AsyncIterator[Page]:
    """A page on a served cache; it ends without errors and without a foreign request."""
    served = await serve(rate=None)
    async with browser.tab() as page:
        await page.resize(*WIDTHS["desktop"])
        await page.go(served.url)
        await page.until("document.body?.dataset.ready")
        await page.until(LIVE)  # else what happens now may be missed
        yield page
        assert page.errors == []
        assert all(url.startswith(served.url) for url in page.requests)


async def text(page: Page, selector: str) -> str:
    return await page.run(f"document.querySelector({json.dumps(selector)}).textContent")


async def until_text(page: Page, selector: str, wanted: str) -> None:
    found = f"document.querySelector({json.dumps(selector)}).textContent"
    await page.until(f"{found}.includes({json.dumps(wanted)})")


async def search(page: Page, key: str, region: str = "default") -> None:
    await page.run("document.activeElement.blur()")
    await page.press("/")
    assert await page.run("document.activeElement.id") == "search-key"
    await page.run(f"document.getElementById('search-region').value = {json.dumps(region)}")
    await page.type(key)
    await page.press("Enter")


async def test_it_shows_the_figures(page: Page, cache: Cache):
    for number in range(40):
        await cache.region("small").set(f"k{number}", number)
    await cache.region("small").get("k39")
    await cache.region("small").get("absent")

    await until_text(page, "#regions", "small")
    await page.until("document.querySelector('#tile-evictions-all').textContent.startsWith('30 ')")
    assert await text(page, "#name") == "shop"
    assert await text(page, "#health") == "healthy"
    assert "50.0%" in await text(page, "#tile-ratio-all")
    rows = await page.run(
        "Object.fromEntries([...document.querySelectorAll('#regions tr')]"
        ".map((row) => [row.cells[0].textContent, [...row.cells].map((each) => each.textContent)]))"
    )
    assert set(rows) == {"default", "session", "small"}
    assert rows["small"][1] == "lru"
    assert rows["small"][4:6] == ["10", "100.0%"]


async def test_advice_and_hot_keys_come_by_themselves(page: Page, cache: Cache):
    for turn in range(20_000):
        key = f"k:{turn * turn % 1009}"
        if await cache.get(key) is None:
            await cache.set(key, 1)
    await page.run("document.querySelector('#advice-region').value = 'default'")
    await page.run("document.querySelector('#advice-region').dispatchEvent(new Event('change'))")
    await page.until("document.querySelector('#curve polyline') !== null")
    assert "sample of" in await text(page, "#advice-text")
    assert "k:" in await text(page, "#hot")


async def test_events_come_live(page: Page, cache: Cache):
    await until_text(page, "#events-state", "live")
    await cache.region("session").set("user:5", 1)
    await cache.invalidate_tag("sale")
    await until_text(page, "#events", "session user:5")
    await until_text(page, "#events", "sale")


async def test_a_key_is_found_by_the_keyboard_and_invalidated_after_a_question(
    page: Page, cache: Cache
):
    session = cache.region("session")
    await session.set("user:5", {"name": "Ada", "age": 36}, ttl="90s", tags=("user", "vip"))
    await search(page, "user:5", "session")
    await page.until("document.querySelector('#entry').open")
    assert json.loads(await text(page, "#entry-value")) == {"name": "Ada", "age": 36}
    facts = await text(page, "#entry-facts")
    assert "user, vip" in facts
    assert re.search(r"Expiresin (90|8\d) s", facts)
    assert (await cache.get_statistics()).regions["session"].hits == 0

    await page.click("#entry-invalidate")
    await page.until("document.querySelector('#confirm').open")
    assert "user:5" in await text(page, "#confirm-text")
    await page.click("#confirm-no")
    await page.until("!document.querySelector('#confirm').open")
    assert await session.exists("user:5")
    await page.click("#entry-invalidate")
    await page.until("document.querySelector('#confirm').open")
    await page.click("#confirm-yes")
    await until_text(page, "#notice", "Invalidated user:5")
    assert not await session.exists("user:5")

    await search(page, "", "session")
    await page.type("gone")
    await page.press("Enter")
    await until_text(page, "#notice", "has no entry")


async def test_a_tag_is_invalidated_after_a_question(page: Page, cache: Cache):
    await cache.set("a", 1, tags=("sale",))
    await page.click("#tag-open")
    await page.run("document.querySelector('#tag-name').focus()")
    await page.type("sale")
    await page.press("Enter")
    await page.until("document.querySelector('#confirm').open")
    assert await cache.exists("a")
    await page.click("#confirm-yes")
    await until_text(page, "#notice", "Invalidated the tag sale")
    assert not await cache.exists("a")


@pytest.mark.parametrize("hostile", HOSTILE)
async def test_hostile_keys_values_and_tags_are_only_text(page: Page, cache: Cache, hostile: str):
    await page.run("window.alert = () => { throw new Error('a script ran') }")
    before = await page.run("document.querySelectorAll('script, img, iframe').length")
    await cache.set(hostile, {hostile: hostile}, tags=(hostile,))
    await page.run(
        f"document.querySelector('#search-key').value = {json.dumps(hostile)};"
        "document.querySelector('#search').requestSubmit()"
    )
    await page.until("document.querySelector('#entry').open")
    await until_text(page, "#events", hostile)
    assert await text(page, "#entry-key") == hostile
    assert hostile in await text(page, "#entry-facts")
    assert json.loads(await text(page, "#entry-value")) == {hostile: hostile}
    assert await page.run("document.querySelectorAll('script, img, iframe').length") == before


async def test_characters_that_deceive_are_shown(page: Page, cache: Cache):
    await cache.set("\u202etxt.exe\u0007\u200b", 1)
    await until_text(page, "#events", "\\u{202e}txt.exe\\u{7}\\u{200b}")
    assert "\u202e" not in await text(page, "#events")


async def test_a_script_in_the_page_would_not_run(page: Page):
    await page.run(
        "(() => { const it = document.createElement('script'); it.textContent = 'window.ran = 1';"
        " document.body.append(it); const box = document.createElement('div');"
        " box.innerHTML = '<img src=x onerror=\"window.ran = 2\">'; document.body.append(box); })()"
    )
    await asyncio.sleep(0.2)
    assert await page.run("window.ran ?? null") is None
    assert any("Content Security Policy" in error for error in page.errors)
    page.errors.clear()  # they are what this test asked for
    page.requests[:] = [url for url in page.requests if not url.endswith("/x")]


async def test_the_page_asks_for_the_token(serve, cache: Cache, browser: Browser):
    served = await serve(token=TOKEN, rate=None)
    async with browser.tab() as page:
        await page.go(served.url)
        await page.until("document.querySelector('#token')?.open")
        for given, wrong in [("x" * 20, True), (TOKEN, False)]:
            await page.run("document.querySelector('#token-value').focus()")
            await page.type(given)
            await page.press("Enter")
            if wrong:
                await page.until("!document.querySelector('#token-wrong').hidden")
        await page.until("document.body.dataset.ready")
        assert await text(page, "#name") == "shop"
        assert TOKEN not in await page.run("document.documentElement.outerHTML")
        await until_text(page, "#events-state", "live")


async def test_a_server_that_only_reads_offers_no_change(serve, cache: Cache, browser: Browser):
    served = await serve(read_only=True, rate=None)
    async with browser.tab() as page:
        await page.go(served.url)
        await page.until("document.body?.dataset.ready")
        assert await page.run("document.querySelector('#read-only').hidden") is False
        shown = "[...document.querySelectorAll('.writes')].some((each) => !each.hidden)"
        assert await page.run(shown) is False


LOOKING = (Path(__file__).parent / "looking.js").read_text(encoding="utf-8")


async def look(page: Page) -> tuple[int, list[str]]:
    """How many texts there are, and what is wrong with them, or without a name."""
    contrast = await page.run(f"(() => {{ {LOOKING}; return contrast() }})()")
    unnamed = await page.run(f"(() => {{ {LOOKING}; return unnamed() }})()")
    return contrast["looked"], contrast["faults"] + unnamed


async def test_the_looking_notices_what_is_wrong(page: Page):
    await page.run(
        "document.querySelector('#advice-text').style.color = 'rgb(180, 180, 180)';"
        "document.querySelector('#search label').remove();"
        "document.querySelector('#theme').textContent = ''"
    )
    _, faults = await look(page)
    assert sorted(fault.split()[0] for fault in faults) == ["<button", "<select", "P"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
async def test_it_can_be_read(page: Page, cache: Cache, width: str, scheme: str):
    await page.resize(*WIDTHS[width], scheme)
    await cache.configure_monitoring(MetricsConfig(alerts=AlertConfig(max_memory_usage=0.01)))
    await cache.region("session").set("large", "x" * 100_000)
    await cache.get_or_load("loaded", lambda: 1)
    await cache.access.runtime.sampling.take()
    await cache.set("a" * 300, "b" * 3000)
    await until_text(page, "#events", "aaa")
    await until_text(page, "#alerts-list", "session")
    await until_text(page, "#latency", "load")
    for opened in (False, True):
        if opened:
            await page.run(
                f"document.querySelector('#search-key').value = {json.dumps('a' * 300)};"
                "document.querySelector('#search').requestSubmit()"
            )
            await page.until("document.querySelector('#entry').open")
        looked, faults = await look(page)
        assert faults == []
        assert looked > 40
        across = "document.documentElement.scrollWidth <= window.innerWidth"
        assert await page.run(across), "the page is wider than its window"


async def test_light_and_dark_can_be_chosen(page: Page):
    ground = "getComputedStyle(document.body).backgroundColor"
    assert await page.run(ground) == "rgb(244, 246, 248)"
    await page.click("#theme")
    await page.click("#theme")
    assert await text(page, "#theme") == "Theme: dark"
    assert await page.run(ground) == "rgb(15, 19, 23)"
    await page.run("window.old = true; location.reload()")
    await page.until("!window.old && document.body?.dataset.ready")
    assert await page.run(ground) == "rgb(15, 19, 23)"
    await page.resize(*WIDTHS["desktop"], "dark")
    await page.click("#theme")
    await page.click("#theme")
    assert await text(page, "#theme") == "Theme: light"
    assert await page.run(ground) == "rgb(244, 246, 248)"


async def test_the_storage_behind_the_cache_is_shown(page: Page, cache: Cache, monkeypatch):
    assert await page.run("document.querySelector('#storage-card').hidden") is True
    figures: dict[str, Any] = dict.fromkeys(StorageStats.__struct_fields__, 0) | {
        "kind": "<i>sqlite</i>"
    }
    storage = StorageStats(
        **figures | {"regions": ("default",), "problems": ("<b>slow</b>: look",), "pending": 1234}
    )
    found = await cache.get_statistics()
    told = replace(found, storages={"<i>sqlite</i>-1": storage})

    async def get_statistics(_: Cache) -> CacheStats:
        nonlocal told
        told = replace(told, uptime=told.uptime + 1)
        return told

    monkeypatch.setattr(Cache, "get_statistics", get_statistics)
    await until_text(page, "#storage", "<i>sqlite</i>-1")
    assert "1,234" in await text(page, "#storage")
    assert await text(page, "#storage-problems") == "<b>slow</b>: look"
    await page.until(
        "document.querySelector('#chart-queue').getAttribute('aria-label').startsWith('1,234 rows')"
    )


async def test_what_is_wrong_stands_on_top(page: Page, cache: Cache, monkeypatch):
    async def sick(_: Cache) -> Health:
        return Health(
            (HealthCheck("backend", "degraded", "<b>slow</b>: add memory", "buy <i>more</i>"),)
        )

    monkeypatch.setattr(Cache, "get_health", sick)
    await until_text(page, "#wrong-list", "backend: <b>slow</b>: add memory")
    assert "buy <i>more</i>" in await text(page, "#wrong-list")
    assert await text(page, "#health") == "degraded"


async def test_alerts_have_their_figures_and_are_over_at_last(page: Page, cache: Cache):
    alerts = AlertConfig(max_memory_usage=0.5, recovery=3)
    statistics = CacheStatistics(interval=0.2)
    await cache.configure_monitoring(MonitoringConfig(statistics=statistics))
    await cache.configure_monitoring(MetricsConfig(alerts=alerts))
    session = cache.region("session")
    await session.set("k", "x" * 900_000)
    await until_text(page, "#alerts-list", "max_memory_usage")
    cells = "[...document.querySelectorAll('#alerts-list tr > *')].map((each) => each.textContent)"
    name, region, now, limit, lasted, recovery, remedy = await page.run(cells)
    assert (name, region, now, limit, recovery) == (
        "max_memory_usage",
        "session",
        "90.0%",
        "≤ 50.0%",
        "not yet",
    )
    assert lasted.endswith("s")
    assert "raise max_memory" in remedy
    assert await text(page, "#health") == "degraded"
    assert await page.run("document.querySelector('#wrong').hidden")  # it is told once

    await session.delete("k")
    await until_text(page, "#alerts-list", "over in")
    await until_text(page, "#alerts-over", "max_memory_usage of session is over since")
    assert await page.run("document.querySelector('#alerts-table').hidden")


async def test_latencies_are_shown_by_tier_and_operation(page: Page, cache: Cache):
    async def loader() -> int:
        await asyncio.sleep(0.003)
        return 1

    for number in range(20):
        await cache.region("session").get_or_load(f"k{number}", loader)
    with pytest.raises(ZeroDivisionError):
        await cache.get_or_load("no", lambda: 1 // 0)
    rows = (
        "Object.fromEntries([...document.querySelectorAll('#latency tr')]"
        ".map((row) => [row.cells[0].textContent, [...row.cells].map((each) => each.textContent)]))"
    )
    await until_text(page, "#latency", "loader load")
    await page.until(f"({rows})['loader load'][4] === '4.8%'")
    label = await page.run("document.querySelector('#latency svg').getAttribute('aria-label')")
    half, most = (await page.run(f"({rows})['loader load']"))[2:4]
    assert label == f"loader load: half within {half}, 99 of 100 within {most}"
    assert half.endswith("ms")
    await page.run(
        "(() => { const it = document.querySelector('#latency-region');"
        " it.value = 'session'; it.dispatchEvent(new Event('change')); })()"
    )
    assert (await page.run(f"({rows})['loader load']"))[4] == "0.0%"


async def test_while_the_backend_is_away_it_says_so(page: Page, cache: Cache, monkeypatch):
    away = BackendUnavailable("Redis at <b>node1</b> can't be reached")

    async def statistics(_: Cache) -> CacheStats:
        raise away

    async def health(_: Cache) -> Health:
        return Health((HealthCheck("backend", "failing", str(away), "start it"),))

    monkeypatch.setattr(Cache, "get_statistics", statistics)
    monkeypatch.setattr(Cache, "get_health", health)
    await until_text(page, "#wrong-list", "backend: Redis at <b>node1</b> can't be reached")
    assert await text(page, "#health") == "failing"
    assert "can't be reached" in await text(page, "#notice")
    monkeypatch.undo()
    await until_text(page, "#health", "healthy")
    await page.until("document.querySelector('#notice').hidden")
