// IP addresses and CIDR blocks of both versions, as numbers of 128 bits; an IPv4-mapped IPv6 address is the IPv4 address.

const V4_MAPPED = 0xffffn;
const V4_PREFIX = 96;
const MAX_LENGTH = 49;

/** The addresses whose first `prefix` bits are those of `address`. */
export interface Block {
  address: bigint;
  /** Of 128 bits, also for IPv4. */
  prefix: number;
}

/** Undefined for what is no address. */
export function parseAddress(text: string): bigint | undefined {
  if (text.length > MAX_LENGTH) return undefined;
  if (!text.includes(':')) {
    const v4 = parseV4(text);
    return v4 === undefined ? undefined : (V4_MAPPED << 32n) | v4;
  }
  return parseV6(text);
}

/** A block such as `203.0.113.0/24` or `2001:db8::/32`, or one address; undefined when bits beyond the prefix are set. */
export function parseBlock(text: string): Block | undefined {
  if (text.length > MAX_LENGTH) return undefined;
  const [addressText = '', prefixText, ...rest] = text.split('/');
  const address = parseAddress(addressText);
  if (address === undefined || rest.length > 0) return undefined;
  const offset = addressText.includes(':') ? 0 : V4_PREFIX;
  if (prefixText === undefined) return { address, prefix: 128 };
  if (!/^(?:0|[1-9]\d{0,2})$/.test(prefixText)) return undefined;
  const prefix = Number(prefixText) + offset;
  if (prefix > 128 || headOf(address, prefix) << BigInt(128 - prefix) !== address) return undefined;
  return { address, prefix };
}

/** IPv6 blocks hold no IPv4 addresses, not even `::/0`. */
export function isInBlock(address: bigint, block: Block): boolean {
  const isBlockV4 = isV4(block.address) && block.prefix >= V4_PREFIX;
  if (isBlockV4 !== isV4(address)) return false;
  return headOf(address, block.prefix) === headOf(block.address, block.prefix);
}

/** True when an entry of the list holds the address; what cannot be read allows nothing. */
export function isInAny(addressText: string, list: readonly string[]): boolean {
  const address = parseAddress(addressText);
  if (address === undefined) return false;
  return list.some((entry) => {
    const block = parseBlock(entry);
    return block !== undefined && isInBlock(address, block);
  });
}

function isV4(address: bigint): boolean {
  return address >> 32n === V4_MAPPED;
}

function headOf(address: bigint, prefix: number): bigint {
  return address >> BigInt(128 - prefix);
}

function parseV4(text: string): bigint | undefined {
  const parts = text.split('.');
  if (parts.length !== 4) return undefined;
  let value = 0n;
  for (const part of parts) {
    // No leading zeros: some readers take them for octal.
    if (!/^(?:0|[1-9]\d{0,2})$/.test(part) || Number(part) > 255) return undefined;
    value = (value << 8n) | BigInt(part);
  }
  return value;
}

function parseV6(text: string): bigint | undefined {
  const halves = text.split('::');
  if (halves.length > 2) return undefined;
  const [head, tail] = halves.map((half, index) => parseGroups(half, index === halves.length - 1));
  if (head === undefined) return undefined;
  if (halves.length === 1) return head.length === 8 ? join(head) : undefined;
  // `::` stands for at least one group.
  if (tail === undefined || head.length + tail.length > 7) return undefined;
  const zeros = Array.from({ length: 8 - head.length - tail.length }, () => 0);
  return join([...head, ...zeros, ...tail]);
}

/** Groups of 16 bits; the last two may be written as IPv4. */
function parseGroups(text: string, isLast: boolean): number[] | undefined {
  if (text === '') return [];
  const parts = text.split(':');
  const groups: number[] = [];
  for (const [index, part] of parts.entries()) {
    if (/^[\da-f]{1,4}$/i.test(part)) {
      groups.push(Number.parseInt(part, 16));
      continue;
    }
    const v4 = isLast && index === parts.length - 1 ? parseV4(part) : undefined;
    if (v4 === undefined) return undefined;
    groups.push(Number(v4 >> 16n), Number(v4 & 0xffffn));
  }
  return groups;
}

function join(groups: number[]): bigint {
  return groups.reduce((value, group) => (value << 16n) | BigInt(group), 0n);
}
