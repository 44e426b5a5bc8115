// VLC as a client. Its exit code says nothing: what it writes about the stream does.
//
// It plays by the clock, so this takes as long as the title. It does not run as root.

import { counted, runProgram, versionOf } from './program.mjs';

const COMMON = ['-I', 'dummy', '--no-color', '--vout', 'dummy', '--aout', 'dummy', '--play-and-exit', '--no-interact', '--no-media-library', '-vv'];

// What it says about a machine without a screen, a sound card or a session, not about the stream.
const NOT_THE_STREAM = [/dbus/i, /\binterface\b/, /lua/i, /keystore/i, /vlcrc|configuration/i, /preferences/i, /inhibit/i, /XDG_/,
  /\bnotify\b/, /gnutls/i, /could not create/, /invalid stop-time ignored/,
  // The first AAC frame after a seek gives no samples yet: its decoder says so each time.
  /faad decoder warning: decoded zero sample/,
  // What it says of every fragmented MP4 with picture and sound, whose init has no tables, and whose fragments
  // it begins to count anew wherever it begins.
  /mp4 demux warning: (no chunk defined|STTS table of 0 entries|elst box found|that media doesn't look interleaved)/,
  /mp4 demux: Fragment sequence discontinuity detected \d+ != 0/];
// Faults that it reports as mere debugging.
const FAULTS = [/discontinuity (?!\d)/i, /late picture|picture is too late|pictures? lost/i, /buffer (too late|deadlock)/i,
  /libdvbpsi.*error/i, /timestamp conversion failed/i, /cannot (peek|find)/i];

function complaintsOf(log) {
  const lines = log.split('\n')
    .map(line => line.replace(/^\[[0-9a-f]+\] /, ''))
    .filter(line => / (error|warning): /.test(line) || FAULTS.some(pattern => pattern.test(line)))
    .filter(line => !NOT_THE_STREAM.some(pattern => pattern.test(line)));
  return counted(lines, line => line.replace(/\d+/g, 'N'));
}

/** The program and its arguments, as somebody else than root. */
function asPerson(args) {
  const words = ['vlc', ...args];
  return process.getuid() === 0 ? ['runuser', ['-u', 'nobody', '--', ...words]] : [words[0], words.slice(1)];
}

async function play(media, args, what, limit_ms) {
  const { stdout, stderr, timed_out } = await runProgram(...asPerson([...COMMON, ...args, media]), { limit_ms });
  const log = stdout + stderr;
  const reasons = complaintsOf(log).map(line => `${what}: ${line}`);
  if (timed_out) reasons.push(`${what}: not done within ${limit_ms / 1000} s`);
  for (const kind of ['video', 'audio']) {
    if (!new RegExp(`using ${kind} decoder module`).test(log)) reasons.push(`${what}: no ${kind} decoder was opened`);
  }
  return reasons;
}

export async function playVlc({ media, expected, seeks, limit_ms }) {
  const begin_ms = Date.now();
  const reasons = await play(media, [], 'play', limit_ms);
  const play_s = (Date.now() - begin_ms) / 1000;
  if (play_s < expected.duration_s - 1) reasons.push(`play: done after ${play_s.toFixed(1)} s of ${expected.duration_s} s`);
  for (const target_s of seeks) {
    const args = [`--start-time=${target_s}`, '--run-time=2'];
    reasons.push(...await play(media, args, `seek to ${target_s.toFixed(3)} s`, 30000));
  }
  return { version: await versionOf(...asPerson(['--version'])), reasons, figures: { play_s, seeks: seeks.length } };
}
