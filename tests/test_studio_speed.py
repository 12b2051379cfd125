"""Speed of the page, measured in the browser: opening, dragging, drawing, longest task, and memory leaks.

A limit that is missed is tried again, and the best of three tries counts, since the machine may be busy. Limits that depend on
the processor are relative to a reference computation in the same browser at the same time: if that takes twice as long, the page
may take twice as long, too.
"""

import statistics
import urllib.request
from collections.abc import Callable

import numpy as np
import pytest
from studio_page import CURRENT, MAP, SHEET, STRIP, Opener, Page, until

pytestmark = pytest.mark.browser

TRIES = 3
FRAME, PEN_TO_DIGITS = 33.0, 100.0
"""95th percentiles in milliseconds."""
FIRST_PICTURE, LIVE = 700.0, 1500.0
"""Milliseconds after opening."""
LONGEST_TASK = 200.0
STEPS = 500

YARDSTICK = """async () => {
  const work = `onmessage = ({data}) => {
    let x = data;
    for (let at = 0; at < 3e6; at++) x = Math.sqrt(x + at % 7);
    postMessage(x);
  }`;
  const worker = new Worker(URL.createObjectURL(new Blob([work])));
  const times = [];
  for (let at = 0; at < 30; at++) {
    await new Promise(done => setTimeout(done, 20));  // so that the worker sleeps in between, as the page's does
    const began = performance.now();
    await new Promise(done => { worker.onmessage = done; worker.postMessage(at); });
    times.push(performance.now() - began);
  }
  worker.terminate();
  return times;
}"""
QUICK = 10.0
"""Milliseconds of the reference computation up to which the limits apply unchanged.

The limits come from a machine on which the page opened in 294 to 373 ms. On the machine where the reference was first measured
(20 ms), the same page took 693 to 751 ms.
"""

WATCH = """
window.seen = {tasks: []};
new PerformanceObserver(list => list.getEntries().forEach(one => seen.tasks.push(one.duration)))
  .observe({type: 'longtask', buffered: true});
const copy = new OffscreenCanvas(28, 28).getContext('2d', {willReadFrequently: true});
const look = () => {  // in each frame: is there an image, and has it changed?
  const canvas = document.querySelector('[data-testid=current] canvas:not(.empty)');
  if (canvas) {
    copy.drawImage(canvas, 0, 0);
    const now = copy.getImageData(0, 0, 28, 28).data.join();
    if (new Set(copy.getImageData(0, 0, 28, 28).data).size > 4) {
      seen.first ??= [performance.now(), now];
      if (now !== seen.first[1]) seen.live ??= performance.now();
    }
  }
  if (!seen.live) requestAnimationFrame(look);
};
requestAnimationFrame(look);
"""


def best(tries: int, measure: Callable[[], float], limit: float) -> list[float]:
    """Measure until a value is within the limit or the tries are used up; return all values."""
    found: list[float] = []
    while len(found) < tries and (not found or min(found) > limit):
        found.append(measure())
    return found


def longest(page: Page) -> float:
    return max(page.page.evaluate("seen.tasks"), default=0.0)


def p95(values: list[float]) -> float:
    return float(np.percentile(values, 95))


def watched(opened: Opener, address: str) -> Page:
    """Open a page with animation, observed from the start."""
    page = opened("about:blank", reduced_motion="no-preference")
    page.address, page.local = address, address.startswith("file:")
    page.requests.clear()
    page.context.add_init_script(WATCH)
    page.open()
    return page


def slowness(opened: Opener) -> float:
    """How much slower this machine is now than the limits assume; at least 1."""
    page = opened("about:blank")
    times = page.page.evaluate(YARDSTICK)
    page.close()
    return max(1.0, statistics.median(times) / QUICK)


