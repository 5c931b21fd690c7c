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
    const answer = answered(); // { logits (81 * V), qHalt, halts }
    worker.postMessage({ ids, fresh });
    return answer;
  };
  return { settings, segment };
}

const stable = (value) => (value < 0 ? 1 / (1 - value) : value + 1);

/** Logits (81 * V) -> 81 arrays of V probabilities: by softmax, or as the model was trained (its `token_loss`). */
export function probabilitiesOf(logits, tokenLoss = "softmax") {
  const size = logits.length / 81;
  return Array.from({ length: 81 }, (_, cell) => {
    const row = Array.from(logits.subarray(cell * size, (cell + 1) * size));
    const largest = Math.max(...row);
    const weights = row.map((value) => (tokenLoss === "softmax" ? Math.exp(value - largest) : stable(value)));
    const sum = weights.reduce((total, weight) => total + weight);
    return weights.map((weight) => weight / sum);
  });
}
