#!/usr/bin/env node
// Plays an HLS stream with clients that are no browsers, and says whether they were content.
//
//   node others.mjs MASTER_URL --expect FILE [--clients ffmpeg,gstreamer,mpv,vlc]
//                   [--seeks 20] [--seed 7] [--limit-s 180] [--label TEXT]
//
// As run.mjs: one JSON line for each client on stdout, the same for people on stderr. Exit codes: 0 all
// content, 1 not, 2 bad usage.

import { readFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { playFfmpeg } from './lib/ffmpeg.mjs';
import { playGstreamer } from './lib/gstreamer.mjs';
import { playMpv } from './lib/mpv.mjs';
import { playVlc } from './lib/vlc.mjs';
import { fetchVariants, seekTargets } from './lib/stream.mjs';

const CLIENTS = { ffmpeg: playFfmpeg, gstreamer: playGstreamer, mpv: playMpv, vlc: playVlc };
const OPTIONS = {
  expect: { type: 'string' },
  clients: { type: 'string', default: 'ffmpeg,gstreamer' },
  seeks: { type: 'string', default: '20' },
  seed: { type: 'string', default: '7' },
  'limit-s': { type: 'string', default: '180' },
  label: { type: 'string', default: '' },
};
/** A seek lies at least so far before the end: what is looked at after it must be there. */
const SEEK_MARGIN_S = 2.5;

function tell({ ok, label, client, version, reasons, figures }) {
  const told = Object.entries(figures).map(([name, value]) => `${name} ${Array.isArray(value) ? value.join('/') : value}`);
  process.stderr.write(`${ok ? 'ok    ' : 'FAILED'} ${label} ${client} (${version}): ${told.join(', ')}\n`);
  for (const reason of reasons) process.stderr.write(`       ${reason}\n`);
}

async function main() {
  const { values, positionals } = parseArgs({ options: OPTIONS, allowPositionals: true });
  const names = values.clients.split(',').filter(Boolean);
  if (positionals.length !== 1 || !values.expect || names.length === 0 || names.some(name => !CLIENTS[name])) {
    process.stderr.write('usage: node others.mjs MASTER_URL --expect FILE [--clients LIST] [--seeks N] [--seed N] [--limit-s S]\n');
    return 2;
  }
  const [media] = positionals;
  const expected = JSON.parse(await readFile(values.expect, 'utf8'));
  const variants = await fetchVariants(media);
  const seeks = seekTargets(Number(values.seeks), Number(values.seed), expected.duration_s, SEEK_MARGIN_S);
  let failed = 0;
  for (const client of names) {
    const limit_ms = Number(values['limit-s']) * 1000;
    const { version, reasons, figures } = await CLIENTS[client]({ media, variants, expected, seeks, limit_ms });
    const result = { label: values.label, client, version, media, ok: reasons.length === 0, reasons, figures };
    process.stdout.write(`${JSON.stringify(result)}\n`);
    tell(result);
    failed += result.ok ? 0 : 1;
  }
  return failed === 0 ? 0 : 1;
}

process.exitCode = await main();
