// One model's page: the form with its answer, its traffic, its versions, drift, live quality, card and timeline.

import { answer, explanation, shown } from "/console/answer.js";
import { card } from "/console/card.js";
import { bars } from "/console/charts.js";
import { el, say } from "/console/dom.js";
import { rowForm } from "/console/form.js";
import * as format from "/console/format.js";
import * as looks from "/console/looks.js";
import { besideOf, drift, notLive, quality, traffic } from "/console/overview.js";
import { ask, reason } from "/console/server.js";

const DRIFT_SCALE = 0.5; // the PSI of a whole bar

function panel(title, ...children) {
  return el("section", { class: "panel" }, el("h2", {}, title), children);
}

// ---- ask

// `before` is the state of the previous version's page: a half-typed row outlives a swap.
function asking(about, before) {
  const result = el("div", { class: "result", "aria-live": "polite", role: "region", "aria-label": "Answer", tabindex: 0 },
    el("p", { class: "muted" }, "The answer will stand here. The form has an example: the median or the most frequent value of each column."));
  const route = `/models/${about.name}`;
  const form = rowForm(about.columns, async row => {
    const body = { records: [row], warnings: true };
    if (about.signature.classes.length) body.probabilities = true;
    if (about.interval !== null) body.interval = about.interval;
    const began = performance.now();
    const reply = await ask(`${route}/versions/${about.version}/predict`, body);
    const ms = performance.now() - began;
    if (!reply.ok) {
      result.replaceChildren(el("p", { class: "muted" }, "No answer: the server refused the row."));
      form.refuse(reply.body, reason(reply));
      return;
    }
    const answers = [{ role: "champion", version: about.version, body: reply.body }];
    for (const each of about.beside) {
      const plain = { records: [row], probabilities: body.probabilities };
      const other = await ask(`${route}/versions/${each.version}/predict`, plain);
      answers.push({ role: each.role, version: each.version, body: other.body, failed: other.ok ? undefined : reason(other) });
    }
    const why = el("div", { class: "why" }, about.explains ?
      el("p", { class: "muted" }, "Explaining …") :
      el("p", { class: "muted" }, "This model has no background rows, so its answers cannot be explained."));
    result.replaceChildren(answer(about, reply.body, ms, answers, why));
    result.scrollTop = 0;
    if (!about.explains) return;
    const explained = await ask(`${route}/versions/${about.version}/explain`, { records: [row] });
    why.replaceChildren(explained.ok ? explanation(explained.body.explanations[0]) :
      el("p", { class: "muted" }, `No explanation: ${reason(explained)}`));
  });
  if (before) {
    form.restore(before.typed);
    result.replaceChildren(...before.answer);
  }
  return {
    node: el("section", { class: "panel ask" }, el("h2", {}, "Ask about one row"), el("div", { class: "two" }, form.node, result)),
    kept: () => ({ typed: form.typed(), answer: [...result.childNodes] }),
  };
}

// A model that takes tensors: a request of /v2 as it is sent.
function askingTensors(about) {
  const result = el("pre", { class: "result", "aria-live": "polite", tabindex: 0 });
  const box = el("textarea", { id: "request", rows: 12, spellcheck: "false", value: JSON.stringify(about.example, null, 1) });
  const form = el("form", { class: "row-form" }, el("div", { class: "field wide" },
    el("label", { for: "request" }, `Request of /v2/models/${about.name}/infer`), box),
  el("div", { class: "buttons" }, el("button", { type: "submit", class: "main" }, "Predict")));
  form.addEventListener("submit", async event => {
    event.preventDefault();
    let body;
    try { body = JSON.parse(box.value); } catch (error) { result.textContent = `Not JSON: ${error.message}`; return; }
    const reply = await ask(`/v2/models/${about.name}/infer`, body);
    result.textContent = JSON.stringify(reply.body, null, 1);
  });
  return { node: el("section", { class: "panel ask" }, el("h2", {}, "Ask with tensors"), el("div", { class: "two" }, form, result)), kept: () => null };
}

// ---- versions side by side

