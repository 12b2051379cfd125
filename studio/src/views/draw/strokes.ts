/** Strokes from pointer positions, and smooth paths from strokes. */

export interface Point {
  x: number;
  y: number;
}

export type Stroke = readonly Point[];

/** A segment of a path: a move, a line, or a quadratic curve with its control point. */
export type Segment =
  | { kind: "move"; to: Point }
  | { kind: "line"; to: Point }
  | { kind: "curve"; control: Point; to: Point };

/** Points closer than this to the previous one, in units of the sheet, are dropped. */
const NEAREST = 0.75;

/** Length of the line that represents a dot. */
export const DOT = 0.01;

const midway = (a: Point, b: Point): Point => ({ x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 });

/**
 * A stroke as one connected path: quadratic curves through the midpoints, with the points as control points, from the first to
 * the last point. A single point becomes a very short line, which round caps turn into a dot; some browsers, such as Chromium
 * 156, draw nothing for a line of zero length.
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

/** A stroke with an additional point, or the same stroke if the point is too close to the last one. */
export function extended(stroke: Stroke, point: Point): Stroke {
  const last = stroke[stroke.length - 1];
  return last && Math.hypot(point.x - last.x, point.y - last.y) < NEAREST ? stroke : [...stroke, point];
}

/** Convert a window position to units of a sheet with side `side`; it may be outside the sheet. */
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
