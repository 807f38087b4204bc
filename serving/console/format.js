// Figures as a person reads them.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export function count(value) {
  return whole.format(value);
}

export function short(value) {
  if (value >= 1e6) return `${(value / 1e6).toFixed(1)} M`;
  if (value >= 1e4) return `${(value / 1e3).toFixed(1)} k`;
  return count(value);
}

export function plural(value, one, many = `${one}s`) {
  return `${count(value)} ${value === 1 ? one : many}`;
}

export function number(value) {
  if (typeof value !== "number" || !Number.isFinite(value)) return String(value);
  if (Number.isInteger(value) && Math.abs(value) < 1e15) return String(value);
  return String(Number(value.toPrecision(5)));
}

// Three digits: for figures that are compared by eye.
export function rough(value) {
  return String(Number(value.toPrecision(3)));
}

export function rate(value) {
  if (value === 0) return "0";
  if (value < 10) return value.toFixed(1);
  return short(value);
}

export function duration(seconds) {
  const ms = seconds * 1000;
  if (ms < 1) return `${ms.toFixed(2)} ms`;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${ms.toFixed(0)} ms`;
  return `${seconds.toFixed(1)} s`;
}

export function percent(fraction) {
  const value = fraction * 100;
  if (value === 0 || value === 100) return `${value} %`;
  if (value < 0.01) return "under 0.01 %";
  if (value > 99.99) return "over 99.99 %";
  return `${Number(value.toFixed(value < 1 || value > 99 ? 2 : 1))} %`;
}

export function time(seconds) {
  const at = new Date(seconds * 1000);
  const today = new Date().toDateString() === at.toDateString();
  const clock = at.toLocaleTimeString("en-GB");
  return today ? clock : `${at.toLocaleDateString("en-CA")} ${clock}`;
}

const WORDS = {
  roc_auc: "ROC AUC", average_precision: "average precision", log_loss: "log loss", brier: "Brier score",
  mae: "MAE", rmse: "RMSE", r2: "R²", f1: "F1", f1_macro: "F1, mean of the classes",
};

export function metric(name) {
  return WORDS[name] ?? name.replaceAll("_", " ");
}
