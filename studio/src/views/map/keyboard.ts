/** Keyboard control of the map. */
import { register } from "../../lib/keys";
import { panned, type Point, toScreen, type View, whole, zoomed } from "./view";

/** Step of an arrow key in σ. */
export const STEP = 0.1;
const PAN = 48; // pixels
const CLOSER = 1.5;

const ARROWS: Record<string, Point> = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

/** The view after a key on the focused map (zoom about `at`, pan, or whole map); null if the key does not change the view. */
export function viewAfter(
  event: Pick<KeyboardEvent, "key" | "shiftKey" | "ctrlKey" | "metaKey" | "altKey">,
  view: View,
  at: Point,
): View | null {
  if (event.ctrlKey || event.metaKey || event.altKey) return null;
  const arrow = ARROWS[event.key];
  if (event.shiftKey && arrow) return panned(view, -PAN * arrow[0], PAN * arrow[1]);
  if (event.key === "+" || event.key === "=") return zoomed(view, toScreen(view, at), CLOSER);
  if (event.key === "-") return zoomed(view, toScreen(view, at), 1 / CLOSER);
  return event.key === "Home" ? whole(view.width, view.height) : null;
}

/** Register the keys that work everywhere on the page; returns a function that removes them. */
export function registerMapKeys(move: (by: Point) => void, focus: () => void, unpin: () => void): () => void {
  const shortcuts = [
    ...Object.entries(ARROWS).map(([key, [u, v]]) =>
      register(key, "move the point by 0.1 σ on the map", () => move([STEP * u, STEP * v])),
    ),
    register("m", "move to the map", focus),
    register("Escape", "unpin the point", unpin),
  ];
  return () => shortcuts.forEach((release) => release());
}
