/** Kuma's configuration of its transparent proxy: of the injector's annotation, of kuma-init's flags, or of the plugin's options. */

import { isOld, type KumaRules, type Version } from './rules.ts'
import { at, digits, networkList, portList, Refusal, userRules } from './texts.ts'

export interface KumaConfig {
  /** `written`: the options, in a pod that the injector of Kuma 2 wrote */
  readonly from: 'annotation' | 'flags' | 'options' | 'written'
  readonly uid: number | undefined
  readonly mode: 'dualstack' | 'ipv4'
  readonly outbound: KumaRules['outbound']
  readonly inbound: Omit<KumaRules['inbound'], 'port6'> & { readonly port6?: number }
  readonly dns: { readonly capture: 'none' | 'servers' | 'all'; readonly port: number }
  readonly dropInvalid: boolean
}

/** The plugin's options as the config file has them. */
export interface KumaOptions {
  readonly version?: Version
  readonly proxyPort?: number
  readonly inboundPort?: number
  readonly proxyUid?: number
  readonly ipFamilyMode?: 'dualstack' | 'ipv4'
  readonly redirectOutbound?: boolean
  readonly redirectInbound?: boolean
  readonly includeOutboundPorts?: readonly number[]
  readonly excludeOutboundPorts?: readonly number[]
  readonly excludeOutboundCidrs?: readonly string[]
  readonly excludeOutboundPortsForUids?: readonly string[]
  readonly insertRedirectInsteadOfAppend?: boolean
  readonly includeInboundPorts?: readonly number[]
  readonly excludeInboundPorts?: readonly number[]
  readonly excludeInboundCidrs?: readonly string[]
  readonly applicationProbeProxyPort?: number
  readonly readinessPort?: number
  readonly captureDns?: 'none' | 'servers' | 'all'
  readonly nameservers?: readonly string[]
  readonly dropInvalid?: boolean
}

export const optionsConfig = (options: KumaOptions): KumaConfig => ({
  from: 'options',
  uid: undefined,
  mode: options.ipFamilyMode ?? 'dualstack',
  outbound: {
    enabled: options.redirectOutbound ?? true,
    port: options.proxyPort ?? 15001,
    include: options.includeOutboundPorts ?? [],
    exclude: options.excludeOutboundPorts ?? [],
    ips: options.excludeOutboundCidrs ?? [],
    users: (options.excludeOutboundPortsForUids ?? []).flatMap(userRules),
    insert: options.insertRedirectInsteadOfAppend ?? false,
  },
  inbound: {
    enabled: options.redirectInbound ?? true,
    port: options.inboundPort ?? 15006,
    include: options.includeInboundPorts ?? [],
    exclude: [...(options.excludeInboundPorts ?? []), ...(options.readinessPort ? [options.readinessPort] : [])],
    ips: options.excludeInboundCidrs ?? [],
    open: 0,
  },
  dns: { capture: options.captureDns ?? 'all', port: 15053 },
  dropInvalid: options.dropInvalid ?? false,
})

/** As people write it; what is left out has the default of kumactl. */
export interface WrittenFlow {
  readonly enabled?: boolean
  readonly port?: number
  readonly includePorts?: readonly number[]
  readonly excludePorts?: readonly number[] | string
  readonly excludePortsForIPs?: readonly string[]
  readonly excludePortsForUIDs?: readonly string[]
  readonly insertRedirectInsteadOfAppend?: boolean
}

export interface Written {
  readonly kumaDPUser?: string
  readonly ipFamilyMode?: string
  readonly dropInvalidPackets?: boolean
  readonly redirect?: {
    readonly inbound?: WrittenFlow
    readonly outbound?: WrittenFlow
    readonly dns?: { readonly enabled?: boolean; readonly captureAll?: boolean; readonly port?: number }
  }
}

/** 0 is harmless where no rule has it, but a flag must be a port. */
function portOf(port: number, used: boolean): number {
  if (port === 0 && used) throw new Refusal()
  return digits(String(port), 65535)
}

