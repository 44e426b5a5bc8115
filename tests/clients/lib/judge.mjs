// What a page measured, against what the source is: the reasons for which a player did not play it right.
//
// Pure. What enters: the report of page/harness.js, the complaints that the browser made beside it, the
// expectations (from the source, never from the stream), and the renditions that the stream names. What
// leaves: a list of reasons, empty when all is well.

/** Standing still for longer, while it should play, is seen by everybody. */
const MAX_STALL_MS = 1000;
/** A hole in the buffer is a joint that does not fit; what is wider has not been fetched yet. */
const MAX_HOLE_S = 1;
/** Pictures decoded and not yet counted, and the one with which the title ends. */
const FRAMES_IN_FLIGHT = 2;
/** What a decoder that is in the middle of it may hold ahead at the one end and not at the other. */
const FRAMES_AHEAD = 12;
/** So late the first picture seen may be after a seek: the page may not look in time for the very first. */
const PICTURE_LATE_S = 0.25;

/** Where the ranges of a buffer nearly touch: [[end, begin], ...]. */
export function holes(ranges) {
  return ranges.slice(1)
    .map(([begin], index) => [ranges[index][1], begin])
    .filter(([end, begin]) => begin - end < MAX_HOLE_S);
}

const seconds = value => `${Number(value).toFixed(3)} s`;

/** What holds wherever it has played for a while. */
function played(what, step, expected, listed, in_flight = FRAMES_IN_FLIGHT) {
  const reasons = [];
  if (step.longest_stall_ms > MAX_STALL_MS) reasons.push(`${what}: stood still for ${step.longest_stall_ms} ms`);
  const wanted = Math.floor((step.to_s - step.from_s) * expected.frame_rate) - in_flight;
  if (step.frames < wanted) {
    reasons.push(`${what}: ${step.frames} frames decoded from ${seconds(step.from_s)} to ${seconds(step.to_s)}, at least ${wanted} are due`);
  }
  if (expected.audio && step.audio_bytes !== null && !(step.audio_bytes > 0)) reasons.push(`${what}: no audio decoded`);
  if (!listed.some(({ width, height }) => width === step.width && height === step.height)) {
    reasons.push(`${what}: the picture is ${step.width}x${step.height}, which is no rendition of the stream`);
  }
  for (const [end, begin] of holes(step.buffered)) {
    reasons.push(`${what}: a hole in the buffer from ${seconds(end)} to ${seconds(begin)}`);
  }
  return reasons;
}

/**
 * MPEG-TS says when pictures are decoded, and those that others refer to are decoded before the first one is
 * shown. hls.js and Shaka take the first decode time for the beginning of the title, whoever made the stream
 * (docs/clients.md): all that they show stands so much later.
 */
const DECODED_EARLY_S = 0.1;
const early = ({ player, transport }) => (transport && ['hls', 'shaka'].includes(player) ? DECODED_EARLY_S : 0);

function duration(what, value_s, expected, scenario) {
  const frame_s = 1 / expected.frame_rate;
  const late_s = value_s - expected.duration_s;
  // A millisecond more: seconds in floating point.
  return late_s >= -frame_s - 0.001 && late_s <= frame_s + early(scenario) + 0.001 ? []
    : [`${what} ${seconds(value_s)}, and ${seconds(expected.duration_s)} ± one frame was expected`];
}

function fromStart(step, expected, listed, lowest, scenario) {
  // Where the title begins later, so much later begin its pictures.
  const not_yet = Math.ceil(early(scenario) * expected.frame_rate);
  const reasons = played('from the start', step, expected, listed, FRAMES_IN_FLIGHT + not_yet);
  if (step.buffered.length !== 1) {
    reasons.push(`from the start: ${step.buffered.length} buffered ranges, not one: ${JSON.stringify(step.buffered)}`);
  }
  if (lowest && step.height !== lowest.height) {
    reasons.push(`from the start: the picture is ${step.height} high, and ${lowest.height} was chosen`);
  }
  return [...reasons, ...duration('from the start: the duration is', step.duration_s, expected, scenario)];
}

function sought(step, index, expected, listed) {
  const what = `seek ${index + 1} to ${seconds(step.target_s)}`;
  const reasons = played(what, step, expected, listed);
  const frame_s = 1 / expected.frame_rate;
  const late_s = step.picture_s - step.target_s;
  if (late_s < -frame_s - 0.002 || late_s > PICTURE_LATE_S) {
    reasons.push(`${what}: the first picture is that of ${seconds(step.picture_s)}`);
  }
  return reasons;
}

