// What a stream says of itself: the renditions of its multivariant playlist, as far as clients are asked
// about them.

/** Reads a multivariant playlist: [{ url, bandwidth, width, height, frame_rate, codecs }], as listed. */
export function variantsOf(playlist, url) {
  const lines = playlist.split(/\r?\n/);
  const variants = [];
  for (const [index, line] of lines.entries()) {
    if (!line.startsWith('#EXT-X-STREAM-INF:')) continue;
    const attributes = Object.fromEntries(
      [...line.slice(line.indexOf(':') + 1).matchAll(/([A-Z0-9-]+)=("[^"]*"|[^,]*)/g)]
        .map(([, name, value]) => [name, value.replaceAll('"', '')]));
    const [width, height] = (attributes.RESOLUTION ?? '').split('x').map(Number);
    variants.push({
      url: new URL(lines[index + 1], url).href,
      bandwidth: Number(attributes.BANDWIDTH),
      width,
      height,
      frame_rate: Number(attributes['FRAME-RATE']),
      codecs: attributes.CODECS ?? '',
    });
  }
  return variants;
}

export async function fetchVariants(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url}: ${answer.status} ${await answer.text()}`);
  const variants = variantsOf(await answer.text(), url);
  if (variants.length === 0) throw new Error(`${url} names no renditions`);
  return variants;
}

/** Whether a rendition's segments are MPEG-TS, by the name of its first one. */
export async function isTransportStream({ url }) {
  const playlist = await (await fetch(url)).text();
  const first = playlist.split(/\r?\n/).find(line => line !== '' && !line.startsWith('#')) ?? '';
  return new URL(first, url).pathname.endsWith('.ts');
}

/** Numbers in [0, 1) that follow from the seed alone (mulberry32). */
export function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/** Places to seek to, to the millisecond, at least `margin_s` before the end. */
export function seekTargets(count, seed, duration_s, margin_s) {
  const next = generator(seed);
  return Array.from({ length: count }, () => Math.round(next() * (duration_s - margin_s) * 1000) / 1000);
}
