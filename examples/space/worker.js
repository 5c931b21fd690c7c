// Runs the model away from the page, which stays responsive. One thread: any web server will do.

import * as ort from "./onnxruntime-web/ort.wasm.bundle.min.mjs";

ort.env.wasm.numThreads = 1;

const fetched = (name) =>
  fetch(name).then((response) => (response.ok ? response : Promise.reject(new Error(`${name}: ${response.status}`))));

async function load() {
  const [settings, graph] = await Promise.all([
    fetched("settings.json").then((response) => response.json()),
    fetched("segment.onnx").then((response) => response.arrayBuffer()),
  ]);
  const session = await ort.InferenceSession.create(new Uint8Array(graph));
  const start = {};
  for (const name of ["z_H", "z_L"]) {
    const values = new Float32Array(settings.num_positions * settings.hidden_size);
    for (let i = 0; i < values.length; i += settings.hidden_size) values.set(settings[name], i);
    start[name] = new ort.Tensor("float32", values, [1, settings.num_positions, settings.hidden_size]);
  }
  return { settings, session, start };
}

const loading = load();
let carry;

async function run({ ids, fresh }) {
  const { session, start } = await loading;
  const input_ids = new ort.Tensor("int64", BigInt64Array.from(ids, BigInt), [1, ids.length]);
  const out = await session.run({ input_ids, ...(fresh ? start : carry) });
  carry = { z_H: out.next_z_H, z_L: out.next_z_L };
  return { logits: out.logits.data, qHalt: out.q_halt.data[0], halts: Boolean(out.halts.data[0]) };
}

// One answer for every message, in their order; the first one says that the model is there.
const answer = (result) =>
  result.then(
    (value) => postMessage({ value }),
    (error) => postMessage({ error: error.message }),
  );
let last = answer(loading.then(({ settings }) => settings));
onmessage = ({ data }) => {
  last = last.then(() => answer(run(data)));
};
