/** A double-click or the key 0 inside an element calls `reset`; an action, so that the element needs no role. */
import type { Action } from "svelte/action";

export const resettable: Action<HTMLElement, () => void> = (element, reset) => {
  let back = reset;
  const key = (event: KeyboardEvent): void => {
    if (event.key !== "0" || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault(); // otherwise the key would select label 0
    back();
  };
  const double = (): void => back();
  element.addEventListener("dblclick", double);
  element.addEventListener("keydown", key);
  return {
    update: (next) => {
      back = next;
    },
    destroy() {
      element.removeEventListener("dblclick", double);
      element.removeEventListener("keydown", key);
    },
  };
};
