// Faults as streams have them, planted into a sound one while it is served.
//
// They exist to show that the harness notices: each is one that some player plays over without a word.
// Pure but for `slow`, which takes its time.

const PACKET_BYTES = 188;
const PAT_PID = 0;

const segmentIndex = path => {
  const match = /\/(\d+)\.(ts|m4s)$/.exec(path);
  return match ? Number(match[1]) : null;
};
const isMedia = path => segmentIndex(path) !== null;

const pidOf = packet => ((packet[1] & 0x1f) << 8) | packet[2];
const startsUnit = packet => (packet[1] & 0x40) !== 0;
const payloadOf = packet => {
  const control = (packet[3] >> 4) & 3;
  return (control & 1) === 0 ? null : packet.subarray(4 + (control & 2 ? 1 + packet[4] : 0));
};

function* packetsOf(bytes) {
  for (let at = 0; at + PACKET_BYTES <= bytes.length; at += PACKET_BYTES) yield bytes.subarray(at, at + PACKET_BYTES);
}

/** The PID of the program's table, out of the PAT. */
function pmtPid(bytes) {
  for (const packet of packetsOf(bytes)) {
    if (pidOf(packet) !== PAT_PID || !startsUnit(packet)) continue;
    const section = payloadOf(packet).subarray(1 + payloadOf(packet)[0]);
    return ((section[10] & 0x1f) << 8) | section[11];
  }
  throw new Error('no PAT in this segment');
}

/** The stream id of a PES packet that begins in this TS packet; null: none does. */
function pesStreamId(packet) {
  if (!startsUnit(packet)) return null;
  const payload = payloadOf(packet);
  return payload && payload[0] === 0 && payload[1] === 0 && payload[2] === 1 ? payload[3] : null;
}

const isAudioId = id => (id & 0xe0) === 0xc0 || id === 0xbd;

const keep = (bytes, wanted) => Buffer.concat([...packetsOf(bytes)].filter(wanted));

/** Every PTS and DTS of a segment moved by so many ticks of 90 kHz. The PCR stays: players go by PES. */
function shiftTs(bytes, ticks) {
  const shifted = Buffer.from(bytes);
  for (const packet of packetsOf(shifted)) {
    if (pesStreamId(packet) === null) continue;
    const payload = payloadOf(packet);
    const flags = payload[7] >> 6;
    if (flags & 2) shiftTimestamp(payload.subarray(9, 14), ticks);
    if (flags === 3) shiftTimestamp(payload.subarray(14, 19), ticks);
  }
  return shifted;
}

function shiftTimestamp(field, ticks) {
  const read = (BigInt((field[0] >> 1) & 7) << 30n) | (BigInt(field[1]) << 22n) | (BigInt(field[2] >> 1) << 15n)
    | (BigInt(field[3]) << 7n) | BigInt(field[4] >> 1);
  const value = (read + BigInt(ticks)) & 0x1ffffffffn;
  field[0] = (field[0] & 0xf1) | (Number(value >> 30n) << 1);
  field[1] = Number((value >> 22n) & 0xffn);
  field[2] = (Number((value >> 15n) & 0x7fn) << 1) | 1;
  field[3] = Number((value >> 7n) & 0xffn);
  field[4] = (Number(value & 0x7fn) << 1) | 1;
}

/** Every decode time of the fragments of a segment set to zero. */
function zeroTfdt(bytes) {
  const changed = Buffer.from(bytes);
  for (let at = changed.indexOf('tfdt'); at >= 0; at = changed.indexOf('tfdt', at + 4)) {
    const version = changed[at + 4];
    changed.fill(0, at + 8, at + (version === 1 ? 16 : 12));
  }
  return changed;
}

const inPlaylists = change => (path, bytes) => (path.endsWith('.m3u8') ? Buffer.from(change(bytes.toString())) : bytes);
const inSegments = change => (path, bytes) => (isMedia(path) ? change(bytes, segmentIndex(path)) : bytes);

/** What the server of lib/media-server.mjs takes for a fault, by name. */
export const FAULTS = {
  none: {},
  /** No page of another origin may read it. */
  'no-cors': { cors: false },
  /** The playlist says 4.4 s of a segment of 4 s. */
  'extinf-long': {
    alter: inPlaylists(text => text
      .replace(/#EXTINF:([\d.]+)/g, (_, seconds) => `#EXTINF:${(Number(seconds) * 1.1).toFixed(6)}`)
      .replace(/#EXT-X-TARGETDURATION:(\d+)/, (_, seconds) => `#EXT-X-TARGETDURATION:${Number(seconds) + 1}`)),
  },
  /** PAT and PMT in the first segment only. */
  'psi-once': {
    alter: inSegments((bytes, index) => {
      if (index === 0) return bytes;
      const pmt = pmtPid(bytes);
      return keep(bytes, packet => pidOf(packet) !== PAT_PID && pidOf(packet) !== pmt);
    }),
  },
  /** A jump of half a second between the third segment and the fourth. */
  'ts-jump': { alter: inSegments((bytes, index) => (index < 3 ? bytes : shiftTs(bytes, 45000))) },
  /** Each segment begins at the time of the first: segments of 4 s, as the script makes them. */
  'ts-restart': { alter: inSegments((bytes, index) => shiftTs(bytes, -index * 4 * 90000)) },
  /** Decode times of zero, as a server makes them that forgets where its segment lies. */
  'tfdt-zero': { alter: inSegments(zeroTfdt) },
  /** The sound that the tables promise never comes. */
  'no-sound': {
    alter: inSegments(bytes => {
      const audio = new Set([...packetsOf(bytes)].filter(packet => isAudioId(pesStreamId(packet) ?? 0)).map(pidOf));
      return keep(bytes, packet => !audio.has(pidOf(packet)));
    }),
  },
  /** The third segment ends in its middle. */
  cut: {
    alter: inSegments((bytes, index) => {
      const half = Math.floor(bytes.length / 2 / PACKET_BYTES) * PACKET_BYTES;
      return index === 2 ? bytes.subarray(0, half) : bytes;
    }),
  },
  /** A segment of 4 s takes 6 s to come. */
  slow: {
    async alter(path, bytes) {
      if (isMedia(path)) await new Promise(resolve => { setTimeout(resolve, 6000).unref(); });
      return bytes;
    },
  },
  /** A segment in the middle is never there. */
  missing: {
    alter(path, bytes) {
      if (segmentIndex(path) === 2) throw new Error('planted: this segment breaks off');
      return bytes;
    },
  },
};
