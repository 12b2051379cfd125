/** "Latest wins": while a request is in flight, only the newest of the others is kept. */

type Waiting<A, R> = { input: A; resolve: (result: R | null) => void; reject: (error: unknown) => void };

/** Call `then` before the next frame, or after 16 ms if the page is hidden. */
function nextFrame(then: () => void): void {
  if (typeof requestAnimationFrame === "function" && !document.hidden) requestAnimationFrame(then);
  else setTimeout(then, 16);
}

/**
 * Wrap `run` so that at most one call is in flight and one waits, and at most one starts per animation frame. A newer call
 * replaces the waiting one, whose promise resolves to null.
 */
export function latest<A, R>(
  run: (input: A) => Promise<R>,
  frame: (then: () => void) => void = nextFrame,
): (input: A) => Promise<R | null> {
  let busy = false;
  let begun = false; // whether a call has started in this frame
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
