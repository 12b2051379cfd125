import { describe, expect, it } from "vitest";

import { drawOf } from "../../lib/latent";
import { rgba } from "../../lib/pixels";
import { normal } from "../../lib/rng";
import { model } from "../map/fixture";
import { pageOfDraws, tempered } from "./draws";
import { pageRange } from "./pages";
import { enlarged, fileName, pointAsText } from "./save";

describe("the grid's points", () => {
  const given = Array.from({ length: 10 }, (_, column) => [column, 0, 0, 0, 1]);

  it("start with those of the precomputed picture, then use the seeds", () => {
    const first = pageOfDraws(model(), given, 0, 10, 1);
    expect(first.every(({ seed }) => seed === null)).toBe(true);
    expect([...(first[7]?.z ?? [])]).toEqual([7, 0, 0, 0, 1]);
    const second = pageOfDraws(model(), given, 1, 10, 1);
    expect(second.map(({ seed }) => seed)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    expect(second[2]?.z).toEqual(normal(3, 5));
  });

  it("use seeds where a page is longer than the given points", () => {
    const page = pageOfDraws(model(), given, 0, 40, 1);
    expect(page[9]?.seed).toBeNull();
    expect(page[10]?.seed).toBe(1);
    expect(pageOfDraws(model(), given, 1, 40, 1)[0]?.seed).toBe(31);
  });

  it("ignore points with the length of another model", () => {
    expect(pageOfDraws(model(), [[1, 2]], 0, 10, 1)[0]?.seed).toBe(1);
  });

  it("are scaled by the temperature about the centre", () => {
    const ae = model({ stochastic: false });
    expect([...drawOf(ae, 1, 0)]).toEqual([1, 2, 3, 4, 5]);
    expect([...tempered(ae, [3, 2, 3, 4, 7], 0.5)]).toEqual([2, 2, 3, 4, 6]);
    expect(drawOf(model(), 2, 0.5)).toEqual(normal(2, 5).map((value) => value / 2));
  });
});

describe("the pages of the axes", () => {
  it("contain every axis once", () => {
    expect([0, 1, 2].map((page) => pageRange(page, 8, 17))).toEqual(["1–8", "9–16", "17"]);
    expect(pageRange(1, 8, 12)).toBe("9–12");
  });
});

describe("a saved picture", () => {
  it("is enlarged pixel by pixel", () => {
    const shape: [number, number, number] = [1, 1, 2];
    const large = enlarged(rgba(Float32Array.of(0, 1), 0, shape), shape, 3);
    expect(large.length).toBe(4 * 6 * 3);
    const grey = Array.from({ length: 18 }, (_, i) => large[4 * i]);
    expect(grey).toEqual([0, 0, 0, 255, 255, 255, 0, 0, 0, 255, 255, 255, 0, 0, 0, 255, 255, 255]);
  });

  it("has a file name that is valid on every system", () => {
    expect(fileName(["demo", "<img onerror=alert(1)>", "8x"], "png")).toBe("demo-img-onerror-alert-1-8x.png");
    expect(fileName(["..", "/"], "png")).toBe("vaelab.png");
  });
});

describe("a copied point", () => {
  it("is JSON whose numbers restore the same float32", () => {
    const z = normal(9, 50);
    const point = JSON.parse(pointAsText("cvae", "3", z)) as { model: string; label: string; z: number[] };
    expect([point.model, point.label]).toEqual(["cvae", "3"]);
    expect(Float32Array.from(point.z)).toEqual(z);
    expect(pointAsText("vae", null, Float32Array.of(0.1))).toBe('{"model": "vae", "label": null, "z": [0.1]}');
  });
});
