// What follows a segment: another one, another attempt, or the end. The same rules and draws as hrm_hf/hrm/attempts.py
// with strategy "guess" and select "rules": there it stands why.

import { allowed, decode, encode, isSolution } from "./sudoku.js";

const MOST_ATTEMPTS = 64;
const MOST_PINS = 12; // of one attempt
const TRUST_AFTER_FAILURE = 0.5;

/** A bijection of 32-bit integers that scatters its input. */
function mix32(value) {
  value = Math.imul(value ^ (value >>> 16), 0x7feb352d);
  value = Math.imul(value ^ (value >>> 15), 0x846ca68b);
  return (value ^ (value >>> 16)) >>> 0;
}

/** Random numbers from a hash of some integers. */
class Draws {
  constructor(...keys) {
    this.state = keys.reduce((state, key) => mix32(state ^ key), 0);
  }

  uniform() {
    this.state = (this.state + 0x9e3779b9) >>> 0;
    return mix32(this.state) / 2 ** 32;
  }

  /** A place of an array of weights, drawn in proportion to them. */
  choice(weights) {
    let sum = 0;
    const sums = weights.map((weight) => (sum += weight));
    const drawn = this.uniform() * sum;
    return sums.findIndex((each) => each > drawn);
  }
}

/** The attempts at one puzzle. */
export class Attempts {
  /** givens: a grid; settings: of the model, as build.py writes them. */
  constructor(givens, settings, { most = MOST_ATTEMPTS, seed = 0 } = {}) {
    this.givens = givens;
    this.question = encode(givens);
    this.most = most;
    this.segmentsEach = settings.halt_max_steps;
    this.seed = seed;
    this.attempt = 1;
    this.segment = 0; // segments of this attempt so far
    this.ids = this.question; // what the model reads next: the question with pins
    this.pins = new Map(); // cell -> token id that this attempt takes as given
    this.first = null; // probabilities at the end of the first attempt
    this.trust = this.question.map(() => new Map()); // cell -> token id -> factor, where pins have failed
  }

  /** Takes what a segment gave, probabilities (81 arrays of V) and whether the model would halt.
   *  Says what follows: "solved", "continue", "restart" (`ids` from the start states) or "give up". */
  after(probabilities, halts) {
    this.segment += 1;
    const answer = decode(probabilities.map((row) => row.indexOf(Math.max(...row))));
    if (isSolution(this.givens, answer)) return "solved";
    const guesses = this.attempt > 1;
    const isOver = (halts && !guesses) || this.segment >= this.segmentsEach;
    if (!isOver && (!guesses || this.pin(probabilities))) return "continue";
    if (this.attempt === this.most) return "give up";
    this.first ??= probabilities;
    for (const [cell, id] of this.pins) {
      this.trust[cell].set(id, (this.trust[cell].get(id) ?? 1) * TRUST_AFTER_FAILURE);
    }
    this.attempt += 1;
    this.segment = 0;
    this.ids = this.question;
    this.pins = new Map();
    this.pin(this.first);
    return "restart";
  }

  /** Pins one more blank; false if there are enough, or if the rules leave nothing to some blank. */
  pin(probabilities) {
    if (this.pins.size === MOST_PINS) return false;
    const free = allowed(this.ids); // 81 sets of token ids, null for cells that are no blanks
    const trusted = probabilities.map((row, cell) => row.map((each, id) => each * (this.trust[cell].get(id) ?? 1)));
    const weights = trusted.map((row, cell) => row.map((each, id) => (free[cell]?.has(id) ? each : 0)));
    const isOpen = weights.map((row) => row.some((weight) => weight > 0));
    if (free.some((each) => each?.size === 0) || !isOpen.some(Boolean)) return false;
    const draws = new Draws(this.seed, ...this.question, this.attempt, this.pins.size + 1);
    const cell = draws.choice(trusted.map((row, each) => (isOpen[each] ? Math.max(...row) ** 2 : 0)));
    const id = draws.choice(weights[cell]);
    this.pins.set(cell, id);
    this.ids = this.ids.with(cell, id);
    return true;
  }
}
