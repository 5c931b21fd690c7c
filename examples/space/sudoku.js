// The rules of 9x9 Sudoku: reading a puzzle, its token ids, what breaks a rule.
// A grid is an array of 81 digits in row-major order, 0 = blank. A cell is its place in it.

const range = (n) => Array.from({ length: n }, (_, i) => i);

// Rows, columns and boxes, in this order.
const UNITS = [
  ...range(9).map((i) => ({ name: `row ${i + 1}`, cells: range(9).map((j) => 9 * i + j) })),
  ...range(9).map((i) => ({ name: `column ${i + 1}`, cells: range(9).map((j) => 9 * j + i) })),
  ...range(9).map((i) => {
    const first = 27 * Math.floor(i / 3) + 3 * (i % 3);
    return { name: `box ${i + 1}`, cells: range(9).map((j) => first + 9 * Math.floor(j / 3) + (j % 3)) };
  }),
];

export const place = (cell) => `row ${Math.floor(cell / 9) + 1}, column ${(cell % 9) + 1}`;

/** The pairs of cells with equal digits in one unit: [{ unit, digit, cells: [first, second] }]. */
export function clashes(grid) {
  const found = [];
  for (const { name, cells } of UNITS) {
    const seen = new Map();
    for (const cell of cells) {
      const digit = grid[cell];
      if (digit && seen.has(digit)) found.push({ unit: name, digit, cells: [seen.get(digit), cell] });
      seen.set(digit, cell);
    }
  }
  return found;
}

/** Whether an answer is full, keeps the givens and breaks no rule. */
export const isSolution = (givens, answer) =>
  answer.every((digit, cell) => digit && (!givens[cell] || digit === givens[cell])) && clashes(answer).length === 0;

/** Token ids: blank 1, digit d -> d + 1; 0 is padding, which no puzzle holds. */
export const encode = (grid) => grid.map((digit) => digit + 1);

export const decode = (ids) => ids.map((id) => Math.max(id, 1) - 1);

/** Token ids of a puzzle -> for each blank the set of ids that its row, column and box leave to it, else null. */
export function allowed(ids) {
  const free = ids.map((id) => (id === 1 ? new Set(range(9).map((i) => i + 2)) : null));
  for (const { cells } of UNITS) {
    for (const cell of cells) for (const other of cells) free[cell]?.delete(ids[other]);
  }
  return free;
}

export const write = (grid) => grid.map((digit) => digit || ".").join("");

const SIGNS = /^[1-9.0*_xX?#-]$/;
const SEPARATORS = /[\s|,;:/+="'()[\]{}\u2500-\u257f]/g;
const RULE = /^(?=.*(?:--|__|[+=\u2500-\u257f]))[-\s|+=:.'*_\u2500-\u257f]*$/; // a line between the boxes

/** The ways to read the lines of a text as signs; the number of cells tells which one is meant. */
function* readings(lines) {
  const rows = lines.filter((line) => !RULE.test(line) && line.trim());
  for (const kept of [lines, rows]) yield [...kept.join("").replace(SEPARATORS, "")];
  yield [...rows.join("").replace(SEPARATORS, "").replaceAll("-", "")];
  if (/[.0*_xX?#-]/.test(rows.join(""))) return;
  // Only where no sign stands for a blank an empty field does, or a space at its place.
  for (const delimiter of [/[,;\t]/, /\|/]) {
    const fields = rows.flatMap((row) => row.replace(/^\s*\||\|\s*$/g, "").split(delimiter));
    yield fields.map((field) => field.trim() || ".");
  }
  const spaced = lines.filter((line) => line.length);
  if (spaced.every((line) => line.length === 9)) yield [...spaced.join("").replaceAll(" ", ".")];
}

/** A puzzle as people write it -> grid. Throws an Error, in words for the user, for what cannot be read. */
export function read(text) {
  // Full-width digits, ellipses and odd spaces become plain; words and numbers that stand for a blank, dots.
  let plain = text.normalize("NFKC").replace(/[\u00b7\u2022\u2219]/g, ".").replace(/[\u200b\u2060\ufeff]/g, "");
  plain = plain.match(/\[puzzle\]([^[]*)/i)?.[1] ?? plain;
  plain = plain.replace(/\b(null|none|nan)\b/gi, ".").replace(/(?<![^\s,;|[])-1(?![^\s,;|\]])/g, ".");
  const tried = [plain.replace(/#.*/g, ""), plain].map((each) => [...readings(each.split(/\r\n?|\n/))]);
  for (const signs of tried.flat()) {
    if (signs.length === 81 && signs.every((sign) => SIGNS.test(sign))) {
      return signs.map((sign) => Number(sign) || 0);
    }
  }
  const signs = tried[1][1]; // with '#', without the lines between the boxes
  const wrong = signs.find((sign) => !SIGNS.test(sign));
  if (wrong !== undefined) throw new Error(`“${wrong}” is no digit from 1 to 9, and no sign for a blank such as “.”.`);
  if (signs.length > 81 && signs.length % 81 === 0) throw new Error("These are several puzzles: give one.");
  throw new Error(`This has ${signs.length} cells, a Sudoku has 81: write a “.” for every blank.`);
}
