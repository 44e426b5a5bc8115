// Planted faults: the harness has to notice each, with the clients that can, and must be content without.
//
// What enters: SPROCKET_CLIENTS_TREE (a folder with ts/ and fmp4/, and hevc-ts/ where this machine can make
// HEVC) and SPROCKET_CLIENTS_EXPECTED, both made by `scripts/check-clients --faults`.

import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { FAULTS } from '../lib/faults.mjs';
import { playFfmpeg } from '../lib/ffmpeg.mjs';
import { playGstreamer } from '../lib/gstreamer.mjs';
import { judge } from '../lib/judge.mjs';
import { serveMedia } from '../lib/media-server.mjs';
import { fetchVariants } from '../lib/stream.mjs';
import { playOne, scenarioOf } from '../run.mjs';

const tree = process.env.SPROCKET_CLIENTS_TREE;
const skip = tree ? false : 'no SPROCKET_CLIENTS_TREE: run scripts/check-clients --faults';
const expected = tree ? JSON.parse(readFileSync(process.env.SPROCKET_CLIENTS_EXPECTED, 'utf8')) : null;

/** Each row: the fault, the packaging, who has to notice, and what is to be said. */
const PLANTED = [
  ['no-cors', 'ts', 'hls', /manifestLoadError/],
  ['no-cors', 'ts', 'shaka', /Failed to fetch|shaka: 1002/],
  ['no-cors', 'ts', 'videojs', /video\.js: \d/],
  ['extinf-long', 'ts', 'shaka', /hole in the buffer|duration/],
  ['extinf-long', 'ts', 'native', /duration/],
  ['extinf-long', 'fmp4', 'videojs', /duration/],
  ['psi-once', 'ts', 'native', /gave up|no picture|first picture/],
  ['psi-once', 'ts', 'gstreamer', /not within the limit|pictures/],
  ['ts-restart', 'ts', 'videojs', /gave up|hole|stood still/],
  ['ts-restart', 'ts', 'native', /gave up|MediaError/],
  ['ts-restart', 'ts', 'ffmpeg', /not one frame after|frames/],
  ['ts-jump', 'ts', 'videojs', /hole/],
  ['ts-jump', 'ts', 'ffmpeg', /not one frame after/],
  ['tfdt-zero', 'fmp4', 'videojs', /gave up|hole|stood still/],
  // hls.js counts on from the segment before, and plays it.
  ['tfdt-zero', 'fmp4', 'shaka', /hole|gave up|stood still|Unexpected buffered range/],
  ['no-sound', 'ts', 'native', /audio/],
  ['cut', 'ts', 'ffmpeg', /frames, and \d+ were expected/],
  ['missing', 'ts', 'hls', /fragLoadError/],
  ['slow', 'ts', 'hls', /stood still/],
  ['slow', 'fmp4', 'shaka', /stood still|gave up/],
  ['none', 'hevc-ts', 'native', /0x0|no rendition of the stream|not one frame/],
];

const OTHERS = { ffmpeg: playFfmpeg, gstreamer: playGstreamer };

/** A short scenario: over two joints from the start, and one seek. */
async function reasonsOf(fault, type, client) {
  const server = await serveMedia(join(tree, type), FAULTS[fault]);
  const media = `${server.base}/master.m3u8`;
  try {
    const variants = await fetchVariants(media);
    if (OTHERS[client]) {
      return (await OTHERS[client]({ media, variants, expected, seeks: [], limit_ms: 30000 })).reasons;
    }
    const scenario = {
      ...scenarioOf(client, media, expected, { seeks: 0, seed: 1, switches: 0, play_s: 9 }),
      seeks: [expected.duration_s * 0.55],
      timeout_ms: 12000,
      transport: type !== 'fmp4',
    };
    const report = await playOne(scenario, { limit_ms: 90000 });
    return judge(report, scenario, expected, variants);
  } finally {
    await server.close();
  }
}

for (const [fault, type, client, reason] of PLANTED) {
  test(`${fault} in ${type} is noticed with ${client}`, { skip }, async t => {
    if (!existsSync(join(tree, type))) return t.skip(`there is no ${type} here`);
    const reasons = await reasonsOf(fault, type, client);
    assert.ok(reasons.some(each => reason.test(each)), `wanted ${reason}, found ${JSON.stringify(reasons, null, 1)}`);
    t.diagnostic(reasons.join(' | ').slice(0, 600));
  });
}

for (const type of ['ts', 'fmp4']) {
  for (const client of ['hls', 'shaka', 'videojs', 'native', 'ffmpeg', 'gstreamer']) {
    test(`without a fault ${client} is content with ${type}`, { skip }, async () => {
      assert.deepEqual(await reasonsOf('none', type, client), []);
    });
  }
}
