/**
 * What Linkerd's rules for a pod depend on, read as Linkerd reads it: by its injector and linkerd-init (`setup: init`) or by its CNI plugin (`setup: cni`). A second
 * reading, independent of the product's: it knows nothing of plugins/linkerd but the names of its options.
 */
import type { Facts, Reading } from '../../parity/mesh.ts'
import { parseFlags } from './flags.ts'
import { type LinkerdRules, linkerdDefaults } from './rules.ts'
import { at, atoi, entries, type Lists, lists, maxOwner, Refusal, range, subnet } from './values.ts'

export interface LinkerdOptions {
  readonly setup?: 'init' | 'cni'
  readonly version?: 'current' | '2.15' | '2.10'
  readonly inboundPort?: number
  readonly outboundPort?: number
  readonly controlPort?: number
  readonly adminPort?: number
  readonly proxyUid?: number
  readonly proxyGid?: number
  readonly skipInboundPorts?: readonly (number | string)[]
  readonly skipOutboundPorts?: readonly (number | string)[]
  readonly skipSubnets?: readonly string[]
  readonly portsToRedirect?: readonly number[]
  readonly disableIPv6?: boolean
  readonly apiServerPorts?: readonly (number | string)[]
}

type Values = Readonly<Record<string, string>>

const annotationName = (name: string) => `config.linkerd.io/${name}`

const texts = (list: readonly (number | string)[]) => list.map(String)

interface Source {
  readonly options: LinkerdOptions
  readonly annotation: (name: string) => string | undefined
  readonly env: Values
  readonly ids: { readonly uid?: number; readonly gid?: number }
  readonly controlPlane: boolean
  readonly found: Lists
}

/** A number that the injector passes over when it is none. */
function injected({ annotation, found }: Source, name: string, bits: number, fallback: number): number {
  const text = annotation(name)
  if (text === undefined) return fallback
  const value = atoi(text, bits)
  if (value === undefined) found.warned.push(annotationName(name))
  return value ?? fallback
}

const listens: Readonly<Record<string, readonly string[]>> = {
  'inbound-port': ['LINKERD2_PROXY_INBOUND_LISTEN_ADDR'],
  'outbound-port': ['LINKERD2_PROXY_OUTBOUND_LISTEN_ADDRS', 'LINKERD2_PROXY_OUTBOUND_LISTEN_ADDR'],
  'control-port': ['LINKERD2_PROXY_CONTROL_LISTEN_ADDR'],
  'admin-port': ['LINKERD2_PROXY_ADMIN_LISTEN_ADDR'],
}

function port(source: Source, name: string, own: number): number {
  if (source.options.setup === 'cni') return own
  const annotated = injected(source, name, 32, own)
  if (annotated < 1 || annotated > 65535) throw new Refusal(annotationName(name))
  const address = (listens[name] ?? []).map((variable) => source.env[variable]).find((text) => text !== undefined)
  return address === undefined ? annotated : Number(/:(\d+)(,|$)/.exec(address)?.[1])
}

function id({ options, annotation, ids, ...source }: Source, name: 'proxy-uid' | 'proxy-gid'): number {
  const own = name === 'proxy-uid' ? (options.proxyUid ?? 2102) : (options.proxyGid ?? -1)
  const running = name === 'proxy-uid' ? ids.uid : ids.gid
  const text = annotation(name)
  const cni = options.setup === 'cni'
  const value = cni ? (text === undefined ? own : atoi(text)) : injected({ ...source, options, annotation, ids }, name, 64, own)
  if (value === undefined || value > maxOwner) throw new Refusal(annotationName(name))
  return cni ? value : (running ?? value)
}

function skipped(source: Source): Pick<LinkerdRules, 'inboundIgnored' | 'outboundIgnored' | 'subnets'> {
  const { options, annotation, controlPlane, found } = source
  const cni = options.setup === 'cni'
  const usual = cni ? [] : ['4567', '4568']
  const read = (name: string) =>
    at(annotationName(name), () => [annotation(name)].flatMap((text) => (text === undefined ? [] : [entries(text, cni)])))
  const [inbound, outbound, networks] = [read('skip-inbound-ports'), read('skip-outbound-ports'), read('skip-subnets')]
  const first = [port(source, 'control-port', options.controlPort ?? 4190), port(source, 'admin-port', options.adminPort ?? 4191)].map(String)
  const ownInbound = texts(options.skipInboundPorts ?? usual)
  const ownOutbound = !cni && controlPlane ? [] : texts(options.skipOutboundPorts ?? usual)
  const server = controlPlane ? texts(options.apiServerPorts ?? [443, 6443]) : []
  return {
    inboundIgnored: found.ports(annotationName('skip-inbound-ports'), inbound[0] ?? [], [
      ...first,
      ...(cni || inbound.length === 0 ? ownInbound : []),
    ]),
    outboundIgnored: found.ports(annotationName('skip-outbound-ports'), outbound[0] ?? [], [
      ...(outbound.length === 0 ? ownOutbound : []),
      ...server,
    ]),
    subnets: networks[0] === undefined ? (options.skipSubnets ?? []) : at(annotationName('skip-subnets'), () => (networks[0] ?? []).map(subnet)),
  }
}

