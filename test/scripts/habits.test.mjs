// Laws of CONTRIBUTING.md that a program can hold: file size and first line, named files that exist, dependencies explained, actions pinned.
import assert from 'node:assert/strict';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { root } from '../../scripts/lib/paths.mjs';

const MAX_LINES = 500;
const SOURCE_FOLDERS = [
  'bench',
  'db',
  'examples',
  'functions',
  'gpu-backend/gpu_backend',
  'scripts',
  'sdk',
  'test',
];
const NOT_OURS = new Set([
  'node_modules',
  '__pycache__',
  'generated',
  'vendor',
  'migrations',
  '.pytest_cache',
]);

const read = (/** @type {string} */ file) => readFileSync(path.join(root, file), 'utf8');

/** Every file under a folder of ours with one of these endings. @param {string} folder @param {RegExp} ending @returns {string[]} */
function filesUnder(folder, ending) {
  return readdirSync(path.join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const file = `${folder}/${entry.name}`;
    if (entry.isDirectory()) return NOT_OURS.has(entry.name) ? [] : filesUnder(file, ending);
    return ending.test(entry.name) ? [file] : [];
  });
}

const sources = SOURCE_FOLDERS.flatMap((folder) => filesUnder(folder, /\.(?:ts|mts|mjs|py|sh)$/));

test('there are sources to hold to the rules', () => assert.ok(sources.length > 100));

test('no file is longer than a reader can hold', () => {
  assert.deepEqual(
    sources.filter((file) => read(file).split('\n').length > MAX_LINES + 1),
    [],
  );
});

test('a typical file is short', () => {
  const lengths = sources.map((file) => read(file).split('\n').length).sort((a, b) => a - b);
  assert.ok(lengths[Math.floor(lengths.length / 2)] <= 120);
});

test('every file says its job first', () => {
  const opening = /^(?:#!.*\n)?(?:\/\/ |\/\*\*|# |""")/;
  assert.deepEqual(
    sources.filter((file) => read(file).trim() !== '' && !opening.test(read(file))),
    [],
  );
});

test('no file is a drawer', () => {
  assert.deepEqual(
    sources.filter((file) => /^(?:utils?|helpers?|common|misc|manager)$/.test(path.parse(file).name)),
    [],
  );
});

test('links in the documents lead somewhere', () => {
  const documents = [
    'README.md',
    'CONTRIBUTING.md',
    'SECURITY.md',
    'bench/README.md',
    'sdk/typescript/README.md',
    ...filesUnder('docs', /\.md$/),
  ];
  const broken = documents.flatMap((document) =>
    [...read(document).matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g)]
      .map(([, target]) => path.join(path.dirname(document), target))
      .filter((target) => !existsSync(path.join(root, target)))
      .map((target) => `${document}: ${target}`),
  );
  assert.deepEqual(broken, []);
});

test("the SDK's README shows the example that is compiled and run", () => {
  const example = read('examples/sdk.ts').replace(/^.*\n/, '');
  assert.ok(read('sdk/typescript/README.md').includes(`\`\`\`ts\n${example}\`\`\``));
});

test("the files of README's nine steps exist", () => {
  const steps = read('README.md')
    .split('\n')
    .filter((line) => /^\| (?:\d|back) \|/.test(line));
  assert.equal(steps.length, 10);
  for (const line of steps) {
    const [first, ...others] = [...line.split('|')[2].matchAll(/`([^`]+)`/g)].map(([, file]) => file);
    assert.ok(existsSync(path.join(root, first)), first);
    // A second file is named from the same folder, or from the package.
    for (const other of others) {
      const places = [path.dirname(first), 'gpu-backend/gpu_backend'];
      assert.ok(
        places.some((place) => existsSync(path.join(root, place, other))),
        other,
      );
    }
  }
});

test('every direct dependency is explained', () => {
  const manifests = [
    'package.json',
    'bench/rivals/package.json',
    'sdk/typescript/generator/package.json',
    'test/browser/package.json',
  ];
  const node = manifests.flatMap((file) => {
    const { dependencies, devDependencies, optionalDependencies } = JSON.parse(read(file));
    return Object.keys({ ...dependencies, ...devDependencies, ...optionalDependencies });
  });
  const python = filesUnder('gpu-backend/requirements', /\.in$/).flatMap((file) =>
    [...read(file).matchAll(/^([a-z][\w-]*)==/gm)].map(([, name]) => name),
  );
  const explained = read('docs/dependencies.md');
  assert.ok(node.length > 10 && python.length > 10);
  assert.deepEqual(
    [...node, ...python].filter((name) => !explained.includes(`\`${name}\``)),
    [],
  );
});

test('actions of workflows are pinned by their full hash', () => {
  const uses = filesUnder('.github/workflows', /\.ya?ml$/).flatMap((file) =>
    [...read(file).matchAll(/uses: (\S+)/g)].map(([, action]) => action),
  );
  assert.ok(uses.length > 0);
  for (const action of uses) assert.match(action, /@[0-9a-f]{40}$/);
});

test('the tests that the table of pains names exist', () => {
  const named = [...read('docs/pains.md').matchAll(/`(test\/[^`]+)` "([^"]+)"/g)];
  assert.ok(named.length > 40);
  for (const [, file, name] of named) assert.ok(read(file).includes(name), `${file}: ${name}`);
});

test('the edge needs no container and nothing remote', () => {
  const config = read('wrangler.toml').replaceAll(/#.*/g, '');
  assert.match(config, /^\[\[d1_databases\]\]/m);
  assert.doesNotMatch(config, /containers|\bremote\b/);
  // Bindings that have no local form may stand below `env` only.
  assert.doesNotMatch(config, /^\[+(?:ai|browser|images|vectorize|dispatch_namespaces|vpc_services)\b/m);
});
