// Uses dockerode as programs do that speak Docker's API without the docker command.
// usage: node dockerode.js IMAGE   (an image of busybox; DOCKER_HOST names the socket)
const Docker = require('dockerode');
const { PassThrough } = require('stream');
const zlib = require('zlib');

const docker = new Docker({ socketPath: process.env.DOCKER_HOST.replace('unix://', '') });
const image = process.argv[2];

function check(what, got, want) {
  if (got !== want) throw new Error(`${what}: ${JSON.stringify(got)}, want ${JSON.stringify(want)}`);
  console.log(what);
}

// text reads a stream to its end.
function text(stream) {
  return new Promise((resolve, reject) => {
    const parts = [];
    stream.on('data', (b) => parts.push(b));
    stream.on('end', () => resolve(Buffer.concat(parts).toString()));
    stream.on('error', reject);
  });
}

// streams takes a multiplexed stream apart.
async function streams(stream) {
  const out = new PassThrough(), err = new PassThrough();
  docker.modem.demuxStream(stream, out, err);
  stream.on('end', () => { out.end(); err.end(); });
  return Promise.all([text(out), text(err)]);
}

// tar makes a tar of one file.
function tar(name, content) {
  const head = Buffer.alloc(512), body = Buffer.alloc(Math.ceil(content.length / 512) * 512 + 1024);
  head.write(name, 0); head.write('0000644\0', 100); head.write('0000000\0', 108); head.write('0000000\0', 116);
  head.write(content.length.toString(8).padStart(11, '0') + '\0', 124); head.write('00000000000\0', 136);
  head.write('        ', 148); head.write('0', 156); head.write('ustar\0' + '00', 257);
  let sum = 0;
  for (const b of head) sum += b;
  head.write(sum.toString(8).padStart(6, '0') + '\0 ', 148);
  body.write(content, 0);
  return Buffer.concat([head, body]);
}

async function containers() {
  const c = await docker.createContainer({
    Image: image, name: 'node1', Cmd: ['sh', '-c', 'echo out; echo err >&2; read line; echo got $line; exit 5'],
    AttachStdin: true, AttachStdout: true, AttachStderr: true, OpenStdin: true, StdinOnce: true, Labels: { 'made.by': 'dockerode' },
  });
  const stream = await c.attach({ stream: true, stdin: true, stdout: true, stderr: true, hijack: true });
  const both = streams(stream);
  await c.start();
  stream.write('words\n');
  stream.end();
  const [out, err] = await both;
  check('attach: stdout', out, 'out\ngot words\n');
  check('attach: stderr', err, 'err\n');
  check('wait', (await c.wait()).StatusCode, 5);
  const found = await docker.listContainers({ all: true, filters: { label: ['made.by=dockerode'] } });
  check('list by label', found.length === 1 && found[0].Names[0], '/node1');
  check('inspect', (await c.inspect()).State.ExitCode, 5);
  check('logs', (await c.logs({ stdout: true })).toString('utf8', 8, 11), 'out');
  await c.remove({ v: true });
  try {
    await c.inspect();
    throw new Error('a container that is removed can be inspected');
  } catch (e) {
    check('not found', e.statusCode, 404);
  }
}

async function execs() {
  const c = await docker.createContainer({ Image: image, Cmd: ['sleep', '1000'], HostConfig: { AutoRemove: true } });
  await c.start();
  await c.putArchive(zlib.gzipSync(tar('in.txt', 'copied\n')), { path: '/' });
  const e = await c.exec({ Cmd: ['sh', '-c', 'cat /in.txt; exit 3'], AttachStdout: true, AttachStderr: true });
  const [out] = await streams(await e.start({ hijack: true, stdin: false }));
  check('archive and exec', out, 'copied\n');
  check('exec: exit code', (await e.inspect()).ExitCode, 3);
  check('archive out', (await text(await c.getArchive({ path: '/in.txt' }))).includes('copied'), true);
  const stats = await c.stats({ stream: false });
  check('stats', stats.memory_stats.usage > 0, true);
  const gone = c.wait({ condition: 'removed' });
  await c.kill();
  check('wait for removal', (await gone).StatusCode, 137);
}

async function builds() {
  const file = `FROM ${image}\nRUN --mount=type=cache,target=/c echo built >/built\nCMD ["cat", "/built"]\n`;
  const stream = await docker.buildImage(zlib.gzipSync(tar('Dockerfile', file)), { t: 'node:1', labels: { a: 'b' } });
  const lines = await new Promise((resolve, reject) => docker.modem.followProgress(stream, (e, all) => (e ? reject(e) : resolve(all))));
  check('build: id', lines.some((l) => l.aux && /^sha256:/.test(l.aux.ID)), true);
  check('build: last line', lines.at(-1).stream, 'Successfully tagged node:1\n');
  const out = new PassThrough();
  const printed = text(out);
  const [result, c] = await docker.run('node:1', undefined, out);
  out.end();
  check('run', result.StatusCode, 0);
  check('run: output', await printed, 'built\r\n');
  await c.remove();
  check('image', (await docker.getImage('node:1').inspect()).Config.Labels.a, 'b');
  await docker.getImage('node:1').remove();
}

async function rest() {
  const events = await docker.getEvents({ filters: { type: ['volume'] } });
  const first = new Promise((resolve) => events.once('data', (b) => resolve(JSON.parse(b.toString().split('\n')[0]))));
  await docker.createVolume({ Name: 'nodevol', Labels: { a: 'b' } });
  const e = await first;
  check('event', `${e.Type} ${e.Action} ${e.Actor.ID}`, 'volume create nodevol');
  events.destroy();
  check('volumes', (await docker.listVolumes({ filters: { label: { 'a=b': true } } })).Volumes[0].Name, 'nodevol');
  await docker.getVolume('nodevol').remove();
  const n = await docker.createNetwork({ Name: 'nodenet', CheckDuplicate: true });
  check('network', (await n.inspect()).Name, 'nodenet');
  await n.remove();
  check('df', (await docker.df()).Images.length > 0, true);
  check('ping', (await docker.ping()).toString(), 'OK');
}

containers().then(execs).then(builds).then(rest).then(() => { console.log('ok'); process.exit(0); }, (e) => { console.error(e); process.exit(1); });
