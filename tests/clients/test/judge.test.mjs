// The judge and the small readers, without a browser: each reason is given when, and only when, it holds.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { holes, judge } from '../lib/judge.mjs';
import { rangeOf } from '../lib/media-server.mjs';
import { framesOf } from '../lib/ffmpeg.mjs';
import { seekTargets, variantsOf } from '../lib/stream.mjs';

const expected = { duration_s: 60, frame_rate: 25, frames: 1500, audio: true };
const variants = [{ width: 1280, height: 720 }, { width: 426, height: 240 }];
const scenario = { player: 'hls', seeks: [20] };

const step = more => ({
  from_s: 0, to_s: 6, frames: 152, dropped: 0, audio_bytes: 90000, longest_stall_ms: 40, latest_sample_ms: 30,
  width: 426, height: 240, buffered: [[0, 16]], ...more,
});

function sound() {
  return {
    failed: null,
    notices: [],
    player_figures: {},
    total: { frames: 260, dropped: 0, audio_bytes: 200000, has_audio: null },
    steps: {
      play: step({ duration_s: 60 }),
      seeks: [step({ target_s: 20, picture_s: 20, from_s: 20, to_s: 21.5, frames: 40, buffered: [[0, 16], [20, 36]] })],
      end: step({ from_s: 57, to_s: 60, frames: 76, buffered: [[56, 60]], ended_at_s: 60.02, duration_s: 60.02 }),
    },
  };
}

/** Each row: what is wrong, how it comes about, and the reason that has to be given. */
const WRONG = [
  ['a stall', report => { report.steps.play.longest_stall_ms = 1001; }, /stood still for 1001 ms/],
  ['frames that are missing', report => { report.steps.play.frames = 140; }, /140 frames decoded/],
  ['no sound after a seek', report => { report.steps.seeks[0].audio_bytes = 0; }, /seek 1 .* no audio decoded/],
  ['no picture', report => { report.steps.play.width = 0; report.steps.play.height = 0; }, /picture is 0x0/],
  ['another rendition', report => { report.steps.play.width = 1280; report.steps.play.height = 720; }, /720 high, and 240 was chosen/],
  ['two ranges', report => { report.steps.play.buffered = [[0, 4], [12, 16]]; }, /2 buffered ranges/],
  ['a hole', report => { report.steps.seeks[0].buffered = [[20, 24], [24.1, 28]]; }, /a hole in the buffer from 24.000 s/],
  ['a wrong duration', report => { report.steps.play.duration_s = 60.1; }, /the duration is 60.100 s/],
  ['an early end', report => { report.steps.end.ended_at_s = 59.9; }, /it ended at 59.900 s/],
  ['an early picture', report => { report.steps.seeks[0].picture_s = 16; }, /first picture is that of 16.000 s/],
  ['a warning', report => { report.notices.push({ level: 'warn', source: 'hls.js', text: 'hole', step: 'play' }); }, /hls.js: hole/],
  ['what a player counts', report => { report.player_figures.nonFatalErrorCount = 1; }, /nonFatalErrorCount: 1/],
  ['a jump over a gap', report => { report.notices.push({ level: 'warn', source: 'shaka', step: 'seek 1', text: 'jumped over a gap to 20.08' }); }, /jumped over a gap to 20.08/],
  ['a step that was left out', report => { report.steps.seeks = []; }, /seeks: 0 of 1 done/],
  ['giving up', report => { report.failed = 'no picture'; report.failed_in = 'play'; }, /gave up in play: no picture/],
  ['no audio at all', report => { report.total.audio_bytes = 0; }, /not one byte of audio/],
  ['a browser that knows of none', report => { report.total.audio_bytes = null; report.total.has_audio = false; }, /knows of no audio/],
];

test('what is sound gives no reason', () => {
  assert.deepEqual(judge(sound(), scenario, expected, variants), []);
});