function flowOf(flow: WrittenFlow = {}, usual: number, used: boolean) {
  const ports = (list: readonly number[] | string = []) => portList(typeof list === 'string' ? list : list.join(','))
  const ips = (flow.excludePortsForIPs ?? []).join(',')
  if (/^,|,,|,$/.test(ips)) throw new Refusal()
  const port = portOf(flow.port ?? usual, used)
  if (flow.enabled !== undefined && typeof flow.enabled !== 'boolean') throw new Refusal()
  return { enabled: flow.enabled ?? true, port, include: ports(flow.includePorts), exclude: ports(flow.excludePorts), ips: networkList(ips) }
}

function ofWritten({ kumaDPUser = '', ipFamilyMode = '', dropInvalidPackets = false, redirect = {} }: Written, from: KumaConfig['from']): KumaConfig {
  const { inbound, outbound, dns = {} } = redirect
  if (!/^(dualstack|ipv4|)$/i.test(ipFamilyMode)) throw new Refusal()
  const goesOut = outbound?.enabled !== false || from === 'flags'
  return {
    from,
    uid: kumaDPUser === '' ? undefined : Number(kumaDPUser),
    mode: ipFamilyMode === 'ipv4' ? 'ipv4' : 'dualstack',
    outbound: {
      ...flowOf(outbound, 15001, goesOut),
      users: (outbound?.excludePortsForUIDs ?? []).flatMap(userRules),
      insert: outbound?.insertRedirectInsteadOfAppend ?? false,
    },
    inbound: {
      ...flowOf(inbound, 15006, goesOut || inbound?.enabled !== false),
      open: (inbound?.excludePortsForUIDs ?? []).flatMap(userRules).length,
    },
    dns: {
      capture: dns.enabled ? (dns.captureAll ? 'all' : 'servers') : 'none',
      port: portOf(dns.port ?? 15053, dns.enabled === true || from === 'flags'),
    },
    dropInvalid: dropInvalidPackets,
  }
}

/** Of kuma-init's flags, as the injector of Kuma 2 writes them: --name=value, or --name for true. */
function ofFlags(args: readonly string[], version: Version): KumaConfig | undefined {
  const all = (name: string) =>
    args.flatMap((arg) => (arg.startsWith(`--${name}=`) ? [arg.slice(name.length + 3)] : arg === `--${name}` ? ['true'] : []))
  const last = (name: string) => all(name).at(-1)
  const port = (name: string) => (last(name) === undefined ? {} : { port: Number(last(name)) })
  const flow = (direction: 'inbound' | 'outbound'): WrittenFlow => ({
    ...port(`redirect-${direction}-port`),
    excludePorts: last(`exclude-${direction}-ports`) ?? '',
    excludePortsForIPs: all(`exclude-${direction}-ips`),
  })
  const silent = args.every((arg) => /^--(config|config-file|verbose)(=|$)/.test(arg))
  if (silent && (args.length === 0 || args.some((arg) => arg.startsWith('--config')))) return undefined
  const six = last('ipv6-enabled')
  const byProtocol = (['tcp', 'udp'] as const).flatMap((protocol) =>
    isOld({ version }) ? all(`exclude-outbound-${protocol}-ports-for-uids`).map((rule) => `${protocol}:${rule}`) : [],
  )
  const queries = last('redirect-all-dns-traffic') === 'true'
  return ofWritten(
    {
      kumaDPUser: last('kuma-dp-user') ?? '',
      ipFamilyMode: last('ip-family-mode') ?? (six === 'false' ? 'ipv4' : ''),
      dropInvalidPackets: last('drop-invalid-packets') === 'true',
      redirect: {
        outbound: {
          ...flow('outbound'),
          excludePortsForUIDs: [...all('exclude-outbound-ports-for-uids'), ...byProtocol],
          insertRedirectInsteadOfAppend: last('redirect-outbound-insert-instead-of-append') === 'true',
        },
        inbound: { ...flow('inbound'), enabled: last('redirect-inbound') !== 'false' },
        dns: { enabled: queries || last('redirect-dns') === 'true', captureAll: queries, ...port('redirect-dns-port') },
      },
    },
    'flags',
  )
}

/** undefined: no flag says anything about rules. */
export function configOf(source: readonly string[] | Written, version: Version): KumaConfig | undefined {
  return Array.isArray(source) ? at('kuma-init', () => ofFlags(source, version)) : ofWritten((source ?? {}) as Written, 'annotation')
}
