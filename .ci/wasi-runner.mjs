// Runs a wasm32-wasip1 program under Node, as cargo's runner: `node wasi-runner.mjs PROGRAM.wasm ARGS...`.
import { readFile } from "node:fs/promises";
import { WASI } from "node:wasi";
import process from "node:process";

const [program, ...args] = process.argv.slice(2);
const wasi = new WASI({ version: "preview1", args: [program, ...args], env: process.env, returnOnExit: true });
const imports = { wasi_snapshot_preview1: wasi.wasiImport };
const { instance } = await WebAssembly.instantiate(await readFile(program), imports);
// A panic is the `unreachable` instruction, which throws here, and so the run fails.
process.exitCode = wasi.start(instance);
