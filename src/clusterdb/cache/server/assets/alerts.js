// What is wrong: health, the alerts that fire with their figures, and those that are over.

import { element, find, row } from "./page.js";
import { duration, percent, rate, shown } from "./words.js";

const WORDS = { ok: "healthy", degraded: "degraded", failing: "failing" };
const COLUMNS = ["", "Region", "Now", "Limit", "Firing for", "Recovery", ""];
const RATE = /_rate$/;
const SHARE = /(_usage|_failures|_ratio)$/;

function figure(name, value) {
  if (value === null) return "no reading";
  if (RATE.test(name)) return `${rate(value)}/s`;
  return SHARE.test(name) ? percent(value) : value.toLocaleString("en", { maximumSignificantDigits: 4 });
}

const where = (alert) => alert.labels.region ?? Object.values(alert.labels).join(", ");

function firing(alert) {
  const limit = `${alert.below ? "≥" : "≤"} ${figure(alert.name, alert.limit)}`;
  const recovery = alert.over_in === null ? "not yet" : `over in ${duration(alert.over_in)}`;
  return row([
    shown(alert.name), shown(where(alert)), element("strong", figure(alert.name, alert.value), "failing"), limit,
    duration(alert.lasted), recovery, element("span", shown(alert.remedy), "remedy"),
  ], COLUMNS);
}

function past({ alert, ago }) {
  const value = alert.value === null ? "" : ` (${figure(alert.name, alert.value)})`;
  return element("li", `${shown(alert.name)} of ${shown(where(alert))} is over since ${duration(ago)}${value}; it fired for ${duration(alert.lasted)}`);
}

function check({ name, status, detail, remedy }) {
  const item = element("li", `${name}: ${shown(detail)}`, status);
  if (remedy) item.append(element("span", shown(remedy), "remedy"));
  return item;
}

export function showWrong(health, alerts) {
  const badge = find("health");
  if (badge.textContent !== WORDS[health.status]) badge.textContent = WORDS[health.status];
  badge.className = `badge ${health.status}`;
  const wrong = health.checks.filter((each) => each.status !== "ok" && each.name !== "alert");
  find("wrong").hidden = !wrong.length;
  find("wrong-list").replaceChildren(...wrong.map(check));
  find("alerts").hidden = !(alerts.firing.length || alerts.over.length);
  find("alerts-table").hidden = !alerts.firing.length;
  find("alerts-list").replaceChildren(...alerts.firing.map(firing));
  find("alerts-over").replaceChildren(...alerts.over.slice(0, 5).map(past));
}
