// Misses by size with what to do, and the hot keys of a region.

import { missCurve } from "./charts.js";
import { Problem, ask } from "./client.js";
import { element, find } from "./page.js";
import { count, percent, shown } from "./words.js";

const SOON = 2000;

function advised(advice) {
  if (!advice.curve.length) return "There is no advice before some five hundred sampled requests.";
  const { half, same, double } = advice.at;
  const words = [`Of a sample of ${count(advice.sampled)} requests an LRU of this size (${count(advice.size)}) would miss ${percent(1 - same)}; of half the size ${percent(1 - half)}, of double ${percent(1 - double)}.`];
  if (advice.enough) words.push(`Beyond ${count(advice.enough)} entries doubling gains less than 1%.`);
  if (advice.better) words.push(`The policy ${shown(advice.better)} would hit ${percent(advice.gain)} more than ${shown(advice.policy)}.`);
  if (advice.loop) words.push(`Requests loop over some ${count(advice.loop)} keys, more than fit.`);
  if (advice.scan) words.push(`${percent(advice.scan)} of the keys came once.`);
  return words.join(" ");
}

function hotKey(open, region, key, share) {
  const [item, button] = [element("li", ""), element("button", shown(key), "link")];
  button.type = "button";
  button.onclick = () => open(region, key);
  item.append(button, element("span", `${percent(share)} of hits`));
  return item;
}

let soon = 0;

export async function advise(open, failed) {
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
  if (advice && !advice.curve.length) soon = setTimeout(() => advise(open, failed), SOON);
  const hot = (advice?.hot_keys ?? []).map(([key, share]) => hotKey(open, region, key, share));
  find("hot").replaceChildren(...(hot.length ? hot : [element("li", "None yet.")]));
}
