// The page: asks for the figures every two seconds, and shows what changed between two answers.

import { Problem, ask, follow, useToken } from "./client.js";
import { line, missCurve } from "./charts.js";
import { entries, shown } from "./entry.js";

const EVERY = 2000;
const ADVICE_EVERY = 15000;
const POINTS = 90;
const LINES = 80;
const THEMES = ["system", "light", "dark"];

const find = (id) => document.getElementById(id);
const history = { ratio: [], reads: [], load: [], items: [], evictions: [] };
let previous = null;
let overview = null;

// -- words

const count = (value) => (value === null || value === undefined ? "?" : Math.round(value).toLocaleString("en"));
const rate = (value) => (value === null ? "–" : value >= 100 ? count(value) : value.toFixed(1));
const percent = (value) => (value === null ? "–" : `${(100 * value).toFixed(1)}%`);
const milliseconds = (value) => (value === null ? "–" : `${(1000 * value).toFixed(1)} ms`);

function bytes(value) {
  if (value === null || value === undefined) return "?";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  while (value >= 1000 && at < units.length - 1) { value /= 1000; at += 1; }
  return `${at && value < 100 ? value.toFixed(1) : Math.round(value)} ${units[at]}`;
}

function tell(text, done = false) {
  const notice = find("notice");
  notice.textContent = text;
  notice.classList.toggle("done", done);
  notice.hidden = !text;
}

function failed(problem) {
  if (problem instanceof Problem && problem.status === 401) askToken();
  else if (problem instanceof Problem) tell(problem.message);
  else tell("The server can't be reached; trying again.");
}

// -- the token

function askToken() {
  if (find("token").open) return;
  find("token").showModal();
}

find("token").oncancel = (event) => event.preventDefault();
find("token-form").onsubmit = async (event) => {
  event.preventDefault();
  useToken(find("token-value").value.trim());
  find("token-value").value = "";
  try {
    await ask("GET", "v1/overview");
    find("token-wrong").hidden = true;
    find("token").close();
    tell("");
    refresh();
    advise();
    listen();
  } catch (problem) {
    find("token-wrong").hidden = !(problem instanceof Problem && problem.status === 401);
    if (!(problem instanceof Problem && problem.status === 401)) failed(problem);
  }
};

// -- figures

function total(regions) {
  const sum = {};
  for (const region of regions) {
    for (const [name, value] of Object.entries(region)) {
      if (typeof value === "number") sum[name] = (sum[name] ?? 0) + value;
    }
  }
  return sum;
}

function change(now, before, passed) {
  if (!before) return null;
  const names = ["hits", "misses", "evictions", "expirations", "loads", "load_seconds"];
  const by = Object.fromEntries(names.map((name) => [name, Math.max(0, now[name] - before[name])]));
  const reads = by.hits + by.misses;
  return {
    reads: reads / passed,
    ratio: reads ? by.hits / reads : null,
    evictions: by.evictions / passed,
    expirations: by.expirations / passed,
    load: by.loads ? by.load_seconds / by.loads : null,
  };
}

function push(name, value, chart, top, words) {
  history[name].push(value ?? null);
  if (history[name].length > POINTS) history[name].shift();
  line(find(chart), history[name], top, `${words}, the last ${history[name].length * EVERY / 1000} seconds`);
}

function showTiles(all, by) {
  const ratio = all.hits + all.misses ? all.hits / (all.hits + all.misses) : null;
  find("tile-ratio").textContent = percent(by ? by.ratio : ratio);
  find("tile-ratio-all").textContent = `since the start ${percent(ratio)}`;
  find("tile-reads").textContent = by ? rate(by.reads) : "–";
  find("tile-reads-all").textContent = `${count(all.hits + all.misses)} in all`;
  find("tile-load").textContent = milliseconds(by ? by.load : null);
  find("tile-load-all").textContent = `${count(all.loads)} loads, ${count(all.load_failures)} failed`;
  find("tile-items").textContent = count(all.items);
  find("tile-items-all").textContent = overview?.size ? `${bytes(overview.size)} on disk` : all.weight ? `${bytes(all.weight)} weighed` : "";
  find("tile-evictions").textContent = by ? rate(by.evictions) : "–";
  find("tile-evictions-all").textContent = `${count(all.evictions)} in all`;
  if (!by) return;
  push("ratio", by.ratio, "chart-ratio", 1.05, `Hit ratio ${percent(by.ratio)}`);
  push("reads", by.reads, "chart-reads", undefined, `${rate(by.reads)} reads a second`);
  push("load", by.load, "chart-load", undefined, `Mean load time ${milliseconds(by.load)}`);
  push("items", all.items, "chart-items", undefined, `${count(all.items)} entries`);
  push("evictions", by.evictions, "chart-evictions", undefined, `${rate(by.evictions)} evictions a second`);
}

function row(texts) {
  const tr = document.createElement("tr");
  texts.forEach((text, index) => {
    const cell = document.createElement(index ? "td" : "th");
    if (!index) cell.scope = "row";
    cell.textContent = text;
    tr.append(cell);
  });
  return tr;
}

