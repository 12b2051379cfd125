import { describe, expect, it } from "vitest";
import { cropped, fitted, greyOf, planesOf } from "./file";
import { paint, PEN, SHEET, type Pen } from "./ink";
import { likeliest, percent, shareBelow, strip, surpriseWords } from "./reading";
import { DOT, extended, onSheet, smooth } from "./strokes";

describe("strokes", () => {
  it("turn three points of a fast stroke into one connected line from the first to the last", () => {
    const path = smooth([{ x: 0, y: 0 }, { x: 100, y: 0 }, { x: 100, y: 100 }]);
    expect(path.map((piece) => piece.kind)).toEqual(["move", "curve", "line"]);
    expect(path[1]).toEqual({ kind: "curve", control: { x: 100, y: 0 }, to: { x: 100, y: 50 } });
    expect(path[2]).toEqual({ kind: "line", to: { x: 100, y: 100 } });
  });

  it("turn a tap into a dot: a very short line", () => {
    const at = { x: 7, y: 9 };
    expect(smooth([at])).toEqual([{ kind: "move", to: at }, { kind: "line", to: { x: 7 + DOT, y: 9 } }]);
    expect(smooth([])).toEqual([]);
  });

  it("do not add a point twice", () => {
    const stroke = [{ x: 1, y: 1 }];
    expect(extended(stroke, { x: 1.2, y: 1 })).toBe(stroke);
    expect(extended(stroke, { x: 3, y: 1 })).toHaveLength(2);
  });

  it("convert pointer positions on a scaled sheet, and outside of it", () => {
    const shown = { left: 20, top: 10, width: 140, height: 140 };
    expect(onSheet(90, 80, shown, 280)).toEqual({ x: 140, y: 140 });
    expect(onSheet(0, 0, shown, 280)).toEqual({ x: -40, y: -20 });
  });
});

describe("ink", () => {
  it("is drawn on white paper with a round pen, one path per stroke", () => {
    const calls: string[] = [];
    const note = (name: string) => (...values: number[]) => void calls.push([name, ...values].join(" "));
    const pen = {
      beginPath: note("begin"), moveTo: note("move"), lineTo: note("line"), quadraticCurveTo: note("curve"),
      stroke: note("stroke"), fillRect: note("fill"), fillStyle: "", strokeStyle: "", lineWidth: 0, lineCap: "butt",
      lineJoin: "miter",
    } as unknown as Pen;
    paint(pen, [[{ x: 5, y: 5 }], [{ x: 0, y: 0 }, { x: 10, y: 0 }]]);
    expect(calls).toEqual([
      `fill 0 0 ${SHEET} ${SHEET}`, "begin", "move 5 5", `line ${5 + DOT} 5`, "stroke", "begin", "move 0 0", "line 10 0", "stroke",
    ]);
    expect([pen.lineWidth, pen.lineCap, pen.lineJoin]).toEqual([PEN, "round", "round"]);
  });
});

describe("a reading", () => {
  it("lists the most probable labels first", () => {
    expect(likeliest([0.1, 0.6, 0.1, 0.2], 3).map((one) => one.label)).toEqual([1, 3, 0]);
  });

  it("shows certainty only for 0 and 1", () => {
    expect([1, 0.9999, 0.837, 0.004, 0].map(percent)).toEqual(["100 %", "> 99 %", "84 %", "< 1 %", "0 %"]);
  });

  it("ranks its surprise among the test images", () => {
    const quantiles = [10, 20, 40, 80, 160];
    expect([5, 10, 20, 30, 160, 999].map((nats) => shareBelow(quantiles, nats))).toEqual([0, 0, 0.25, 0.375, 1, 1]);
    expect(shareBelow([3, 3, 3], 3)).toBe(0);
    expect(shareBelow([], 3)).toBeNaN();
    expect(surpriseWords(quantiles, 30)).toBe("more than 38 % of test images");
    expect(surpriseWords(quantiles, 500)).toBe("more than every test image: the label means little then");
  });

  it("is drawn on a strip extended by up to half its range", () => {
    expect(strip([0, 50, 100], 120)).toMatchObject({ from: 0, to: 120, mark: 1, beyond: false });
    expect(strip([0, 50, 100], 900)).toMatchObject({ to: 150, mark: 1, beyond: true });
    expect(strip([0, 50, 100], 25).ticks).toEqual([0, 0.5, 1]);
  });
});

describe("a file", () => {
  it("is read at 512 pixels at most, with its own aspect ratio", () => {
    expect(fitted(2048, 1024)).toEqual({ width: 512, height: 256 });
    expect(fitted(100, 30)).toEqual({ width: 100, height: 30 });
    expect(fitted(5000, 1)).toEqual({ width: 512, height: 1 });
  });

  it("is cropped to the centre for a model with another aspect ratio", () => {
    expect(cropped(200, 100, [32, 32])).toEqual({ x: 50, y: 0, width: 100, height: 100 });
    expect(cropped(100, 100, [10, 20])).toEqual({ x: 0, y: 25, width: 100, height: 50 });
  });

  it("is converted to grey on white, as in Pillow", () => {
    expect([...greyOf(new Uint8ClampedArray([255, 0, 0, 255, 0, 255, 0, 255, 9, 9, 9, 0]))]).toEqual([76, 150, 255]);
  });

  it("becomes planes of values 0 to 1", () => {
    const rgba = new Uint8ClampedArray([255, 51, 0, 255, 0, 0, 255, 255]);
    expect([...planesOf(rgba, 3)].map((value) => +value.toFixed(3))).toEqual([1, 0, 0.2, 0, 0, 1]);
    expect(planesOf(rgba, 1)).toHaveLength(2);
  });
});
