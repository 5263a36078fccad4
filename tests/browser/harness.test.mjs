// The harness itself: a test that cannot fail proves nothing.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';
import { openBrowser, openPage, PHONE } from './chromium.mjs';
import { start } from './programs.mjs';

const PAGES = {
  '/calm': '<link rel="icon" href="data:,"><h1>Calm</h1>',
  '/loud': '<link rel="icon" href="data:,"><script>console.error("loud"); throw new Error("thrown")</script>',
  '/broken': '<link rel="icon" href="data:,"><img src="/missing.png">',
};

let browser;
let server;
let origin;

before(async () => {
  server = createServer((request, response) => {
    const page = PAGES[request.url];
    response.writeHead(page ? 200 : 404, { 'content-type': 'text/html' }).end(page);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  origin = `http://127.0.0.1:${server.address().port}`;
  browser = await openBrowser();
});

after(async () => {
  await browser?.close();
  server.close();
});

test('a calm page gives no complaint', async () => {
  const { page, complaints } = await openPage(browser, PHONE);
  await page.goto(`${origin}/calm`);
  assert.equal(await page.getByRole('heading').textContent(), 'Calm');
  assert.equal(await page.evaluate(() => window.innerWidth), PHONE.width);
  assert.deepEqual(complaints, []);
});

test('errors of the console and exceptions are complaints', async () => {
  const { page, complaints } = await openPage(browser);
  await page.goto(`${origin}/loud`);
  assert.deepEqual(complaints, ['console: loud', 'exception: thrown']);
});

test('a resource that is not there is a complaint', async () => {
  const { page, complaints } = await openPage(browser);
  await page.goto(`${origin}/broken`);
  assert.ok(complaints.includes(`response: ${origin}/missing.png: 404`), complaints.join('\n'));
});

test('a program is ready when it says so, and ends when asked', async () => {
  const script = 'trap "exit 0" TERM; echo listening on port 42; while :; do sleep 0.1; done';
  const program = await start('/bin/sh', ['-c', script], { ready: /port (\d+)\n/ });
  assert.equal(program.match[1], '42');
  await program.stop();
});

test('a program that ends early, is late or does not exist shows what it printed', async () => {
  const ready = /never/;
  await assert.rejects(start('/bin/sh', ['-c', 'echo no disk; exit 3'], { ready }), /ended with 3.*\nno disk/);
  const late = { ready, withinMs: 200 };
  await assert.rejects(start('/bin/sh', ['-c', 'echo still busy; exec sleep 60'], late), /not ready.*\nstill busy/);
  await assert.rejects(start('/nonexistent/orglift-lab', [], { ready }), /ENOENT/);
});