function fullness(region) {
  const shares = [];
  if (region.max_items) shares.push((region.items ?? 0) / region.max_items);
  if (region.max_weight) shares.push((region.weight ?? 0) / region.max_weight);
  return shares.length ? percent(Math.max(...shares)) : "no limit";
}

function showRegions(regions, before, passed) {
  find("regions").replaceChildren(...regions.map((region) => {
    const by = change(region, before?.[region.name], passed);
    const reads = region.hits + region.misses;
    const limits = overview?.regions.find((each) => each.name === region.name);
    return row([
      shown(region.name), limits?.policy ?? "", percent(by?.ratio ?? (reads ? region.hits / reads : null)),
      by ? rate(by.reads) : "–", count(region.items), fullness(region),
      region.max_weight ? `${bytes(region.weight)} of ${bytes(region.max_weight)}` : region.weight ? bytes(region.weight) : "–",
      by ? rate(by.evictions) : "–", by ? rate(by.expirations) : "–", milliseconds(by?.load ?? null),
    ]);
  }));
}

function options(select, names) {
  const have = [...select.options].map((each) => each.value);
  if (have.join("\0") === names.join("\0")) return;
  const chosen = select.value;
  select.replaceChildren(...names.map((name) => new Option(shown(name), name)));
  if (names.includes(chosen)) select.value = chosen;
}

function showOverview() {
  find("name").textContent = shown(overview.cache);
  find("backend").textContent = `${overview.backend}, version ${overview.version}`;
  document.title = `Cache ${shown(overview.cache)}`;
  find("read-only").hidden = !overview.read_only;
  for (const button of document.querySelectorAll(".writes")) button.hidden = overview.read_only;
  const names = overview.regions.map((region) => region.name);
  options(find("search-region"), names);
  options(find("advice-region"), names);
  const near = overview.near;
  find("tile-age").textContent = near ? `≤ ${near.max_staleness} s` : "current";
  find("tile-age-all").textContent = near ? `near tier, ${near.consistency}` : "no near tier";
  find("nodes").replaceChildren(...overview.servers.map((node) => row([
    shown(node.name), node.problem ? shown(node.problem) : shown(node.role), node.problem ? "–" : milliseconds(node.latency),
    node.max_memory ? `${bytes(node.memory)} of ${bytes(node.max_memory)}` : bytes(node.memory), count(node.evictions),
    node.lag === null ? count(node.replicas) : `${count(node.replicas)}, ${bytes(node.lag)} behind`,
  ])));
  find("processes").replaceChildren(...overview.processes.map((each) => row([
    shown(`${each.host}:${each.pid}`), shown(each.program), `${Math.max(0, each.silent).toFixed(0)} s ago`,
  ])));
  find("nodes-table").hidden = !overview.servers.length;
  find("processes-table").hidden = !overview.processes.length;
  find("alone").hidden = Boolean(overview.servers.length || overview.processes.length);
}

function showStorages(storages) {
  const known = Object.entries(storages);
  find("storage-card").hidden = !known.length;
  find("storage").replaceChildren(...known.flatMap(([name, figures]) => {
    const facts = Object.entries(figures).filter(([, value]) => value !== null);
    return facts.flatMap(([what, value]) => {
      const [term, text] = [document.createElement("dt"), document.createElement("dd")];
      term.textContent = `${shown(name)}: ${shown(what.replaceAll("_", " "))}`;
      text.textContent = typeof value === "number" ? value.toLocaleString("en") : shown(value);
      return [term, text];
    });
  }));
}

function showHealth(health) {
  const badge = find("health");
  const words = { ok: "healthy", degraded: "degraded", failing: "failing" };
  if (badge.textContent !== words[health.status]) badge.textContent = words[health.status];
  badge.className = `badge ${health.status}`;
  const wrong = health.checks.filter((check) => check.status !== "ok");
  find("alerts").hidden = !wrong.length;
  find("alerts-list").replaceChildren(...wrong.map((check) => {
    const item = document.createElement("li");
    item.className = check.status;
    item.textContent = `${check.name}: ${shown(check.detail)}`;
    return item;
  }));
}

let refreshing = false;
async function refresh() {
  if (refreshing || document.hidden || find("token").open) return;
  refreshing = true;
  try {
    const [known, statistics, health] = await Promise.all([
      ask("GET", "v1/overview"), ask("GET", "v1/statistics"), ask("GET", "v1/health"),
    ]);
    overview = known;
    showOverview();
    showHealth(health);
    showStorages(statistics.storages ?? {});
    const regions = Object.values(statistics.regions);
    const all = total(regions);
    const again = previous && statistics.uptime > previous.uptime;
    const passed = again ? statistics.uptime - previous.uptime : 1;
    showTiles(all, again ? change(all, previous.all, passed) : null);
    showRegions(regions, again ? previous.regions : null, passed);
    previous = { all, regions: statistics.regions, uptime: statistics.uptime };
    if (!find("notice").classList.contains("done") && find("notice").dataset.away) tell("");
    delete find("notice").dataset.away;
    document.body.dataset.ready = "true";
  } catch (problem) {
    find("notice").dataset.away = "true";
    failed(problem);
  } finally {
    refreshing = false;
  }
}

