#!/usr/bin/env node
// Serves a folder of HLS on a free loopback port until it is ended: node static.mjs DIR
//
// The first line on stdout is the address.

import { serveMedia } from './lib/media-server.mjs';

if (process.argv.length !== 3) {
  process.stderr.write('usage: node static.mjs DIR\n');
  process.exit(2);
}
const server = await serveMedia(process.argv[2]);
process.stdout.write(`${server.base}\n`);
for (const signal of ['SIGTERM', 'SIGINT']) process.once(signal, () => server.close());
