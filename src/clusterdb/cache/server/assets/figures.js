// Tiles, regions, nodes and storages: figures, and what changed between two looks.

import { line } from "./charts.js";
import { find, options, row } from "./page.js";
import { bytes, count, duration, percent, rate, shown } from "./words.js";

const POINTS = 90;
const COUNTED = ["hits", "misses", "evictions", "expirations", "loads", "load_seconds"];
const STORED = ["queries", "commits", "rows_written"];

const history = {};
let before = null;

function total(regions) {
  const sum = {};
  for (const region of regions) {
    for (const [name, value] of Object.entries(region)) {
      if (typeof value === "number") sum[name] = (sum[name] ?? 0) + value;
    }
  }
  return sum;
}

// By how much counters grew a second; null before there are two looks.
function grown(names, now, old, passed) {
  if (!old || !passed) return null;
  return Object.fromEntries(names.map((name) => [name, Math.max(0, now[name] - old[name]) / passed]));
}

function changed(now, old, passed) {
  const by = grown(COUNTED, now, old, passed);
  if (!by) return null;
  const reads = by.hits + by.misses;
  return {
    ...by,
    reads,
    ratio: reads ? by.hits / reads : null,
    load: by.loads ? by.load_seconds / by.loads : null,
  };
}

function plot(name, value, every, top, words) {
  const points = (history[name] ??= []);
  points.push(value ?? null);
  if (points.length > POINTS) points.shift();
  line(find(`chart-${name}`), points, top, `${words}, the last ${Math.round(points.length * every)} seconds`);
}

function tile(name, figure, rest) {
  find(`tile-${name}`).textContent = figure;
  find(`tile-${name}-all`).textContent = rest;
}

function showTiles(all, by, passed, overview) {
  const reads = all.hits + all.misses;
  const ratio = reads ? all.hits / reads : null;
  const size = overview.backend.size;
  tile("ratio", percent(by ? by.ratio : ratio), `since the start ${percent(ratio)}`);
  tile("reads", by ? rate(by.reads) : "–", `${count(reads)} in all`);
  tile("load", duration(by?.load), `${count(all.loads)} loads, ${count(all.load_failures)} failed`);
  tile("items", count(all.items), size ? `${bytes(size)} on disk` : all.weight ? bytes(all.weight) : "");
  tile("evictions", by ? rate(by.evictions) : "–", `${count(all.evictions)} in all`);
  if (!by) return;
  plot("ratio", by.ratio, passed, 1.05, `Hit ratio ${percent(by.ratio)}`);
  plot("reads", by.reads, passed, undefined, `${rate(by.reads)} reads a second`);
  plot("load", by.load, passed, undefined, `Mean load time ${duration(by.load)}`);
  plot("items", all.items, passed, undefined, `${count(all.items)} entries`);
  plot("evictions", by.evictions, passed, undefined, `${rate(by.evictions)} evictions a second`);
}

function showAge({ near, backend }, passed) {
  if (!near) return tile("age", "current", "no near tier");
  const age = backend.near_age;
  tile("age", age === null ? `≤ ${near.max_staleness} s` : duration(age), `at most ${near.max_staleness} s, ${near.consistency}`);
  if (passed) plot("age", age, passed, near.max_staleness * 1.05, `The near tier is at most ${duration(age)} behind`);
  return undefined;
}

function fullness(region) {
  if (!region.max_items && !region.max_weight) return "no limit";
  if (region.items === null) return "?";
  const shares = [];
  if (region.max_items) shares.push(region.items / region.max_items);
  if (region.max_weight) shares.push((region.weight ?? 0) / region.max_weight);
  return percent(Math.max(...shares));
}

function part(used, most) {
  return most ? `${bytes(used)} of ${bytes(most)}` : used ? bytes(used) : "–";
}

