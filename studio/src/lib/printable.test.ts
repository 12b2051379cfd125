import { describe, expect, it } from "vitest";
import { parseShown, printable } from "./printable";

describe("what can be shown", () => {
  it.each([
    ["two\nlines\t\r", "two\\nlines\\t\\r"],
    ["\u001b[31mred\u0007", "\\x1b[31mred\\x07"],
    ["bidi\u202etxt\u2066", "bidi\\u202etxt\\u2066"],
    ["zero\u200bwidth\ufeff\u3164", "zero\\u200bwidth\\ufeff\\u3164"],
    ["tag\u{e0041}", "tag\\U000e0041"],
    ["caf\udce9", "caf\\udce9"],
    ["a\u200db", "a\\u200db"],
    ["👩‍🔬 می‌خواهم Größe <b> $x$", "👩‍🔬 می‌خواهم Größe <b> $x$"],
  ])("%j is shown as %j", (name, shown) => {
    expect(printable(name)).toBe(shown);
    expect(printable(shown)).toBe(shown);
  });

  it("is every text of a file", () => {
    expect(parseShown('{"classes": ["a\\nb", 1], "caf\\udce9": null}')).toEqual({ classes: ["a\\nb", 1], "caf\udce9": null });
  });
});
