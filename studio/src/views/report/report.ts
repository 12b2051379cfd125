/** Reads `report.json`, which docs/report.md specifies. Parts that do not follow the specification are ignored. */
import { parseShown } from "../../lib/printable";
import { fixed, moment, rounded } from "./format";

const SCHEMA = 1;

export interface Row {
  key: string;
  name: string;
  value: string;
  error: string;
  unit: string;
  definition: string;
  better: string;
  count: string;
  beside: [string, string][];
}

export interface LinesPlot {
  title: string;
  xLabel: string;
  yLabel: string;
  logX: boolean;
  series: { name: string; x: number[]; y: number[] }[];
}

export interface BarsPlot {
  title: string;
  xLabel: string;
  yLabel: string;
  names: string[];
  values: number[];
  marked: number[];
}

export interface Chapter {
  key: string;
  title: string;
  words: string[];
  leftOut: string;
  rows: Row[];
  lines: LinesPlot[];
  bars: BarsPlot[];
}

export interface ReportPage {
  quick: boolean;
  facts: [string, string][];
  main: { chapter: string; row: Row }[];
  chapters: Chapter[];
}

/** The metrics at the top; of several alternatives, the first available one is shown. */
const MAIN: readonly (readonly string[])[] = [
  ["likelihood bound", "likelihood distortion"],
  ["latent active_units"],
  ["agreement agreement"],
  ["transfer train_on_generated"],
  ["leakage dense_probe"],
  ["samples fid", "random_points random_fid"],
];

const KINDS: Record<string, string> = {
  ae: "autoencoder",
  vae: "variational autoencoder",
  cvae: "conditional variational autoencoder",
};

type Json = Record<string, unknown>;

const object = (value: unknown): Json =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Json) : {};
const text = (value: unknown): string => (typeof value === "string" ? value : "");
const list = (value: unknown): unknown[] => (Array.isArray(value) ? (value as unknown[]) : []);
const number = (value: unknown): number | null => (typeof value === "number" ? value : null);
const numbers = (value: unknown): number[] => list(value).map((one) => number(one) ?? NaN);
const texts = (value: unknown): string[] => list(value).map(text);

/** Parse a report; throws with a readable message if it is invalid or has an unknown schema. */
export function readReport(json: string): ReportPage {
  let report: Json;
  try {
    report = object(parseShown(json));
  } catch {
    throw new Error("The report of this run is not readable: expected the JSON file that vaelab evaluate writes.");
  }
  const schema = number(report["schema"]);
  if (schema === null || schema > SCHEMA) {
    throw new Error(`The report has schema ${schema ?? "none"}; this page reads ${SCHEMA}. Write a new report with vaelab evaluate RUN.`);
  }
  const chapters = Object.entries(object(report["sections"])).map(([key, section]) => chapterOf(key, object(section)));
  return { quick: object(report["settings"])["quick"] === true, facts: factsOf(report), main: mainOf(chapters), chapters };
}

function chapterOf(key: string, section: Json): Chapter {
  const plots = Object.values(object(section["plots"])).map(object);
  const ofKind = (kind: string): Json[] => plots.filter((plot) => plot["kind"] === kind);
  return {
    key,
    title: text(section["title"]) || key,
    words: texts(section["words"]),
    leftOut: text(section["left_out"]),
    rows: Object.entries(object(section["quantities"])).map(([name, quantity]) => rowOf(name, object(quantity))),
    lines: ofKind("Lines").map(linesOf),
    bars: ofKind("Bars").map(barsOf),
  };
}

function rowOf(key: string, one: Json): Row {
  const [value = "", error = ""] = rounded(number(one["value"]), number(one["error"])).split(" ± ");
  const unit = text(one["unit"]);
  const count = number(one["count"]);
  return {
    key,
    name: text(one["name"]) || key,
    value,
    error,
    unit,
    definition: text(one["definition"]),
    better: text(one["better"]) && `${text(one["better"])} is better`,
    count: count === null ? "" : fixed(count, 0),
    beside: list(one["beside"]).map((pair) => {
      const [name, figure] = list(pair);
      return [text(name), rounded(number(figure)) + (unit === "%" ? " %" : "")];
    }),
  };
}

function linesOf(plot: Json): LinesPlot {
  return {
    title: text(plot["title"]),
    xLabel: text(plot["x_label"]),
    yLabel: text(plot["y_label"]),
    logX: plot["log_x"] === true,
    series: list(plot["series"])
      .map(object)
      .map((one) => ({ name: text(one["name"]), x: numbers(one["x"]), y: numbers(one["y"]) })),
  };
}

function barsOf(plot: Json): BarsPlot {
  return {
    title: text(plot["title"]),
    xLabel: text(plot["x_label"]),
    yLabel: text(plot["y_label"]),
    names: texts(plot["names"]),
    values: numbers(plot["values"]),
    marked: numbers(plot["marked"]),
  };
}

function mainOf(chapters: readonly Chapter[]): { chapter: string; row: Row }[] {
  const known = new Map<string, { chapter: string; row: Row }>(
    chapters.flatMap((one) => one.rows.map((row) => [`${one.key} ${row.key}`, { chapter: one.key, row }])),
  );
  return MAIN.flatMap((alternatives) => {
    const found = alternatives.find((key) => known.has(key));
    const entry = found === undefined ? undefined : known.get(found);
    return entry ? [entry] : [];
  });
}

function factsOf(report: Json): [string, string][] {
  const [model, data, run] = [object(report["model"]), object(report["data"]), object(report["run"])];
  const settings = object(report["settings"]);
  const count = (value: unknown): string => rounded(number(value));
  const facts: [string, string][] = [
    [
      "Model",
      [
        KINDS[text(model["kind"])] ?? text(model["kind"]),
        text(run["network"]),
        `${count(model["latent_dim"])} latent dimensions`,
        `${count(model["weights"])} parameters`,
      ]
        .filter(Boolean)
        .join(", "),
    ],
    ["Evaluated on", `${count(data["images"])} ${text(data["split"])} images of ${text(data["name"])}`],
    ["Protocol", text(data["protocol"])],
    ["Training budget", text(run["trained_for"])],
    ["Settings", `seed ${count(settings["seed"])}${settings["quick"] === true ? ", quick" : ""}`],
    ["Written", `${moment(text(report["made"]))} with vaelab ${text(report["vaelab"])}`],
  ];
  return facts.filter(([, value]) => value.trim() !== "");
}