/** hls.js over the hole before the first picture: its own, and so no reason; any other hole is one. */
const stepped = (step, from, to, source = 'hls.js') => {
  const report = sound();
  report.notices.push({ level: 'warn', source, step, text: `skipping hole, adjusting currentTime from ${from} to ${to}` });
  report.notices.push({ level: 'error', source, step, text: `mediaError bufferSeekOverHole fragment loaded with buffer holes, seeking from ${from} to ${to}` });
  return judge(report, { ...scenario, transport: true }, expected, variants).length;
};

test('hls.js may step over what it puts before the first picture, and over nothing else', () => {
  assert.equal(stepped('play', 0, 0.18), 0);
  assert.equal(stepped('play', 0, 0.3), 2, 'a longer hole');
  assert.equal(stepped('play', 4, 4.18), 2, 'a hole elsewhere');
  assert.equal(stepped('seek 1', 0, 0.18), 2, 'after a seek');
  assert.equal(stepped('play', 0, 0.18, 'shaka'), 2, 'another player');
});

/** The same of Shaka; and it may take its time to start, which is measured, but not stand still while it plays. */
const complained = (text, more, transport = true) => {
  const report = sound();
  report.notices.push({ level: 'warn', source: 'shaka', text, step: 'play', starting: false, ...more });
  return judge(report, { ...scenario, player: 'shaka', transport }, expected, variants).length;
};

test('Shaka may jump to the first picture of MPEG-TS, and over nothing else', () => {
  assert.equal(complained('jumped over a gap to 0.08'), 0);
  assert.equal(complained('jumped over a gap to 0.08', {}, false), 1, 'fragmented MP4 begins at once');
  assert.equal(complained('jumped over a gap to 0.2'), 1, 'a longer hole');
  assert.equal(complained('jumped over a gap to 0.08', { step: 'seek 1' }), 1, 'after a seek');
  assert.equal(complained('stall detected at 20', { step: 'seek 1', starting: true }), 0);
  assert.equal(complained('stall detected at 21', { step: 'seek 1' }), 1, 'while it plays');
  assert.equal(complained('jumped over a gap to 20.08', { step: 'seek 1', starting: true }), 1, 'a hole, whenever');
});

test('the first segment of a rendition that Shaka takes at once may add less than it is long, at its front', () => {
  const added = (from, to, step = 'switch 2', transport = false) => {
    const report = sound();
    const text = `Possible encoding problem detected! Unexpected buffered range for reference {} from URIs [] should be {"start":36,"end":40} but got {"start":${from},"end":${to}}`;
    report.notices.push({ level: 'error', source: 'console', step, text });
    return judge(report, { ...scenario, player: 'shaka', transport }, expected, variants).length;
  };
  assert.equal(added(38.6, 40.081, 'switch 2', true), 0);
  assert.equal(added(38.6, 40.081), 1, 'it ends too late');
  assert.equal(added(38.52, 39.957), 0);
  assert.equal(added(38.52, 39.8), 1, 'it ends too early');
  assert.equal(added(35.9, 40), 1, 'it begins too early');
  assert.equal(added(38.52, 40, 'seek 1'), 1, 'nothing was changed');
  assert.equal(added(38.52, 40, 'switch 1'), 1, 'nothing of the old one is kept');
});

test('hls.js may let go of what it fetches when another rendition or place is wanted, and never else', () => {
  const aborted = (step, starting, text = 'networkError aborted Aborted') => {
    const report = sound();
    report.notices.push({ level: 'error', source: 'hls.js', step, starting, text });
    return judge(report, scenario, expected, variants).length;
  };
  assert.equal(aborted('switch 2', false), 0);
  assert.equal(aborted('seek 1', true), 0);
  assert.equal(aborted('end', true), 0);
  assert.equal(aborted('seek 1', false), 1, 'it was there already');
  assert.equal(aborted('end', false), 1);
  assert.equal(aborted('play', true), 1, 'nothing was being fetched');
  assert.equal(aborted('seek 1', true, 'networkError fragLoadError Aborted'), 1);
});

test('Shaka may say that it takes a stream apart in its page, and nobody else', () => {
  const said = source => {
    const report = sound();
    report.notices.push({ level: 'warn', source, step: 'open', text: 'Transmuxer worker URL is not configured: ...' });
    return judge(report, { ...scenario, player: 'shaka' }, expected, variants).length;
  };
  assert.equal(said('console'), 0);
  assert.equal(said('shaka'), 1);
});

