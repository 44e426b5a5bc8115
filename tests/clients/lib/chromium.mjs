// Headless Chromium with one page: opens it, and passes on what the browser itself says of the media.

import { chromium } from 'playwright-core';

const PROGRAM = process.env.CHROMIUM ?? '/usr/bin/chromium';

const ARGUMENTS = [
  '--autoplay-policy=no-user-gesture-required',
  '--disable-gpu',
  '--disable-quic',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--no-first-run',
];

/**
 * Opens `address`; `note(level, source, text)` hears what the media pipeline logs as a warning or an error,
 * which is all that the browser's own HLS ever says.
 */
export async function openChromium(address, note) {
  const browser = await chromium.launch({ executablePath: PROGRAM, headless: true, args: ARGUMENTS });
  try {
    const page = await browser.newPage();
    const devtools = await page.context().newCDPSession(page);
    devtools.on('Media.playerMessagesLogged', ({ messages }) => {
      for (const { level, message } of messages) {
        if (level === 'warning' || level === 'error') note(level, 'chromium media', message);
      }
    });
    devtools.on('Media.playerErrorsRaised', ({ errors }) => {
      for (const error of errors) note('error', 'chromium media', `${error.errorType} ${error.code} ${JSON.stringify(error.data)}`);
    });
    // What the browser writes on the console by itself, such as a refusal for want of CORS. What the page
    // writes comes with its report.
    devtools.on('Log.entryAdded', ({ entry }) => {
      if (entry.level === 'warning' || entry.level === 'error') {
        note(entry.level, 'chromium console', `${entry.text} ${entry.url ?? ''}`);
      }
    });
    await devtools.send('Media.enable');
    await devtools.send('Log.enable');
    await page.goto(address);
  } catch (error) {
    await browser.close();
    throw error;
  }
  return { name: `Chromium ${browser.version()}`, close: () => browser.close() };
}
