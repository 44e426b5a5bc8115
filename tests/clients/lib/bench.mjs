// The page's own server: the page, the players out of node_modules, one scenario, one report.
//
// It listens on a port of its own, so that the stream is of another origin and has to allow it.

import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';

const root = new URL('../', import.meta.url);

const FILES = {
  '/': ['page/index.html', 'text/html'],
  '/page/harness.js': ['page/harness.js', 'text/javascript'],
  '/page/meter.js': ['page/meter.js', 'text/javascript'],
  '/page/players.js': ['page/players.js', 'text/javascript'],
  '/lib/hls.js': ['node_modules/hls.js/dist/hls.js', 'text/javascript'],
  '/lib/shaka.js': ['node_modules/shaka-player/dist/shaka-player.compiled.debug.js', 'text/javascript'],
  '/lib/videojs.js': ['node_modules/video.js/dist/video.js', 'text/javascript'],
};

async function body(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts).toString();
}

/** Serves one page. `report` is a promise of what the page posts. */
export async function openBench(scenario) {
  let delivered;
  const report = new Promise(resolve => { delivered = resolve; });

  async function answer(request, response) {
    const path = new URL(request.url, 'http://x').pathname;
    if (request.method === 'POST' && path === '/report') {
      delivered(JSON.parse(await body(request)));
      response.writeHead(204).end();
    } else if (path === '/scenario') {
      response.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify(scenario));
    } else if (FILES[path]) {
      const [file, type] = FILES[path];
      response.writeHead(200, { 'Content-Type': `${type}; charset=utf-8` }).end(await readFile(new URL(file, root)));
    } else {
      // A browser asks for an icon of its own accord: no content is no complaint on its console.
      response.writeHead(path === '/favicon.ico' ? 204 : 404).end();
    }
  }

  const server = createServer((request, response) => {
    answer(request, response).catch(error => response.destroy(error));
  });
  await new Promise(resolve => server.listen(0, '127.0.0.1', resolve));
  return {
    address: `http://127.0.0.1:${server.address().port}/`,
    report,
    close: () => new Promise(resolve => { server.close(resolve); server.closeAllConnections(); }),
  };
}
