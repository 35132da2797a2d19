// The program of a document that is only text and tables.

import { useThemeButton } from "./theme.js";

useThemeButton(document.getElementById("theme"), () => undefined);
