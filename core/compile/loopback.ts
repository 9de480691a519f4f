/** What a pod's lo must have while the pod is enrolled: the program that turns answers over UDP round, addresses, the route of ids, routes for devices. Pure. */
import { formatAddress, formatCidr, localhost, network, parseAddress, type Words, zeroWords } from '../address.ts'
import { AddedKind, type AddedRecord, AskerNetwork } from '../contract.ts'
import type { Address, Route } from '../native/api.ts'

/** An address of lo, or a local route to it: "::6/128" */
export interface LoopbackItem {
  readonly kind: 'address' | 'route'
  readonly cidr: string
  /**
   * Index of an interface: the route is for datagrams that are bound to it, which would leave the pod by it with a loopback destination. Absent:
   * for all.
   */
  readonly device?: number
}

export interface LoopbackWant {
  /** The program at its egress. */
  readonly program: boolean
  readonly items: readonly LoopbackItem[]
}

/** What outbound rules take. */
export interface Traffic {
  /** UDP; those of before count. */
  readonly udp: boolean
  /** TCP over IPv6, which they send to ::1. */
  readonly tcp6: boolean
}

export interface Present {
  readonly addresses: readonly Address[]
  readonly routes: readonly Route[]
}

/** lo has it in every namespace. */
const LOOPBACK = 1
const [RT_TABLE_LOCAL, RTN_LOCAL] = [255, 2]

/** Ids of datagrams over IPv6 are addresses of this network. */
export const idNetwork = formatCidr({ family: 6, words: [AskerNetwork.NETWORK6_0, AskerNetwork.NETWORK6_1, 0, 0], length: 96 })

export const nothing: LoopbackWant = { program: false, items: [] }

const onLoopback = ({ addresses }: Pick<Present, 'addresses'>): readonly Address[] => addresses.filter(({ index }) => index === LOOPBACK)

/** Where lo has no IPv6 no proxy listens on ::1, and no datagram over IPv6 is sent there. */
const hasIpv6 = (present: Pick<Present, 'addresses'>): boolean => onLoopback(present).some(({ family }) => family === 6)

const itsLo = 'its lo has none (sysctl net.ipv6.conf.lo.disable_ipv6, in the pod)'

/** A warning for a pod whose plugin names addresses of lo. */
const withoutAddresses = (addresses: readonly string[]): string[] => [
  `it should have ${addresses.join(', ')} at lo for IPv6, but ${itsLo}: IPv4 is captured as usual, what its rules send to ::1 is lost`,
]

/** Warnings where lo has no IPv6. `udp`, `addresses`: as for `loopbackWant`. */
export function withoutIpv6(udp: boolean, addresses: readonly string[], present: Pick<Present, 'addresses'>): string[] {
  if (hasIpv6(present)) return []
  return addresses.length > 0 ? withoutAddresses(addresses) : udp ? lostDatagrams(present) : []
}

const lostDatagrams = (present: Pick<Present, 'addresses'>): string[] =>
  present.addresses.some(({ family, scope, index }) => family === 6 && scope === 0 && index !== LOOPBACK)
    ? [`it has IPv6, but ${itsLo}: what its rules send to ::1 is lost`]
    : []

const loopbackRoute = { 4: '127.0.0.1/32', 6: '::1/128' } as const

/** The metric of routes for devices, as far as the mirror of routes is concerned: lo's own come first. */
const AFTER_ALL = 0xffff_ffff

/** A pod makes its interfaces itself. */
const MOST_DEVICES = 16

/**
 * Those with routes of the family: others are down, or do not have the family. Where lo's own address is missing, such a route would answer look-ups
 * that ask for no device, too.
 */
function deviceRoutes(families: readonly (4 | 6)[], { addresses, routes }: Present): LoopbackItem[] {
  return families.flatMap((family) => {
    const cidr = loopbackRoute[family]
    const own = formatAddress({ family, words: localhost[family] })
    if (!onLoopback({ addresses }).some(({ address }) => address === own)) return []
    const others = routes.filter((route) => route.family === family && `${route.destination}/${route.prefix}` !== cidr)
    const devices = new Set(others.flatMap(({ index }) => (index === undefined || index === LOOPBACK ? [] : [index])))
    return [...devices]
      .sort((a, b) => a - b)
      .slice(0, MOST_DEVICES)
      .map((device): LoopbackItem => ({ kind: 'route', cidr, device }))
  })
}

/**
 * The kernel routes a reset to ::1 that belongs to no socket any more by the interface whose address the peer was sent from: without a route for that device the
 * reset leaves the pod, and the proxy's side of a connection whose client is gone stays in LAST-ACK, in the way of the next client with that port.
 */
const familiesOf = ({ udp, tcp6 }: Traffic): readonly (4 | 6)[] => (udp ? [4, 6] : tcp6 ? [6] : [])

/** `addresses`: the plugin's loopbackAddresses, which are IPv6. */
export function loopbackWant(traffic: Traffic, addresses: readonly string[], present: Present): LoopbackWant {
  const { udp } = traffic
  const devices = deviceRoutes(familiesOf(traffic), present)
  if (!hasIpv6(present)) return { program: udp, items: devices } // the kernel would refuse the others
  const ids: readonly LoopbackItem[] = udp ? [{ kind: 'route', cidr: idNetwork }] : []
  const named = [...new Set(addresses.map(cidrOf))].map((cidr): LoopbackItem => ({ kind: 'address', cidr }))
  return { program: udp, items: [...named, ...ids, ...devices] }
}