def test_opening(opened: Opener, served: str, note: Callable[[str], None]) -> None:
    tries: list[tuple[float, float, float]] = []

    def measure() -> float:
        slow = slowness(opened)
        page = watched(opened, served)
        first, live = until(
            lambda: page.page.evaluate("[seen.first?.[0], seen.live]"), lambda both: None not in both, 30
        )
        page.page.wait_for_timeout(1000)  # for the tiles and the grid
        tries.append((first / slow, live / slow, longest(page) / slow))
        note(f"opening on a machine {slow:.2f} times slower: {first:.0f}, {live:.0f}, {longest(page):.0f} ms")
        page.close()
        limits = (FIRST_PICTURE, LIVE, LONGEST_TASK)
        return max(time / limit for time, limit in zip(tries[-1], limits, strict=True))

    best(TRIES, measure, 1.0)
    first, live, task = (min(values) for values in zip(*tries, strict=True))
    note(
        f"opening, adjusted for speed: first picture {first:.0f} ms, live decoding {live:.0f} ms, longest task {task:.0f} ms"
    )
    assert first <= FIRST_PICTURE
    assert live <= LIVE
    assert task <= LONGEST_TASK


FRAMES = """async () => {
  const strip = document.querySelector("[aria-label='The same point with every label'] canvas");
  const copy = new OffscreenCanvas(28, 28).getContext('2d', {willReadFrequently: true});
  const times = [], pictures = new Set();
  window.dragging = true;
  window.frames = new Promise(done => {
    const next = now => {
      times.push(now);
      copy.drawImage(strip, 0, 0);
      let sum = 0;
      copy.getImageData(0, 0, 28, 28).data.forEach((value, at) => (sum = (31 * sum + value) % 1000003));
      pictures.add(sum);
      if (window.dragging) requestAnimationFrame(next);
      else done([times.slice(1).map((time, at) => time - times[at]), pictures.size]);
    };
    requestAnimationFrame(next);
  });
}"""


def test_500_steps_of_a_drag(opened: Opener, served: str, note: Callable[[str], None]) -> None:
    page = watched(opened, served).ready()
    page.page.wait_for_timeout(1500)
    figures: list[str] = []
    tries: list[tuple[float, float]] = []
    angles = np.linspace(0, 8 * np.pi, STEPS)
    radii = np.linspace(0.3, 2.0, STEPS)
    path = [page.at((r * np.cos(a), r * np.sin(a))) for a, r in zip(angles, radii, strict=True)]

    def measure() -> float:
        page.page.evaluate("seen.tasks.length = 0")
        page.page.mouse.move(*path[0])
        page.page.mouse.down()
        page.page.evaluate(FRAMES)
        for point in path[1:]:
            page.page.mouse.move(*point)
        frames, pictures = page.page.evaluate("(window.dragging = false, window.frames)")
        page.page.mouse.up()
        assert len(frames) >= 100
        assert pictures >= len(frames) / 4, f"{pictures} pictures in {len(frames)} frames"  # it decodes during the drag
        figures.append(
            f"p50 {statistics.median(frames):.1f}, p95 {p95(frames):.1f}, worst {max(frames):.0f} ms, "
            f"{len(frames)} frames, {pictures} pictures, longest task {longest(page):.0f} ms"
        )
        tries.append((p95(frames), longest(page)))
        return max(tries[-1][0] / FRAME, tries[-1][1] / LONGEST_TASK)

    best(TRIES, measure, 1.0)
    note(f"{STEPS} steps of a drag over {10_000:,} dots: {'; '.join(figures)}")
    frame, task = min(tries, key=lambda pair: max(pair[0] / FRAME, pair[1] / LONGEST_TASK))
    assert frame <= FRAME
    assert task <= LONGEST_TASK


PEN = """() => {
  const strip = [...document.querySelectorAll("[aria-label='The same point with every label'] canvas")];
  const copy = new OffscreenCanvas(280, 28).getContext('2d', {willReadFrequently: true});
  const shown = () => {
    strip.forEach((canvas, at) => copy.drawImage(canvas, 28 * at, 0));
    return copy.getImageData(0, 0, 280, 28).data.join();
  };
  window.late = [];
  let before = shown(), since = null;
  addEventListener('pointermove', event => { if (event.buttons) since ??= event.timeStamp; }, true);
  const next = () => {
    const now = shown();
    if (now !== before && since !== null) {
      late.push(performance.now() - since);
      since = null;
    }
    before = now;
    requestAnimationFrame(next);
  };
  requestAnimationFrame(next);
}"""


