// How a puzzle goes on after a segment: another one, another attempt, or the end.

import { isSolution } from "./sudoku.js";

/** The attempts at one puzzle. The answer to a Sudoku can be checked, so each attempt ends as soon as it is right. */
export class Attempts {
  /** givens: a grid; settings: of the model, as build.py writes them. */
  constructor(givens, settings) {
    this.givens = givens;
    this.most = 1;
    this.segmentsEach = settings.halt_max_steps;
    this.attempt = 0;
    this.begin();
  }

  /** Begins an attempt, from the start states of the model. */
  begin() {
    this.attempt += 1;
    this.segment = 0;
    this.pins = new Map(); // cell -> digit that this attempt takes as given
  }

  /** What the model is asked in this attempt. */
  get question() {
    return this.givens.map((digit, cell) => this.pins.get(cell) ?? digit);
  }

  /** Takes the answer of a segment, a grid, and says what follows: "solved", "continue", "restart" or "give up". */
  next(answer) {
    this.segment += 1;
    if (isSolution(this.givens, answer)) return "solved";
    if (this.segment < this.segmentsEach) return "continue";
    return this.attempt < this.most ? "restart" : "give up";
  }
}
