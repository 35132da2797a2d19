// The button that switches between the theme of the machine, light and dark.

const MEDIA = { automatic: "(prefers-color-scheme: dark)", light: "not all", dark: "all" };
const THEMES = Object.keys(MEDIA), KEY = "streamav-theme";

export function useThemeButton(button, changed) {
  const sheet = document.getElementById("dark"); // the colours of dark.css
  let theme = "automatic";
  function use(name) {
    theme = name;
    sheet.media = MEDIA[name];
    button.textContent = `Theme: ${name}`;
    try { localStorage.setItem(KEY, name); } catch { /* storage may be switched off */ }
    changed();
  }
  try { theme = localStorage.getItem(KEY) ?? theme; } catch { /* storage may be switched off */ }
  if (THEMES.includes(theme)) use(theme);
  button.addEventListener("click", () => use(THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length]));
  sheet.addEventListener("load", changed); // a browser may fetch a sheet late that did not apply at first
  matchMedia(MEDIA.automatic).addEventListener("change", changed);
}