def test_from_the_pen_to_ten_digits(opened: Opener, served: str, note: Callable[[str], None]) -> None:
    """Each move of the pen waits until the ten images have been updated."""
    page = watched(opened, served).ready()
    box = page.box(SHEET)
    figures: list[str] = []

    def measure() -> float:
        page.page.keyboard.press("c")
        page.page.wait_for_timeout(300)
        slow = slowness(opened)
        page.page.evaluate(PEN) if not figures else page.page.evaluate("late.length = 0")
        mouse = page.page.mouse
        mouse.move(box["x"] + 0.35 * box["width"], box["y"] + 0.15 * box["height"])
        mouse.down()
        page.page.wait_for_timeout(300)
        for step in range(1, 41):
            angle = 1.8 * np.pi * step / 40
            count = page.page.evaluate("late.length")
            mouse.move(
                box["x"] + (0.5 + 0.3 * np.sin(angle - 0.6)) * box["width"],
                box["y"] + (0.5 - 0.35 * np.cos(angle - 0.6)) * box["height"],
            )
            until(lambda count=count: page.page.evaluate("late.length"), lambda now, count=count: now > count)
        mouse.up()
        late = page.page.evaluate("late")
        assert len(late) >= 40
        figures.append(
            f"p50 {statistics.median(late):.0f}, p95 {p95(late):.0f}, worst {max(late):.0f} ms, {slow:.2f} times slower"
        )
        return p95(late) / slow

    found = best(TRIES, measure, PEN_TO_DIGITS)
    note(f"pen to ten digits, 40 moves: {'; '.join(figures)}")
    assert min(found) <= PEN_TO_DIGITS


DRAGS = """async ([query, count]) => {
  const map = document.querySelector(query);
  const box = map.getBoundingClientRect();
  const send = (kind, x, y, buttons) => map.dispatchEvent(new PointerEvent(kind, {
    pointerId: 1, pointerType: 'mouse', isPrimary: true, bubbles: true, cancelable: true, button: 0, buttons,
    clientX: box.left + x * box.width, clientY: box.top + y * box.height,
  }));
  for (let at = 0; at < count; at++) {
    const angle = at / 7;
    const [x, y] = [0.5 + 0.3 * Math.cos(angle), 0.5 + 0.3 * Math.sin(1.3 * angle)];
    send('pointerdown', x, y, 1);
    send('pointermove', x + 0.05, y, 1);
    send('pointermove', x + 0.05, y + 0.05, 1);
    send('pointerup', x + 0.05, y + 0.05, 0);
    if (at % 20 === 19) await new Promise(done => requestAnimationFrame(done));
  }
}"""


def test_no_memory_leak_in_10000_drags(opened: Opener, served: str, note: Callable[[str], None]) -> None:
    page = opened(served).ready()
    session = page.context.new_cdp_session(page.page)

    def heap() -> tuple[float, int, int]:
        """Bytes in use after garbage collection, nodes, and listeners."""
        page.page.wait_for_timeout(700)
        for _ in range(3):
            session.send("HeapProfiler.collectGarbage")
        counts = session.send("Memory.getDOMCounters")
        return session.send("Runtime.getHeapUsage")["usedSize"], counts["nodes"], counts["jsEventListeners"]

    before = page.grey(STRIP)
    page.page.evaluate(DRAGS, [MAP, 10_000])  # warm-up: compiled code takes some 0.3 MB
    assert not np.array_equal(page.grey(STRIP), before)
    began, *things = heap()
    page.page.evaluate(DRAGS, [MAP, 10_000])
    ended, *things_now = heap()
    note(f"heap: {began / 1e6:.2f} MB before and {ended / 1e6:.2f} MB after 10,000 drags ({ended / began - 1:+.1%})")
    assert ended <= 1.05 * began
    assert things_now == things
    assert page.page.locator(CURRENT).count() == 1


def test_the_security_policy_is_enforced(opened: Opener, served: str) -> None:
    with urllib.request.urlopen(served) as answer:
        policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "unsafe-inline" not in policy
    assert "'unsafe-eval'" not in policy
    page = opened(served, "view=story&step=2")
    page.page.locator(".stage canvas").first.wait_for()
    broken = page.page.evaluate(
        "new Promise(done => { addEventListener('securitypolicyviolation', event => done(event.violatedDirective));"
        " const script = document.createElement('script'); script.textContent = '1'; document.body.append(script); })"
    )
    assert broken.startswith("script-src")
    until(lambda: len(page.messages), lambda count: count == 1)
    assert "Content Security Policy" in page.messages.pop()