function annotated(source: Source): LinkerdRules {
  const { options, env } = source
  const six = options.setup !== 'cni' && (env.LINKERD2_PROXY_OUTBOUND_LISTEN_ADDRS ?? '').includes('[::1]')
  return {
    ...linkerdDefaults,
    inboundPort: port(source, 'inbound-port', options.inboundPort ?? 4143),
    outboundPort: port(source, 'outbound-port', options.outboundPort ?? 4140),
    proxyUid: id(source, 'proxy-uid'),
    proxyGid: id(source, 'proxy-gid'),
    ...skipped(source),
    redirected: options.portsToRedirect ?? [],
    ipv6: !(options.disableIPv6 ?? true) || six,
  }
}

/** Annotations that decide nothing: `told` by linkerd-init's arguments, which the injector would have written otherwise, or ports where the CNI plugin reads none. */
function passedOver(own: Values, told: LinkerdRules | undefined, { setup, version }: LinkerdOptions, controlPlane: boolean): string[] {
  const there = (names: readonly string[]) => names.map(annotationName).filter((name) => own[name] !== undefined)
  if (told === undefined) return setup === 'cni' ? there(Object.keys(listens)) : []
  const parts = [
    ['skip-inbound-ports', told.inboundIgnored, range, 2],
    ['skip-outbound-ports', told.outboundIgnored, range, controlPlane ? 1e6 : 0],
    ['skip-subnets', told.subnets, subnet, 0],
  ] as const
  // No packet of IPv6 has an address of IPv4 in IPv6 form.
  const real = (list: readonly (string | undefined)[]) => new Set(list.filter((each) => each !== undefined && !each.startsWith('::ffff:')))
  return parts.flatMap(([part, all, read, more]) =>
    there(version === '2.10' && part === 'skip-subnets' ? [] : [part]).filter((name) => {
      try {
        const [written, known] = [real(entries(own[name] ?? '', false).map(read)), real(all)]
        return [...written].some((each) => !known.has(each)) || known.size > written.size + more
      } catch (error) {
        if (error instanceof Refusal) return true
        throw error
      }
    }),
  )
}

export function readPod({ pod, options: given }: Pick<Facts, 'pod' | 'options'>): Reading<LinkerdRules> {
  const options = given as LinkerdOptions
  const [own, space]: [Values, Values] = [pod.annotations ?? {}, typeof pod.namespace === 'object' ? (pod.namespace.annotations ?? {}) : {}]
  const annotation = (name: string) => {
    const both = [own, space].map((values) => values[annotationName(name)])
    return both.find((text) => text !== undefined && (text !== '' || options.setup !== 'cni'))
  }
  const [proxy, init] = ['linkerd-proxy', 'linkerd-init'].map((name) => pod.containers?.find((container) => container.name === name))
  const found = lists()
  const controlPlane = (pod.labels?.['linkerd.io/control-plane-component'] ?? '') !== ''
  try {
    const told = init?.args !== undefined && init.args.length > 0
    const all = told
      ? parseFlags(init.args ?? [], found, proxy?.env ?? {})
      : annotated({ options, annotation, env: proxy?.env ?? {}, ids: proxy ?? {}, controlPlane, found })
    const warned = [
      ...found.warned,
      ...passedOver(own, told ? all : undefined, options, controlPlane),
      ...(own[annotationName('close-wait-timeout')] !== undefined && options.setup !== 'cni' ? [annotationName('close-wait-timeout')] : []),
    ]
    if (options.version === '2.15') return { rules: { ...all, ipv6: false }, warned }
    if (options.version !== '2.10') return { rules: all, warned }
    const rules = { ...all, old: true, ipv6: false, proxyGid: -1, subnets: [] }
    return { rules, warned: [...warned, ...(all.subnets.some((network) => !network.startsWith('::ffff:')) ? ['skip-subnets'] : [])] }
  } catch (error) {
    if (error instanceof Refusal) return { refused: error.message }
    throw error
  }
}
