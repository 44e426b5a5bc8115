// A static server for a folder of HLS: types, CORS, byte ranges, and faults where a test wants some.
//
// What it serves stands for a stream of the program where that cannot be had; it is no model for one.
// Loopback only. What leaves: the base address and a way to close it.

import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { extname, join, normalize, sep } from 'node:path';

const TYPES = {
  '.m3u8': 'application/vnd.apple.mpegurl',
  '.ts': 'video/mp2t',
  '.m4s': 'video/mp4',
  '.mp4': 'video/mp4',
  '.vtt': 'text/vtt',
};

const CORS = {
  'Access-Control-Allow-Origin': '*',
  'Access-Control-Allow-Headers': 'Range',
  'Access-Control-Expose-Headers': 'Content-Length, Content-Range, Accept-Ranges, ETag, Date',
};

/** The byte range asked for, as [first, last]; null: all of it; undefined: there is no such range. */
export function rangeOf(header, length) {
  const match = /^bytes=(\d*)-(\d*)$/.exec(header ?? '');
  if (!match || (match[1] === '' && match[2] === '')) return null;
  const [first, last] = match[1] === ''
    ? [Math.max(0, length - Number(match[2])), length - 1]
    : [Number(match[1]), Math.min(length - 1, match[2] === '' ? Infinity : Number(match[2]))];
  return first <= last && first < length ? [first, last] : undefined;
}

/**
 * Serves `folder`. `fault` may have `cors: false`, and `alter(path, bytes)`, which gives the bytes to be
 * served instead and may take its time.
 */
export async function serveMedia(folder, fault = {}) {
  const cors = fault.cors === false ? {} : CORS;

  async function answer(request, response) {
    if (request.method === 'OPTIONS') return response.writeHead(204, cors).end();
    const path = normalize(decodeURIComponent(new URL(request.url, 'http://x').pathname));
    const type = TYPES[extname(path)];
    if (!type || path.split(sep).includes('..')) return response.writeHead(404, cors).end();
    let bytes;
    try {
      bytes = await readFile(join(folder, path));
    } catch {
      return response.writeHead(404, cors).end();
    }
    if (fault.alter) bytes = await fault.alter(path, bytes);
    const headers = { ...cors, 'Content-Type': type, 'Accept-Ranges': 'bytes' };
    const range = rangeOf(request.headers.range, bytes.length);
    if (range === undefined) {
      return response.writeHead(416, { ...headers, 'Content-Range': `bytes */${bytes.length}` }).end();
    }
    if (range !== null) headers['Content-Range'] = `bytes ${range[0]}-${range[1]}/${bytes.length}`;
    const body = range === null ? bytes : bytes.subarray(range[0], range[1] + 1);
    response.writeHead(range === null ? 200 : 206, { ...headers, 'Content-Length': body.length });
    response.end(request.method === 'HEAD' ? undefined : body);
  }

  const server = createServer((request, response) => {
    answer(request, response).catch(error => response.destroy(error));
  });
  await new Promise(resolve => server.listen(0, '127.0.0.1', resolve));
  return {
    base: `http://127.0.0.1:${server.address().port}`,
    close: () => new Promise(resolve => { server.close(resolve); server.closeAllConnections(); }),
  };
}
