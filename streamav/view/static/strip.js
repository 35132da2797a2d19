// Draws a stretch of time as a thin strip: relevance as bars, events as marks above them.

import { fit } from "./colours.js";

// From a time (s), over a span (s).
export function drawStrip(canvas, store, source, from, span, colours) {
  const { context, width, height } = fit(canvas), scale = width / span;
  context.clearRect(0, 0, width, height);
  for (const cell of source.cells.values()) {
    const tall = Math.max(1, cell.relevance * (height - 6)), gap = scale > 3 ? 1 : 0;
    context.fillStyle = colours.relevance;
    context.globalAlpha = cell.final ? 0.75 : 0.35;
    context.fillRect((cell.index - from) * scale, height - tall, Math.max(1, scale - gap), tall);
  }
  context.globalAlpha = 1;
  context.fillStyle = colours.event;
  for (const event of store.eventsOf(source.id)) {
    if (event.end_reason !== "retracted") context.fillRect((event.start_s - from) * scale, 0, Math.max(2, ((event.end_s ?? event.newest_s) - event.start_s) * scale), 4);
  }
}
