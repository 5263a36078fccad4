// A mail relay on this machine, which takes mail over TLS from one user: https://nodemailer.com/extras/smtp-server

import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SMTPServer } from 'smtp-server';

function openssl(args) {
  const done = spawnSync('openssl', args, { encoding: 'utf8' });
  if (done.error) throw done.error;
  if (done.status !== 0) throw new Error(done.stderr);
}

/** An authority of our own, and the relay's certificate by it. */
function certify(folder) {
  const path = (name) => join(folder, name);
  const pair = (name) => ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', path(`${name}-key.pem`), '-out', path(`${name}.pem`), '-days', '2'];
  openssl(['req', '-x509', ...pair('mail-ca'), '-subj', '/CN=mail authority']);
  const byCa = ['-CA', path('mail-ca.pem'), '-CAkey', path('mail-ca-key.pem')];
  const leaf = ['-addext', 'subjectAltName=DNS:localhost', '-addext', 'basicConstraints=critical,CA:FALSE'];
  openssl(['req', '-x509', ...byCa, ...pair('mail'), '-subj', '/CN=localhost', ...leaf]);
}

/** Starts it; `next()` waits for mail. What it is known by lies in the folder: `mail-ca.pem`. */
export async function startRelay({ folder, user, password }) {
  certify(folder);
  const mails = [];
  const waiting = [];
  const server = new SMTPServer({
    key: await readFile(join(folder, 'mail-key.pem')),
    cert: await readFile(join(folder, 'mail.pem')),
    onAuth: (given, session, answer) => {
      const known = session.secure && given.username === user && given.password === password;
      answer(known ? null : new Error('wrong user or password'), { user });
    },
    onData: async (stream, session, answer) => {
      const chunks = await stream.toArray();
      const mail = { to: session.envelope.rcptTo.map(({ address }) => address), text: Buffer.concat(chunks).toString() };
      const waits = waiting.shift();
      if (waits) waits(mail);
      else mails.push(mail);
      answer();
    },
  });
  server.on('error', () => {});
  const listener = server.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  return {
    port: listener.address().port,
    next: async () => mails.shift() ?? new Promise((resolve) => waiting.push(resolve)),
    stop: () => new Promise((resolve) => server.close(resolve)),
  };
}
