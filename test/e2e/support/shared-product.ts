// Vitest's global set-up: one product that all stories share which do no harm to it.
import type { TestProject } from 'vitest/node';
import { startProduct } from './product';

declare module 'vitest' {
  export interface ProvidedContext {
    product: { baseUrl: string; apiKey: string; backendUrl: string };
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const product = await startProduct();
  project.provide('product', {
    baseUrl: product.baseUrl,
    apiKey: product.apiKey,
    backendUrl: `http://127.0.0.1:${product.backendPort}`,
  });
  return async () => {
    await product.stop();
  };
}
