// The sdk project: the TypeScript client against scripted servers on 127.0.0.1.
import { defineProject } from 'vitest/config';

export default defineProject({ test: { name: 'sdk', environment: 'node', include: ['**/*.test.ts'] } });