test('where the title begins later, so do its pictures', () => {
  const decoded = (frames, player, transport) => {
    const report = sound();
    report.steps.play.frames = frames;
    return judge(report, { ...scenario, player, transport }, expected, variants).length;
  };
  assert.equal(decoded(145, 'hls', true), 0);
  assert.equal(decoded(144, 'hls', true), 1);
  assert.equal(decoded(145, 'hls', false), 1);
  assert.equal(decoded(145, 'videojs', true), 1);
});

test('what is decoded early makes MPEG-TS longer for two players, and fMP4 for none', () => {
  const ended = (player, transport, end_s) => {
    const report = sound();
    Object.assign(report.steps.end, { ended_at_s: end_s, duration_s: end_s });
    return judge(report, { ...scenario, player, transport }, expected, variants).filter(reason => reason.startsWith('at the end')).length;
  };
  assert.equal(ended('hls', true, 60.09), 0);
  assert.equal(ended('shaka', true, 60.09), 0);
  assert.equal(ended('hls', true, 60.16), 2, 'longer than that');
  assert.equal(ended('hls', true, 59.95), 2, 'shorter');
  assert.equal(ended('hls', false, 60.09), 2, 'fMP4');
  assert.equal(ended('videojs', true, 60.09), 2, 'another player');
});

for (const [what, spoil, reason] of WRONG) {
  test(`${what} is noticed`, () => {
    const report = sound();
    spoil(report);
    const reasons = judge(report, scenario, expected, variants);
    assert.ok(reasons.some(each => reason.test(each)), `wanted ${reason}, found ${JSON.stringify(reasons)}`);
  });
}

test('a gap that has not been fetched is no hole', () => {
  assert.deepEqual(holes([[0, 16], [20, 36]]), []);
  assert.deepEqual(holes([[0, 16], [16.04, 36]]), [[16, 16.04]]);
});

test('a multivariant playlist is read as listed', () => {
  const text = '#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=900,CODECS="avc1.64001f,mp4a.40.2",RESOLUTION=426x240,FRAME-RATE=25.000\n240p/index.m3u8\n';
  assert.deepEqual(variantsOf(text, 'http://h/a/master.m3u8'), [{
    url: 'http://h/a/240p/index.m3u8', bandwidth: 900, width: 426, height: 240, frame_rate: 25, codecs: 'avc1.64001f,mp4a.40.2',
  }]);
});

test('the same seed seeks to the same places, within the title', () => {
  const targets = seekTargets(50, 7, 60, 2.5);
  assert.deepEqual(targets, seekTargets(50, 7, 60, 2.5));
  assert.notDeepEqual(targets, seekTargets(50, 8, 60, 2.5));
  assert.ok(targets.every(target => target >= 0 && target < 57.5));
  assert.ok(new Set(targets.map(target => Math.floor(target / 10))).size >= 5, 'they are spread');
});

test('byte ranges are cut as they are asked for', () => {
  assert.deepEqual(rangeOf('bytes=0-', 10), [0, 9]);
  assert.deepEqual(rangeOf('bytes=2-40', 10), [2, 9]);
  assert.deepEqual(rangeOf('bytes=-3', 10), [7, 9]);
  assert.equal(rangeOf('bytes=10-', 10), undefined);
  assert.equal(rangeOf(undefined, 10), null);
});

test('rows of framecrc go to their streams', () => {
  const text = '#tb 0: 1/25\n#media_type 0: video\n#tb 1: 1/48000\n#sample_rate 1: 48000\n0, 3, 3, 1, 460800, 0x1\n1, 1024, 1024, 1024, 4096, 0x2\n';
  const [video, audio] = framesOf(text);
  assert.deepEqual(video, { rate: null, rows: [{ pts_s: 0.12, duration_s: 0.04, bytes: 460800, crc: '0x1' }] });
  assert.equal(audio.rate, 48000);
  assert.equal(audio.rows[0].duration_s, 1024 / 48000);
});
