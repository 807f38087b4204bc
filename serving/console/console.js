// The console: which page is shown, the key of this tab, and the look at the server every few seconds.

import { el, say } from "/console/dom.js";
import * as looks from "/console/looks.js";
import { modelPage } from "/console/model.js";
import { overview } from "/console/overview.js";
import { ask, keep, key, reason } from "/console/server.js";

const EVERY_MS = 2000;
const AWAY_MS = 5000;

const main = document.getElementById("main");
const status = document.getElementById("status");
const forget = document.getElementById("forget");
let page = null;
let timer = 0;
let round = 0; // a reply that comes after the page or the key has changed is dropped

function tell(text, kind) {
  say(status, text);
  status.className = `status ${kind}`;
}

// ---- pages

function open() {
  const name = decodeURIComponent(location.pathname.split("/")[2] ?? "");
  page = name ? modelPage(name, askForKey) : overview();
  document.title = page.title;
  main.replaceChildren(page.node);
}

function go(path) {
  history.pushState(null, "", path);
  open();
  main.querySelector("h1")?.focus();
  scrollTo(0, 0);
  look();
}

document.addEventListener("click", event => {
  const link = event.target.closest?.("a[data-inside]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  go(link.getAttribute("href"));
});
addEventListener("popstate", () => { open(); look(); });

// ---- the key

function askForKey(reply) {
  const wrong = key() !== "";
  keep("");
  forget.hidden = true;
  clearTimeout(timer);
  round++;
  const input = el("input", { id: "key", type: "password", autocomplete: "off", spellcheck: "false", "aria-describedby": "key-about", required: true });
  const form = el("form", { class: "panel key-form" }, el("h1", {}, "This server asks for a key"),
    wrong && el("p", { class: "error", role: "alert" }, reason(reply)),
    el("label", { for: "key" }, "Key"), input,
    el("p", { class: "hint muted", id: "key-about" }, "The overview needs the right “observe”, a prediction “predict”, its explanation “explain”. The key stays in this tab and is forgotten when the tab is closed."),
    el("div", { class: "buttons" }, el("button", { type: "submit", class: "main" }, "Open")));
  form.addEventListener("submit", event => {
    event.preventDefault();
    if (!input.value.trim()) return;
    keep(input.value.trim());
    open();
    look();
  });
  main.replaceChildren(form);
  tell("A key is needed", "");
  input.focus();
}

forget.addEventListener("click", () => {
  keep("");
  looks.forget();
  forget.hidden = true;
  open();
  look();
});

// ---- looks

async function look() {
  clearTimeout(timer);
  const mine = ++round;
  const shown = page;
  const reply = await ask("/console/state.json");
  if (mine !== round) return;
  forget.hidden = key() === "";
  let wait = EVERY_MS;
  if (reply.status === 401) { askForKey(reply); return; }
  if (reply.status === 403) {
    tell("Without figures", "");
    if (shown.without) await shown.without(`${reason(reply)} Figures need the right “observe” for all models.`);
    else shown.node.replaceChildren(el("h1", { tabindex: -1 }, "What is live"), el("p", { class: "notice bad" }, reason(reply)),
      el("p", {}, "The overview needs the right “observe” for all models. A model's own page, /console/NAME, opens with any key for that model. Forget the key, above, to give another one."));
    return;
  }
  if (reply.ok) {
    const state = reply.body;
    looks.add(state);
    await shown.update(state);
    const bad = state.not_live.length;
    if (!state.ready) tell("Not ready", "bad");
    else if (bad) tell("Ready, with something refused", "warn");
    else tell("Ready", "good");
  } else {
    tell(reason(reply), "bad");
    wait = Math.max(AWAY_MS, reply.wait * 1000);
  }
  if (mine === round && !document.hidden) timer = setTimeout(look, wait);
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearTimeout(timer);
  else if (!document.querySelector(".key-form")) look();
});

open();
look();
