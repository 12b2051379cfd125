import { describe, expect, it } from "vitest";

import { GestureReader, type Pressed } from "./gestures";
import { viewAfter } from "./keyboard";
import { toPlane, whole, zoomOf } from "./view";

function reader(): { log: string[]; read: GestureReader } {
  const log: string[] = [];
  const say = (name: string) => (...values: unknown[]) => log.push([name, ...values.flat().map(String)].join(" "));
  const read = new GestureReader(
    {
      drag: say("drag"),
      dragged: say("dragged"),
      click: say("click"),
      undrag: say("undrag"),
      hover: (at) => {
        if (at) say("hover")(at);
      },
      pan: say("pan"),
      zoom: say("zoom"),
    },
    () => ({ left: 100, top: 50 }),
  );
  return { log, read };
}

function pointer(x: number, y: number, changes: Partial<Pressed> = {}): Pressed {
  const plain = { pointerId: 1, pointerType: "mouse", button: 0, shiftKey: false, timeStamp: 0 };
  return { ...plain, clientX: 100 + x, clientY: 50 + y, ...changes };
}

describe("gestures", () => {
  it("a press without movement is a click; the point moves on press", () => {
    const { log, read } = reader();
    read.down(pointer(10, 20));
    read.move(pointer(12, 21));
    read.up(pointer(12, 21));
    expect(log).toEqual(["drag 10 20", "dragged", "click 10 20"]);
  });

  it("a press with movement is a drag", () => {
    const { log, read } = reader();
    read.down(pointer(10, 20));
    read.move(pointer(30, 40));
    expect(read.dragging).toBe(true);
    read.up(pointer(30, 40));
    expect(log).toEqual(["drag 10 20", "drag 30 40", "dragged"]);
  });

  it("a mouse that is not pressed hovers, and the right button is ignored", () => {
    const { log, read } = reader();
    read.move(pointer(5, 6));
    expect(read.down(pointer(5, 6, { button: 2 }))).toBe(false);
    read.move(pointer(7, 8));
    expect(log).toEqual(["hover 5 6", "hover 7 8"]);
  });

  it("a drag with Shift pans", () => {
    const { log, read } = reader();
    read.down(pointer(10, 20, { shiftKey: true }));
    read.move(pointer(14, 17));
    read.up(pointer(14, 17));
    expect(log).toEqual(["pan 4 -3"]);
  });

  it("two fingers pan and zoom, and undo the drag of the first one", () => {
    const { log, read } = reader();
    const finger = (id: number, x: number, timeStamp = 0): Pressed => pointer(x, 0, { pointerId: id, pointerType: "touch", timeStamp });
    read.down(finger(1, 0));
    read.down(finger(2, 100, 80));
    read.move(finger(2, 200));
    read.up(finger(1, 0));
    read.move(finger(2, 260));
    read.up(finger(2, 260));
    expect(log).toEqual(["drag 0 0", "undrag", "dragged", "pan 50 0", "zoom 100 0 2"]);
  });

  it("a cancelled pointer is not a click", () => {
    const { log, read } = reader();
    read.down(pointer(10, 20));
    read.cancel(pointer(10, 20));
    expect(log).toEqual(["drag 10 20", "dragged"]);
  });

  it("a wheel zooms about the pointer, equally in pixels and lines", () => {
    const { log, read } = reader();
    read.wheel({ deltaY: -90, deltaMode: 0, clientX: 110, clientY: 60 });
    read.wheel({ deltaY: -3, deltaMode: 1, clientX: 110, clientY: 60 });
    expect(log[0]).toMatch(/^zoom 10 10 1\.2/);
    expect(log[1]).toBe(log[0]);
  });
});

describe("keys on the map", () => {
  const view = whole(400, 400);
  const key = (name: string, shiftKey = false) => ({ key: name, shiftKey, ctrlKey: false, metaKey: false, altKey: false });

  it("zoom about the point, pan with Shift, and show the whole map", () => {
    const near = viewAfter(key("+"), view, [1, 1]);
    expect(near && zoomOf(near)).toBeCloseTo(1.5);
    const moved = viewAfter(key("ArrowRight", true), view, [0, 0]);
    expect(moved && toPlane(moved, [200, 200])[0]).toBeGreaterThan(0.5);
    expect(near && viewAfter(key("Home"), near, [0, 0])).toEqual(view);
  });

  it("leave other keys to the page", () => {
    expect(viewAfter(key("ArrowRight"), view, [0, 0])).toBeNull();
    expect(viewAfter({ ...key("+"), ctrlKey: true }, view, [0, 0])).toBeNull();
  });
});
