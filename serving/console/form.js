// The form for one row, made from the model's columns.

import { el } from "/console/dom.js";
import * as format from "/console/format.js";

const MAX_OPTIONS = 12; // a longer list of categories can be typed into
const MAX_SUGGESTED = 1000; // more would make the page slow
let made = 0;

function hintOf(column) {
  const parts = [];
  if (column.kind === "number") {
    const unit = column.unit ? ` ${column.unit}` : "";
    parts.push(column.minimum === null ? "a number" : `${format.number(column.minimum)} to ${format.number(column.maximum)}${unit} in training`);
    if (column.integer) parts.push("whole");
  } else if (column.kind === "category" && column.categories.length > MAX_OPTIONS) {
    parts.push(`one of ${format.count(column.categories.length)}`);
  } else if (column.kind === "date") parts.push(column.time ? "such as 2026-05-17T14:30:00" : "a date");
  else if (column.kind === "text") parts.push("text");
  else if (column.kind === "image") parts.push("a PNG, JPEG or WebP file");
  if (column.kind === "category" && column.unknown === "missing") parts.push("others count as missing");
  if (column.kind === "category" && column.unknown === "pass") parts.push("others are allowed");
  if (column.missing === "allow") parts.push("may be empty");
  return parts.join(", ");
}

function controlOf(column, id, described) {
  const common = { id, name: id, "aria-describedby": described, autocomplete: "off" };
  const listed = column.kind === "category" && column.categories.length <= MAX_OPTIONS && column.unknown === "refuse";
  if (listed) {
    return el("select", common, column.missing === "allow" && el("option", { value: "" }, "(empty)"),
      column.categories.map(category => el("option", { value: category }, category)));
  }
  if (column.kind === "category") {
    const list = `${id}-list`;
    return [el("input", { ...common, type: "text", list, spellcheck: "false" }),
      el("datalist", { id: list }, column.categories.slice(0, MAX_SUGGESTED).map(category => el("option", { value: category })))];
  }
  if (column.kind === "date") return el("input", { ...common, type: column.time ? "text" : "date" });
  if (column.kind === "text") return el("textarea", { ...common, rows: 2 });
  if (column.kind === "image") return pictureOf(common);
  return el("input", { ...common, type: "text", inputmode: "decimal", spellcheck: "false" });
}

// A file is read as soon as it is chosen; the hidden input holds it in base64, as a request has it.
function pictureOf(common) {
  const input = el("input", { type: "hidden" });
  const file = el("input", { ...common, type: "file", accept: "image/png,image/jpeg,image/webp" });
  file.addEventListener("change", () => {
    const [chosen] = file.files;
    if (!chosen) return;
    const reader = new FileReader();
    reader.addEventListener("load", () => {
      input.value = reader.result.slice(reader.result.indexOf(",") + 1);
      input.dispatchEvent(new Event("input"));
    });
    reader.readAsDataURL(chosen);
  });
  return [input, file];
}

function fieldOf(column) {
  const id = `field-${made++}`;
  const error = el("p", { class: "error", id: `${id}-error`, hidden: true });
  const control = controlOf(column, id, `${id}-hint ${id}-error`);
  const [input] = [control].flat();
  const wide = column.kind === "text";
  const node = el("div", { class: `field${wide ? " wide" : ""}` },
    el("label", { for: id }, column.name), control,
    el("p", { class: "hint muted", id: `${id}-hint` }, hintOf(column)), error);
  input.addEventListener("input", () => tell(""));

  function tell(text) {
    error.textContent = text;
    error.hidden = !text;
    if (text) input.setAttribute("aria-invalid", "true");
    else input.removeAttribute("aria-invalid");
  }
  function set(value) {
    const text = value === null || value === undefined ? "" : String(value);
    input.value = input.type === "date" ? text.slice(0, 10) : text;
    tell("");
  }
  const typed = () => input.value;
  function get() {
    const text = input.value;
    if (text.trim() === "") return null;
    if (column.kind !== "number") return text;
    const value = Number(text);
    return Number.isFinite(value) ? value : text; // the server says what is wrong with a text
  }
  return { node, input, tell, set, get, typed };
}

export function rowForm(columns, onRow) {
  const fields = new Map(columns.map(column => [column.name, fieldOf(column)]));
  const problem = el("p", { class: "error", role: "alert", hidden: true });
  const send = el("button", { type: "submit", class: "main" }, "Predict");
  const example = el("button", { type: "button", onclick: fill }, "Example");
  const clear = el("button", { type: "button", onclick: () => fields.forEach(field => field.set("")) }, "Clear");
  const form = el("form", { class: "row-form", novalidate: true },
    el("div", { class: "fields" }, [...fields.values()].map(field => field.node)),
    problem, el("div", { class: "buttons" }, send, example, clear));
  form.addEventListener("submit", async event => {
    event.preventDefault();
    if (send.disabled) return;
    tell("");
    fields.forEach(field => field.tell(""));
    send.disabled = true;
    try {
      await onRow(Object.fromEntries([...fields].map(([name, field]) => [name, field.get()])));
    } finally {
      send.disabled = false;
    }
  });

  function fill() {
    for (const column of columns) fields.get(column.name).set(column.example);
  }
  function tell(text) {
    problem.textContent = text;
    problem.hidden = !text;
  }
  // Shows each reason for the refusal at its field, and moves the focus to the first.
  function refuse(body, text) {
    let first = null;
    for (const { column, reason } of body.errors ?? []) {
      const field = fields.get(column);
      if (!field) continue;
      field.tell(reason);
      first ??= field;
    }
    tell(first && body.errors.length === 1 ? "" : text);
    first?.input.focus();
  }
  // The texts of the fields, for the form of the next version.
  const typed = () => new Map([...fields].map(([name, field]) => [name, field.typed()]));
  const restore = texts => texts.forEach((text, name) => fields.get(name)?.set(text));
  fill();
  return { node: form, refuse, typed, restore };
}
