// Find a key, look at its entry, invalidate keys and tags. Keys and values are hostile text: they
// are only ever set as textContent.

import { ask } from "./client.js";
import { element, find, tell } from "./page.js";
import { duration, shown } from "./words.js";

const LONGEST = 100000;

function facts(list, pairs) {
  list.replaceChildren(...pairs.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
}

function valueOf(entry) {
  if (entry.type === "json" && !entry.truncated) return JSON.stringify(entry.value, null, 2);
  return String(entry.value) + (entry.truncated ? "\n… (cut)" : "");
}

export function confirmed(text) {
  const dialog = find("confirm");
  find("confirm-text").textContent = text;
  return new Promise((resolve) => {
    const decide = (sure) => () => { dialog.close(); resolve(sure); };
    find("confirm-yes").onclick = decide(true);
    find("confirm-no").onclick = decide(false);
    dialog.oncancel = decide(false);
    dialog.showModal();
    find("confirm-no").focus();
  });
}

export function entries(failed) {
  let current = null;

  async function open(region, key) {
    const query = { key, peek: "true", limit: String(LONGEST) };
    let entry = null;
    try {
      entry = await ask("GET", `v1/regions/${encodeURIComponent(region)}/entry`, { query });
    } catch (problem) {
      if (problem.kind?.endsWith(":no-entry")) tell(`Region ${shown(region)} has no entry ${shown(key)}`);
      else failed(problem);
      return;
    }
    current = { region, key };
    find("entry-key").textContent = shown(key);
    find("entry-value").textContent = shown(valueOf(entry));
    facts(find("entry-facts"), [
      ["Region", shown(entry.region)],
      ["Type", entry.type === "bytes" ? "bytes, as base64" : entry.type],
      ["Size", `${entry.size.toLocaleString("en")} bytes as text`],
      ["Expires", entry.expires_in === null ? "never" : `in ${duration(entry.expires_in)}`],
      ["Tags", entry.tags.length ? entry.tags.map(shown).join(", ") : "none"],
      ["Tier", entry.tier],
      ["Age", entry.age_bound ? `at most ${duration(entry.age_bound)}` : "current"],
    ]);
    if (!find("entry").open) find("entry").showModal();
    find("entry-close").focus();
  }

  find("entry-close").onclick = () => find("entry").close();
  find("entry-invalidate").onclick = async () => {
    const { region, key } = current;
    if (!(await confirmed(`Invalidate the key ${shown(key)} of region ${shown(region)}?`))) return;
    try {
      const path = `v1/regions/${encodeURIComponent(region)}/invalidate`;
      await ask("POST", path, { body: { keys: [key] } });
      find("entry").close();
      tell(`Invalidated ${shown(key)}`, true);
    } catch (problem) {
      failed(problem);
    }
  };

  find("tag-open").onclick = () => { find("tag-name").value = ""; find("tag").showModal(); };
  find("tag-close").onclick = () => find("tag").close();
  find("tag-form").onsubmit = async (event) => {
    event.preventDefault();
    const tag = find("tag-name").value;
    if (!(await confirmed(`Invalidate every entry with the tag ${shown(tag)}, in all regions?`))) return;
    try {
      const done = await ask("POST", "v1/invalidate", { body: { tags: [tag] } });
      find("tag").close();
      tell(`Invalidated the tag ${shown(tag)}: ${done.invalidated} entries counted`, true);
    } catch (problem) {
      failed(problem);
    }
  };

  find("search").onsubmit = (event) => {
    event.preventDefault();
    const key = find("search-key").value;
    if (key) open(find("search-region").value, key);
  };
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, select, textarea, dialog");
    if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    find("search-key").focus();
    find("search-key").select();
  });
  return open;
}
