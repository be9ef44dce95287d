// Laws of the command-line options: declared ones are read, everything else is refused with a hint.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { editDistance, helpText, parseOptions } from '../../scripts/lib/options.mjs';
import { readStartOptions, startOptions } from '../../scripts/lib/start-options.mjs';

/** @param {string[]} argv @param {Record<string, string>} [env] */
const start = (argv, env = {}) => readStartOptions(argv, env);

test('defaults hold when nothing is given', () => {
  assert.deepEqual(start([]), {
    help: false,
    port: 8787,
    backendPort: 8788,
    home: '.attune',
    torch: undefined,
    remote: undefined,
    upstreams: undefined,
  });
});

test('a value may follow a space or an equals sign', () => {
  assert.equal(start(['--port', '9000']).port, 9000);
  assert.equal(start(['--port=9000']).port, 9000);
});

test('an unknown option is refused and the nearest one is named', () => {
  assert.throws(() => start(['--prot', '1']), /no option --prot: did you mean --port\?/);
  assert.throws(() => start(['--zzzzzzzzzzzz']), /the options are --port, /);
});

test('a word without dashes is refused', () => {
  assert.throws(() => start(['now']), /takes options only, not "now"/);
});

for (const port of ['0', '65536', '-1', '80x', '']) {
  test(`port "${port}" is refused`, () => assert.throws(() => start([`--port=${port}`]), /--port/));
}

test('both ports at their limits are accepted', () => {
  const options = start(['--port', '1', '--backend-port', '65535']);
  assert.deepEqual([options.port, options.backendPort], [1, 65535]);
});

test('the two ports must differ', () => {
  assert.throws(() => start(['--port', '8788']), /must differ/);
});

test('an option without its value is refused', () => {
  assert.throws(() => start(['--home']), /--home needs a value/);
  assert.throws(() => start(['--home', '--port', '1']), /--home needs a value/);
});

test('a flag takes no value', () => assert.throws(() => start(['--help=yes']), /--help takes no value/));

test('a remote backend needs its secret, from the option or from the environment', () => {
  const url = ['--backend-url', 'https://gpu.example.com/'];
  assert.throws(() => start(url), /needs the secret/);
  assert.deepEqual(start(url, { ATTUNE_BACKEND_SECRET: 's' }).remote, {
    urls: ['https://gpu.example.com'],
    secret: 's',
  });
  assert.deepEqual(
    start([...url, '--backend-secret', 't'], { ATTUNE_BACKEND_SECRET: 's' }).remote?.secret,
    't',
  );
});

test('several backends may be named, each once', () => {
  const urls = (/** @type {string[]} */ ...all) =>
    start(
      all.flatMap((url) => ['--backend-url', url]),
      { ATTUNE_BACKEND_SECRET: 's' },
    ).remote?.urls;
  assert.deepEqual(urls('http://a:1/', 'https://b/x'), ['http://a:1', 'https://b/x']);
  assert.throws(() => urls('http://a', 'http://b', 'http://a/'), /names http:\/\/a twice/);
  const many = Array.from({ length: 17 }, (_, index) => `http://a${index}`);
  assert.equal(urls(...many.slice(1))?.length, 16);
  assert.throws(() => urls(...many), /16 times at most/);
});

test('an option that may be given once keeps the last value', () =>
  assert.equal(start(['--port', '9000', '--port', '9001']).port, 9001));

test('upstreams come from the environment, and a wrong list is not shown', () => {
  const given = [{ id: 'x', api_key: 'hush' }];
  const { upstreams = '' } = start([], { ATTUNE_UPSTREAMS: JSON.stringify(given, null, 2) });
  assert.deepEqual([JSON.parse(upstreams), upstreams.includes('\n')], [given, false]);
  for (const wrong of ['hush', '{"api_key": "hush"}'])
    assert.throws(
      () => start([], { ATTUNE_UPSTREAMS: wrong }),
      ({ message }) => /must be a JSON list of upstreams/.test(message) && !message.includes('hush'),
    );
});

test('a secret without a remote backend is refused', () =>
  assert.throws(() => start(['--backend-secret', 's']), /belongs to --backend-url/));

test('a backend address must be http or https', () => {
  for (const url of [
    'gpu.example.com',
    'ftp://gpu.example.com',
    'http://a,http://b',
    'http://me:hush@gpu.example.com',
    'http://gpu.example.com?x=1',
  ]) {
    assert.throws(
      () => start(['--backend-url', url, '--backend-secret', 's']),
      /must be an http or https address/,
    );
  }
});

test('--torch knows cpu only, and not together with a remote backend', () => {
  assert.equal(start(['--torch', 'cpu']).torch, 'cpu');
  assert.throws(() => start(['--torch', 'gpu']), /--torch must be cpu/);
  assert.throws(
    () => start(['--torch', 'cpu', '--backend-url', 'http://h', '--backend-secret', 's']),
    /no use with --backend-url/,
  );
});

test('words that are no options are handed back in order', () => {
  assert.deepEqual(parseOptions(['a', '--json', 'b'], { '--json': { kind: 'flag', help: '' } }).rest, [
    'a',
    'b',
  ]);
});

test('the help names every option and its default', () => {
  const help = helpText('usage', startOptions);
  for (const name of Object.keys(startOptions)) assert.match(help, new RegExp(`${name} `));
  assert.match(help, /default 8787/);
});

test('edit distance counts insertions, deletions and replacements', () => {
  assert.equal(editDistance('--port', '--port'), 0);
  assert.equal(editDistance('--prot', '--port'), 2);
  assert.equal(editDistance('', 'abc'), 3);
});
