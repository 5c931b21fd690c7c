// The page: the grid and its keys, and the loop that shows the model at work.

import { Attempts } from "./attempts.js";
import { loadModel, probabilitiesOf } from "./model.js";
import { PUZZLES } from "./puzzles.js";
import { clashes, decode, place, read, write } from "./sudoku.js";

const PAUSES = [2000, 1000, 500, 150, 0]; // milliseconds after a segment, by the speed slider

const $ = (id) => document.getElementById(id);
const blank = () => Array(81).fill(0);

let givens = blank();
let answer = null; // { digits, confidence } of the last segment
let selected = 0;
let running = null; // what the loop at work is known by; another value, or null, ends it
let model = null;
const picked = {}; // kind -> how often

// The grid

const cells = [];
for (let row = 0; row < 9; row += 1) {
  const line = document.createElement("div");
  line.setAttribute("role", "row");
  for (let column = 0; column < 9; column += 1) {
    const element = document.createElement("div");
    element.setAttribute("role", "gridcell");
    element.append(document.createElement("span"));
    cells.push(element);
    line.append(element);
  }
  $("grid").append(line);
}

/** Draws all cells. pins: the cells that the attempt has guessed; wrong: those to mark. */
function draw({ pins = new Set(), wrong = new Set(), before = null } = {}) {
  cells.forEach((element, cell) => {
    const given = givens[cell];
    const digit = given || (answer ? answer.digits[cell] : 0);
    const found = answer && !given;
    element.firstChild.textContent = digit || "";
    element.classList.toggle("given", Boolean(given));
    element.classList.toggle("found", Boolean(found));
    element.classList.toggle("guessed", pins.has(cell));
    element.classList.toggle("wrong", wrong.has(cell));
    element.classList.toggle("changed", Boolean(found && before && before[cell] !== digit));
    element.style.setProperty("--doubt", found ? (1 - answer.confidence[cell]).toFixed(3) : 0);
    const sure = found ? `, ${Math.round(100 * answer.confidence[cell])} % sure` : "";
    const what = given ? `given ${digit}` : digit ? `${digit}${sure}` : "blank";
    element.setAttribute("aria-label", `${place(cell)}: ${what}${wrong.has(cell) ? ", breaks a rule" : ""}`);
  });
}

function select(cell) {
  selected = cell;
  cells.forEach((element, each) => {
    element.tabIndex = each === cell ? 0 : -1;
    element.setAttribute("aria-selected", each === cell);
  });
}

// The puzzle

function say(words, isProblem = false) {
  $("status").textContent = words;
  $("status").classList.toggle("problem", isProblem);
}

/** Makes a grid the puzzle; ends what runs, and forgets the answer. */
function setPuzzle(grid, { keepText = false } = {}) {
  stop();
  givens = grid;
  forget();
  const text = givens.some(Boolean) ? write(givens) : "";
  if (!keepText) $("text").value = text;
  history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
  const count = givens.filter(Boolean).length;
  if (model) say(count ? `${count} givens.` : "Type, paste or pick a puzzle.");
}

function setDigit(digit) {
  const grid = [...givens];
  grid[selected] = digit;
  setPuzzle(grid);
}

function takeText(text, options) {
  try {
    setPuzzle(read(text), options);
  } catch (error) {
    if (options?.keepText) setPuzzle(blank(), options); // the grid is what the text field says
    stop();
    say(error.message, true);
  }
}

// The model at work

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Shows the counts of a segment; none before the first one. */
function showCounts(counts = {}) {
  for (const name of ["attempt", "segment", "conflicts", "seconds"]) $(name).textContent = counts[name] ?? "–";
}

/** Adds a bar for a segment, as high as the share of cells that keep the rules; each attempt has its own group. */
function trace(attempt, share, isSolved) {
  while ($("trace").children.length < attempt) $("trace").append(document.createElement("div"));
  const bar = document.createElement("i");
  bar.style.height = `${100 * share}%`;
  bar.classList.toggle("solved", isSolved);
  $("trace").lastChild.append(bar);
}

/** Forgets the answer, and all that is shown of it. */
function forget() {
  answer = null;
  showCounts();
  $("trace").replaceChildren();
  draw();
}

function stop() {
  running = null;
  $("solve").textContent = "Solve";
}

async function solve() {
  const [clash] = clashes(givens);
  if (clash) {
    const where = clash.cells.map((cell) => `at ${place(cell)}`).join(" and ");
    say(`The digit ${clash.digit} stands twice in ${clash.unit}: ${where}.`, true);
    draw({ wrong: new Set(clash.cells) });
    return;
  }
  if (!givens.some(Boolean)) {
    say("The grid is empty: type, paste or pick a puzzle.", true);
    return;
  }
  const mine = (running = {});
  $("solve").textContent = "Stop";
  forget();
  say("Thinking …");
  try {
    await think(() => running === mine);
  } catch (error) {
    say(`The model failed: ${error.message}`, true);
  }
  if (running === mine) stop();
}

