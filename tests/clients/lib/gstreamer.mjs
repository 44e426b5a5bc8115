// GStreamer as a client: playbin3 with hlsdemux2, driven by gst-client.py.

import { fileURLToPath } from 'node:url';
import { runProgram } from './program.mjs';

const SCRIPT = fileURLToPath(new URL('../gst-client.py', import.meta.url));

export async function playGstreamer({ media, expected, seeks, limit_ms }) {
  const args = [SCRIPT, media, '--frames', String(expected.frames), '--frame-rate', String(expected.frame_rate),
    '--duration', String(expected.duration_s), '--limit', String(limit_ms / 1000), ...(expected.audio ? ['--audio'] : []),
    '--seeks', seeks.join(',')];
  // The script has a limit of its own and says where it stood; this one is for a script that hangs.
  const { code, stdout, stderr, timed_out } = await runProgram('/usr/bin/python3', args, { limit_ms: limit_ms + 10000 });
  if (timed_out) return { version: null, reasons: ['gst-client.py hangs'], figures: {} };
  try {
    return JSON.parse(stdout.trim().split('\n').at(-1));
  } catch {
    return { version: null, reasons: [`gst-client.py ended with ${code}: ${stderr.trim().slice(-500)}`], figures: {} };
  }
}
