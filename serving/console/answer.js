// A model's answer about one row: prediction, probabilities, interval, warnings, explanation, other versions.

import { bars, waterfall } from "/console/charts.js";
import { el } from "/console/dom.js";
import * as format from "/console/format.js";

const MAX_CLASSES = 10;
const MAX_COLUMNS = 12;

export function shown(value) {
  if (Array.isArray(value)) return value.map(shown).join(", ");
  if (value !== null && typeof value === "object") {
    return Object.entries(value).map(([name, each]) => `${name} ${shown(each)}`).join(", ");
  }
  return typeof value === "number" ? format.number(value) : String(value);
}

function probabilities(body) {
  const rows = body.classes.map((name, i) => [shown(name), body.probabilities[0][i]]).sort((one, other) => other[1] - one[1]);
  const rest = rows.length - MAX_CLASSES;
  return el("div", {}, el("h4", {}, "Probabilities"),
    bars(rows.slice(0, MAX_CLASSES).map(([name, value], i) => [name, value, format.percent(value), i ? "" : "first"])),
    rest > 0 && el("p", { class: "muted" }, `and ${format.plural(rest, "less likely class", "less likely classes")}`));
}

function interval(body) {
  const holds = `that holds the outcome in at least ${format.percent(body.level)} of rows: `;
  if (body.intervals) {
    const [low, high] = body.intervals[0];
    return el("p", { class: "interval" }, `A range ${holds}`, el("strong", {}, format.number(low)), " to ", el("strong", {}, format.number(high)), ".");
  }
  const likely = body.sets[0].map(shown).join(", ");
  return el("p", { class: "interval" }, `A set ${holds}`, el("strong", {}, likely), ".");
}

function warnings(found) {
  if (!found.length) return el("p", { class: "good" }, "Nothing is unusual about this row.");
  const drifted = found.filter(each => each.kind === "drift").map(each => each.column || "the scores");
  return el("ul", { class: "warnings" },
    found.filter(each => each.kind !== "drift").map(each => el("li", {}, el("strong", {}, each.column), `: ${each.detail}`)),
    drifted.length > 0 && el("li", {}, el("strong", {}, "Drift"), `: the last rows differ from the training rows in ${drifted.join(", ")}`));
}

export function explanation(found) {
  const all = found.contributions;
  const rows = all.slice(0, MAX_COLUMNS).map(each => ({
    name: each.value === undefined || each.value === null ? each.column : `${each.column} = ${shown(each.value)}`,
    contribution: each.contribution,
  }));
  const rest = all.slice(MAX_COLUMNS);
  if (rest.length) {
    rows.push({ name: format.plural(rest.length, "other column"), contribution: rest.reduce((sum, each) => sum + each.contribution, 0) });
  }
  const of = found.class === undefined ? "the prediction" : `the score of ${shown(found.class)}`;
  const exact = found.method === "exact" ? "exact" : `within ${format.rough(found.error)} of the exact values`;
  return el("div", {}, el("h4", {}, "Why"),
    el("p", { class: "muted" }, `What each column adds to ${of}; ${exact}.`),
    waterfall(rows, found.base, found.score, format.rough));
}

// `answers` are { role, version, body } of the champion and of the versions beside it; an error has `failed`.
function versions(answers) {
  const champion = answers[0].body;
  const chance = body => body.probabilities ? format.percent(Math.max(...body.probabilities[0])) : "";
  const same = body => shown(body.prediction) === shown(champion.prediction);
  return el("div", {}, el("h4", {}, "Every version about this row"),
    el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Every version about this row" },
      el("table", {}, el("thead", {}, el("tr", {}, ["Role", "Version", "Prediction", "Probability", ""].map(name => el("th", { scope: "col" }, name)))),
        el("tbody", {}, answers.map(({ role, version, body, failed }, i) => el("tr", {},
          el("td", {}, role), el("td", {}, version), el("td", {}, failed ?? shown(body.prediction[0])),
          el("td", {}, failed ? "" : chance(body)),
          el("td", { class: failed || same(body) ? "" : "warn" }, failed || !i ? "" : same(body) ? "agrees" : "differs")))))));
}

export function answer(about, body, ms, answers, why) {
  const predicted = body.prediction[0];
  return el("div", { class: "answer" },
    el("h3", { tabindex: -1 }, about.target || "Prediction"),
    el("p", { class: "prediction" }, shown(predicted)),
    body.level !== undefined && interval(body),
    body.probabilities && probabilities(body),
    body.warnings && warnings(body.warnings),
    answers.length > 1 && versions(answers),
    why,
    el("p", { class: "muted small" }, `Version ${body.version}, answered in ${ms.toFixed(0)} ms, id `, el("code", {}, body.id)));
}
