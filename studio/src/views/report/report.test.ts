import { describe, expect, it } from "vitest";
import { best, lines, merged } from "./curve";
import { duration, fixed, moment, rounded } from "./format";
import { BEGINNING, followed, messageIn } from "./live";
import { readReport } from "./report";
import { apart, logTicks, nearest, pathOf, place, scaleOf, ticks, timeTicks } from "./scale";

describe("figures", () => {
  it("have as many digits as their error justifies, as in Python", () => {
    expect(rounded(75.0819, 0.7028)).toBe("75.08 ± 0.70");
    expect(rounded(5.2466, 0.0631)).toBe("5.247 ± 0.063");
    expect(rounded(12345.6, 78.9)).toBe("12,346 ± 79");
    expect(rounded(12345.6, 789)).toBe("12,350 ± 790");
    expect(rounded(-0.01, 0.3)).toBe("−0.01 ± 0.30");
    expect(rounded(0.5, 0)).toBe("0.500 ± 0");
    expect(rounded(1e-9, 2e-10)).toBe("1.000·10⁻⁹ ± 2.0·10⁻¹⁰");
  });

  it("without an error have four digits, integers no decimal places", () => {
    expect([10000, 0.14012, 76.147, -2.5, 1234.56, 0.000012345, 3e9].map((value) => rounded(value))).toEqual([
      "10,000", "0.140", "76.15", "−2.500", "1,235", "1.23·10⁻⁵", "3.000·10⁹",
    ]);
    expect([rounded(null), rounded(NaN), rounded(-Infinity)]).toEqual(["–", "–", "−∞"]);
    expect([fixed(-0.001, 2), fixed(0, -1), fixed(1250.4, 1)]).toEqual(["0.00", "0", "1,250.4"]);
  });

  it("of time are formatted as times", () => {
    expect([0, 59.4, 60, 200, 3600, 7500].map(duration)).toEqual(["0 s", "59 s", "1 min", "3 min 20 s", "1 h", "2 h 5 min"]);
    expect(moment("2026-05-03T14:05:59+00:00")).toBe("3 May 2026, 14:05 UTC");
    expect(moment("yesterday")).toBe("yesterday");
  });
});

describe("a scale", () => {
  it("has round ticks", () => {
    expect(ticks(0, 10, 5)).toEqual([0, 2, 4, 6, 8, 10]);
    expect(ticks(97.2, 120.4, 4)).toEqual([100, 110, 120]);
    expect(ticks(-0.03, 0.31, 3)).toEqual([0, 0.2]);
    expect(ticks(3, 3, 4)).toEqual([3]);
    expect(timeTicks(10, 215, 5)).toEqual([60, 120, 180]);
    expect(timeTicks(0, 0.8, 4)).toEqual([0, 0.2, 0.4, 0.6, 0.8]);
    expect(logTicks(1, 500, 12)).toEqual([1, 2, 5, 10, 20, 50, 100, 200, 500]);
    expect(logTicks(1, 500, 4)).toEqual([1, 10, 100]);
  });

  it("contains its values with a margin, and positions them", () => {
    const scale = scaleOf([10, NaN, 30]);
    expect(scale).toEqual({ from: 9, to: 31, log: false });
    expect(place(scale, 20)).toBeCloseTo(0.5);
    expect(place(scaleOf([7], { air: 0 }), 7)).toBe(0.5);
    expect(scaleOf([5, 5]).from).toBeLessThan(5);
    expect(scaleOf([])).toEqual({ from: 0, to: 1, log: false });
    expect(place(scaleOf([0, 1, 100], { log: true }), 10)).toBeCloseTo(0.5);
  });

  it("finds the value nearest to the pointer", () => {
    expect([nearest([0, 10, 20], 14), nearest([0, 10, 20], 16), nearest([], 3)]).toEqual([1, 2, -1]);
  });

  it("has a gap where a value is missing", () => {
    expect(pathOf([[0, 1], [1, NaN], [2, 3], [4, 5]])).toBe("M0.0 1.0M2.0 3.0L4.0 5.0");
  });

  it("separates names that would overlap", () => {
    expect(apart([50, 52], 16, 200)).toEqual([50, 66]);
    expect(apart([199, 195], 16, 200)).toEqual([200, 184]);
  });
});

const line = (step: number, nats: number | null) => ({
  step, epoch: step / 10, seconds: step * 2, train: { nats: nats === null ? null : nats + 1, distortion: 1, rate: 2 },
  validation: nats === null ? null : { nats, distortion: 1, rate: 2 },
});

describe("the curves", () => {
  const metrics = merged([line(20, 90), line(10, 100), "broken", { step: "x" }, line(20, 88), line(30, 89)]);

  it("contain each step once, in order; the last line counts", () => {
    expect(metrics.map((one) => [one.step, one.validation?.nats])).toEqual([[10, 100], [20, 88], [30, 89]]);
  });

  it("are drawn over time or steps, without missing values", () => {
    expect(lines(metrics, "seconds")[0]).toEqual({ name: "validation", x: [20, 40, 60], y: [100, 88, 89] });
    expect(lines(metrics, "step")[1]).toEqual({ name: "training", x: [10, 20, 30], y: [101, 89, 90] });
    expect(lines(merged([line(1, null)]), "step")).toEqual([]);
  });

  it("find the best step", () => {
    expect(best(metrics)?.step).toBe(20);
    expect(best([])).toBeNull();
  });
});

