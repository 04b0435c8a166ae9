// The page: asks for the figures every two seconds, and hands them to the parts that show them.

import { advise } from "./advice.js";
import { showWrong } from "./alerts.js";
import { Problem, ask, useToken } from "./client.js";
import { entries } from "./entry.js";
import { listen, showEvents } from "./events.js";
import { busiest, showFigures } from "./figures.js";
import { HISTOGRAMS, showLatencies } from "./latency.js";
import { find, tell } from "./page.js";

const EVERY = 2000;
const ADVICE_EVERY = 15000;
const THEMES = ["system", "light", "dark"];
const THEME = "clusterdb-cache-theme";

function failed(problem) {
  if (problem instanceof Problem && problem.status === 401) askToken();
  else if (problem instanceof Problem) tell(problem.message);
  else tell("The server can't be reached; trying again.");
}

// -- figures

let refreshing = false;
async function refresh() {
  if (refreshing || document.hidden || find("token").open) return;
  refreshing = true;
  try {
    const figures = Promise.all([
      ask("GET", "v1/overview"), ask("GET", "v1/statistics"), ask("GET", "v1/metrics", { query: { name: HISTOGRAMS } }),
    ]);
    figures.catch(() => {}); // it is awaited once what is wrong is shown, which may be why it failed
    showWrong(...await Promise.all([ask("GET", "v1/health"), ask("GET", "v1/alerts")]));
    const [overview, statistics, samples] = await figures;
    showFigures(overview, statistics);
    showLatencies(samples.metrics);
    if (!find("notice").classList.contains("done") && find("notice").dataset.away) tell("");
    delete find("notice").dataset.away;
    if (!document.body.dataset.ready) performance.mark("figures");
    document.body.dataset.ready = "true";
  } catch (problem) {
    find("notice").dataset.away = "true";
    failed(problem);
  } finally {
    refreshing = false;
  }
}

async function begin() {
  await refresh();
  const region = busiest();
  if (region) find("advice-region").value = region;
  listen();
  advise(open, failed);
}

// -- the token

function askToken() {
  if (!find("token").open) find("token").showModal();
}

find("token").oncancel = (event) => event.preventDefault();
find("token-form").onsubmit = async (event) => {
  event.preventDefault();
  useToken(find("token-value").value.trim());
  find("token-value").value = "";
  try {
    await ask("GET", "v1/alerts");
  } catch (problem) {
    const wrong = problem instanceof Problem && problem.status === 401;
    find("token-wrong").hidden = !wrong;
    if (!wrong) failed(problem);
    return;
  }
  find("token-wrong").hidden = true;
  find("token").close();
  tell("");
  begin();
};

// -- light and dark

function useTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  find("theme").textContent = `Theme: ${theme}`;
  localStorage.setItem(THEME, theme);
}

const remembered = localStorage.getItem(THEME);
useTheme(THEMES.includes(remembered) ? remembered : "system");
find("theme").onclick = () => {
  useTheme(THEMES[(THEMES.indexOf(localStorage.getItem(THEME)) + 1) % THEMES.length]);
};

// -- begin

const open = entries(failed);
find("advice-region").onchange = () => advise(open, failed);
document.addEventListener("visibilitychange", refresh);
begin();
setInterval(refresh, EVERY);
setInterval(() => advise(open, failed), ADVICE_EVERY);
setInterval(showEvents, 300);
