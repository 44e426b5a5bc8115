// Runs one client program to its end, or ends it when it takes too long.

import { spawn } from 'node:child_process';

const MAX_OUTPUT_BYTES = 64 * 1024 * 1024;

/** What it printed and how it ended: { code, stdout, stderr, timed_out }. */
export function runProgram(program, args, { limit_ms, env = {} }) {
  return new Promise((resolve, reject) => {
    // A process group of its own: what it starts itself ends with it.
    const child = spawn(program, args, {
      stdio: ['ignore', 'pipe', 'pipe'], detached: true, env: { ...process.env, LC_ALL: 'C', ...env },
    });
    const end = () => { try { process.kill(-child.pid, 'SIGKILL'); } catch { /* it has ended */ } };
    const text = { stdout: [], stderr: [] };
    let bytes = 0;
    let timed_out = false;
    for (const name of ['stdout', 'stderr']) {
      child[name].on('data', part => {
        bytes += part.length;
        if (bytes > MAX_OUTPUT_BYTES) end();
        else text[name].push(part);
      });
    }
    const timer = setTimeout(() => { timed_out = true; end(); }, limit_ms);
    child.once('error', error => { clearTimeout(timer); reject(error); });
    child.once('close', code => {
      clearTimeout(timer);
      const joined = name => Buffer.concat(text[name]).toString();
      resolve({ code, stdout: joined('stdout'), stderr: joined('stderr'), timed_out });
    });
  });
}

/** The first line that a program prints of itself. */
export async function versionOf(program, args = ['--version']) {
  const { stdout, stderr } = await runProgram(program, args, { limit_ms: 20000 });
  return (stdout || stderr).split('\n')[0].trim();
}

/** Lines, each once, with how often it came; `strip` takes away what differs from time to time. */
export function counted(lines, strip = line => line) {
  const counts = new Map();
  for (const line of lines) {
    const text = strip(line).trim();
    if (text) counts.set(text, (counts.get(text) ?? 0) + 1);
  }
  return [...counts].map(([text, count]) => (count > 1 ? `${text} (${count} times)` : text));
}
