// FFmpeg as a client: no warning, every frame at its time, and a seek that shows what playing shows.

import { isTransportStream } from './stream.mjs';
import { counted, runProgram, versionOf } from './program.mjs';

const COMMON = ['-nostdin', '-hide_banner', '-v', 'warning'];
/** Frames looked at after a seek. */
const SEEK_FRAMES = 10;

/** Rows of the framecrc muxer by output stream: [{ pts_s, duration_s, bytes, crc }]. */
export function framesOf(text) {
  const bases = new Map();
  const streams = new Map();
  for (const line of text.split('\n')) {
    const base = /^#tb (\d+): (\d+)\/(\d+)/.exec(line);
    if (base) {
      bases.set(base[1], Number(base[2]) / Number(base[3]));
      streams.set(base[1], { rows: [], rate: null });
    }
    const rate = /^#sample_rate (\d+): (\d+)/.exec(line);
    if (rate) streams.get(rate[1]).rate = Number(rate[2]);
    const [stream, , pts, duration, bytes, crc] = line.split(',').map(cell => cell.trim());
    if (line.startsWith('#') || crc === undefined) continue;
    const unit_s = bases.get(stream);
    streams.get(stream).rows.push({ pts_s: Number(pts) * unit_s, duration_s: Number(duration) * unit_s, bytes: Number(bytes), crc });
  }
  return [...streams.values()];
}

function videoReasons(rows, what, expected) {
  const frame_s = 1 / expected.frame_rate;
  const reasons = [];
  if (rows.length !== expected.frames) reasons.push(`${what}: ${rows.length} frames, and ${expected.frames} were expected`);
  const uneven = rows.slice(1).filter((row, index) => Math.abs(row.pts_s - rows[index].pts_s - frame_s) > 0.001);
  if (uneven.length > 0) {
    reasons.push(`${what}: ${uneven.length} frames are not one frame after the one before, the first at ${uneven[0].pts_s.toFixed(3)} s`);
  }
  return reasons;
}

function audioReasons(rows, what, expected) {
  const reasons = [];
  const torn = rows.slice(1).filter((row, index) => Math.abs(row.pts_s - rows[index].pts_s - rows[index].duration_s) > 0.001);
  if (torn.length > 0) {
    reasons.push(`${what}: ${torn.length} gaps or overlaps in the sound, the first at ${torn[0].pts_s.toFixed(3)} s`);
  }
  const length_s = rows.reduce((sum, row) => sum + row.duration_s, 0);
  if (Math.abs(length_s - expected.duration_s) > 1 / expected.frame_rate + 0.025) {
    reasons.push(`${what}: ${length_s.toFixed(3)} s of sound, and ${expected.duration_s} s were expected`);
  }
  return reasons;
}

const complaints = (what, stderr) => counted(stderr.split('\n'), line => line.replace(/@ 0x[0-9a-f]+/g, '@'))
  .map(line => `${what}: ${line}`);

/** Plays all of every rendition, pictures and sound. */
async function playThrough(media, variants, expected, limit_ms) {
  const maps = ['-map', '0:v', ...(expected.audio ? ['-map', '0:a'] : [])];
  const args = [...COMMON, '-copyts', '-i', media, ...maps, '-fps_mode', 'passthrough', '-f', 'framecrc', '-'];
  const { code, stdout, stderr, timed_out } = await runProgram('ffmpeg', args, { limit_ms });
  const reasons = complaints('play', stderr);
  if (timed_out) reasons.push(`play: not done within ${limit_ms / 1000} s`);
  else if (code !== 0) reasons.push(`play: exit code ${code}`);
  const streams = framesOf(stdout);
  const pictures = streams.filter(({ rate }) => rate === null);
  const sounds = streams.filter(({ rate }) => rate !== null);
  if (pictures.length !== variants.length) reasons.push(`play: ${pictures.length} video streams for ${variants.length} renditions`);
  if (expected.audio && sounds.length === 0) reasons.push('play: no sound');
  pictures.forEach(({ rows }, index) => reasons.push(...videoReasons(rows, `video ${index}`, expected)));
  sounds.forEach(({ rows }, index) => reasons.push(...audioReasons(rows, `audio ${index}`, expected)));
  return { reasons, pictures, sounds };
}

/** Seeks in one rendition and compares with what playing through has shown at that time. */
async function seek(media, target_s, expected, shown, limit_ms) {
  const what = `seek to ${target_s.toFixed(3)} s`;
  const args = [...COMMON, '-copyts', '-ss', String(target_s), '-i', media, '-map', '0:v:0', '-frames:v', String(SEEK_FRAMES),
    '-fps_mode', 'passthrough', '-f', 'framecrc', '-'];
  const begin_ms = Date.now();
  const { code, stdout, stderr, timed_out } = await runProgram('ffmpeg', args, { limit_ms });
  const took_ms = Date.now() - begin_ms;
  const reasons = complaints(what, stderr);
  if (timed_out) reasons.push(`${what}: not done within ${limit_ms / 1000} s`);
  else if (code !== 0) reasons.push(`${what}: exit code ${code}`);
  const rows = framesOf(stdout).find(({ rate }) => rate === null)?.rows ?? [];
  if (rows.length !== SEEK_FRAMES) reasons.push(`${what}: ${rows.length} frames, not ${SEEK_FRAMES}`);
  const start_s = shown[0]?.pts_s ?? 0;
  // A frame either way: its own zero is the first packet of any stream, a little before the first picture.
  const late_s = (rows[0]?.pts_s ?? NaN) - start_s - target_s;
  if (!(Math.abs(late_s) < 1 / expected.frame_rate + 0.001)) {
    reasons.push(`${what}: the first frame lies ${late_s.toFixed(3)} s after it`);
  }
  for (const row of rows) {
    const same = shown.find(({ pts_s }) => Math.abs(pts_s - row.pts_s) < 0.001);
    if (same?.crc !== row.crc) {
      reasons.push(`${what}: the picture at ${(row.pts_s - start_s).toFixed(3)} s is not the one that playing through shows`);
      break;
    }
  }
  return { reasons, took_ms };
}

export async function playFfmpeg({ media, variants, expected, seeks, limit_ms }) {
  const played = await playThrough(media, variants, expected, limit_ms);
  const reasons = [...played.reasons];
  const took = [];
  // FFmpeg 5.1 cannot seek in HLS with fMP4 segments, its own included: it ends without a picture.
  const transport = await isTransportStream(variants[0]);
  for (const target_s of transport ? seeks : []) {
    // A rendition by itself: its pictures are those of the play-through, whatever FFmpeg chooses of several.
    const done = await seek(variants[0].url, target_s, expected, played.pictures[0]?.rows ?? [], limit_ms);
    reasons.push(...done.reasons);
    took.push(done.took_ms);
  }
  return {
    version: await versionOf('ffmpeg', ['-version']),
    reasons,
    figures: {
      video_frames: played.pictures.map(({ rows }) => rows.length),
      audio_s: played.sounds.map(({ rows }) => Number(rows.reduce((sum, row) => sum + row.duration_s, 0).toFixed(3))),
      start_s: played.pictures.map(({ rows }) => Number((rows[0]?.pts_s ?? NaN).toFixed(4))),
      seeks: took.length,
      seek_max_ms: took.length ? Math.max(...took) : null,
    },
  };
}