describe("a training that is followed", () => {
  it("receives metrics, the time left and samples", () => {
    let live = followed(BEGINNING, "metrics", JSON.stringify({ ...line(10, 100), seconds_left: 42.4 }));
    live = followed(live, "metrics", JSON.stringify({ ...line(20, 90), seconds_left: null }));
    live = followed(live, "samples", JSON.stringify({ url: "live/12.png", step: 20 }));
    expect(live.metrics).toHaveLength(2);
    expect(live.secondsLeft).toBeNull();
    expect(live.samples).toEqual({ url: "live/12.png", step: 20 });
    expect(followed(live, "done", "")).toMatchObject({ finished: true, secondsLeft: 0 });
  });

  it("receives the reason of a problem, or that there is none", () => {
    expect(messageIn(JSON.stringify({ message: "runs/a: moved" }), "message")).toBe("runs/a: moved");
    for (const data of ["{", "3", "{}", JSON.stringify({ message: null }), JSON.stringify({ message: 7 })]) {
      expect(messageIn(data, "message")).toBeNull();
    }
  });

  it("ignores invalid events and addresses on other hosts", () => {
    expect(followed(BEGINNING, "metrics", "{")).toBe(BEGINNING);
    expect(followed(BEGINNING, "metrics", "3")).toBe(BEGINNING);
    for (const url of ["https://elsewhere/x.png", "live/../x.png/y", "//elsewhere/1.png", 7]) {
      expect(followed(BEGINNING, "samples", JSON.stringify({ url, step: 1 })).samples).toBeNull();
    }
  });
});

describe("a report", () => {
  const json = {
    schema: 1, vaelab: "0.1.0", made: "2026-11-22T20:02:12+00:00", settings: { quick: true, seed: 0 },
    model: { kind: "cvae", latent_dim: 7, weights: 686622 },
    data: { name: "strokes", split: "test", images: 10000, protocol: "Likelihood bernoulli." },
    run: { network: "mlp", trained_for: "20 epochs" },
    sections: {
      likelihood: {
        title: "Likelihood", words: ["So many nats."], left_out: "",
        quantities: {
          bound: {
            key: "bound", name: "bound, K = 50", value: 75.0819, unit: "nats per image", definition: "An upper bound.",
            error: 0.7028, count: 1000, better: "lower", beside: [["real images", 70.5]],
          },
          gone: { key: "gone", name: "gone", value: null, unit: "%", definition: "", error: null, count: null, better: "", beside: [] },
        },
        plots: {
          curve: { kind: "Lines", title: "Over K", x_label: "K", y_label: "nats", log_x: true, series: [{ name: "bound", x: [1, 2], y: [3, null] }] },
          sheet: { kind: "Sheet" },
        },
      },
      transfer: { title: "Transfer", words: [], left_out: "It takes long.", quantities: {}, plots: {} },
    },
  };

  it("is parsed into rows", () => {
    const page = readReport(JSON.stringify(json));
    const [first, second] = page.chapters;
    expect(first?.rows[0]).toEqual({
      key: "bound", name: "bound, K = 50", value: "75.08", error: "0.70", unit: "nats per image", definition: "An upper bound.",
      better: "lower is better", count: "1,000", beside: [["real images", "70.50"]],
    });
    expect(first?.rows[1]).toMatchObject({ value: "–", error: "", better: "", count: "" });
    expect(first?.lines[0]).toMatchObject({ title: "Over K", logX: true });
    expect(first?.lines[0]?.series[0]?.y[1]).toBeNaN();
    expect(second?.leftOut).toBe("It takes long.");
    expect(page.main.map((one) => one.row.key)).toEqual(["bound"]);
    expect(page.quick).toBe(true);
    expect(page.facts[0]).toEqual(["Model", "conditional variational autoencoder, mlp, 7 latent dimensions, 686,622 parameters"]);
    expect(page.facts.at(-1)?.[1]).toBe("22 November 2026, 20:02 UTC with vaelab 0.1.0");
  });

  it("that is invalid or has a later schema is rejected", () => {
    expect(() => readReport("nonsense")).toThrow("not readable");
    expect(() => readReport(JSON.stringify({ ...json, schema: 2 }))).toThrow("schema 2; this page reads 1");
    expect(() => readReport("[]")).toThrow("schema none");
  });

  it("with missing parts is shown without them", () => {
    const page = readReport(JSON.stringify({ schema: 1, sections: { odd: { quantities: { a: { value: 3 } }, plots: null } } }));
    expect(page.chapters[0]).toMatchObject({ title: "odd", leftOut: "", lines: [] });
    expect(page.chapters[0]?.rows[0]).toMatchObject({ name: "a", value: "3" });
  });
});
