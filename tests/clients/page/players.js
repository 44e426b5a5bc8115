// The four players behind one face: open, name the qualities, choose one, say what went wrong.
//
// Each starts on its lowest rendition and stays there until `select`: what is measured must not depend
// on how fast the machine happens to be. Every complaint of a player is passed on, harmless or not.

// So much is buffered ahead, in seconds: several segments, so that their joints are seen, and not so much
// that a player that changes the rendition only in what it has yet to fetch takes all day.
const AHEAD_S = 16;

function script(path) {
  return new Promise((resolve, reject) => {
    const element = document.createElement('script');
    element.src = path;
    element.onload = resolve;
    element.onerror = () => reject(new Error(`${path} does not load`));
    document.head.append(element);
  });
}

/** Hls.js: every ERROR event counts, those that it calls not fatal too, and so does a warning in its log. */
async function hls(video, media, note) {
  await script('/lib/hls.js');
  const { Hls } = window;
  const logger = { trace() {}, debug() {}, log() {}, info() {} };
  logger.warn = (...words) => note('warn', 'hls.js', words.join(' '));
  logger.error = (...words) => note('error', 'hls.js', words.join(' '));
  const player = new Hls({ debug: logger, startLevel: 0, maxBufferLength: AHEAD_S, maxMaxBufferLength: AHEAD_S });
  let parsed = false;
  player.on(Hls.Events.MANIFEST_PARSED, () => {
    // Naming a level turns its own choice off. They are sorted, the lowest first.
    player.loadLevel = 0;
    parsed = true;
  });
  player.on(Hls.Events.ERROR, (_, data) => {
    note('error', 'hls.js', `${data.type} ${data.details} ${data.reason ?? data.error?.message ?? ''}`, data.fatal);
  });
  player.loadSource(media);
  player.attachMedia(video);
  return {
    version: Hls.version,
    ready: () => parsed,
    qualities: () => player.levels.map(({ width, height }, id) => ({ id, width, height })),
    select(quality, immediate) {
      if (immediate) player.currentLevel = quality.id;
      else player.nextLevel = quality.id;
    },
    figures: () => ({}),
  };
}

/** As the multivariant playlist says. */
async function lowestHeight(media) {
  const playlist = await (await fetch(media)).text();
  return Math.min(...[...playlist.matchAll(/RESOLUTION=\d+x(\d+)/g)].map(([, height]) => Number(height)));
}

/** Shaka: its debug build, which says on the console what the other one keeps to itself. */
async function shaka(video, media, note) {
  await script('/lib/shaka.js');
  const { shaka: library } = window;
  library.log.setLevel(library.log.Level.WARNING);
  library.polyfill.installAll();
  const player = new library.Player();
  player.addEventListener('error', ({ detail }) => {
    note('error', 'shaka', `${detail.code} ${detail.message}`, detail.severity === library.util.Error.Severity.CRITICAL);
  });
  // It has set the time by then: where to is what is told.
  player.addEventListener('gapjumped', () => note('warn', 'shaka', `jumped over a gap to ${video.currentTime}`));
  player.addEventListener('stalldetected', () => note('warn', 'shaka', `stall detected at ${video.currentTime}`));
  await player.attach(video);
  // MPEG-TS is taken apart in the page, as Shaka does by itself: with its worker, 5.2.12 hands a segment over and then
  // reads it once more when a rendition is changed at once ("attempting to access detached ArrayBuffer").
  player.configure({
    // No choice of its own, and no other for its first one.
    abr: { enabled: false, restrictions: { maxHeight: await lowestHeight(media) } },
    streaming: { bufferingGoal: AHEAD_S },
  });
  // The event has told; a rejection says the same once more.
  player.load(media).catch(error => note('error', 'shaka', `${error.code} ${error.message}`, true));
  return {
    version: library.Player.version,
    ready: () => player.getVariantTracks().length > 0,
    qualities: () => player.getVariantTracks().map(({ id, width, height }) => ({ id, width, height })),
    select(quality, immediate) {
      const track = player.getVariantTracks().find(({ id }) => id === quality.id);
      // What is buffered and not yet shown is kept or thrown away, but for the second that is being shown.
      player.selectVariantTrack(track, immediate, 1);
    },
    figures: () => ({ nonFatalErrorCount: player.getStats().nonFatalErrorCount }),
  };
}

// What VHS calls the moments in which it helps itself over something that is not as it should be.
const VHS_REPAIRS = ['vhs-gap-skip', 'vhs-unknown-waiting', 'vhs-video-underflow', 'vhs-rendition-excluded',
  'vhs-error-reload', 'vhs-live-resync'];

async function videojs(video, media, note) {
  await script('/lib/videojs.js');
  const { videojs: library } = window;
  // It warns whoever touches these two, which is not what is listened for.
  library.log.level('error');
  library.Vhs.GOAL_BUFFER_LENGTH = AHEAD_S;
  library.Vhs.MAX_GOAL_BUFFER_LENGTH = AHEAD_S;
  library.log.level('warn');
  const player = library(video, {
    muted: true,
    html5: { vhs: { overrideNative: true, enableLowInitialPlaylist: true, limitRenditionByPlayerDimensions: false } },
  });
  player.on('error', () => note('error', 'video.js', `${player.error()?.code} ${player.error()?.message}`, true));
  const tech = () => player.tech({ IWillNotUseThisInPlugins: true });
  const qualities = () => (tech()?.vhs?.representations?.() ?? []);
  let pinned = false;
  // The wanted one first: without any that it may use, VHS stays where it is.
  function pin(quality) {
    const all = qualities();
    for (const each of all.filter(({ id }) => id === quality.id)) each.enabled(true);
    for (const each of all.filter(({ id }) => id !== quality.id)) each.enabled(false);
  }
  player.on('loadedmetadata', () => {
    const lowest = [...qualities()].sort((a, b) => a.height - b.height)[0];
    if (lowest && !pinned) pin(lowest);
    pinned = true;
  });
  player.ready(() => {
    tech().on('usage', ({ name }) => {
      if (VHS_REPAIRS.includes(name)) note('warn', 'video.js', name);
    });
    player.src({ src: media, type: 'application/vnd.apple.mpegurl' });
  });
  return {
    version: library.VERSION,
    ready: () => pinned,
    qualities: () => qualities().map(({ id, width, height }) => ({ id, width, height })),
    // VHS throws away what is not shown yet, unless a segment comes in at just this moment: then it keeps it.
    select: quality => pin(quality),
    figures() {
      const { mediaRequestsErrored, mediaRequestsTimedout, mediaRequestsAborted } = tech()?.vhs?.stats ?? {};
      return { mediaRequestsErrored, mediaRequestsTimedout, mediaRequestsAborted };
    },
  };
}

/** The browser's own HLS. It has no way to name a rendition. */
async function native(video, media) {
  if (!video.canPlayType('application/vnd.apple.mpegurl')) throw new Error('this browser has no HLS of its own');
  video.src = media;
  return { version: 'native', ready: () => true, qualities: () => [], select() {}, figures: () => ({}) };
}

const PLAYERS = { hls, shaka, videojs, native };

export function openPlayer(name, video, media, note) {
  const open = PLAYERS[name];
  if (!open) throw new Error(`no player ${name}`);
  return open(video, media, note);
}
