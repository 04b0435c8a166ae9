// What the parts of the page share: finding elements, filling tables, telling what went wrong.

import { shown } from "./words.js";

export const find = (id) => document.getElementById(id);

export function tell(text, done = false) {
  const notice = find("notice");
  notice.textContent = text;
  notice.classList.toggle("done", done);
  notice.hidden = !text;
}

// An element with a text, which is never taken as HTML.
export function element(name, text, className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = className;
  return made;
}

// A row of a table; a cell is a text or an element, the first one the row's head. On a phone the
// cells of a table that is `stacked` stand below each other, beside the names of their columns.
export function row(cells, columns = []) {
  const tr = document.createElement("tr");
  cells.forEach((cell, index) => {
    const made = document.createElement(index ? "td" : "th");
    if (!index) made.scope = "row";
    if (columns[index]) made.dataset.column = columns[index];
    made.append(cell);
    tr.append(made);
  });
  return tr;
}

export function options(select, names, first = []) {
  const wanted = [...first, ...names.map((name) => [shown(name), name])];
  const have = [...select.options].map((each) => each.value);
  if (have.join("\0") === wanted.map(([, value]) => value).join("\0")) return;
  const chosen = select.value;
  select.replaceChildren(...wanted.map(([text, value]) => new Option(text, value)));
  if (wanted.some(([, value]) => value === chosen)) select.value = chosen;
}
