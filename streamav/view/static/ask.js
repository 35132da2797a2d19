// Asks the server of the page, and tells it something. An answer that is an error is thrown as its words.

async function answerOf(response) {
  if (response.headers.get("content-type")?.startsWith("video/")) return response.blob();
  let found;
  try { found = await response.json(); } catch { found = {}; }
  if (!response.ok) throw new Error(found.error ?? `the server answered ${response.status}`);
  return found;
}

export async function ask(path, parameters = {}) {
  const query = new URLSearchParams(parameters).toString();
  return answerOf(await fetch(`/page/${path}${query ? `?${query}` : ""}`, { credentials: "same-origin" }));
}

export async function tell(path, body) {
  const headers = { "content-type": "application/json" };
  return answerOf(await fetch(`/page/${path}`, { method: "POST", credentials: "same-origin", headers, body: JSON.stringify(body) }));
}
