/**
 * The rules as the container osm-init (FSM: fsm-init) has them: the text that it gives to iptables-restore, in the last of its arguments. Chains are read in
 * their effective order; a line that the mesh does not write, or not there, is not understood.
 */
import type { Pod } from '../../core/plugin.ts'
import { bounded } from '../shared/bounded.ts'
import { ipv4 } from '../shared/networks.ts'
import { messageOf, short } from '../shared/text.ts'
import type { Flavour } from './flavours.ts'
import { chainsOf, type Line, lineOf, NotUnderstood, notHere } from './frame.ts'
import { mostPorts, podAddress, type Reading, type Settings } from './settings.ts'
import { interfaceExpected, isInterface, networks, ports } from './values.ts'

interface Collected {
  readonly uids: Set<number>
  readonly networks: { readonly excluded: string[]; readonly included: string[] }
  readonly interfaces: { readonly outbound: string[]; readonly inbound: string[] }
  readonly ports: { readonly outbound: number[]; readonly inbound: number[]; readonly own: number[] }
  readonly lists: { readonly line: Line; readonly count: number }[]
  readonly refused: string[]
  proxyPort: number
  inboundPort: number
  podIp: string | undefined
  dns: boolean
  everything: boolean
}

/** What iptables would say to a value of the line; the mesh's container fails then. */
function read<T>(found: Collected, line: Line, parse: () => T[]): T[] {
  try {
    return parse()
  } catch (error) {
    found.refused.push(`${lineOf(line)}: ${messageOf(error)}`)
    return []
  }
}

