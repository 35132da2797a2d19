// Holds what the page knows: the sources with their seconds and scores, and the events. It takes messages and draws nothing.

export const WINDOW = 10; // segments of a window
const MOST_EVENTS = 60;

export class Store {
  constructor() { this.clear(); }

  clear() {
    this.run = null;
    this.sources = new Map();
    this.events = new Map(); // by id, in order of arrival
    this.engine = "";
    this.model = null;
    this.ended = false;
    this.broker = null; // null without a broker
    this.span = null; // seconds on the time axis; null: as many as fit
    this.mostEvents = MOST_EVENTS;
    this.oldestFirst = false; // order of the event list
  }

  take(message, nowMs) {
    switch (message.type) {
      case "hello": return this.begin(message);
      case "turn": return this.turn(message, nowMs);
      case "event": return this.event(message);
      case "state": return this.source(message, (s) => { s.state = message.state; s.reason = message.reason; s.remedy = message.remedy; });
      case "thresholds": return this.source(message, (s) => { s.labels = s.labels.map((one) => ({ ...one, thresholds: message.labels[one.label] ?? null })); });
      case "privacy": return this.source(message, (s) => this.hide(s, message.privacy));
      case "telemetry": return this.source(message, (s) => { s.telemetry = message; });
      case "broker": this.broker = message; return;
      case "engine": this.engine = message.name; return;
      case "end": this.ended = true; return;
    }
  }

  source(message, change) {
    const found = this.sources.get(message.source);
    if (found) change(found);
  }

  begin(message) {
    this.clear(); // a reconnect brings the newest seconds again, and perhaps another run
    Object.assign(this, { run: message.run, model: message.model, engine: message.engine, version: message.version, kept: message.kept });
    for (const one of message.sources) {
      this.sources.set(one.id, {
        ...one, privacy: "off", state: "warming_up", reason: "", remedy: "", telemetry: null, times: null, factor: null, skew: null, dropped: 0,
        epochMs: null, newest: -1, first: -1, arrivedMs: 0, scored: -1, segments: new Map(), cells: new Map(), rows: [], shown: null,
      });
    }
  }

  turn(message, nowMs) {
    this.source(message, (s) => {
      this.hide(s, message.privacy);
      s.epochMs = message.epoch_ms; s.skew = message.skew_ms; s.dropped = message.dropped;
      for (const cell of message.cells) {
        s.cells.set(cell.index, cell);
        s.scored = Math.max(s.scored, cell.index);
      }
      const segment = message.segment;
      if (segment) {
        s.times = message.times; s.factor = message.realtime_factor;
        s.segments.set(segment.index, { ...segment, mel: bytes(segment.mel), images: [], drawn: null });
        if (s.first < 0) s.first = segment.index;
        s.newest = segment.index; s.arrivedMs = nowMs;
      }
      for (const map of [s.segments, s.cells]) for (const index of map.keys()) if (index <= s.newest - this.kept - 2) map.delete(index);
    });
  }

  // What was shown before is dropped where people must be hidden now.
  hide(s, privacy) {
    if (privacy === s.privacy) return;
    s.privacy = privacy;
    if (privacy === "off") return;
    for (const segment of s.segments.values()) {
      segment.mel.fill(0);
      Object.assign(segment, { pictures: [], images: [], drawn: null });
    }
    s.shown = null;
    for (const event of this.eventsOf(s.id)) this.events.set(event.id, { ...event, thumbnail: null });
  }

  event(message) {
    this.events.set(message.id, message);
    while (this.events.size > this.mostEvents) this.events.delete(this.events.keys().next().value);
  }

  eventsOf(id) { return [...this.events.values()].filter((event) => event.source === id); }
}

// The bytes of a text in base64.
export function bytes(text) { return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)); }

// Time that is shown, in seconds of media: it runs through the newest second at its own pace, and waits at its end.
export function playhead(source, nowMs) {
  if (source.newest < 0) return 0;
  return source.newest + Math.min(1, Math.max(0, (nowMs - source.arrivedMs) / 1000));
}

// The picture that is on display at a time; the one before it while it is being decoded, null when there is none.
export function imageAt(source, time) {
  const segment = source.segments.get(Math.min(Math.floor(time), source.newest));
  if (!segment || !segment.pictures.length) return null;
  if (!segment.images.length) segment.images = segment.pictures.map(decoding);
  const number = Math.floor((time - segment.index) * segment.images.length);
  const image = segment.images[Math.max(0, Math.min(segment.images.length - 1, number))];
  if (image.complete && image.naturalWidth) source.shown = image;
  return source.shown;
}

function decoding(picture) {
  const image = new Image();
  image.src = `data:image/jpeg;base64,${picture}`;
  return image;
}

// Scores at a time: those of its second, else the newest before it.
export function cellAt(source, time) {
  for (let index = Math.min(Math.floor(time), source.scored); index >= 0 && index > time - 4; index--) {
    const cell = source.cells.get(index);
    if (cell) return cell;
  }
  return null;
}

// Events at a time whose class is also scored there: an event that is still open may be over already.
export function eventsAt(store, source, time) {
  const cell = cellAt(source, time);
  return store.eventsOf(source.id).filter((event) => {
    if (event.end_reason === "retracted" || time < event.start_s || time >= (event.end_s ?? event.newest_s + 1)) return false;
    const id = source.labels.findIndex((one) => one.label === event.label);
    return !cell || id < 0 || cell.classes[id] >= (source.labels[id].thresholds?.off ?? 0);
  });
}

export function nameOf(source, event) { return event.name || event.label; }

// The time of day of a live source; minutes and seconds of a file.
export function clockWords(source, time) {
  if (source.live && source.epochMs !== null) return new Date(source.epochMs + time * 1000).toLocaleTimeString([], { hour12: false });
  const whole = Math.floor(time);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}
