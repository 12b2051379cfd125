/** The keyboard: one place that knows which key does what. */

export interface Shortcut {
  key: string;
  description: string;
  handler: (event: KeyboardEvent) => void;
}

const shortcuts: Shortcut[] = [];

/** All keys in use, in the order that they were registered; for the help that `?` shows. */
export function registered(): readonly Shortcut[] {
  return shortcuts;
}

/**
 * Gives a key a meaning; the newest wins. `key` is that of KeyboardEvent ("m", " ", "ArrowLeft", "Escape").
 *
 * Returns what takes it away again, to be returned from an effect.
 */
export function register(key: string, description: string, handler: (event: KeyboardEvent) => void): () => void {
  const shortcut = { key, description, handler };
  shortcuts.push(shortcut);
  return () => {
    const at = shortcuts.indexOf(shortcut);
    if (at >= 0) shortcuts.splice(at, 1);
  };
}

/** Whether an element takes the key for itself: text is typed there, or a slider, list or button moves by it. */
function takes(target: EventTarget | null, key: string): boolean {
  if (!(target instanceof HTMLElement)) return false;
  if (target.isContentEditable || target instanceof HTMLSelectElement || target instanceof HTMLTextAreaElement) return true;
  const arrow = key.startsWith("Arrow");
  if (target instanceof HTMLInputElement) {
    if (target.type === "range" || target.type === "radio") return arrow || key === "Home" || key === "End";
    return target.type === "checkbox" ? key === " " : key !== "Escape";
  }
  if (key === " ") return target instanceof HTMLButtonElement || target.tagName === "SUMMARY";
  return arrow && target.closest("[role=tablist], [role=radiogroup], [role=listbox]") !== null;
}

export function dispatch(event: KeyboardEvent): void {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  if (document.querySelector("dialog[open]") !== null || takes(event.target, event.key)) return;
  for (let at = shortcuts.length - 1; at >= 0; at--) {
    const shortcut = shortcuts[at];
    if (shortcut !== undefined && shortcut.key === event.key) {
      event.preventDefault();
      shortcut.handler(event);
      return;
    }
  }
}
