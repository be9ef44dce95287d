// Vitest's global set-up: one product that all stories share which do no harm to it.
import type { TestProject } from 'vitest/node';
import { startLargerModel } from './larger-model';
import { startProduct } from './product';

declare module 'vitest' {
  export interface ProvidedContext {
    product: { baseUrl: string; apiKey: string; backendUrl: string };
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const larger = await startLargerModel();
  const product = await startProduct({ upstreams: larger.upstreams });
  project.provide('product', {
    baseUrl: product.baseUrl,
    apiKey: product.apiKey,
    backendUrl: `http://127.0.0.1:${product.backendPort}`,
  });
  return async () => {
    await product.stop();
    await larger.close();
  };
}