function switched(step, index, expected, player) {
  const what = `switch ${index + 1} to ${step.to.width}x${step.to.height}`;
  // VHS puts the new rendition under the playhead without a seek: the decoder goes on at the next key
  // frame, so that up to a segment's frames are never decoded. Its way, whatever the stream.
  const in_flight = player === 'videojs' ? Infinity : FRAMES_AHEAD;
  const reasons = played(what, step, expected, [step.to], in_flight);
  // Whoever asks for it at once has the buffer thrown away, which is as good as a seek; VHS always does that.
  if (!step.immediate && player !== 'videojs' && step.during_stall_ms > MAX_STALL_MS) {
    reasons.push(`${what}: stood still for ${step.during_stall_ms} ms meanwhile`);
  }
  return reasons;
}

function atEnd(step, expected, listed, scenario) {
  return [
    ...played('at the end', step, expected, listed),
    ...duration('at the end: it ended at', step.ended_at_s, expected, scenario),
    ...duration('at the end: the duration is', step.duration_s, expected, scenario),
  ];
}

/**
 * What the two say of the hole that they have so made before the first picture, where the browser has not
 * begun by itself before they look a second time: hls.js fills it with silence and steps over it, Shaka
 * jumps to where the buffer begins.
 */
const START_STEP_S = 0.25;
function isStartOfTransportStream({ source, step, text }, { transport }) {
  if (!transport || !['open', 'play'].includes(step)) return false;
  if (source === 'shaka') {
    const jump = /^jumped over a gap to ([0-9.]+)$/.exec(text);
    return jump !== null && Number(jump[1]) <= DECODED_EARLY_S;
  }
  if (source !== 'hls.js') return false;
  const to = /(?:adjusting currentTime|seeking) from 0 to ([0-9.]+)/.exec(text);
  const gap = /Injecting \d+ audio frames @ 0\.0\d+s due to (\d+) ms gap/.exec(text);
  return (to !== null && Number(to[1]) <= START_STEP_S) || (gap !== null && Number(gap[1]) <= DECODED_EARLY_S * 1000);
}

/** Shaka has been asked to take MPEG-TS apart where its page runs, as it does by itself. */
const IN_THE_PAGE = 'Transmuxer worker URL is not configured';
const isInThePage = ({ source, text }) => source === 'console' && text.includes(IN_THE_PAGE);

/**
 * Shaka calls it a stall when a second goes by between the first piece of a segment that is in its buffer and
 * the first picture on the screen. While a start or a seek is waited for, that time is in its figure already.
 */
const isShakaStarting = ({ source, starting, text }) => source === 'shaka' && starting === true && text.startsWith('stall detected');

/** Chromium's word for any stream with picture and sound in one segment, which its own HLS plays by sequence. */
const MUXED_IN_SEQUENCE = 'ParseWarning (primary): 1';
const isMuxed = ({ source, text }) => source === 'chromium media' && text === MUXED_IN_SEQUENCE;

/** VHS has thrown its buffer away for another rendition, and waits for the first segment of that. */
const isVhsWaiting = ({ source, step, text }) => source === 'video.js' && step.startsWith('switch') && text === 'vhs-unknown-waiting';

/**
 * Shaka's debug build compares what a segment has added to the buffer with its length. Whoever changes the rendition
 * at once keeps a second of the old one, so the first segment of the new one adds less: its end only.
 */
function isOverKeptSecond({ source, step, text }, scenario) {
  const told = /Unexpected buffered range.*should be \{"start":([0-9.]+),"end":([0-9.]+)\} but got \{"start":([0-9.]+),"end":([0-9.]+)\}/.exec(text);
  // The first change is the one that is not at once.
  if (source !== 'console' || !step.startsWith('switch') || step === 'switch 1' || told === null) return false;
  const [begin, end, from, to] = told.slice(1).map(Number);
  return from > begin && to > end - 0.06 && to < end + early(scenario) + 0.06;
}

/**
 * hls.js has let go of what it was fetching: when it was told to take another rendition at once, or when it sought
 * away from there. What fails on the way, or is given up because it takes too long, has other words.
 */
