/** What the kernel holds for connections: entries of the pinned maps, sockets, memory. */
import { readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { currentLayout } from '../../core/datapath/layout.ts'
import { native } from '../../core/native/index.ts'
import { using } from '../../core/scope.ts'
import type { Member } from './pods.ts'

export interface Measured {
  /** Entries of each pinned map that can be counted. */
  readonly maps: Readonly<Record<string, number>>
  /** Objects of kernel caches. */
  readonly slabs: Readonly<Record<string, number>>
  /** Pages of all sockets' queues (/proc/net/sockstat) */
  readonly tcpPages: number
  /** Of the pods */
  readonly sockets: { readonly open: number; readonly all: number }
}

/** Maps that are not about connections and grow with what has been seen: they are tidied when pods leave, or evict by themselves. */
const GROWING = new Set(['counters', 'accel_counters', 'programs', 'cookies'])

const SOCKETS = new Set(['TCP', 'TCPv6'])
const isMeasured = (cache: string): boolean => SOCKETS.has(cache) || cache.startsWith('kmalloc-')

async function mapEntries(bpffs: string): Promise<Record<string, number>> {
  const layout = currentLayout(bpffs)
  const counted: Record<string, number> = {}
  for (const name of layout.mapNames()) {
    try {
      counted[name] = await using(native.pinnedMap(layout.map(name)), async (map) => (await map.entries()).length)
    } catch {
      // Storage of sockets and ring buffers have no entries to read; what they leak is in the caches.
    }
  }
  return counted
}

/** Objects in use. Those that wait in a processor's own list count as used until the cache is shrunk. */
function slabs(): Record<string, number> {
  const read = () =>
    readFileSync('/proc/slabinfo', 'utf8')
      .split('\n')
      .map((line) => line.split(/\s+/))
      .filter(([name = '']) => isMeasured(name))
  for (const [name] of read()) {
    try {
      writeFileSync(`/sys/kernel/slab/${name}/shrink`, '1')
    } catch {
      // a kernel without the files: the tolerance has to do
    }
  }
  return Object.fromEntries(read().map(([name, used]) => [name, Number(used)]))
}

const tcpPages = (): number => Number(/^TCP: .* mem (\d+)/m.exec(readFileSync('/proc/net/sockstat', 'utf8'))?.[1])

export async function measure(bpffs: string, members: readonly Member[]): Promise<Measured> {
  const each = await Promise.all(members.map((member) => member.sockets()))
  const sockets = each.reduce((sum, { open, all }) => ({ open: sum.open + open, all: sum.all + all }))
  return { maps: await mapEntries(bpffs), slabs: slabs(), tcpPages: tcpPages(), sockets }
}

/**
 * What there is more at the end than at the start, in words. What leaks leaks for each connection or message, so tolerances are far below their number, and
 * above what other programs of the machine change meanwhile.
 */
export function growth(start: Measured, end: Measured, connections: number): string[] {
  const found: string[] = []
  const compare = (what: string, before: number, after: number, tolerance: number) => {
    if (after > before + tolerance) found.push(`${what}: ${before} at the start, ${after} at the end`)
  }
  for (const [name, entries] of Object.entries(end.maps))
    if (!GROWING.has(name)) compare(`entries of the map ${name}`, start.maps[name] ?? 0, entries, 0)
  for (const [name, objects] of Object.entries(end.slabs)) {
    const before = start.slabs[name] ?? 0
    compare(`objects of the cache ${name}`, before, objects, (SOCKETS.has(name) ? 200 : 2000 + before / 10) + connections / 2)
  }
  compare('pages of TCP', start.tcpPages, end.tcpPages, 512 + 256 * availableParallelism() + connections / 2)
  compare('open TCP sockets in the pods', 0, end.sockets.open, 0)
  compare('sockets of the pods that are not freed', start.sockets.all, end.sockets.all, 0)
  return found
}
