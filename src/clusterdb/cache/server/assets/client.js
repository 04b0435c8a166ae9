// Talks to the server this page came from, and to no other. The token lives as long as the tab.

const STORED = "clusterdb-cache-token";
let token = sessionStorage.getItem(STORED) ?? "";

export class Problem extends Error {
  constructor(status, detail, kind) {
    super(detail);
    this.status = status;
    this.kind = kind;
  }
}

export function useToken(given) {
  token = given;
  sessionStorage.setItem(STORED, given);
}

function address(path, query) {
  const url = new URL(path, document.baseURI);
  for (const [name, given] of Object.entries(query ?? {})) {
    for (const value of [given].flat()) url.searchParams.append(name, value);
  }
  return url;
}

function headers(more) {
  return { ...(token ? { Authorization: `Bearer ${token}` } : {}), ...more };
}

async function refused(response) {
  let problem = {};
  try {
    problem = await response.json();
  } catch {
    problem = { detail: `the server answered ${response.status}` };
  }
  return new Problem(response.status, problem.detail || problem.title, problem.type ?? "");
}

export async function ask(method, path, { query, body } = {}) {
  const options = { method, headers: headers(), cache: "no-store", credentials: "omit" };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const response = await fetch(address(path, query), options);
  if (!response.ok) throw await refused(response);
  return response.status === 204 ? null : response.json();
}

// Server-sent events by fetch: an EventSource can't carry a token.
export async function follow(path, query, signal, heard, opened) {
  const response = await fetch(address(path, query), {
    headers: headers(), cache: "no-store", credentials: "omit", signal,
  });
  if (!response.ok) throw await refused(response);
  opened();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const frames = (rest + value).split("\n\n");
    rest = frames.pop();
    for (const frame of frames) {
      const data = frame.split("\n").find((line) => line.startsWith("data: "));
      if (data) heard(JSON.parse(data.slice(6)));
    }
  }
}
