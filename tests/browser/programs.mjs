// Starts Orglift's programs and ends them.

import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as after } from 'node:timers/promises';

/** How long a program that was asked to end may take before it is killed. */
const DRAIN_MS = 20_000;

/** The path of one of our programs, such as `orglift-lab`. */
export function programPath(name) {
  const folder = process.env.ORGLIFT_BIN_DIR;
  if (!folder) throw new Error('ORGLIFT_BIN_DIR is not set: run the browser tests with tests/run');
  return join(folder, name);
}

/**
 * Starts a program and waits until what it printed matches `ready`; `match` of the result is that match.
 *
 * A program that ends before, or is not ready in time, is an error that shows what it printed.
 */
export async function start(path, args, { ready, withinMs = 60_000, env = {} }) {
  const child = spawn(path, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  child.on('error', (error) => (output += error.message));
  // Comes after `error` too, and when nobody holds the program's output any more: its children have ended as well.
  const ended = new Promise((resolve) => child.on('close', (code, signal) => resolve(signal ?? code)));
  const matched = new Promise((resolve) => {
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text) => {
        output += text;
        const match = ready.exec(output);
        if (match) resolve({ match });
      });
    }
  });

  const { match, failure } = await Promise.race([
    matched,
    ended.then((how) => ({ failure: `ended with ${how}` })),
    after(withinMs, { failure: `was not ready after ${withinMs} ms` }, { ref: false }),
  ]);
  if (failure) {
    child.kill('SIGKILL');
    throw new Error(`${path} ${failure}; it printed:\n${output}`);
  }

  return {
    match,
    output: () => output,
    /** Asks the program to end, and waits until it has. One that has to be killed is an error. */
    async stop() {
      child.kill('SIGTERM');
      const drained = await Promise.race([ended.then(() => true), after(DRAIN_MS, false, { ref: false })]);
      if (drained) return;
      child.kill('SIGKILL');
      throw new Error(`${path} did not end within ${DRAIN_MS} ms; it printed:\n${output}`);
    },
  };
}
