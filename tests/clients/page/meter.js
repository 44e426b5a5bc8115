// Measures a video element from outside the player: what was decoded, what stood still, what is buffered.
//
// No player's own figures are used: they are what is under test.

export const now = () => performance.now();

const SAMPLE_MS = 20;
// A sample that comes later than this means that the page did not get the processor, not that the video
// stood still all that time.
const LATE_SAMPLE_MS = 100;

/** Looks until it is so; says what was waited for when it takes too long. */
export async function waitFor(condition, timeout_ms, what) {
  const begin_ms = now();
  while (!condition()) {
    if (now() - begin_ms > timeout_ms) throw new Error(`not within ${timeout_ms} ms: ${what()}`);
    await new Promise(resolve => setTimeout(resolve, SAMPLE_MS));
  }
}

export class Meter {
  constructor(video) {
    this.video = video;
    this.firstPicture = null;
    this.last = { at_ms: now(), media_s: video.currentTime };
    this.begin();
    setInterval(() => this.sample(), SAMPLE_MS);
    this.awaitPicture();
  }

  /** The buffered ranges as [[begin, end], ...], in seconds to the millisecond. */
  static ranges(video) {
    const round = seconds => Math.round(seconds * 1000) / 1000;
    return Array.from({ length: video.buffered.length },
      (_, index) => [round(video.buffered.start(index)), round(video.buffered.end(index))]);
  }

  /** From now on, the next picture that is shown is the first. */
  expectPicture() {
    this.firstPicture = null;
    this.asked_ms = now();
  }

  awaitPicture() {
    this.video.requestVideoFrameCallback((_, frame) => {
      // While a seek is on, the picture of before may still come.
      if (this.firstPicture === null && !this.video.seeking) {
        this.firstPicture = { at_ms: now(), media_s: frame.mediaTime };
      }
      this.awaitPicture();
    });
  }

  sample() {
    const at_ms = now();
    const elapsed_ms = at_ms - this.last.at_ms;
    const { currentTime, paused, ended, seeking } = this.video;
    const moved = currentTime !== this.last.media_s || paused || ended || seeking;
    this.standing_ms = moved ? 0 : this.standing_ms + Math.min(elapsed_ms, LATE_SAMPLE_MS);
    this.longest_stall_ms = Math.max(this.longest_stall_ms, this.standing_ms);
    this.latest_sample_ms = Math.max(this.latest_sample_ms, elapsed_ms);
    this.last = { at_ms, media_s: currentTime };
  }

  totals() {
    const { video } = this;
    const quality = video.getVideoPlaybackQuality();
    return {
      frames: quality.totalVideoFrames,
      dropped: quality.droppedVideoFrames,
      // Chromium counts bytes; Firefox says only whether there is sound.
      audio_bytes: video.webkitAudioDecodedByteCount ?? null,
      has_audio: video.mozHasAudio ?? null,
    };
  }

  /** From here on frames and sound are counted; `from_s`: from where on it plays. */
  begin(from_s = this.video.currentTime) {
    this.watchStalls();
    this.before = { ...this.totals(), at_ms: now(), from_s };
  }

  /** From here on it should not stand still. */
  watchStalls() {
    this.standing_ms = 0;
    this.longest_stall_ms = 0;
    this.latest_sample_ms = 0;
  }

  /** What happened since `begin`. */
  end() {
    const { before } = this;
    const after = this.totals();
    return {
      from_s: before.from_s,
      to_s: this.video.currentTime,
      took_ms: now() - before.at_ms,
      frames: after.frames - before.frames,
      dropped: after.dropped - before.dropped,
      audio_bytes: after.audio_bytes === null ? null : after.audio_bytes - before.audio_bytes,
      longest_stall_ms: Math.round(this.longest_stall_ms),
      latest_sample_ms: Math.round(this.latest_sample_ms),
      width: this.video.videoWidth,
      height: this.video.videoHeight,
      buffered: Meter.ranges(this.video),
    };
  }
}
