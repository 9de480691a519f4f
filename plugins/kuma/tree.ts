/** Kuma's configuration of its transparent proxy as a tree of plain data, which people write in YAML and kuma-init gets as flags. */
import type { PortSpec } from '../../core/plugin.ts'
import type { Reader } from '../shared/reader.ts'
import { shown } from './reader.ts'
import { networks, onePort, ports } from './values.ts'

/** Values by their paths, such as redirect.inbound.port. */
export type Tree = ReadonlyMap<string, unknown>

const flow = ['enabled', 'port', 'includePorts', 'excludePorts', 'excludePortsForIPs', 'excludePortsForUIDs', 'insertRedirectInsteadOfAppend']
const general = ['ebpf', 'verbose', 'dryRun', 'wait', 'waitInterval', 'retry', 'storeFirewalld', 'iptablesExecutables', 'comments', 'cniMode']

/** Keys that Kuma knows, of each part. What is in `general` decides nothing. */
const known: Readonly<Record<string, readonly string[]>> = {
  '': ['kumaDPUser', 'redirect', 'dropInvalidPackets', 'log', 'ipFamilyMode', ...general],
  redirect: ['inbound', 'outbound', 'dns', 'vnet'],
  'redirect.inbound': flow,
  'redirect.outbound': flow,
  'redirect.dns': ['enabled', 'port', 'captureAll', 'skipConntrackZoneSplit', 'resolvConfigPath'],
  'redirect.vnet': ['networks'],
  log: ['enabled', 'level'],
}

const isObject = (value: unknown): value is object => typeof value === 'object' && value !== null && !Array.isArray(value)

const object = (value: unknown): object => {
  if (isObject(value)) return value
  throw new Error(`expected keys and values, got '${shown(value)}'`)
}

/** The values, and the paths of keys that Kuma does not know; small and capital letters are the same to Go. `title` names the place in complaints. */
export function treeOf(data: unknown, title: string, reader: Reader): { readonly tree: Tree; readonly unknown: readonly string[] } {
  const tree = new Map<string, unknown>()
  const unknown: string[] = []
  const add = (part: unknown, path: string) => {
    const [keys, dot] = [known[path] ?? [], path === '' ? '' : `${path}.`]
    for (const [key, value] of Object.entries(reader.read(`${title}${path && `: ${path}`}`, part, object, {}))) {
      const name = keys.find((each) => each.toLowerCase() === key.toLowerCase())
      if (name === undefined) unknown.push(`${dot}${key}`)
      else if (known[`${dot}${name}`] !== undefined) add(value ?? {}, `${dot}${name}`)
      else if (value !== null) tree.set(`${dot}${name}`, value)
    }
  }
  add(data ?? {}, '')
  return { tree, unknown }
}

export function flag(value: unknown): boolean {
  if (typeof value === 'boolean') return value
  throw new Error(`expected true or false, got '${shown(value)}'`)
}

export function port(value: unknown): number {
  if (typeof value === 'number') return onePort(String(value))
  throw new Error(`expected a port from 1 to 65535, got '${shown(value)}'`)
}

/** As `port`, where no rule has it. */
export const portOrZero = (value: unknown): number => (value === 0 ? 0 : port(value))

const isScalar = (value: unknown): value is string | number => typeof value === 'string' || typeof value === 'number'

export function scalar(value: unknown): string {
  if (isScalar(value)) return String(value)
  throw new Error(`expected a text, got '${shown(value)}'`)
}

export function scalars(value: unknown): string[] {
  if (Array.isArray(value)) return value.map(scalar)
  throw new Error(`expected a list, got '${shown(value)}'`)
}

/** A list, of which Kuma takes the texts and numbers, or a text with commas. */
export const portsIn = (value: unknown): PortSpec[] => ports(Array.isArray(value) ? value.filter(isScalar).join(',') : scalar(value))

export function networksIn(value: unknown): string[] {
  const texts = scalars(value)
  if (texts.some((text) => text.split(',').includes(''))) throw new Error('expected addresses or networks, got an empty element')
  return networks(texts.join(','))
}
