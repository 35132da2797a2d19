// Zones: drawn with the mouse on the picture, or typed as corners; kept by the run.

import { ask, tell } from "./ask.js";
import { element } from "./panels.js";

const at = (id) => document.getElementById(id);
const known = new Map(); // source -> {name: corners}
let drawing = null; // corners that are being drawn, 0 to 1

export function setUpZones(current) {
  at("zones").hidden = false;
  at("zone-draw").addEventListener("click", () => {
    draw(drawing ? null : []);
    at("zone-said").textContent = drawing ? "Click the corners on the picture, at least three, then give a name and save. Escape ends it." : "";
  });
  at("zones").addEventListener("keydown", (event) => { if (event.key === "Escape" && drawing) stop(); });
  at("picture").addEventListener("pointerdown", (event) => {
    if (!drawing) return;
    const box = at("picture").getBoundingClientRect();
    drawing.push([(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height].map((value) => Math.round(1000 * Math.min(1, Math.max(0, value))) / 1000));
    at("zone-corners").value = drawing.map((corner) => corner.join(",")).join(" ");
  });
  at("zone-corners").addEventListener("input", () => { drawing = read(); });
  at("zone-save").addEventListener("click", () => save(current().source, at("zone-name").value.trim(), read() ?? []));
  load(current().source);
}

function draw(corners) {
  drawing = corners;
  at("zone-draw").setAttribute("aria-pressed", String(drawing !== null));
  at("picture").classList.toggle("drawing", drawing !== null);
}

function stop() {
  draw(null);
  at("zone-corners").value = at("zone-said").textContent = "";
}

export async function load(source) {
  if (!source || at("zones").hidden) return;
  try {
    known.set(source.id, (await ask("zones", { source: source.id })).zones);
    list(source);
  } catch (error) {
    at("zone-said").textContent = error.message;
  }
}

function read() {
  const corners = at("zone-corners").value.trim().split(/\s+/).map((text) => text.split(",").map(Number));
  return corners.every((one) => one.length === 2 && one.every((value) => value >= 0 && value <= 1)) ? corners : null;
}

async function save(source, name, corners) {
  if (corners.length < 3 || !/^[a-z0-9_]{1,32}$/.test(name)) {
    at("zone-said").textContent = "A zone needs at least three corners, and a name of small letters, digits and _.";
    return;
  }
  await set(source, name, corners);
}

async function set(source, name, corners) {
  try {
    await tell("zone", { source: source.id, name, corners });
    const zones = { ...known.get(source.id) };
    if (corners.length) zones[name] = corners; else delete zones[name];
    known.set(source.id, zones);
    draw(null);
    at("zone-corners").value = at("zone-name").value = "";
    at("zone-said").textContent = corners.length ? `Zone ${name} holds from the next second on: events name it. To keep events to it, set detection.inside.` : `Zone ${name} is removed.`;
    list(source);
  } catch (error) {
    at("zone-said").textContent = `Not changed: ${error.message}`;
  }
}

function list(source) {
  at("zone-list").replaceChildren(...Object.keys(known.get(source.id) ?? {}).map((name) => {
    const remove = element("button", { type: "button", text: "Remove", "aria-label": `Remove zone ${name}` });
    remove.addEventListener("click", () => set(source, name, []));
    return element("li", {}, element("span", { text: name }), remove);
  }));
}

// The zones over the picture, and the one that is being drawn.
export function drawZones(context, source, width, height) {
  for (const [name, corners] of Object.entries(known.get(source.id) ?? {})) outline(context, corners, width, height, name, []);
  if (drawing?.length) outline(context, drawing, width, height, "", [5, 4]);
}

function outline(context, corners, width, height, name, dash) {
  context.setLineDash(dash);
  for (const [paint, line] of [["rgb(0 0 0 / 60%)", 4], ["#7fd8ff", 2]]) {
    context.strokeStyle = paint;
    context.lineWidth = line;
    context.beginPath();
    corners.forEach(([x, y], number) => (number ? context.lineTo(x * width, y * height) : context.moveTo(x * width, y * height)));
    if (corners.length > 2) context.closePath();
    context.stroke();
  }
  context.setLineDash([]);
  for (const [x, y] of name ? [] : corners) context.fillRect(x * width - 3, y * height - 3, 6, 6);
  if (!name) return;
  context.font = "600 12px system-ui, sans-serif";
  context.textAlign = "left";
  const [x, y] = corners[0];
  context.fillStyle = "rgb(0 0 0 / 60%)";
  context.fillRect(x * width, y * height, context.measureText(name).width + 8, 18);
  context.fillStyle = "#d8f3ff";
  context.fillText(name, x * width + 4, y * height + 9);
}
