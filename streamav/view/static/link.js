// The connection to the run. It is opened again after every loss: at once when the viewer comes back to the tab, and also when nothing
// arrives any more although it seems open, as after a machine has slept.

const FIRST_PAUSE_MS = 500, LONGEST_PAUSE_MS = 10_000, LOOK_MS = 5_000, SILENCE_MS = 30_000;
const RENEWED = "streamav-page"; // the newest page for which this tab was loaded again

// Calls take(message) for each message, and changed(connected) when the connection opens or is lost.
export function link(take, changed) {
  let socket = null, pause = FIRST_PAUSE_MS, heardMs = 0, timer = null;

  function open() {
    clearTimeout(timer);
    const mine = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/live`);
    let accepted = false;
    socket = mine;
    heardMs = performance.now();
    mine.addEventListener("open", () => { accepted = true; });
    mine.addEventListener("message", ({ data }) => {
      if (mine !== socket) return;
      heardMs = performance.now();
      const message = JSON.parse(data);
      if (message.type === "hello") {
        if (renew(message.page)) return;
        pause = FIRST_PAUSE_MS;
        changed(true);
      }
      take(message);
    });
    mine.addEventListener("close", () => {
      if (mine !== socket) return;
      if (!accepted) askAgainForTheToken();
      lose();
    });
  }

  function lose() {
    const lost = socket;
    socket = null;
    lost.close();
    changed(false);
    timer = setTimeout(open, pause);
    pause = Math.min(LONGEST_PAUSE_MS, pause * 1.6);
  }

  setInterval(() => { if (socket && performance.now() - heardMs > SILENCE_MS) lose(); }, LOOK_MS);
  document.addEventListener("visibilitychange", () => { if (!document.hidden && !socket) open(); });
  open();
}

// A streamav that was installed meanwhile has another page: load it, once.
function renew(page) {
  if (!page || page === document.documentElement.dataset.page) return false;
  try {
    if (sessionStorage.getItem(RENEWED) === page) return false;
    sessionStorage.setItem(RENEWED, page);
  } catch { return false; } // without storage it might go on for ever
  location.reload();
  return true;
}

// A run that was restarted knows no visitor of the run before: the page loaded again asks for the token.
async function askAgainForTheToken() {
  try {
    if ((await fetch("/", { method: "HEAD", credentials: "same-origin" })).status === 401) location.reload();
  } catch { /* nothing listens: the connection is tried again anyway */ }
}
