// Starts the fake backend once for all edge tests and tells them where it listens.
import type { TestProject } from 'vitest/node';
import { startFakeBackend } from './fake-backend.mjs';

declare module 'vitest' {
  interface ProvidedContext {
    backendUrl: string;
  }
}

export default async function setup(project: TestProject) {
  const backend = await startFakeBackend({ secret: 'edge-test-secret' });
  project.provide('backendUrl', backend.url);
  return backend.close;
}