function isOwnAbort({ source, step, starting, text }) {
  const asked = step.startsWith('switch') || (starting === true && (step.startsWith('seek') || step === 'end'));
  return source === 'hls.js' && asked && text === 'networkError aborted Aborted';
}

/** Complaints, each once, with how often and where it came first. */
function complaints(all, scenario) {
  const notices = all.filter(notice => !isStartOfTransportStream(notice, scenario) && !isMuxed(notice)
    && !isVhsWaiting(notice) && !isShakaStarting(notice) && !isInThePage(notice)
    && !isOverKeptSecond(notice, scenario) && !isOwnAbort(notice));
  const seen = new Map();
  for (const notice of notices) {
    const key = `${notice.source}: ${notice.text}`;
    const entry = seen.get(key) ?? { ...notice, count: 0 };
    entry.count += 1;
    seen.set(key, entry);
  }
  return [...seen].map(([key, { level, step, count }]) => `${level} in ${step}${count > 1 ? `, ${count} times` : ''}: ${key}`);
}

function totals(total, expected) {
  const reasons = [];
  if (!(total.frames > 0)) reasons.push('not one frame was decoded');
  if (expected.audio && total.audio_bytes === null && total.has_audio !== true) reasons.push('the browser knows of no audio');
  if (expected.audio && total.audio_bytes !== null && !(total.audio_bytes > 0)) reasons.push('not one byte of audio was decoded');
  return reasons;
}

/** Every step that was to be done has been. */
function missing(steps, scenario) {
  const done = [
    ['play', steps.play ? 1 : 0, 1],
    ['seeks', steps.seeks?.length ?? 0, scenario.seeks.length],
    ['end', steps.end ? 1 : 0, 1],
  ];
  return done.filter(([, have, want]) => have !== want).map(([name, have, want]) => `${name}: ${have} of ${want} done`);
}

/** Why this was no good; nothing: it was. */
export function judge(report, scenario, expected, variants) {
  const { steps = {}, total, player_figures: figures = {} } = report;
  const listed = variants.filter(({ height }) => height > 0);
  const lowest = scenario.player === 'native' ? null : [...listed].sort((a, b) => a.height - b.height)[0];
  const reasons = [];
  if (report.failed) reasons.push(`gave up in ${report.failed_in}: ${report.failed}`);
  else reasons.push(...missing(steps, scenario));
  reasons.push(...complaints(report.notices ?? [], scenario));
  for (const [name, count] of Object.entries(figures)) {
    if (count > 0 && name !== 'mediaRequestsAborted') reasons.push(`the player counts ${name}: ${count}`);
  }
  if (total) reasons.push(...totals(total, expected));
  if (steps.play) reasons.push(...fromStart(steps.play, expected, listed, lowest, scenario));
  (steps.seeks ?? []).forEach((step, index) => reasons.push(...sought(step, index, expected, listed)));
  (steps.switches ?? []).forEach((step, index) => reasons.push(...switched(step, index, expected, scenario.player)));
  if (steps.end) reasons.push(...atEnd(steps.end, expected, listed, scenario));
  return reasons;
}

const median = values => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];

/** The figures of one player that are worth a line. */
export function figures(report) {
  const { steps = {}, total } = report;
  const seeks = steps.seeks ?? [];
  const all = [steps.play, ...seeks, ...(steps.switches ?? []), steps.end].filter(Boolean);
  const rounded = value => (value === undefined ? null : Math.round(value));
  return {
    start_ms: rounded(steps.play?.playing_ms),
    seeks: seeks.length,
    seek_median_ms: rounded(median(seeks.map(({ playing_ms }) => playing_ms))),
    seek_max_ms: seeks.length ? rounded(Math.max(...seeks.map(({ playing_ms }) => playing_ms))) : null,
    switch_ms: (steps.switches ?? []).map(({ took_ms }) => Math.round(took_ms)),
    longest_stall_ms: all.length ? Math.max(...all.map(({ longest_stall_ms }) => longest_stall_ms)) : null,
    latest_sample_ms: all.length ? Math.max(...all.map(({ latest_sample_ms }) => latest_sample_ms)) : null,
    duration_s: steps.end?.duration_s ?? steps.play?.duration_s ?? null,
    frames: total?.frames ?? null,
    dropped: total?.dropped ?? null,
    audio_bytes: total?.audio_bytes ?? null,
    took_ms: report.took_ms ?? null,
  };
}
