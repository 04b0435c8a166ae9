// Latencies by tier and operation over the last minute, of histograms that only ever grow.

import { bars } from "./charts.js";
import { find, row } from "./page.js";
import { duration, percent, rate, shown } from "./words.js";

const LOOKS = 30;
export const HISTOGRAMS = ["cache_operation_seconds", "cache_load_duration_seconds", "cache_storage_operation_seconds"];
const GOOD = new Set(["ok", "hit", "miss"]);

let looks = [];
let latest = [];

function place({ name, labels }) {
  if (name === "cache_load_duration_seconds") return ["loader", "load"];
  return [labels.tier ?? labels.storage, labels.operation];
}

// Counts by bucket of one sample: those within each bound, and at last those above all.
function counts(sample) {
  const within = sample.buckets.map(([, upTo], index) => upTo - (index ? sample.buckets[index - 1][1] : 0));
  return [...within, sample.value - (sample.buckets.at(-1)?.[1] ?? 0)];
}

const sum = (values) => values.reduce((all, value) => all + value, 0);
const series = (sample) => JSON.stringify([sample.name, sample.labels]);

function since(sample, old) {
  const [now, then] = [counts(sample), old ? counts(old) : []];
  const grown = now.map((value, index) => value - (then[index] ?? 0));
  return grown.some((value) => value < 0) ? now : grown;
}

// The value under which a share of the observations is, taken as spread evenly within a bucket.
function quantile(share, bounds, found) {
  let rest = share * sum(found);
  for (const [index, value] of found.entries()) {
    if (rest <= value && value) {
      if (index === bounds.length) return `> ${duration(bounds.at(-1))}`;
      const low = index ? bounds[index - 1] : 0;
      return duration(low + (bounds[index] - low) * (rest / value));
    }
    rest -= value;
  }
  return "–";
}

function grouped(samples, old, region) {
  const groups = new Map();
  for (const sample of samples) {
    if (region && sample.labels.region !== region) continue;
    const name = JSON.stringify(place(sample));
    const bounds = sample.buckets.map(([bound]) => bound);
    const group = groups.get(name) ?? { bounds, found: new Array(bounds.length + 1).fill(0), failed: 0 };
    const grown = since(sample, old.get(series(sample)));
    grown.forEach((value, index) => { group.found[index] += value; });
    if (!GOOD.has(sample.labels.outcome)) group.failed += sum(grown);
    groups.set(name, group);
  }
  return [...groups].toSorted(([one], [other]) => (one < other ? -1 : 1));
}

function draw() {
  const first = looks[0];
  const last = looks.at(-1);
  const over = Math.max(1e-9, (last.at - first.at) / 1000);
  const old = looks.length > 1 ? first.samples : new Map();
  const called = grouped(latest, old, find("latency-region").value)
    .map(([name, group]) => [...JSON.parse(name), group, sum(group.found)]).filter(([, , , all]) => all);
  const rows = called.map(([tier, operation, group, all]) => {
    const [half, most] = [quantile(0.5, group.bounds, group.found), quantile(0.99, group.bounds, group.found)];
    const chart = bars(group.found, group.bounds.map(duration), `${shown(tier)} ${shown(operation)}: half within ${half}, 99 of 100 within ${most}`);
    return row([
      `${shown(tier)} ${shown(operation)}`, looks.length > 1 ? rate(all / over) : "–", half, most,
      percent(group.failed / all), chart,
    ]);
  });
  find("latency").replaceChildren(...rows);
  find("latency-table").hidden = !rows.length;
  find("latency-none").hidden = Boolean(rows.length);
}

export function showLatencies(samples) {
  latest = samples;
  looks.push({ at: performance.now(), samples: new Map(samples.map((sample) => [series(sample), sample])) });
  looks = looks.slice(-LOOKS);
  draw();
}

find("latency-region").onchange = () => { if (looks.length) draw(); };