function showRegions(regions, old, passed, overview) {
  find("regions").replaceChildren(...regions.map((region) => {
    const by = changed(region, old?.[region.name], passed);
    const reads = region.hits + region.misses;
    const limits = overview.regions.find((each) => each.name === region.name);
    return row([
      shown(region.name), shown(limits?.policy ?? ""), percent(by ? by.ratio : reads ? region.hits / reads : null),
      rate(by?.reads), count(region.items), fullness(region), part(region.weight, region.max_weight),
      rate(by?.evictions), rate(by?.expirations), duration(by?.load),
    ]);
  }));
}

function showHead(overview) {
  find("name").textContent = shown(overview.cache);
  find("backend").textContent = `${overview.backend.kind}, version ${overview.version}`;
  document.title = `Cache ${shown(overview.cache)}`;
  find("read-only").hidden = !overview.read_only;
  for (const button of document.querySelectorAll(".writes")) button.hidden = overview.read_only;
  const names = overview.regions.map((region) => region.name);
  options(find("search-region"), names);
  options(find("advice-region"), names);
  options(find("latency-region"), names, [["all", ""]]);
}

function showNodes({ servers, members }, old, passed) {
  find("nodes").replaceChildren(...servers.map((node) => {
    if (node.problem) return row([shown(node.name), shown(node.problem), "–", "–", "–", "–", "–"]);
    const by = grown(["evictions"], node, old?.[node.name], passed);
    const behind = node.lag === null ? "" : `, ${bytes(node.lag)} behind`;
    return row([
      shown(node.name), shown(node.role), duration(node.latency), part(node.memory, node.max_memory),
      rate(by?.evictions), count(node.clients), `${count(node.replicas)}${behind}`,
    ]);
  }));
  find("processes").replaceChildren(...members.map(({ host, pid, program, silent, figures }) => {
    const reads = figures.near_hits + figures.near_misses;
    return row([
      shown(`${host}:${pid}`), shown(program), percent(reads ? figures.near_hits / reads : null),
      duration(figures.lag), `${Math.max(0, silent).toFixed(0)} s ago`,
    ]);
  }));
  find("nodes-table").hidden = !servers.length;
  find("processes-table").hidden = !members.length;
  find("alone").hidden = Boolean(servers.length || members.length);
}

function showStorages(storages, old, passed) {
  const known = Object.entries(storages);
  find("storage-card").hidden = !known.length;
  find("storage").replaceChildren(...known.map(([name, figures]) => {
    const by = grown(STORED, figures, old?.[name], passed);
    return row([
      shown(name), count(figures.waiting), count(figures.pending), count(figures.refused), count(figures.outbox),
      duration(figures.lag), rate(by?.queries), rate(by?.commits), rate(by?.rows_written),
    ]);
  }));
  const problems = known.flatMap(([, figures]) => figures.problems);
  find("storage-problems").textContent = problems.map(shown).join(" ");
  const queued = known.reduce((sum, [, figures]) => sum + figures.waiting + figures.pending, 0);
  if (known.length && passed) plot("queue", queued, passed, undefined, `${count(queued)} rows wait to be written`);
}

// Show a look at everything; the one before is remembered for the rates.
export function showFigures(overview, statistics) {
  const regions = Object.values(statistics.regions);
  const all = total(regions);
  const servers = Object.fromEntries(overview.backend.servers.map((each) => [each.name, each]));
  const again = before && statistics.uptime > before.uptime ? before : null;
  const passed = again ? statistics.uptime - again.uptime : 0;
  showHead(overview);
  showTiles(all, again && changed(all, again.all, passed), passed, overview);
  showAge(overview, passed);
  showRegions(regions, again?.regions, passed, overview);
  showNodes({ servers: overview.backend.servers, members: overview.backend.members }, again?.servers, passed);
  showStorages(statistics.storages, again?.storages, passed);
  before = { all, servers, regions: statistics.regions, storages: statistics.storages, uptime: statistics.uptime };
}

export function busiest() {
  return Object.values(before?.regions ?? {}).toSorted((one, other) => other.hits - one.hits)[0]?.name;
}
