/** Ink as vectors: what the pointer says becomes strokes, and strokes become a smooth connected path. */

export interface Point {
  x: number;
  y: number;
}

export type Stroke = readonly Point[];

/** A piece of a path: a move, a line, or a quadratic curve with its control point. */
export type Segment =
  | { kind: "move"; to: Point }
  | { kind: "line"; to: Point }
  | { kind: "curve"; control: Point; to: Point };

/** Points nearer than this to the one before (in units of the sheet) say nothing new. */
export const NEAREST = 0.75;

/** Length of the line that a dot is. */
export const DOT = 0.01;

const midway = (a: Point, b: Point): Point => ({ x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 });

/**
 * A stroke as one connected path through the midpoints of its points, each point the control of a quadratic curve; it
 * begins and ends at the first and last point themselves. A single point is a line of hardly any length: with round caps, a
 * dot. Of one of no length some browsers, such as Chromium 156, draw nothing.
 */
export function smooth(stroke: Stroke): Segment[] {
  const [first, last] = [stroke[0], stroke[stroke.length - 1]];
  if (first === undefined || last === undefined) return [];
  const path: Segment[] = [{ kind: "move", to: first }];
  stroke.slice(1, -1).forEach((control, at) => {
    path.push({ kind: "curve", control, to: midway(control, stroke[at + 2] ?? control) });
  });
  path.push({ kind: "line", to: stroke.length > 1 ? last : { x: last.x + DOT, y: last.y } });
  return path;
}

/** A stroke with a point more, or the very same one where the point is where the last one was. */
export function extended(stroke: Stroke, point: Point): Stroke {
  const last = stroke[stroke.length - 1];
  return last && Math.hypot(point.x - last.x, point.y - last.y) < NEAREST ? stroke : [...stroke, point];
}

/** A place of the pointer on a sheet of `side` units shown as a rectangle of the window; it may lie outside. */
export function onSheet(
  clientX: number,
  clientY: number,
  shown: { left: number; top: number; width: number; height: number },
  side: number,
): Point {
  return {
    x: ((clientX - shown.left) * side) / (shown.width || 1),
    y: ((clientY - shown.top) * side) / (shown.height || 1),
  };
}
