// Draws the picture that the model saw, with its attention as a heat map and the boxes of the events.

import { HEAT, fit } from "./colours.js";
import { cellAt, eventsAt, imageAt, nameOf } from "./store.js";

const FLAT = 1.2; // an attention whose strongest cell is below this factor times the mean shows no place (streamav.tracker.place)

export function drawPicture(canvas, store, source, time, colours, options) {
  const { context, width, height } = fit(canvas);
  if (!width) return;
  context.fillStyle = colours.lane;
  context.fillRect(0, 0, width, height);
  const image = imageAt(source, time);
  if (image) {
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = "high";
    context.drawImage(image, 0, 0, width, height);
  }
  const segment = source.segments.get(Math.min(Math.floor(time), source.newest));
  if (source.privacy === "metadata_only") words(context, "no pictures: privacy is metadata_only", width / 2, height / 2, colours);
  else if (segment?.no_picture) words(context, "no picture arrives", width / 2, height / 2, colours);
  else if (!segment && source.newest < 0) words(context, "no picture yet", width / 2, height / 2, colours);
  const cell = cellAt(source, time);
  if (options.heat && cell) drawHeat(context, cell.attention, width, height, options.strength);
  options.over?.(context, source, width, height);
  if (options.boxes) for (const event of eventsAt(store, source, time)) drawBox(context, source, event, width, height, options.names);
}

function words(context, text, x, y, colours) {
  context.fillStyle = colours.dim;
  context.font = "14px system-ui, sans-serif";
  context.textAlign = "center";
  context.fillText(text, x, y);
}

// The attention as a heat map; nothing where it shows no place.
export function drawHeat(context, attention, width, height, strength) {
  const rows = attention.length, columns = attention[0].length, cells = attention.flat();
  const mean = 1 / cells.length, peak = Math.max(...cells);
  if (peak < FLAT * mean) return;
  const small = new OffscreenCanvas(columns, rows), pixels = new ImageData(columns, rows);
  cells.forEach((value, number) => {
    const share = Math.max(0, Math.min(1, (value - mean) / (peak - mean)));
    const [red, green, blue] = HEAT[Math.round(share * 255)];
    pixels.data.set([red, green, blue, Math.round(255 * strength * Math.min(1, 1.6 * share ** 1.2))], number * 4);
  });
  small.getContext("2d").putImageData(pixels, 0, 0);
  context.imageSmoothingEnabled = true;
  context.imageSmoothingQuality = "high";
  context.drawImage(small, 0, 0, width, height);
}

export function drawBox(context, source, event, width, height, names) {
  if (!event.box) return;
  const [x0, y0, x1, y1] = event.box, x = x0 * width, y = y0 * height, wide = (x1 - x0) * width, tall = (y1 - y0) * height;
  context.setLineDash(event.confirmed ? [] : [7, 5]);
  for (const [paint, line] of [["rgb(0 0 0 / 60%)", 5], ["#ffb65c", 2.5]]) {
    context.strokeStyle = paint;
    context.lineWidth = line;
    context.beginPath();
    context.roundRect(x + 2, y + 2, wide - 4, tall - 4, 6);
    context.stroke();
  }
  context.setLineDash([]);
  if (!names) return;
  const text = `${nameOf(source, event)} ${Math.round(event.score * 100)} %`;
  context.font = "600 13px system-ui, sans-serif";
  context.textAlign = "left";
  const long = context.measureText(text).width + 12, left = Math.max(2, Math.min(x + 2, width - long - 2)), top = y > 26 ? y - 20 : y + 6;
  context.fillStyle = "#ffb65c";
  context.beginPath();
  context.roundRect(left, top, long, 21, 5);
  context.fill();
  context.fillStyle = "#1b1204";
  context.fillText(text, left + 6, top + 15);
}
