/** Texts of the map: its directions, the values of the other axes, and the position of the point. */
import type { MapAxes } from "../../lib/latent";
import type { ModelFacts } from "../../lib/types";
import type { Point } from "./view";

const SUBSCRIPTS = "₀₁₂₃₄₅₆₇₈₉";

/** Name of an axis, such as z₁₂; axes are counted from 0, as in Python. */
export function axisName(axis: number): string {
  return `z${[...String(axis)].map((digit) => SUBSCRIPTS[Number(digit)] ?? digit).join("")}`;
}

export function signed(value: number, digits = 1): string {
  const text = Math.abs(value).toFixed(digits);
  return Number(text) === 0 ? text : `${value < 0 ? "−" : "+"}${text}`;
}

function rateOf(model: ModelFacts, axis: number): string {
  return model.stochastic ? ` (${(model.axes.rate[axis] ?? 0).toFixed(2)} nats)` : "";
}

/** "Horizontal: z₃ (1.91 nats), vertical: z₇ (1.72 nats)." */
export function directions(model: ModelFacts, axes: MapAxes): string {
  if (axes !== "principal") {
    return `Horizontal: ${axisName(axes[0])}${rateOf(model, axes[0])}, vertical: ${axisName(axes[1])}${rateOf(model, axes[1])}.`;
  }
  const share = 100 * (model.principal.explained[0] + model.principal.explained[1]);
  return share > 0 ? `Principal plane: ${share.toFixed(0)} % of the variance of the encoded images.` : "Principal plane.";
}

/** The values of the directions that the map does not show. */
export function otherAxes(model: ModelFacts, axes: MapAxes): string {
  const others = model.latent_dim - 2;
  if (others <= 0) return model.latent_dim === 1 ? "The model has one axis: vertical movement changes nothing." : "The model has no other axes.";
  const many = axes === "principal" ? "directions are" : "axes are";
  const one = axes === "principal" ? "direction is" : "axis is";
  return `The other ${others === 1 ? one : `${others} ${many}`} held at the current z.`;
}

/** Why the colours of the dots mix; "" for a model whose latent space also holds the label. */
export function mixing(model: ModelFacts): string {
  if (!model.conditional) return "";
  return "The colours mix because the decoder is given the label: z mainly holds the style, and all labels share the same points.";
}

export function placeInWords(axes: MapAxes, [u, v]: Point): string {
  const [first, second] = axes === "principal" ? ["1st", "2nd"] : [axisName(axes[0]), axisName(axes[1])];
  return `${first} ${signed(u)} σ, ${second} ${signed(v)} σ`;
}