/** The shell, or iptables in one of its versions, does something else with the others. */
const plainName = /^(?![-!])[^"'`$\\]+$/

function interfacesIn(found: Collected, line: Line, name: string): string[] {
  if (!plainName.test(name)) throw notHere(line)
  return read(found, line, () => {
    if (isInterface(name)) return [name]
    throw new Error(`expected ${interfaceExpected}, got '${short(name)}'`)
  })
}

/** As the mesh writes numbers; iptables would take names of services, ranges, and numbers that are octal. */
const portList = /^[1-9]\d*(?:,[1-9]\d*)*$/

function portsIn(found: Collected, line: Line, text: string): number[] {
  if (!portList.test(text)) throw notHere(line)
  const all = read(found, line, () => ports(text))
  const count = text.split(',').length
  if (count > mostPorts) found.lists.push({ line, count })
  return all
}

function onePort(found: Collected, line: Line, text: string): number[] {
  if (text.includes(',')) throw notHere(line)
  return portsIn(found, line, text)
}

/** One with its length, as the mesh writes it; iptables would take names of hosts. */
function networksIn(found: Collected, line: Line, text: string): string[] {
  if (!/^[\da-fA-F.:]+\/\d+$/.test(text)) throw notHere(line)
  return read(found, line, () => networks(text))
}

/** The greatest number stands for "no user". */
const mostUid = 0xfffffffe

function takeUid(found: Collected, line: Line, digits: string): void {
  if (!/^(?:0|[1-9]\d*)$/.test(digits)) throw notHere(line)
  const id = Number(digits)
  if (id > mostUid) found.refused.push(`${lineOf(line)}: expected a user from 0 to ${mostUid}, got '${short(digits)}'`)
  found.uids.add(id)
}

/** Where a connection can go; 0.0.0.0 and those of groups are no pod's. */
const isHost = (address: string): boolean => Number.parseInt(address, 10) >= 1 && Number.parseInt(address, 10) <= 223

function takePodIp(found: Collected, line: Line, address: string): void {
  found.podIp = address
  if (address === '$POD_IP') return
  if (!ipv4.test(address)) found.refused.push(`${lineOf(line)}: expected an IPv4 address, got '${short(address)}'`)
  else if (!isHost(address)) throw notHere(line)
}

/** Rules of one kind at their place in a chain. */
interface Stage {
  readonly pattern: RegExp
  readonly often: 'once' | 'perhaps' | 'many'
  readonly take: (found: Collected, values: readonly string[], line: Line) => void
}

const nothing = () => undefined
const uid: Stage['take'] = (found, [id = ''], line) => takeUid(found, line, id)
const one = (pattern: RegExp, take: Stage['take'] = nothing): Stage => ({ pattern, often: 'once', take })

const exclusion: Stage = {
  pattern: /^(?:-o (\S+)|-d (\S+)|-p tcp -m multiport --dports (\S+)) -j RETURN$/,
  often: 'many',
  take: (found, [device = '', network = '', list = ''], line) => {
    if (device !== '') found.interfaces.outbound.push(...interfacesIn(found, line, device))
    else if (network !== '') found.networks.excluded.push(...networksIn(found, line, network))
    else found.ports.outbound.push(...portsIn(found, line, list))
  },
}

const inboundExclusion: Stage = {
  pattern: /^(?:-i (\S+)|-p tcp -m multiport --dports (\S+)|-p tcp --dport (\S+)) -j RETURN$/,
  often: 'many',
  take: (found, [device = '', list = '', own = ''], line) => {
    if (device !== '') found.interfaces.inbound.push(...interfacesIn(found, line, device))
    else if (list !== '') found.ports.inbound.push(...portsIn(found, line, list))
    else found.ports.own.push(...onePort(found, line, own))
  },
}

const dns: Stage = {
  pattern: /^-p udp -d 127\.0\.0\.153(?:\/32)? --dport 53 -j DNAT --to-destination 127\.0\.0\.153:5300$/,
  often: 'perhaps',
  take: (found) => {
    found.dns = true
  },
}

const podIp: Stage = {
  pattern: /^-p tcp -o lo -d 127\.0\.0\.1(?:\/32)? -m owner --uid-owner (\d+) -j DNAT --to-destination (\$POD_IP|[\d.]+)$/,
  often: 'perhaps',
  take: (found, [id = '', address = ''], line) => {
    takeUid(found, line, id)
    takePodIp(found, line, address)
  },
}

const redirect = (take: (found: Collected, port: number) => void): Stage =>
  one(/^-p tcp -j REDIRECT --to-ports? (\S+)$/, (found, [text = ''], line) => take(found, onePort(found, line, text)[0] ?? 0))

/** Chains of OSM and of FSM have the same names but for the first letter. */
const chains: Readonly<Record<string, readonly Stage[]>> = {
  PREROUTING: [one(/^-p tcp -j INBOUND$/)],
  OUTPUT: [dns, podIp, dns, one(/^-p tcp -j OUTBOUND$/), dns],
  IN_REDIRECT: [
    redirect((found, port) => {
      found.inboundPort = port
    }),
  ],
  OUT_REDIRECT: [
    redirect((found, port) => {
      found.proxyPort = port
    }),
    // Comes too late for anything.
    { pattern: /^-p tcp --dport (\S+) -j ACCEPT$/, often: 'many', take: (found, [text = ''], line) => void onePort(found, line, text) },
  ],
  INBOUND: [inboundExclusion, one(/^-p tcp -j IN_REDIRECT$/)],
  OUTBOUND: [
    one(/^-o lo ! -d 127\.0\.0\.1(?:\/32)? -m owner --uid-owner (\d+) -j IN_REDIRECT$/, uid),
    one(/^-o lo -m owner ! --uid-owner (\d+) -j RETURN$/, uid),
    one(/^-m owner --uid-owner (\d+) -j RETURN$/, uid),
    one(/^-d 127\.0\.0\.1(?:\/32)? -j RETURN$/),
    exclusion,
    {
      pattern: /^-d (\S+) -j OUT_REDIRECT$/,
      often: 'many',
      take: (found, [network = ''], line) => void found.networks.included.push(...networksIn(found, line, network)),
    },
    one(/^-j (RETURN|OUT_REDIRECT)$/, (found, [target]) => {
      found.everything = target === 'OUT_REDIRECT'
    }),
  ],
}

function walk(name: string, lines: readonly Line[], found: Collected): void {
  let next = 0
  for (const { pattern, often, take } of chains[name] ?? []) {
    for (let line = lines[next]; ; line = lines[next]) {
      const match = line === undefined ? null : pattern.exec(line.rule)
      if (line === undefined || match === null) {
        if (often !== 'once') break
        throw line === undefined ? new NotUnderstood(`the chain ${name} ends too early`) : notHere(line)
      }
      take(found, match.slice(1), line)
      next += 1
      if (often !== 'many') break
    }
  }
  const rest = lines[next]
  if (rest !== undefined) throw notHere(rest)
}

function collect(script: string): Collected {
  const found: Collected = {
    uids: new Set(),
    networks: { excluded: [], included: [] },
    interfaces: { outbound: [], inbound: [] },
    ports: { outbound: [], inbound: [], own: [] },
    lists: [],
    refused: [],
    proxyPort: 0,
    inboundPort: 0,
    podIp: undefined,
    dns: false,
    everything: false,
  }
  for (const [name, lines] of chainsOf(script)) walk(name, lines, found)
  if (found.uids.size !== 1) throw new NotUnderstood(`its rules speak of several users as the sidecar: ${[...found.uids].slice(0, 4).join(', ')}`)
  return found
}

function settingsOf(found: Collected, address: string | undefined): Settings {
  const unique = <T>(list: readonly T[]): T[] => [...new Set(list)]
  return {
    proxyUid: [...found.uids][0] ?? 0,
    proxyPort: found.proxyPort,
    inboundPort: found.inboundPort,
    podIp: address,
    dns: found.dns,
    outboundInterfaces: unique(found.interfaces.outbound),
    inboundInterfaces: unique(found.interfaces.inbound),
    excludedNetworks: unique(found.networks.excluded),
    includedNetworks: found.everything ? '*' : unique(found.networks.included),
    excludedOutboundPorts: unique(found.ports.outbound),
    excludedInboundPorts: unique(found.ports.inbound),
    ownPorts: unique(found.ports.own),
  }
}

export function readScript(script: string, pod: Pod, flavour: Flavour): Reading {
  const where = `container ${flavour.init}`
  try {
    const found = collect(script)
    if (found.refused.length > 0) return { refused: bounded(found.refused).map((complaint) => `${where}: ${complaint}`) }
    const address = found.podIp === '$POD_IP' ? podAddress(pod, flavour) : { podIp: found.podIp }
    if (!('podIp' in address)) return address
    return {
      settings: settingsOf(found, address.podIp),
      more: bounded(found.lists.map(({ line, count }) => `${where}: line ${line.number}: ${count} ports`)),
    }
  } catch (error) {
    if (error instanceof NotUnderstood) return { cannot: `${where}: ${error.message}` }
    throw error
  }
}
