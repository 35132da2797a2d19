// Colours of the canvases: they are those of the style sheet, read again when the theme changes.

export class Colours {
  constructor() { this.read(); }

  read() {
    const style = getComputedStyle(document.documentElement);
    const get = (name) => style.getPropertyValue(`--${name}`).trim();
    for (const name of ["ground", "card", "line", "text", "dim", "accent", "event", "relevance", "agreement", "lane", "window", "bad"]) this[name] = get(name);
    this.eventSoft = get("event-soft");
    this.sound = table([0, 1, 2, 3, 4].map((number) => get(`sound-${number}`)), QUIET);
    this.version = (this.version ?? 0) + 1;
  }
}

const QUIET = 1.5; // quiet sounds are drawn closer to silence, so that the murmur of a room does not fill the picture

export const HEAT = table(["#d8334a", "#ee5a3a", "#ff8a34", "#ffc44a", "#fff3b8"]);

// 256 colours that run through the given ones, as [r, g, b]; a power above 1 spends more of them on low values.
function table(stops, power = 1) {
  const parts = stops.map((text) => [1, 3, 5].map((place) => parseInt(text.slice(place, place + 2), 16)));
  return Array.from({ length: 256 }, (_, value) => {
    const place = (value / 255) ** power * (parts.length - 1), below = Math.min(parts.length - 2, Math.floor(place));
    return parts[below].map((from, channel) => Math.round(from + (parts[below + 1][channel] - from) * (place - below)));
  });
}

// A canvas as wide as its box, in pixels of the screen; returns its context, scaled to CSS pixels.
export function fit(canvas, height) {
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, tall = height ?? canvas.clientHeight;
  if (height !== undefined && canvas.style.height !== `${height}px`) canvas.style.height = `${height}px`;
  const wanted = [Math.round(width * ratio), Math.round(tall * ratio)];
  if (canvas.width !== wanted[0] || canvas.height !== wanted[1]) [canvas.width, canvas.height] = wanted;
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return { context, width, height: tall };
}
