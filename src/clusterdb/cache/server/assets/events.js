// Events as they happen. What comes faster than it is shown is left out, the newest kept.

import { Problem, follow } from "./client.js";
import { element, find } from "./page.js";
import { duration, shown } from "./words.js";

const LINES = 80;
const AGAIN = 2000;

let waiting = [];
let paused = false;
let following = null;

function said(event) {
  if (event.kind === "gap") return `${event.count || "some"} events were lost (${event.reason})`;
  if (event.kind === "alert") return shown(event.text);
  const what = event.key ?? event.tag ?? event.pattern ?? event.node ?? event.circuit ?? "";
  const how = event.kind === "load" ? ` ${event.outcome} ${duration(event.seconds)}` : "";
  return `${event.region ? `${shown(event.region)} ` : ""}${shown(what)}${how}`;
}

export function showEvents() {
  if (paused || !waiting.length) return;
  const fresh = waiting.slice(-LINES).reverse();
  waiting = [];
  const list = find("events");
  list.prepend(...fresh.map((event) => {
    const at = new Date(event.time * 1000).toTimeString().slice(0, 8);
    return element("li", `${at} ${shown(event.kind)} ${said(event)}`, event.kind === "gap" ? "gap" : "");
  }));
  while (list.children.length > LINES) list.lastChild.remove();
}

function state(text, className) {
  find("events-state").textContent = text;
  find("events-state").className = `badge ${className}`;
}

export async function listen() {
  following?.abort();
  const own = following = new AbortController();
  const kind = find("events-kind").value;
  while (!own.signal.aborted) {
    try {
      await follow("v1/events", kind ? { kind } : {}, own.signal, (event) => {
        waiting.push(event);
        if (waiting.length > 10 * LINES) waiting = waiting.slice(-LINES);
      }, () => state("live", "ok"));
      state("not connected", "degraded");
    } catch (problem) {
      if (own.signal.aborted) return;
      state(problem instanceof Problem ? problem.message.slice(0, 60) : "not connected", "degraded");
      if (problem instanceof Problem && problem.status === 401) return;
    }
    await new Promise((resolve) => { setTimeout(resolve, AGAIN); });
  }
}

find("events-kind").onchange = () => { find("events").replaceChildren(); listen(); };
find("events-pause").onclick = () => {
  paused = !paused;
  find("events-pause").setAttribute("aria-pressed", String(paused));
};
