/** "Latest wins": of requests that come faster than they are answered, only the newest is kept. */

type Waiting<A, R> = { input: A; resolve: (result: R | null) => void; reject: (error: unknown) => void };

/** Calls back before the next picture, or soon where the page is not shown. */
export function nextFrame(then: () => void): void {
  if (typeof requestAnimationFrame === "function" && !document.hidden) requestAnimationFrame(then);
  else setTimeout(then, 16);
}

/**
 * `run` with at most one call in flight and one waiting, begun at most once an animation frame. A newer call takes the place of
 * the waiting one, whose promise resolves to null.
 */
export function latest<A, R>(
  run: (input: A) => Promise<R>,
  frame: (then: () => void) => void = nextFrame,
): (input: A) => Promise<R | null> {
  let busy = false;
  let begun = false; // in this frame
  let waiting: Waiting<A, R> | null = null;

  function next(): void {
    if (busy || begun || waiting === null) return;
    const { input, resolve, reject } = waiting;
    waiting = null;
    busy = begun = true;
    frame(() => {
      begun = false;
      next();
    });
    run(input)
      .then(resolve, reject)
      .finally(() => {
        busy = false;
        next();
      });
  }

  return (input) =>
    new Promise((resolve, reject) => {
      waiting?.resolve(null);
      waiting = { input, resolve, reject };
      next();
    });
}