// -- advice and hot keys

function advised(advice) {
  const words = [];
  if (!advice.curve.length) return "There is no advice before some five hundred sampled requests.";
  const { half, same, double } = advice.at;
  words.push(`Of a sample of ${count(advice.sampled)} requests an LRU of this size (${count(advice.size)}) would miss ${percent(1 - same)}; of half the size ${percent(1 - half)}, of double ${percent(1 - double)}.`);
  if (advice.enough) words.push(`Beyond ${count(advice.enough)} entries doubling gains less than 1%.`);
  if (advice.better) words.push(`The policy ${advice.better} would hit ${percent(advice.gain)} more than ${advice.policy}.`);
  if (advice.loop) words.push(`Requests loop over some ${count(advice.loop)} keys, more than fit.`);
  if (advice.scan) words.push(`${percent(advice.scan)} of the keys came once.`);
  return words.join(" ");
}

let soon = 0;
async function advise() {
  const region = find("advice-region").value;
  if (!region || document.hidden || find("token").open) return;
  find("hot-region").textContent = shown(region);
  let advice = null;
  try {
    advice = await ask("GET", `v1/regions/${encodeURIComponent(region)}/advice`);
    find("advice-text").textContent = advised(advice);
  } catch (problem) {
    if (problem instanceof Problem && problem.status !== 401) find("advice-text").textContent = problem.message;
    else failed(problem);
  }
  missCurve(find("curve"), advice, count);
  clearTimeout(soon);
  if (advice && !advice.curve.length) soon = setTimeout(advise, EVERY);
  const hot = advice?.hot_keys ?? [];
  find("hot").replaceChildren(...hot.map(([key, share]) => {
    const [item, button, text] = ["li", "button", "span"].map((name) => document.createElement(name));
    button.type = "button";
    button.className = "link";
    button.textContent = shown(key);
    button.onclick = () => open(region, key);
    text.textContent = `${percent(share)} of hits`;
    item.append(button, text);
    return item;
  }));
  if (!hot.length) {
    const item = document.createElement("li");
    item.textContent = "None yet.";
    find("hot").append(item);
  }
}

// -- events

let waiting = [];
let paused = false;
let following = null;

function said(event) {
  if (event.kind === "gap") return `${event.count || "some"} events were lost (${event.reason})`;
  const what = event.key ?? event.tag ?? event.pattern ?? event.node ?? event.circuit ?? "";
  const how = event.kind === "load" ? ` ${event.outcome} ${milliseconds(event.seconds)}` : "";
  return `${event.region ? `${shown(event.region)} ` : ""}${shown(what)}${how}`;
}

function showEvents() {
  if (paused || !waiting.length) return;
  const fresh = waiting.slice(-LINES).reverse();
  waiting = [];
  const list = find("events");
  list.prepend(...fresh.map((event) => {
    const item = document.createElement("li");
    const at = new Date(event.time * 1000).toTimeString().slice(0, 8);
    item.textContent = `${at} ${shown(event.kind)} ${said(event)}`;
    if (event.kind === "gap") item.className = "gap";
    return item;
  }));
  while (list.children.length > LINES) list.lastChild.remove();
}

function state(text, className) {
  find("events-state").textContent = text;
  find("events-state").className = `badge ${className}`;
}

async function listen() {
  following?.abort();
  const own = following = new AbortController();
  const kind = find("events-kind").value;
  while (!own.signal.aborted) {
    try {
      await follow("v1/events", kind ? { kind } : {}, own.signal, (event) => {
        waiting.push(event);
        if (waiting.length > 10 * LINES) waiting = waiting.slice(-LINES);
      }, () => state("live", "ok"));
    } catch (problem) {
      if (own.signal.aborted) return;
      state(problem instanceof Problem ? problem.message.slice(0, 60) : "not connected", "degraded");
      if (problem instanceof Problem && problem.status === 401) return;
    }
    await new Promise((resolve) => { setTimeout(resolve, 2000); });
  }
}

find("events-kind").onchange = () => { find("events").replaceChildren(); listen(); };
find("events-pause").onclick = () => {
  paused = !paused;
  find("events-pause").setAttribute("aria-pressed", String(paused));
};

// -- light and dark

function useTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  find("theme").textContent = `Theme: ${theme}`;
  localStorage.setItem("clusterdb-cache-theme", theme);
}

let theme = localStorage.getItem("clusterdb-cache-theme");
useTheme(THEMES.includes(theme) ? theme : "system");
find("theme").onclick = () => {
  theme = localStorage.getItem("clusterdb-cache-theme");
  useTheme(THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length]);
};

// -- begin

const open = entries((text, done) => tell(text, done), failed);
find("advice-region").onchange = advise;
document.addEventListener("visibilitychange", refresh);
await refresh();
if (overview) {
  const busiest = Object.values(previous.regions).toSorted((one, other) => other.hits - one.hits)[0];
  if (busiest) find("advice-region").value = busiest.name;
}
listen();
advise();
setInterval(refresh, EVERY);
setInterval(advise, ADVICE_EVERY);
setInterval(showEvents, 300);
