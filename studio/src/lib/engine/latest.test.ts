/** While a request is in flight, only the newest of the others is kept, and no frame starts two. */
import { expect, test } from "vitest";

import { latest } from "./latest";

/** A worker and animation frames that the test controls. */
function bench() {
  const begun: number[] = [];
  const answers: (() => void)[] = [];
  const frames: (() => void)[] = [];
  const ask = latest(
    (input: number) =>
      new Promise<number>((resolve) => {
        begun.push(input);
        answers.push(() => resolve(input * 10));
      }),
    (then) => frames.push(then),
  );
  const settle = async (): Promise<void> => new Promise((resolve) => setTimeout(resolve));
  return {
    begun,
    ask,
    settle,
    answer: async () => {
      answers.shift()?.();
      await settle();
    },
    frame: () => frames.shift()?.(),
  };
}

test("the first request starts at once; of the waiting ones only the newest runs", async () => {
  const { begun, ask, answer, frame } = bench();
  const all = [1, 2, 3, 4].map((input) => ask(input));
  expect(begun).toEqual([1]);
  frame();
  await answer();
  expect(begun).toEqual([1, 4]);
  await answer();
  expect(await Promise.all(all)).toEqual([10, null, null, 40]);
});

test("a frame starts at most one request, however fast the answers are", async () => {
  const { begun, ask, answer, frame } = bench();
  void ask(1);
  await answer();
  void ask(2);
  void ask(3);
  expect(begun).toEqual([1]);
  frame();
  expect(begun).toEqual([1, 3]);
});

test("a failure rejects its own promise, and the next request still runs", async () => {
  const ask = latest(
    (input: number) => (input === 1 ? Promise.reject(new Error("no")) : Promise.resolve(input)),
    (then) => setTimeout(then),
  );
  const first = ask(1);
  const second = ask(2);
  await expect(first).rejects.toThrow("no");
  expect(await second).toBe(2);
});
