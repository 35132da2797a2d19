// Thresholds with a slider: shows at once what the last hour would have given, and lets them hold.

import { ask, tell } from "./ask.js";
import { element } from "./panels.js";

const at = (id) => document.getElementById(id);
const WAIT_MS = 150, JOURNAL_MS = 3000;
let timer = null, again = null, asked = 0, touched = false; // touched: the viewer has chosen, and nothing else may

export function setUpTuning(current, changes) {
  at("rules").hidden = false;
  at("apply").hidden = !changes;
  at("rule-label").addEventListener("change", () => { touched = true; start(current().source); });
  at("rule-on").addEventListener("input", () => { touched = true; show(current().source); later(current().source); });
  at("apply").addEventListener("click", () => apply(current().source));
  for (const name of ["pointerenter", "focusin"]) at("rules").addEventListener(name, () => later(current().source)); // the hour goes on
  choose(current().source, current().label);
}

// Offers the labels of a source, and shows one of them.
export function choose(source, label) {
  if (!source || at("rules").hidden) return;
  const labels = source.labels.filter((one) => one.thresholds);
  at("rule-label").replaceChildren(...labels.map((one) => element("option", { value: one.label, text: one.name })));
  if (labels.some((one) => one.label === label)) at("rule-label").value = label;
  if (labels.length) start(source);
}

// Follows the newest event until the viewer chooses a label.
export function follow(source, label) {
  if (!touched) choose(source, label);
  recount(source, label);
}

// Asks again a little later, when the journal has the scores of an event that was confirmed or has ended.
export function recount(source, label) {
  if (labelOf(source)?.label !== label) return;
  clearTimeout(again);
  again = setTimeout(() => later(source), JOURNAL_MS);
}

function labelOf(source) { return source.labels.find((one) => one.label === at("rule-label").value && one.thresholds); }

function start(source) {
  const label = labelOf(source);
  if (!label) return;
  at("rule-on").value = Math.round(label.thresholds.on * 100);
  show(source);
  later(source);
}

function wanted(label) {
  const on = Number(at("rule-on").value) / 100;
  return { on, off: Math.min(on, label.thresholds.on > 0 ? (label.thresholds.off / label.thresholds.on) * on : on) };
}

function show(source) {
  const label = labelOf(source), { on, off } = wanted(label);
  at("rule-words").textContent = `An event of ${label.name} begins at ${percent(on)} and ends below ${percent(off)}. Now: ${percent(label.thresholds.on)} and ${percent(label.thresholds.off)}.`;
}

function percent(share) { return `${Math.round(share * 100)} %`; }

function later(source) {
  clearTimeout(timer);
  timer = setTimeout(() => askHour(source), WAIT_MS);
}

async function askHour(source) {
  const label = labelOf(source), turn = ++asked;
  if (!label) return;
  try {
    const found = await ask("what-if", { source: source.id, label: label.label, ...wanted(label) });
    if (turn !== asked) return; // the slider has moved on
    const { now, then } = found;
    at("hour").textContent = !found.seconds ? `The last hour has no scores of ${label.name} in the journal yet.` : `The last hour (${Math.round(found.seconds / 60)} min with scores) gave ${count(now, ` of ${label.name}`)}; with this it would have given ${count(then)}.`;
    at("hour-strip").replaceChildren(...strip(found));
  } catch (error) {
    at("hour").textContent = error.message;
    at("hour-strip").replaceChildren();
  }
}

function count(one, of = "") { return `${one.events} event${one.events === 1 ? "" : "s"}${of} (${one.seconds} s)`; }

// Two lines of marks: now above, with the slider's value below.
function strip({ now, then, until }) { // by the clock of the run, because that of the browser may be wrong
  const from = until - 3600;
  return [["hour-now", now, 2], ["hour-then", then, 13]].flatMap(([name, one, y]) => one.spans.filter(([, end]) => end > from).map(([begin, end]) => {
    const mark = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    for (const [key, value] of Object.entries({ class: name, x: Math.max(0, begin - from), y, width: Math.max(8, end - begin), height: 9 })) mark.setAttribute(key, value);
    return mark;
  }));
}

async function apply(source) {
  const label = labelOf(source), values = wanted(label);
  try {
    await tell("thresholds", { source: source.id, label: label.label, ...values });
    Object.assign(label.thresholds, values);
    at("rule-said").textContent = `${label.name}: holds from the next second on, also after a restart.`;
    show(source);
  } catch (error) {
    at("rule-said").textContent = `Not changed: ${error.message}`;
  }
}
