// Headless Firefox with one page. Playwright drives only a Firefox of its own, and the page drives itself:
// so it is started with a profile of its own, and ended by its process group.

import { spawn, execFileSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const PROGRAM = process.env.FIREFOX ?? 'firefox-esr';

const PREFERENCES = {
  'media.autoplay.default': 0,
  'media.autoplay.blocking_policy': 0,
  'media.volume_scale': '0.0',
  'browser.shell.checkDefaultBrowser': false,
  'browser.startup.homepage_override.mstone': 'ignore',
  'browser.aboutwelcome.enabled': false,
  'datareporting.policy.dataSubmissionEnabled': false,
  'toolkit.telemetry.enabled': false,
  'app.update.enabled': false,
  'network.captive-portal-service.enabled': false,
  'network.connectivity-service.enabled': false,
  'extensions.update.enabled': false,
  // No page but ours is open: nothing is to be slowed down because nobody looks.
  'dom.min_background_timeout_value': 4,
};

export async function openFirefox(address) {
  const profile = await mkdtemp(join(tmpdir(), 'sprocket-firefox-'));
  const lines = Object.entries(PREFERENCES).map(([name, value]) => `user_pref("${name}", ${JSON.stringify(value)});`);
  await writeFile(join(profile, 'user.js'), `${lines.join('\n')}\n`);
  // Its own home too: it refuses to run as root in somebody else's.
  const env = { ...process.env, MOZ_HEADLESS: '1', HOME: profile };
  const child = spawn(PROGRAM, ['--no-remote', '--profile', profile, address], { env, stdio: 'ignore', detached: true });
  const gone = new Promise(resolve => child.once('exit', resolve));
  await new Promise((resolve, reject) => { child.once('spawn', resolve); child.once('error', reject); });
  return {
    name: execFileSync(PROGRAM, ['--version'], { env, encoding: 'utf8' }).trim(),
    async close() {
      for (const signal of ['SIGTERM', 'SIGKILL']) {
        try { process.kill(-child.pid, signal); } catch { break; }
        await Promise.race([gone, new Promise(resolve => setTimeout(resolve, 3000))]);
      }
      await rm(profile, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}
