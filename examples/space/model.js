// The model as the page sees it: one segment after another. worker.js runs it.

/** Loads the model. Gives { settings, segment }; rejects where it cannot be loaded. */
export async function loadModel() {
  const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  const waiting = []; // the worker answers in order
  const answered = () => new Promise((resolve, reject) => waiting.push({ resolve, reject }));
  worker.onmessage = ({ data }) => {
    const { resolve, reject } = waiting.shift();
    if (data.error) reject(new Error(data.error));
    else resolve(data.value);
  };
  worker.onerror = (event) => waiting.splice(0).forEach(({ reject }) => reject(new Error(event.message)));
  const settings = await answered();

  /** One segment for token ids (81), from the start states if `fresh`, else from where the last one ended. */
  const segment = (ids, fresh) => {
    const answer = answered(); // { logits (81 * V), qHalt }
    worker.postMessage({ ids, fresh });
    return answer;
  };
  return { settings, segment };
}

/** The answer in the logits of 81 cells: the likeliest digit of each, and its probability among the digits. */
export function readLogits(logits) {
  const vocabulary = logits.length / 81; // padding, blank, 1 to 9
  const digits = [];
  const confidence = [];
  for (let cell = 0; cell < 81; cell += 1) {
    const row = logits.subarray(cell * vocabulary, (cell + 1) * vocabulary);
    const best = row.indexOf(Math.max(...row));
    const weights = Array.from(row, (value) => Math.exp(value - row[best]));
    digits.push(Math.max(best - 1, 0));
    confidence.push(1 / weights.reduce((sum, weight) => sum + weight));
  }
  return { digits, confidence };
}