function versionTable(about) {
  const all = [{ ...about, role: "champion" }, ...about.beside];
  const names = [...new Set(all.flatMap(each => Object.keys(each.metrics)))];
  const cell = (each, key) => key in each.metrics ? format.number(each.metrics[key]) : "–";
  const live = new Map(all.map(each => [each.role, el("td", {}, "–")]));
  const line = (name, of) => el("tr", {}, el("th", { scope: "row" }, name), all.map(each => el("td", {}, of(each))));
  const node = el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Versions" },
    el("table", { class: "versions" },
      el("thead", {}, el("tr", {}, el("th", {}, ""), all.map(each => el("th", { scope: "col" }, `${each.role}, version ${each.version}`)))),
      el("tbody", {},
        line("Algorithm", each => each.algorithm || "–"),
        line("Trained", each => each.created.replace("T", " ").replace(/(\.\d+)?(Z|\+00:00)$/, " UTC")),
        line("Signed by", each => each.signed_by ?? "–"),
        el("tr", {}, el("th", { scope: "row" }, "In this server"), all.map(each => live.get(each.role))),
        names.length > 0 && el("tr", {}, el("th", { scope: "row", colspan: all.length + 1, class: "part" }, "On test rows")),
        names.map(name => line(format.metric(name), each => cell(each, name))))));
  function update(model, figures) {
    say(live.get("champion"), versionWords(figures, model.version));
    for (const each of model.beside) {
      const place = live.get(each.role);
      if (place) say(place, besideOf(each, figures).replace(/^[^:]*: /, ""));
    }
  }
  return { node, update };
}

function versionWords(figures, version) {
  const counts = looks.countsOf(figures?.versions[version]);
  return counts.total ? `${format.plural(counts.total, "request")}, ${counts.failed + counts.busy} failed` : "no requests yet";
}

// ---- the page

