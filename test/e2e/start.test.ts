// Stories of `npm start` itself: it ends what it began, says why it cannot begin, and is quick the second time.
import { readFileSync, rmSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { freePort } from '../../scripts/lib/ports.mjs';
import { signalGroup } from '../../scripts/lib/services.mjs';
import { timeUntil } from './support/backend';
import { type Product, launch, newHome, startProduct } from './support/product';

const cleanUps: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

function homeForOneTest(): string {
  const home = newHome();
  cleanUps.push(() => rmSync(home, { recursive: true, force: true }));
  return home;
}

function pidsOf(product: Product): { backendPid: number; edgePid: number } {
  return JSON.parse(readFileSync(path.join(product.home, 'run.json'), 'utf8'));
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

describe('npm start', () => {
  it('ends both processes on Ctrl-C, is quicker the second time, and keeps its key', async () => {
    const home = homeForOneTest();
    const first = await startProduct({ home });
    const { backendPid, edgePid } = pidsOf(first);
    expect([isAlive(backendPid), isAlive(edgePid)]).toEqual([true, true]);
    expect(await first.stop()).toBe(0);
    expect([isAlive(backendPid), isAlive(edgePid)]).toEqual([false, false]);

    const began = performance.now();
    const second = await startProduct({ home });
    cleanUps.push(second.stop);
    expect(performance.now() - began).toBeLessThan(30_000);
    expect(second.apiKey).toBe(first.apiKey);
    expect(second.output()).toContain('Database: up to date');
    expect(second.output()).toContain('Development key: up to date');

    const third = await launch({ home });
    expect(await third.exited).toBe(1);
    expect(third.output()).toContain(`already runs from .attune/${path.basename(home)} at ${second.baseUrl}`);
  });

  it('ends the edge when the backend dies, shows its last lines, and fails', async () => {
    const product = await startProduct({ home: homeForOneTest() });
    cleanUps.push(product.stop);
    const { backendPid, edgePid } = pidsOf(product);
    signalGroup(backendPid, 'SIGKILL');
    expect(await product.exited).toBe(1);
    expect(product.output()).toMatch(
      /The backend ended by SIGKILL, so the edge is ended too\. Its last lines:\n {4}\S/,
    );
    expect(product.output()).toMatch(/The whole log: .*backend\.log/);
    expect(isAlive(edgePid)).toBe(false);
  });

  it('ends the backend when the edge dies', async () => {
    const product = await startProduct({ home: homeForOneTest() });
    cleanUps.push(product.stop);
    const { backendPid, edgePid } = pidsOf(product);
    process.kill(edgePid, 'SIGKILL');
    expect(await product.exited).toBe(1);
    expect(product.output()).toContain('The edge ended by SIGKILL, so the backend is ended too.');
    expect(isAlive(backendPid)).toBe(false);
  });

  it('takes over from a start that was killed, and ends what that one left', async () => {
    const home = homeForOneTest();
    const killed = await startProduct({ home });
    const { backendPid, edgePid } = pidsOf(killed);
    process.kill(killed.pid, 'SIGKILL');
    await killed.exited;
    const again = await startProduct({ home, port: killed.port, backendPort: killed.backendPort });
    cleanUps.push(again.stop);
    expect([isAlive(backendPid), isAlive(edgePid)]).toEqual([false, false]);
  });

  it('can be interrupted before it is up, and leaves nothing', async () => {
    const started = await launch({ home: homeForOneTest() });
    await timeUntil(async () => started.output().includes('Database'), 60_000);
    started.child.kill('SIGTERM');
    expect(await started.exited).toBe(130);
    await expect(fetch(`http://127.0.0.1:${started.backendPort}/live`)).rejects.toThrow();
  });

  it('names the port that is in use and the option that changes it', async () => {
    const port = await freePort();
    const other = net.createServer();
    await new Promise<void>((resolve) => other.listen(port, '127.0.0.1', resolve));
    cleanUps.push(() => other.close());
    const onEdgePort = await launch({ home: homeForOneTest(), port });
    expect(await onEdgePort.exited).toBe(1);
    expect(onEdgePort.output()).toContain(
      `Port ${port} is in use: stop what listens there, or choose another port with --port.`,
    );
    const onBackendPort = await launch({ home: homeForOneTest(), backendPort: port });
    expect(await onBackendPort.exited).toBe(1);
    expect(onBackendPort.output()).toContain(
      `Port ${port} is in use: stop what listens there, or choose another port with --backend-port.`,
    );
  });
});
