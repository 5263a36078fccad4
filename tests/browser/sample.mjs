// A source server whose conversion is over, as the hub keeps it: the lab's own servers have nothing to convert.

import { spawnSync } from 'node:child_process';
import { deflateSync } from 'node:zlib';

const SERVER = 's-00000000000000abc';

/**
 * Adds the server to a running hub's database, beside those that the lab has moved. Gives the addresses of its page
 * and of its conversion, or `undefined` where `sqlite3` is missing.
 */
export function addSample(database) {
  const job = sql(database, 'SELECT id FROM jobs ORDER BY created_at DESC LIMIT 1;');
  if (job === undefined) return undefined;
  const list = JSON.stringify(CHANGES, null, 2);
  const signed = JSON.stringify({ json: list, signature: [1, 2, 3], certificate_pem: 'certificate' });
  sql(
    database,
    `BEGIN IMMEDIATE;
    CREATE TEMP TABLE sample AS SELECT * FROM source_servers LIMIT 1;
    UPDATE sample SET id = '${SERVER}', hostname = 'sample-1', tags = '{}', forgotten = 1, cutover_launch = 'null',
      lifecycle = '{"state":"READY_FOR_TEST"}', lifecycle_name = 'READY_FOR_TEST',
      readiness = 'BLOCKED', inspection = ${quoted(INSPECTION)};
    INSERT INTO source_servers SELECT * FROM sample;
    INSERT INTO conversions (job, server, wanted, "order", state, ordered_at, ended_at)
      VALUES ('${job}', '${SERVER}', 0, ${quoted({ job, ...ORDER })}, ${quoted(STATE)}, ${Date.now() - 60_000}, ${Date.now()});
    INSERT INTO trends (server, points) VALUES ('${SERVER}', '${JSON.stringify(trend())}');
    INSERT INTO artifacts (job, server, artifact, contents, at) VALUES
      ('${job}', '${SERVER}', 'change-list', ${blob(signed)}, 0),
      ('${job}', '${SERVER}', 'console', ${blob(CONSOLE)}, 0),
      ('${job}', '${SERVER}', 'screenshot', ${blob(screen(640, 400))}, 0);
    COMMIT;`,
  );
  return { server: `/servers/${SERVER}`, conversion: `/servers/${SERVER}/conversions/${job}` };
}

/** A day: a first copy, a steady flow with a busy morning, and two hours in which nothing was heard. */
function trend() {
  const now = Math.floor(Date.now() / 1000);
  const point = (ago) => {
    const busy = ago < 400 * 60 && ago > 250 * 60;
    return [now - ago, busy ? 40 + Math.round((400 * 60 - ago) / 20) : 12, busy ? 9_000 : 800, ago > 1_200 * 60 ? 48_000 : busy ? 6_000 : 800];
  };
  const minutes = Array.from({ length: 143 }, (_, index) => 1_430 - index * 10);
  return minutes.filter((ago) => ago < 700 || ago > 820).map((ago) => point(ago * 60));
}

const INSPECTION = {
  checkpoint: 4,
  at_ms: Date.now() - 120_000,
  findings: [
    { class: 'informs', code: 'cloud-init-missing', text: 'cloud-init is not installed.' },
    {
      class: 'blocks',
      code: 'system-encrypted',
      text: 'The root file system is encrypted, and the runner has no key to it.',
      remedy: 'Decrypt it on the source.',
    },
    {
      class: 'warns',
      code: 'fstab-network-mount',
      text: `/srv/share is mounted from 10.1.0.7:/${'a-very-long-name/'.repeat(12)}`,
      remedy: 'Let the target subnet reach it, or remove it from /etc/fstab on the source.',
    },
  ],
};

const ORDER = {
  checkpoint: 4,
  network: 'dhcp',
  hypervisor: 'nitro',
  boot_mode: 'LEGACY_BIOS',
  rehearsal: { cpus: 2, memory_mib: 2048, time_limit_s: 300, probe: null },
};

const STATE = {
  state: 'failed',
  step: 'rehearsal',
  detail: 'it did not come up\n[    2.101] Kernel panic - not syncing: VFS: Unable to mount root fs',
  rehearsal: {
    came_up: false,
    verdict: 'the kernel panicked',
    milliseconds: 61_200,
    accelerator: 'tcg',
  },
};

const file = (digit) => ({ kind: 'file', bytes: 731, digest: digit.repeat(64) });

const CHANGES = {
  server: SERVER,
  checkpoint: 4,
  changes: [
    {
      path: '/etc/fstab',
      step: 'fstab',
      why: 'disks have other names on an instance',
      what: 'changed',
      before: file('a'),
      after: file('b'),
      diff: {
        text: {
          unified: `@@ -1,2 +1,2 @@\n # <file system> <mount point>\n-/dev/sda1 / ext4 errors=remount-ro 0 1\n+UUID=5f0b7c9e / ext4 ${'option,'.repeat(30)} 0 1\n`,
        },
      },
    },
    {
      path: `/etc/${'a-folder-with-a-long-name/'.repeat(8)}<b>unit.service</b>`,
      step: 'hypervisor tools',
      why: 'it looks for another hypervisor',
      what: 'removed',
      before: { kind: 'link', target: '/lib/systemd/system/open-vm-tools.service' },
    },
    {
      path: '/boot/initrd.img-6.1.0-28-amd64',
      step: 'initramfs',
      why: "the instance's disks need nvme",
      what: 'changed',
      before: file('c'),
      after: file('d'),
      diff: { 'left-out': { because: 'too long' } },
    },
  ],
};

const CONSOLE = Array.from({ length: 80 }, (_, n) => `[    ${n}.000] <unit ${n}> started, and ${'so on '.repeat(20)}\r`).join('\n');

function quoted(value) {
  return `'${JSON.stringify(value).replaceAll("'", "''")}'`;
}

function blob(contents) {
  return `X'${Buffer.from(contents).toString('hex')}'`;
}

/** A grey picture, as PNG (<https://www.w3.org/TR/png/>). */
function screen(width, height) {
  const chunk = (type, data) => {
    const body = Buffer.concat([Buffer.from(type), data]);
    const length = Buffer.alloc(4);
    length.writeUInt32BE(data.length);
    const sum = Buffer.alloc(4);
    sum.writeUInt32BE(crc32(body));
    return Buffer.concat([length, body, sum]);
  };
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header[8] = 8; // bits of a grey
  const rows = Buffer.alloc((width + 1) * height, 0x60);
  for (let row = 0; row < height; row++) rows[row * (width + 1)] = 0; // no filter
  return Buffer.concat([
    Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]),
    chunk('IHDR', header),
    chunk('IDAT', deflateSync(rows)),
    chunk('IEND', Buffer.alloc(0)),
  ]);
}

function crc32(data) {
  let sum = 0xffffffff;
  for (const byte of data) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit++) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  }
  return (sum ^ 0xffffffff) >>> 0;
}

function sql(database, statements) {
  const done = spawnSync('sqlite3', ['-bail', '-cmd', '.timeout 10000', database], { input: statements, encoding: 'utf8' });
  if (done.error?.code === 'ENOENT') return undefined;
  if (done.status !== 0) throw new Error(`sqlite3 failed: ${done.stderr}`);
  return done.stdout.trim();
}