function cidrOf(text: string): string {
  const address = parseAddress(text)
  if (address === undefined) throw new TypeError(`not an address: ${text}`)
  return formatCidr(network(address, address.family === 4 ? 32 : 128))
}

const [hostOf, lengthOf] = [(cidr: string) => cidr.replace(/\/.*$/, ''), (cidr: string) => Number(cidr.replace(/^.*\//, ''))]

export function isPresent({ kind, cidr, device = LOOPBACK }: LoopbackItem, present: Present): boolean {
  if (kind === 'address') return onLoopback(present).some(({ address, prefix }) => `${address}/${prefix}` === cidr)
  return present.routes.some(
    ({ destination, prefix, table, type, index }) =>
      `${destination}/${prefix}` === cidr && table === RT_TABLE_LOCAL && type === RTN_LOCAL && index === device,
  )
}

/** The addresses and routes that the pod has when everything is there: so the mirror of its routes is right from the first connection on. */
export function withWanted<T extends Present>(pod: T, { items }: LoopbackWant): T {
  const missing = items.filter((item) => !isPresent(item, pod))
  if (missing.length === 0) return pod
  const addresses = missing
    .filter(({ kind }) => kind === 'address')
    .map(({ cidr }): Address => ({ ...shared(cidr), address: hostOf(cidr), interface: 'lo', scope: 0, secondary: false, index: LOOPBACK }))
  const routes = missing.map(({ cidr, device = LOOPBACK }): Route => {
    const metric = device === LOOPBACK ? 0 : AFTER_ALL
    return { ...shared(cidr), destination: hostOf(cidr), table: RT_TABLE_LOCAL, type: RTN_LOCAL, metric, index: device }
  })
  return { ...pod, addresses: [...pod.addresses, ...addresses], routes: [...pod.routes, ...routes] }
}

const shared = (cidr: string): { readonly family: 4 | 6; readonly prefix: number } => ({ family: cidr.includes(':') ? 6 : 4, prefix: lengthOf(cidr) })

export interface LoopbackSteps {
  readonly add: readonly LoopbackItem[]
  /** Only what the agent has added itself. */
  readonly remove: readonly LoopbackItem[]
}

const same = (a: LoopbackItem) => (b: LoopbackItem) => a.kind === b.kind && a.cidr === b.cidr && a.device === b.device

export function loopbackSteps(want: LoopbackWant, added: readonly LoopbackItem[], present: Present): LoopbackSteps {
  return {
    add: want.items.filter((item) => !isPresent(item, present)),
    remove: added.filter((item) => !want.items.some(same(item))),
  }
}

/** What is at lo of ours. */
export interface LoopbackInPlace {
  readonly program: boolean
  readonly added: readonly LoopbackItem[]
}

export const notThere: LoopbackInPlace = { program: false, added: [] }

/** Open sockets may still need what is there for UDP, so it stays as long as the pod is enrolled. */
export const tookUdp = ({ program, added }: LoopbackInPlace): boolean => program || added.some(({ cidr }) => cidr === idNetwork)

/** What will happen at lo, for people. */
export function loopbackChanges(want: LoopbackWant, { program, added }: LoopbackInPlace, present: Present): string[] {
  const { add, remove } = loopbackSteps(want, added, present)
  return [
    ...(want.program && !program ? ['lo gets the program for answers over UDP'] : []),
    ...add.map((item) => `lo gets ${itemText(item)}`),
    ...remove.map((item) => `lo loses ${itemText(item)}`),
    ...(!want.program && program ? ['lo loses the program for answers over UDP'] : []),
  ]
}

/** The records of addresses and routes, which the kernel's map has, as items. */
export function itemOf({ kind, length, addr, family, device }: AddedRecord): LoopbackItem | undefined {
  const cidr = formatCidr({ family: family === 4 ? 4 : 6, words: addr as unknown as Words, length })
  if (kind === AddedKind.ADDRESS) return { kind: 'address', cidr }
  return kind === AddedKind.ROUTE ? { kind: 'route', cidr, ...(device !== LOOPBACK && { device }) } : undefined
}

export function recordOf(netns: bigint, { kind, cidr, device = LOOPBACK }: LoopbackItem): AddedRecord {
  const { family, words } = parseAddress(hostOf(cidr)) ?? { family: 6, words: zeroWords }
  const isAddress = kind === 'address'
  return { netns, kind: isAddress ? AddedKind.ADDRESS : AddedKind.ROUTE, length: lengthOf(cidr), addr: words, family, device: isAddress ? 0 : device }
}

export const addedAddresses = (items: readonly LoopbackItem[]): string[] =>
  items.filter(({ kind }) => kind === 'address').map(({ cidr }) => hostOf(cidr))

/** For people. */
export function itemText({ kind, cidr, device }: LoopbackItem): string {
  if (kind === 'address') return hostOf(cidr)
  return device === undefined ? `local route ${cidr}` : `local route ${cidr} for interface ${device}`
}
