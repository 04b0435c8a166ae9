// Figures and texts as a person reads them.

const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

// Keys, values and names are hostile text: what reorders or hides text is made visible.
export function shown(text) {
  return String(text).replace(HIDDEN, (char) => `\\u{${char.codePointAt(0).toString(16)}}`);
}

const known = (value) => value !== null && value !== undefined;

export const count = (value) => (known(value) ? Math.round(value).toLocaleString("en") : "?");
export const rate = (value) => (!known(value) ? "–" : value >= 100 ? count(value) : value.toFixed(1));
export const percent = (value) => (known(value) ? `${(100 * value).toFixed(1)}%` : "–");

export function duration(value) {
  if (!known(value)) return "–";
  if (value >= 172800) return `${(value / 86400).toFixed(1)} d`;
  if (value >= 7200) return `${(value / 3600).toFixed(1)} h`;
  if (value >= 120) return `${(value / 60).toFixed(1)} min`;
  if (value >= 1) return `${value.toFixed(value < 10 ? 1 : 0)} s`;
  const milliseconds = 1000 * value;
  return `${milliseconds.toFixed(milliseconds < 1 ? 2 : milliseconds < 100 ? 1 : 0)} ms`;
}

export function bytes(value) {
  if (!known(value)) return "?";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let [rest, at] = [value, 0];
  while (rest >= 1000 && at < units.length - 1) { rest /= 1000; at += 1; }
  return `${at && rest < 100 ? rest.toFixed(1) : Math.round(rest)} ${units[at]}`;
}
