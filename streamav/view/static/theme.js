// The button that switches between the theme of the machine, light and dark.

const THEMES = ["automatic", "light", "dark"], KEY = "streamav-theme";

export function useThemeButton(button, changed) {
  let theme = "automatic";
  function use(name) {
    theme = name;
    if (name === "automatic") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
    button.textContent = `Theme: ${name}`;
    try { localStorage.setItem(KEY, name); } catch { /* storage may be switched off */ }
    changed();
  }
  try { theme = localStorage.getItem(KEY) ?? theme; } catch { /* storage may be switched off */ }
  if (THEMES.includes(theme)) use(theme);
  button.addEventListener("click", () => use(THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length]));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
}
