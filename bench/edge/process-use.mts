// What a process has used, from Linux's own count; undefined on other systems.
import { existsSync, readFileSync } from 'node:fs';

const TICK_MS = 10;

/** The only child of a process, as workerd is of the one that started it; 0 for none. */
export function childOf(pid: number): number {
  const file = `/proc/${pid}/task/${pid}/children`;
  return existsSync(file) ? Number(readFileSync(file, 'utf8').split(' ')[0]) : 0;
}

/** In MiB: now, and at most so far. */
export function memoryOf(pid: number): { nowMib: number; peakMib: number } | undefined {
  const file = `/proc/${pid}/status`;
  if (!existsSync(file)) return undefined;
  const status = readFileSync(file, 'utf8');
  const mib = (name: string) =>
    Math.round(Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1]) / 1024);
  return { nowMib: mib('VmRSS'), peakMib: mib('VmHWM') };
}

/** Milliseconds of all cores: unlike speed they hardly change when strangers use the machine, too. */
export function cpuMsOf(pid: number): number | undefined {
  const file = `/proc/${pid}/stat`;
  if (!existsSync(file)) return undefined;
  const fields = readFileSync(file, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
}