/** Runs segments and shows each, until the puzzle is solved, given up, or no longer wanted. */
async function think(isWanted) {
  const attempts = new Attempts(givens, model.settings);
  let total = 0;
  let seconds = 0;
  let what = "continue";
  while (what === "continue" || what === "restart") {
    if (what === "restart") say(`That broke a rule. Attempt ${attempts.attempt} guesses some cells …`);
    const { attempt, segment } = attempts;
    const pins = new Set(attempts.pins.keys());
    const started = performance.now();
    const { logits, halts } = await model.segment(attempts.ids, segment === 0);
    if (!isWanted()) return;
    seconds += (performance.now() - started) / 1000;
    total += 1;
    const before = answer && answer.digits;
    answer = readAnswer(probabilitiesOf(logits, model.settings.token_loss));
    what = attempts.after(probabilitiesOf(logits), halts);
    const wrong = wrongCells();
    showCounts({
      attempt: `${attempt} of ${attempts.most}`,
      segment: `${segment + 1} of ${attempts.segmentsEach}`,
      conflicts: wrong.size,
      seconds: `${seconds.toFixed(1)} s`,
    });
    trace(attempt, 1 - wrong.size / 81, what === "solved");
    draw({ pins, before, wrong });
    if (what === "continue" || what === "restart") await pause(PAUSES[$("speed").value]);
    if (!isWanted()) return;
  }
  const spent = `${counted(attempts.attempt, "attempt")} and ${counted(total, "segment")}`;
  if (what === "solved") say(`Solved in ${spent}: every rule is kept.`);
  else say(`Not solved after ${spent}: this answer breaks the rules. The puzzle may have no solution.`, true);
}

const counted = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;

/** The likeliest digit of each cell, 0 for none, and its probability. */
function readAnswer(probabilities) {
  const confidence = probabilities.map((row) => Math.max(...row));
  return { digits: decode(probabilities.map((row, cell) => row.indexOf(confidence[cell]))), confidence };
}

/** The cells of the answer, beside the givens, whose digit stands twice in a row, column or box. */
function wrongCells() {
  const shown = answer.digits.map((digit, cell) => givens[cell] || digit);
  return new Set(clashes(shown).flatMap(({ cells: pair }) => pair.filter((cell) => !givens[cell])));
}

// Keys, buttons, and the address

const MOVES = { ArrowUp: -9, ArrowDown: 9, ArrowLeft: -1, ArrowRight: 1 };

$("grid").addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const row = Math.floor(selected / 9);
  if (event.key in MOVES) {
    const isSideways = event.key === "ArrowLeft" || event.key === "ArrowRight";
    const to = selected + MOVES[event.key];
    if (isSideways ? Math.floor(to / 9) === row : to >= 0 && to < 81) cells[to].focus();
  } else if (event.key === "Home") cells[9 * row].focus();
  else if (event.key === "End") cells[9 * row + 8].focus();
  else if (/^[1-9]$/.test(event.key)) setDigit(Number(event.key));
  else if (["Backspace", "Delete", "0", ".", " "].includes(event.key)) setDigit(0);
  else if (event.key === "Enter") $("solve").click();
  else return;
  event.preventDefault();
});

cells.forEach((element, cell) => {
  element.addEventListener("focus", () => select(cell));
  element.addEventListener("click", () => element.focus());
});

for (const digit of [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = digit || "⌫";
  button.setAttribute("aria-label", digit ? `Digit ${digit}` : "Erase");
  button.addEventListener("click", () => setDigit(digit));
  $("pad").append(button);
}

$("solve").addEventListener("click", () => {
  if (!running) return solve();
  stop();
  say("Stopped.");
});
$("clear").addEventListener("click", () => setPuzzle(blank()));
for (const button of document.querySelectorAll("[data-pick]")) {
  const kind = button.dataset.pick;
  button.addEventListener("click", () => {
    picked[kind] = ((picked[kind] ?? -1) + 1) % PUZZLES[kind].length;
    setPuzzle(read(PUZZLES[kind][picked[kind]]));
  });
}
$("text").addEventListener("input", () => {
  if ($("text").value.trim()) takeText($("text").value, { keepText: true });
  else setPuzzle(blank());
});
document.addEventListener("paste", (event) => {
  if (event.target !== $("text")) takeText(event.clipboardData.getData("text"));
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && running) $("solve").click();
});

const ofAddress = () => location.hash.slice(1) || PUZZLES.easy[0];
window.addEventListener("hashchange", () => takeText(ofAddress()));

select(0);
forget();
takeText(ofAddress());

try {
  model = await loadModel();
  const millions = (model.settings.num_weights / 1e6).toFixed(1);
  $("weights").textContent = `${millions} million`;
  $("solve").disabled = false;
  if (!$("status").classList.contains("problem")) say("Ready. Press Solve.");
} catch (error) {
  say(`The model cannot be loaded: ${error.message}`, true);
}