function pageOf(about, before) {
  const question = about.task === "tensors" ? askingTensors(about) : asking(about, before);
  const charts = traffic();
  const table = versionTable(about);
  const driftWords = el("p"), driftBars = el("div"), qualityWords = el("p"), qualityMore = el("p", { class: "muted" });
  const refused = el("ul", { class: "refused" });
  const timeline = el("ol", { class: "timeline" });
  const labels = about.signature.classes.map(shown), numbers = about.signature.numbers;
  const what = labels.length ? `${labels.slice(0, 8).join(", ")}${labels.length > 8 ? `, and ${labels.length - 8} more` : ""}` : numbers?.length ? numbers.join(", ") : "a number";
  const figuresPanel = panel("Traffic", charts.node);
  const driftPanel = panel("Drift", driftWords, driftBars);
  const qualityPanel = panel("Live quality", qualityWords, qualityMore);
  const needing = [figuresPanel, driftPanel, qualityPanel];
  const node = el("div", { class: "page" },
    el("p", { class: "crumbs" }, el("a", { href: "/console", "data-inside": true }, "All models")),
    el("div", { class: "head" }, el("h1", { tabindex: -1 }, about.name), el("span", { class: "badge" }, `version ${about.version}`), el("span", { class: "badge role" }, "champion")),
    el("p", { class: "muted about" }, `${about.target ? `Predicts ${about.target}: ${what}. ` : ""}${about.algorithm || "Model"}, ${about.runtime === "onnx" ? "runs in onnxruntime" : `runs in a process of its own${about.runtime_reason ? `: ${about.runtime_reason}` : ""}`}.`),
    refused,
    question.node,
    figuresPanel,
    panel(about.beside.length ? "Champion beside the others" : "Version", table.node),
    el("div", { class: "two" }, driftPanel, qualityPanel),
    el("div", { class: "two" },
      el("section", { class: "panel card" }, el("h2", {}, "Model card"), about.card ? card(about.card) : el("p", { class: "muted" }, "The artifact has no card.")),
      panel("Timeline", timeline)));
  let told = "", drawn = "", seenEvents = [];

  function update(state) {
    const model = state.models.find(each => each.name === about.name);
    const seen = looks.of(about.name);
    charts.update(seen);
    table.update(model, seen.figures);
    const found = drift(seen.figures);
    say(driftWords, found.text);
    driftWords.className = found.kind;
    const columns = Object.entries(seen.figures?.drift ?? {}).slice(0, 15);
    if (JSON.stringify(columns) !== drawn) {
      drawn = JSON.stringify(columns);
      driftBars.replaceChildren(bars(columns.map(([name, psi]) => [name || "Scores", psi / DRIFT_SCALE, psi.toFixed(2), ""])));
    }
    const figures = seen.figures?.quality[about.version];
    const live = quality(figures);
    say(qualityWords, live.text);
    qualityWords.className = live.kind;
    say(qualityMore, figures?.rows == null ? "It needs a prediction log, feedback on its rows, and the command training live with --publish." :
      `By ${format.plural(figures.rows, "row")} with a known outcome, judged ${format.time(figures.judged)}.`);
    const mine = state.not_live.filter(each => each.name === about.name || each.name === null);
    if (JSON.stringify(mine) !== told) {
      told = JSON.stringify(mine);
      refused.replaceChildren(...mine.map(notLive));
    }
    events(state);
  }

  // The workers' logs are nearly the same: an event that another worker has told is not told again.
  function events(state) {
    const own = state.events.filter(event => event.name === about.name || event.name === "");
    for (const event of own) {
      if (!seenEvents.some(each => each.text === event.text && Math.abs(each.at - event.at) < 60)) seenEvents.push(event);
    }
    const made = Date.parse(about.created) / 1000;
    const all = [...seenEvents, ...(Number.isFinite(made) ? [{ at: made, kind: "", text: `Version ${about.version} was trained${about.run_id ? `, run ${about.run_id}` : ""}` }] : [])];
    const signed = Date.parse(about.signed) / 1000;
    if (about.signed && Number.isFinite(signed)) all.push({ at: signed, kind: "", text: `Version ${about.version} was signed by ${about.signed_by}` });
    const judged = looks.of(about.name).figures?.quality[about.version]?.judged;
    if (judged) all.push({ at: judged, kind: "", text: "Live quality was judged" });
    all.sort((one, other) => other.at - one.at);
    const lines = all.map(event => [format.time(event.at), event.text, event.kind]);
    if (JSON.stringify(lines) === timeline.dataset.drawn) return;
    timeline.dataset.drawn = JSON.stringify(lines);
    timeline.replaceChildren(...lines.map(([at, text, kind]) => el("li", { class: kind === "refused" ? "bad" : null }, el("time", {}, at), " ", text)));
  }

  // A caller without the right to see figures still gets the form.
  function without(words) {
    for (const each of needing) each.replaceChildren(each.firstChild, el("p", { class: "muted" }, words));
    events({ events: [] });
  }
  return { node, update, without, kept: question.kept };
}

export function modelPage(name, renew) {
  const node = el("div", {}, el("h1", { tabindex: -1 }, name), el("p", { class: "muted" }, "Loading …"));
  let about = null, page = null, asked = false;

  async function load() {
    if (asked) return;
    asked = true;
    const reply = await ask(`/console/models/${name}`);
    asked = false;
    if (reply.status === 401) { renew(reply); return; }
    if (!reply.ok) {
      about = page = null;
      node.replaceChildren(el("p", { class: "crumbs" }, el("a", { href: "/console", "data-inside": true }, "All models")),
        el("h1", { tabindex: -1 }, name), el("p", { class: "notice bad" }, reason(reply)));
      return;
    }
    about = reply.body;
    page = pageOf(about, page?.kept());
    node.replaceChildren(page.node);
  }

  function stamp(model) {
    return JSON.stringify([model.version, model.beside.map(each => [each.role, each.version])]);
  }

  async function update(state) {
    const model = state.models.find(each => each.name === name);
    if (!page || !model || stamp(model) !== stamp(about)) await load();
    if (page && model && stamp(model) === stamp(about)) page.update(state);
  }

  async function without(words) {
    if (!page) await load();
    page?.without(words);
  }
  return { node, update, without, title: `${name} · Okamochi` };
}
