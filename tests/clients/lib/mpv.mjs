// mpv as a client: everything that it warns of in its log counts.

import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { counted, runProgram, versionOf } from './program.mjs';
import { isTransportStream } from './stream.mjs';

// Without its fall-backs: no configuration, no scripts, no guess at what a playlist might be.
const COMMON = ['--no-config', '--load-scripts=no', '--ytdl=no', '--vo=null', '--ao=null', '--ao-null-untimed=yes', '--untimed=yes', '--no-terminal', '--hwdec=no'];

// What it says about the machine it runs on, not about the stream.
const NOT_THE_STREAM = [/libplacebo/, /Failed to open .*\.conf/, /setting.*scheduling/i];

/** Warnings and errors of its log, `[  0.1][w][module] text`. */
function complaintsOf(log) {
  const lines = log.split('\n')
    .map(line => /^\[ *[\d.]+\]\[([wef])\]\[([^\]]*)\] (.*)$/.exec(line))
    .filter(match => match && !NOT_THE_STREAM.some(pattern => pattern.test(match[3])))
    .map(([, , module, text]) => `${module}: ${text}`);
  return counted(lines);
}

async function play(media, args, what, limit_ms) {
  const folder = await mkdtemp(join(tmpdir(), 'sprocket-mpv-'));
  const file = join(folder, 'log');
  try {
    const begin_ms = Date.now();
    const { code, timed_out } = await runProgram('mpv', [...COMMON, `--log-file=${file}`, ...args, media], { limit_ms });
    const log = await readFile(file, 'utf8').catch(() => '');
    const reasons = complaintsOf(log).map(line => `${what}: ${line}`);
    if (timed_out) reasons.push(`${what}: not done within ${limit_ms / 1000} s`);
    else if (code !== 0) reasons.push(`${what}: exit code ${code}`);
    for (const kind of ['Video --vid', 'Audio --aid']) {
      if (!log.includes(`(+) ${kind}`)) reasons.push(`${what}: no ${kind.split(' ')[0].toLowerCase()} track was played`);
    }
    // It takes what it cannot read for a list of files, plays each, and is content.
    const files = [...log.matchAll(/\[cplayer\] finished playback, success/g)].length;
    if (files !== 1) reasons.push(`${what}: ${files} files played to the end, not one`);
    return { reasons, took_ms: Date.now() - begin_ms };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

export async function playMpv({ media, variants, seeks, limit_ms }) {
  const played = await play(media, [], 'play', limit_ms);
  const reasons = [...played.reasons];
  // It reads HLS by FFmpeg's libavformat, which cannot seek in fragmented MP4 (lib/ffmpeg.mjs).
  const asked = await isTransportStream(variants[0]) ? seeks : [];
  for (const target_s of asked) {
    const done = await play(media, [`--start=${target_s}`, '--length=1'], `seek to ${target_s.toFixed(3)} s`, limit_ms);
    reasons.push(...done.reasons);
  }
  return { version: await versionOf('mpv'), reasons, figures: { play_ms: played.took_ms, seeks: asked.length } };
}
