// JSON in an env file comes out as it went in: nothing in it is cut, unquoted or expanded.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { quoteJson } from '../../scripts/lib/secrets.mjs';

const HARD = [{ id: 'x', api_key: `it's $HOME \${HOME} \`id\` # "quoted" \\n =` }];

test('quoted JSON is one line in quotes with nothing that a shell or a reader of env files looks for', () => {
  const quoted = quoteJson(JSON.stringify(HARD));
  assert.match(quoted, /^'[^'$`\n]*'$/);
  assert.deepEqual(JSON.parse(quoted.slice(1, -1)), HARD);
});
