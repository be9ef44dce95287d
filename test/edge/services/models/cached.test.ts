// The catalog asks once in half a minute, and again when nobody can say how old its answer is.
import { afterEach, expect, it, vi } from 'vitest';
import type { ModelInfo } from '../../../../functions/schemas/model';
import type { Backend, BackendCall } from '../../../../functions/services/backend';
import { CachedModelCatalog } from '../../../../functions/services/models';

const NOW = 1_800_000_000_000;
const CALL = {} as BackendCall;

afterEach(() => {
  vi.useRealTimers();
});

function catalogOf(): { catalog: CachedModelCatalog; asked: () => number } {
  const listModels = vi.fn<() => Promise<ModelInfo[]>>(async () => []);
  return {
    catalog: new CachedModelCatalog({ listModels } as unknown as Backend),
    asked: () => listModels.mock.calls.length,
  };
}

it('asks the backend once in half a minute', async () => {
  vi.useFakeTimers({ now: NOW });
  const { catalog, asked } = catalogOf();
  await catalog.list(CALL);
  vi.setSystemTime(NOW + 29_999);
  await catalog.list(CALL);
  expect(asked()).toBe(1);
  vi.setSystemTime(NOW + 30_000);
  await catalog.list(CALL);
  expect(asked()).toBe(2);
});

it('asks again when the clock went back', async () => {
  vi.useFakeTimers({ now: NOW });
  const { catalog, asked } = catalogOf();
  await catalog.list(CALL);
  vi.setSystemTime(NOW - 3_600_000);
  await catalog.list(CALL);
  await catalog.list(CALL);
  expect(asked()).toBe(2);
});
