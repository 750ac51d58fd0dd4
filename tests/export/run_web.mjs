// Runs golden cases of every graph in ONNX Runtime Web: node run_web.mjs CASES.json, which names files of raw float32.
// Outputs are written beside the inputs, and the test compares them.
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";

const ort = createRequire(import.meta.url)(process.env.ONNXRUNTIME_WEB);
ort.env.wasm.numThreads = 1;
ort.env.logLevel = "error";
for (const { graph, cases } of JSON.parse(readFileSync(process.argv[2]))) {
  const session = await ort.InferenceSession.create(readFileSync(graph));
  for (const { inputs, outputs } of cases) {
    const feeds = {};
    for (const [name, { file, shape }] of Object.entries(inputs)) {
      const bytes = readFileSync(file);
      const values = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
      feeds[name] = new ort.Tensor("float32", values, shape);
    }
    const results = await session.run(feeds);
    for (const [name, file] of Object.entries(outputs)) {
      writeFileSync(file, Buffer.from(results[name].data.buffer, results[name].data.byteOffset, results[name].data.byteLength));
    }
  }
}
