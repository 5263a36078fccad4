// Opens pages in Debian's Chromium, and remembers what went wrong on them.

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

/** The two widths that every page is looked at in. */
export const DESKTOP = { width: 1440, height: 900 };
export const PHONE = { width: 390, height: 844 };

// No sandbox: tests also run as root. The rest keeps the browser from talking to anybody but the page's server.
const FLAGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** Starts a browser; whoever starts it closes it. */
export function openBrowser() {
  return chromium.launch({ executablePath: '/usr/bin/chromium', args: FLAGS });
}

/**
 * Opens an empty page with cookies of its own.
 *
 * `complaints` collects errors and warnings of the console, exceptions that no script caught, and requests that got
 * no answer or a refusal. A test that expects none ends with `assert.deepEqual(complaints, [])`.
 */
export async function openPage(browser, viewport = DESKTOP) {
  const context = await browser.newContext({ viewport });
  const page = await context.newPage();
  const complaints = [];
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) complaints.push(`console: ${message.text()}`);
  });
  page.on('pageerror', (error) => complaints.push(`exception: ${error.message}`));
  page.on('requestfailed', (request) => {
    const why = request.failure()?.errorText;
    // Whoever leaves a page ends what it was still loading, such as its stream of events.
    if (why !== 'net::ERR_ABORTED') complaints.push(`request: ${request.url()}: ${why}`);
  });
  page.on('response', (response) => {
    if (response.status() >= 400) complaints.push(`response: ${response.url()}: ${response.status()}`);
  });
  return { page, complaints };
}

/** Keeps pictures of the whole page in both widths as `NAME-WIDTH.png`, where ORGLIFT_SCREENSHOTS names a folder. */
export async function picture(page, name) {
  const folder = process.env.ORGLIFT_SCREENSHOTS;
  if (!folder) return;
  await mkdir(folder, { recursive: true });
  const before = page.viewportSize();
  for (const viewport of [DESKTOP, PHONE]) {
    await page.setViewportSize(viewport);
    await page.screenshot({ path: join(folder, `${name}-${viewport.width}.png`), fullPage: true });
  }
  await page.setViewportSize(before);
}
