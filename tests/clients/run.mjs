#!/usr/bin/env node
// Plays an HLS stream with real players in a real browser, and says whether they were content.
//
//   node run.mjs MASTER_URL --expect FILE [--players hls,shaka,videojs,native] [--browser chromium|firefox]
//                [--seeks 20] [--seed 7] [--switches 2] [--play-s 6] [--limit-s 600] [--label TEXT]
//
// FILE is JSON about the source: { "duration_s", "frame_rate", "frames", "audio" }. One JSON line for each
// player on stdout, the same for people on stderr. Exit codes: 0 all content, 1 not, 2 bad usage.

import { readFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { pathToFileURL } from 'node:url';
import { openBench } from './lib/bench.mjs';
import { openChromium } from './lib/chromium.mjs';
import { openFirefox } from './lib/firefox.mjs';
import { figures, judge } from './lib/judge.mjs';
import { fetchVariants, isTransportStream, seekTargets } from './lib/stream.mjs';

const BROWSERS = { chromium: openChromium, firefox: openFirefox };
const OPTIONS = {
  expect: { type: 'string' },
  players: { type: 'string', default: 'hls,shaka,videojs,native' },
  browser: { type: 'string', default: 'chromium' },
  seeks: { type: 'string', default: '20' },
  seed: { type: 'string', default: '7' },
  switches: { type: 'string', default: '2' },
  'play-s': { type: 'string', default: '6' },
  'limit-s': { type: 'string', default: '600' },
  label: { type: 'string', default: '' },
};

const after = (ms, value) => new Promise(resolve => { setTimeout(resolve, ms, value).unref(); });

/** What the page is to do. Every player gets the same seeks. */
export function scenarioOf(player, media, expected, { seeks, seed, switches, play_s }) {
  const seek_play_s = 1.5;
  const end_play_s = 3;
  return {
    player,
    media,
    duration_s: expected.duration_s,
    play_s,
    seek_play_s,
    end_play_s,
    // Not so near the end that what is to be played after it is not there.
    seeks: seekTargets(seeks, seed, expected.duration_s, seek_play_s + 1),
    switches,
    // Far from where the last seek and the end lie, with room for the buffer of before to run out.
    switch_at_s: Math.round(expected.duration_s * 0.25),
    timeout_ms: 20000,
    // What is buffered is played first: a player may take its time with what it does by itself.
    switch_timeout_ms: 40000,
  };
}

/** Plays one scenario in a browser of its own. The browser has ended when this returns. */
export async function playOne(scenario, { browser = 'chromium', limit_ms = 600000 } = {}) {
  const bench = await openBench(scenario);
  const beside = [];
  let opened;
  try {
    const note = (level, source, text) => beside.push({ level, source, text: String(text).slice(0, 500), step: 'the browser' });
    opened = await BROWSERS[browser](bench.address, note);
    const report = await Promise.race([bench.report, after(limit_ms, null)])
      ?? { failed: `no report within ${Math.round(limit_ms / 1000)} s`, failed_in: 'the page', notices: [] };
    return { browser: opened.name, ...report, notices: [...report.notices, ...beside] };
  } finally {
    await opened?.close();
    await bench.close();
  }
}

function tell(result) {
  const { figures: f } = result;
  const say = line => process.stderr.write(`${line}\n`);
  say(`${result.ok ? 'ok    ' : 'FAILED'} ${result.label} ${result.player} ${result.version ?? ''} in ${result.browser}: `
    + `start ${f.start_ms} ms, ${f.seeks} seeks median ${f.seek_median_ms} ms max ${f.seek_max_ms} ms, `
    + `switches ${f.switch_ms.join('/') || '-'} ms, longest stall ${f.longest_stall_ms} ms, duration ${f.duration_s} s, `
    + `${f.frames} frames, ${f.dropped} dropped, audio ${f.audio_bytes ?? 'not counted'} bytes, took ${f.took_ms} ms`);
  for (const reason of result.reasons) say(`       ${reason}`);
}

async function main() {
  const { values, positionals } = parseArgs({ options: OPTIONS, allowPositionals: true });
  const players = values.players.split(',').filter(Boolean);
  if (positionals.length !== 1 || !values.expect || players.length === 0 || !BROWSERS[values.browser]) {
    process.stderr.write('usage: node run.mjs MASTER_URL --expect FILE [--players LIST] [--browser chromium|firefox] [--seeks N] [--seed N] [--switches N] [--play-s S] [--limit-s S]\n');
    return 2;
  }
  const [media] = positionals;
  const expected = JSON.parse(await readFile(values.expect, 'utf8'));
  const variants = await fetchVariants(media);
  const transport = await isTransportStream(variants[0]);
  const ends_ms = Date.now() + Number(values['limit-s']) * 1000;
  const wishes = {
    seeks: Number(values.seeks), seed: Number(values.seed), switches: Number(values.switches), play_s: Number(values['play-s']),
  };
  let failed = 0;
  for (const player of players) {
    const scenario = { ...scenarioOf(player, media, expected, wishes), transport };
    // One at a time: two would wait for each other's processor.
    const limit_ms = Math.max(0, ends_ms - Date.now());
    const report = await playOne(scenario, { browser: values.browser, limit_ms });
    const reasons = judge(report, scenario, expected, variants);
    const result = {
      label: values.label, player, version: report.version ?? null, browser: report.browser, media,
      ok: reasons.length === 0, reasons, figures: figures(report),
    };
    process.stdout.write(`${JSON.stringify(result)}\n`);
    tell(result);
    failed += result.ok ? 0 : 1;
  }
  return failed === 0 ? 0 : 1;
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  process.exitCode = await main();
}
