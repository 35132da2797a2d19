// What a viewer asks and says about events: the clip with its sound, why it was one, right or wrong, and one that was missed.

import { ask, tell } from "./ask.js";
import { element } from "./panels.js";
import { clockWords, nameOf } from "./store.js";

const at = (id) => document.getElementById(id);
let shownUrl = null;

// The buttons of an event in the list; item.event is the newest that is known of it.
export function actionsOf(source, item) {
  const open = element("button", { type: "button", text: "Clip and why", "aria-label": `Clip and why: ${nameOf(source, item.event)} at ${clockWords(source, item.event.start_s)}` });
  open.addEventListener("click", () => openEvent(source, item.event));
  return element("div", { class: "actions" }, open, ...["right", "wrong"].map((verdict) => sayButton(source, item, verdict)));
}

function sayButton(source, item, verdict) {
  const event = item.event, button = element("button", { type: "button", text: verdict === "right" ? "Right" : "Wrong", "aria-label": `${nameOf(source, event)} at ${clockWords(source, event.start_s)} was ${verdict}` });
  button.addEventListener("click", () => say(source, verdict, event.label, event.start_s, item.event.end_s ?? item.event.newest_s, button));
  return button;
}

async function say(source, verdict, label, start, end, button) {
  button.disabled = true;
  try {
    const saved = await tell("say", { source: source.id, verdict, label, start_s: start, end_s: end, epoch_ms: source.epochMs ?? 0 });
    at("said").textContent = `Saved ${saved.file} in ${saved.folder}. Train on it: streamav train --data ${saved.folder}`;
    button.setAttribute("aria-pressed", "true");
  } catch (error) {
    at("said").textContent = `Not saved: ${error.message}`;
  }
  button.disabled = false;
}

function openEvent(source, event) {
  const dialog = at("event-dialog"), video = at("clip");
  at("event-name").textContent = `${nameOf(source, event)}, ${clockWords(source, event.start_s)}`;
  at("why").replaceChildren(element("p", { class: "dim", text: "asking the journal" }));
  at("clip-note").textContent = "getting the clip";
  video.hidden = true;
  dialog.showModal();
  showClip(event, video);
  showWhy(source, event);
}

async function showClip(event, video) {
  try {
    const clip = await ask(`clip/${event.id}`);
    if (shownUrl) URL.revokeObjectURL(shownUrl);
    shownUrl = URL.createObjectURL(clip);
    video.src = shownUrl;
    video.hidden = false;
    at("clip-note").textContent = "";
  } catch (error) {
    at("clip-note").textContent = error.message;
  }
}

async function showWhy(source, event) {
  const second = (event.start_s + 0.5) * 1000;
  try {
    const found = await ask("why", { source: source.id, at: ((source.epochMs ?? 0) + second) / 1000 });
    at("why").replaceChildren(...whyLines(found, event));
  } catch (error) {
    at("why").replaceChildren(element("p", { text: error.message }));
  }
}

// The answer of `streamav explain` about this second: its sentence, then the numbers behind it.
function whyLines(found, event) {
  const own = (found.labels ?? []).find((one) => one.label === event.label), facts = element("dl", { class: "facts-list" });
  const numbers = [["score", own?.score], ["begins at", own?.thresholds?.on], ["ends below", own?.thresholds?.off], ["relevance", found.is_event_score],
    ["agreement", found.av_similarity], ["background", found.background], ["loudness, dBFS", found.rms_dbfs]];
  for (const [name, value] of numbers) {
    if (typeof value === "number") facts.append(element("div", {}, element("dt", { text: name }), element("dd", { text: value.toFixed(2) })));
  }
  return [element("p", { text: found.why ?? "The journal says nothing about this second." }), facts];
}

export function setUpReview(current) {
  at("event-dialog").addEventListener("close", () => { at("clip").pause(); });
  at("missed").addEventListener("click", () => {
    const { source, time } = current();
    at("missed-label").replaceChildren(...source.labels.map((one) => element("option", { value: one.label, text: one.name })));
    at("missed-when").textContent = `It began at ${clockWords(source, time)}, the second that the page shows. Choose another on the timeline first.`;
    at("missed-dialog").dataset.time = String(Math.floor(time));
    at("missed-dialog").showModal();
  });
  at("missed-save").addEventListener("click", async () => {
    const { source } = current(), start = Number(at("missed-dialog").dataset.time);
    await say(source, "missed", at("missed-label").value, start, start + Math.max(1, Math.min(8, Number(at("missed-length").value) || 2)), at("missed-save"));
    at("missed-dialog").close();
  });
}
