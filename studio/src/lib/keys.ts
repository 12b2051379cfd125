/** Registry of keyboard shortcuts. */

export interface Shortcut {
  key: string;
  description: string;
  handler: (event: KeyboardEvent) => void;
}

const shortcuts: Shortcut[] = [];

/** All shortcuts in the order of registration, for the dialog that `?` opens. */
export function registered(): readonly Shortcut[] {
  return shortcuts;
}

/**
 * Register a shortcut; the newest one for a key wins. `key` is KeyboardEvent.key ("m", " ", "ArrowLeft", "Escape").
 *
 * Returns a function that removes the shortcut, suitable as the return value of an effect.
 */
export function register(key: string, description: string, handler: (event: KeyboardEvent) => void): () => void {
  const shortcut = { key, description, handler };
  shortcuts.push(shortcut);
  return () => {
    const at = shortcuts.indexOf(shortcut);
    if (at >= 0) shortcuts.splice(at, 1);
  };
}

/** Whether an element handles the key itself: a text field, slider, list or button. */
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
