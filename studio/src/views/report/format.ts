/** Format numbers with as many digits as their error justifies, as in src/vaelab/evaluation/formatting.py, and times. */

const SIGNIFICANT = 4;

/** A value, followed by ± and its standard error with two significant digits if given; a dash for null. */
export function rounded(value: number | null, error: number | null = null): string {
  if (value === null || Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  if (error === null || !Number.isFinite(error)) return plain(value);
  if (error <= 0) return `${plain(value)} ± 0`;
  const places = 1 - exponent(error, 2);
  if (places > 7) return `${power(value, SIGNIFICANT)} ± ${power(error, 2)}`;
  return `${fixed(value, places)} ± ${fixed(error, places)}`;
}

/** The decimal exponent of a value rounded to so many significant digits. */
function exponent(value: number, digits: number): number {
  return Number(value.toExponential(digits - 1).split("e")[1]);
}

function plain(value: number): string {
  const size = Math.abs(value);
  const digits = SIGNIFICANT - (size < 1 ? 1 : 0);
  if (Number.isInteger(value) && size < 1e7) return fixed(value, 0);
  if (size < 1e-4 || size >= 1e7) return power(value, digits);
  return fixed(value, Math.max(0, digits - 1 - exponent(size, digits)));
}

/** A number rounded to decimal places (negative: to tens, hundreds, …), with thousands separators and a true minus sign. */
export function fixed(value: number, places: number): string {
  const size = places < 0 ? Math.round(Math.abs(value) * 10 ** places) * 10 ** -places : Math.abs(value);
  const [whole = "0", part] = size.toFixed(Math.max(0, places)).split(".");
  const text = whole.replace(/\B(?=(\d{3})+$)/g, ",") + (part === undefined ? "" : `.${part}`);
  return value < 0 && /[1-9]/.test(text) ? `−${text}` : text;
}

function power(value: number, digits: number): string {
  if (value === 0) return "0";
  const [mantissa = "", raised = ""] = value.toExponential(digits - 1).split("e");
  const high = [...String(Number(raised))].map((one) => (one === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹".charAt(Number(one))));
  return `${mantissa.replace("-", "−")}·10${high.join("")}`;
}

/** A duration as text: "45 s", "3 min 20 s", "2 h 5 min". */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min${whole % 60 ? ` ${whole % 60} s` : ""}`;
  const minutes = Math.round(whole / 60);
  return `${Math.floor(minutes / 60)} h${minutes % 60 ? ` ${minutes % 60} min` : ""}`;
}

/** A time as text: 3 May 2026, 14:05 UTC. */
export function moment(iso: string): string {
  const date = new Date(iso);
  if (Number.isNaN(date.getTime())) return iso;
  const months = "January February March April May June July August September October November December".split(" ");
  const two = (part: number): string => String(part).padStart(2, "0");
  const day = `${date.getUTCDate()} ${months[date.getUTCMonth()] ?? ""} ${date.getUTCFullYear()}`;
  return `${day}, ${two(date.getUTCHours())}:${two(date.getUTCMinutes())} UTC`;
}
