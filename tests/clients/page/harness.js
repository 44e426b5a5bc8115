// Plays one scenario with one player and reports numbers.
//
// What enters: GET /scenario (player, media URL, seeks, switches, lengths of time). What leaves: POST
// /report, once, with what was measured in every step and everything that the player or the browser
// complained of. Nothing is judged here: lib/judge.mjs does that, where it can be tested without a
// browser. The page drives itself, so that a browser without a debugging port can play it too.

import { Meter, waitFor, now } from './meter.js';
import { openPlayer } from './players.js';

const video = document.getElementById('video');
// Set here as well: Firefox does not take the attribute for a permission to play.
video.muted = true;

const notices = [];
let step = 'open';
/** Between a request and the moment from which it plays: how long that takes is a figure of its own. */
let starting = false;

/** Everything that anybody complains of: kept with the step in which it happened. */
function note(level, source, text, fatal = false) {
  notices.push({ at_ms: Math.round(now()), step, starting, level, source, text: String(text).slice(0, 2000), fatal });
}

function captureConsole() {
  for (const level of ['warn', 'error']) {
    const original = console[level].bind(console);
    console[level] = (...words) => {
      note(level, 'console', words.map(word => (word instanceof Error ? word.stack : text(word))).join(' '));
      original(...words);
    };
  }
  addEventListener('error', event => note('error', 'page', event.message, true));
  addEventListener('unhandledrejection', event => note('error', 'page', text(event.reason), true));
  video.addEventListener('error', () => {
    const { code, message } = video.error ?? {};
    note('error', 'video', `MediaError ${code}: ${message}`, true);
  });
}

function text(word) {
  if (word instanceof Error) return word.stack ?? word.message;
  if (typeof word !== 'object') return String(word);
  try { return JSON.stringify(word); } catch { return String(word); }
}

const broken = () => notices.find(notice => notice.fatal);

/** Waits for something about the video; a fatal complaint ends the wait at once. */
async function until(what, condition, timeout_ms) {
  await waitFor(() => {
    const notice = broken();
    if (notice) throw new Error(`${notice.source}: ${notice.text}`);
    return condition();
  }, timeout_ms, () => `${what} (${state()})`);
}

function state() {
  return `at ${video.currentTime.toFixed(3)} s, readyState ${video.readyState}, ${video.paused ? 'paused' : 'playing'}, `
    + `${video.videoWidth}x${video.videoHeight}, buffered ${JSON.stringify(Meter.ranges(video))}`;
}

/** Lets it play for so much of media time; what is measured goes back to where the meter began. */
async function watch(meter, media_s, timeout_ms) {
  const goal_s = Math.min(video.currentTime + media_s, video.duration - 0.25);
  meter.watchStalls();
  await until(`played to ${goal_s.toFixed(3)} s`, () => video.currentTime >= goal_s, timeout_ms);
  return meter.end();
}

/** From the request until there is a picture and time moves on. */
async function untilPlaying(meter, what, begin_ms, from_s, timeout_ms) {
  starting = true;
  await until(`${what}: a first picture`, () => meter.firstPicture !== null, timeout_ms);
  const first_picture_ms = meter.firstPicture.at_ms - begin_ms;
  await until(`${what}: time moving on`, () => !video.seeking && video.currentTime > from_s + 0.02, timeout_ms);
  starting = false;
  return { first_picture_ms, playing_ms: now() - begin_ms, picture_s: meter.firstPicture.media_s };
}

async function playFromStart(meter, scenario) {
  const begin_ms = now();
  meter.begin(0);
  meter.expectPicture();
  // Not awaited: on media that cannot be played it never settles.
  video.play().catch(error => note('error', 'play', error.message, true));
  const start = await untilPlaying(meter, 'start', begin_ms, 0, scenario.timeout_ms);
  const played = await watch(meter, scenario.play_s, scenario.timeout_ms + scenario.play_s * 1000);
  return { ...start, ...played, duration_s: video.duration, width: video.videoWidth, height: video.videoHeight };
}

async function seek(meter, target_s, scenario) {
  const begin_ms = now();
  // Before the seek: the decoder begins afresh at a key frame, so nothing that it had ahead counts.
  meter.begin(target_s);
  meter.expectPicture();
  video.currentTime = target_s;
  const start = await untilPlaying(meter, `seek to ${target_s} s`, begin_ms, target_s, scenario.timeout_ms);
  const played = await watch(meter, scenario.seek_play_s, scenario.timeout_ms);
  return { target_s, ...start, ...played };
}

/** Changes the rendition and waits for a picture of its size. */
async function switchTo(meter, player, quality, immediate, scenario) {
  const begin_ms = now();
  meter.begin();
  player.select(quality, immediate);
  await until(`a picture of ${quality.width}x${quality.height}`,
    () => video.videoWidth === quality.width && video.videoHeight === quality.height, scenario.switch_timeout_ms);
  const took_ms = now() - begin_ms;
  const during = meter.end();
  meter.begin();
  const played = await watch(meter, scenario.seek_play_s, scenario.timeout_ms);
  return { to: quality, immediate, took_ms, during_stall_ms: during.longest_stall_ms, ...played };
}

/** One change up and back down, the first as the player does it by itself, the second at once. */
async function switches(meter, player, scenario) {
  const qualities = player.qualities().sort((a, b) => a.height - b.height);
  if (qualities.length < 2) return [];
  const [lowest, highest] = [qualities[0], qualities.at(-1)];
  const done = [];
  // A place that is in the buffer of neither: a change is seen as soon as its first segment is there.
  await seek(meter, scenario.switch_at_s, scenario);
  for (const [index, quality] of [highest, lowest].slice(0, scenario.switches).entries()) {
    step = `switch ${index + 1}`;
    done.push(await switchTo(meter, player, quality, index > 0, scenario));
  }
  return done;
}

async function playToEnd(meter, scenario) {
  const from_s = Math.max(0, scenario.duration_s - scenario.end_play_s);
  const start = await seek(meter, from_s, { ...scenario, seek_play_s: 0.5 });
  await until('the end', () => video.ended, scenario.timeout_ms + scenario.end_play_s * 1000);
  return { ...start, ...meter.end(), ended_at_s: video.currentTime, duration_s: video.duration };
}

async function perform(scenario, report) {
  const meter = new Meter(video);
  report.steps = {};
  const player = await openPlayer(scenario.player, video, scenario.media, note);
  report.version = player.version;
  try {
    await until('metadata', () => player.ready() && video.readyState >= 1, scenario.timeout_ms);
    report.qualities = player.qualities();
    step = 'play';
    report.steps.play = await playFromStart(meter, scenario);
    report.steps.seeks = [];
    for (const [index, target_s] of scenario.seeks.entries()) {
      step = `seek ${index + 1}`;
      report.steps.seeks.push(await seek(meter, target_s, scenario));
    }
    if (scenario.switches > 0) {
      step = 'switch';
      report.steps.switches = await switches(meter, player, scenario);
    }
    step = 'end';
    report.steps.end = await playToEnd(meter, scenario);
  } finally {
    report.total = meter.totals();
    report.player_figures = player.figures();
  }
}

async function main() {
  captureConsole();
  const scenario = await (await fetch('/scenario')).json();
  const report = { player: scenario.player, user_agent: navigator.userAgent, failed: null };
  try {
    await perform(scenario, report);
  } catch (error) {
    report.failed = `${error.message}`;
    report.failed_in = step;
  }
  report.notices = notices;
  report.took_ms = Math.round(now());
  await fetch('/report', { method: 'POST', body: JSON.stringify(report) });
}

main();
