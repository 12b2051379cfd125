/** Names as they can be shown: the same function as `printable` in src/vaelab/errors.py. */

/** Uncased letters, marks and symbols, between which Persian, Indic scripts and emoji need a hidden joiner. */
const JOINED = "[\\p{Lo}\\p{M}\\p{So}\\p{Sk}]";

/** A joiner that is kept, as group 1; else a control, hidden or bidirectional character, surrogate, line break, blank letter. */
const HIDDEN = new RegExp(
  `(?<=${JOINED})(\\u200c|\\u200d)(?=${JOINED})|[\\p{Cc}\\p{Cf}\\p{Cs}\\p{Zl}\\p{Zp}]|\\u034f|\\u115f|\\u1160|\\u17b4|\\u17b5|\\u3164|\\uffa0`,
  "gu",
);

const SHORT: Readonly<Record<string, string>> = { "\t": "\\t", "\n": "\\n", "\r": "\\r" };

/** The text on one line, with what cannot be shown as it is escaped as in Python's literals. */
export function printable(text: string): string {
  return text.replace(HIDDEN, (char: string, kept?: string) => kept ?? SHORT[char] ?? escaped(char));
}

function escaped(char: string): string {
  const code = (char.codePointAt(0) ?? 0).toString(16);
  return code.length < 3 ? `\\x${code.padStart(2, "0")}` : code.length < 5 ? `\\u${code.padStart(4, "0")}` : `\\U${code.padStart(8, "0")}`;
}

/** Parse JSON whose texts are shown: each is `printable`. */
export function parseShown(json: string): unknown {
  return JSON.parse(json, (_, value: unknown) => (typeof value === "string" ? printable(value) : value));
}
