// Opens pages in Debian's Chromium, and remembers what went wrong on them.

import { mkdir, readFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { createRequire } from 'node:module';
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
export async function openPage(browser, viewport = DESKTOP, options = {}) {
  const context = await browser.newContext({ viewport, ...options });
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

const AXE = createRequire(import.meta.url).resolve('axe-core/axe.min.js');
let axeSource;

/**
 * What axe-core finds on a page against WCAG 2.2 AA, a line each. It is put into a world of its own, where the page's
 * content security policy does not reach.
 */
export async function axe(page) {
  axeSource ??= await readFile(AXE, 'utf8');
  const session = await page.context().newCDPSession(page);
  try {
    const { frameTree } = await session.send('Page.getFrameTree');
    const { executionContextId } = await session.send('Page.createIsolatedWorld', { frameId: frameTree.frame.id });
    const evaluate = async (expression) => {
      const { result, exceptionDetails } = await session.send('Runtime.evaluate', {
        expression,
        contextId: executionContextId,
        awaitPromise: true,
        returnByValue: true,
      });
      if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
      return result.value;
    };
    await evaluate(axeSource);
    const rules = "{ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }";
    return await evaluate(`axe.run(document, ${rules}).then(({ violations }) =>
      violations.flatMap(({ id, help, nodes }) => nodes.map((node) => id + ': ' + help + ': ' + node.html.slice(0, 200) + ' ' + (node.failureSummary ?? ''))))`);
  } finally {
    await session.detach();
  }
}

/** A port on which nobody listens at this moment. */
export async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}
