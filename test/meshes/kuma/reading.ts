/**
 * What Kuma's rules for a pod depend on, read as Kuma's injector and then kuma-init read it. A second reading, independent of the product's: it knows
 * nothing of plugins/kuma but the names of its options.
 */
import { parse } from 'yaml'
import type { Facts, Reading } from '../../parity/mesh.ts'
import { configOf, type KumaConfig, type KumaOptions, optionsConfig } from './config.ts'
import { isOld, type KumaRules } from './rules.ts'
import { at, digits, networkList, portList, Refusal, userRules } from './texts.ts'

export const traffic = (name: string) => `traffic.kuma.io/${name}`

/** Reads an annotation that is there, under its name. */
type Read = <T>(name: string, read: (text: string) => T) => T | undefined

const onOff: Readonly<Record<string, boolean>> = { enabled: true, true: true, yes: true, disabled: false, false: false, no: false }

function choice(text: string, among: Readonly<Record<string, boolean>>): boolean {
  const value = Object.hasOwn(among, text) ? among[text] : undefined
  if (value === undefined) throw new Refusal()
  return value
}

const flag = (text: string) => choice(text, { true: true, yes: true, false: false, no: false })

function mode(text: string): 'ipv4' | 'dualstack' {
  if (!/^(dualstack|ipv4|)$/i.test(text)) throw new Refusal()
  return text === 'ipv4' ? 'ipv4' : 'dualstack' // "IPV4" is accepted and is not "ipv4"
}

const some = <T>(list: readonly T[] | undefined, otherwise: readonly T[]) => (list?.length ? list : otherwise)

/** kuma.io/... that the injector of Kuma 2 leaves in a pod without a configuration in an annotation */
function legacy(config: KumaConfig, read: Read): KumaConfig {
  const port = (name: string, usual: number) => read(`kuma.io/${name}`, (text) => digits(text, 65535)) || usual
  const dns = read('kuma.io/builtin-dns', (text) => choice(text, onOff))
  // The injector wrote all that is on.
  const written = /^(enabled|true|yes)$/.test(read('kuma.io/transparent-proxying', (text) => text) ?? '')
  const unsaid = written ? 'none' : config.dns.capture
  const capture = dns === undefined ? unsaid : dns ? (config.dns.capture === 'none' ? 'all' : config.dns.capture) : 'none'
  return {
    ...config,
    from: written ? 'written' : config.from,
    uid: read('kuma.io/sidecar-uid', (text) => (text === '' ? undefined : digits(text, 2 ** 32 - 2))),
    outbound: { ...config.outbound, port: port('transparent-proxying-outbound-port', config.outbound.port) },
    inbound: { ...config.inbound, port: port('transparent-proxying-inbound-port', config.inbound.port) },
    dns: { capture, port: port('builtin-dns-port', config.dns.port) },
  }
}

function inbound(config: KumaConfig, options: KumaOptions, read: Read): KumaConfig['inbound'] {
  const gateway = read('kuma.io/gateway', (text) => choice(text, onOff)) ?? false
  const usual = options.applicationProbeProxyPort ?? 9001
  const annotated = read('kuma.io/application-probe-proxy-port', (text) => digits(text, gateway ? 0 : 65535))
  const flow = { ...config.inbound, enabled: config.inbound.enabled && !gateway }
  if (!flow.enabled) return flow
  const own = flow.exclude.filter((port) => port === 9902 || (port === usual && annotated === undefined))
  const list = read(traffic('exclude-inbound-ports'), portList) ?? []
  const probes = annotated ?? (config.from === 'options' ? usual : 0)
  return {
    ...flow,
    exclude: [...(list.length > 0 ? [...list, ...own] : flow.exclude), ...(probes > 0 ? [probes] : [])],
    ips: some(read(traffic('exclude-inbound-ips'), networkList), flow.ips),
  }
}

function servers({ pod, options }: Facts, capture: KumaConfig['dns']['capture']): KumaRules['dns']['servers'] {
  if (capture !== 'servers') return capture
  return (pod.nameservers ?? (options as KumaOptions).nameservers ?? []).map((server) => server.replace(/^::ffff:(?=\d+\.)/, ''))
}

function rulesOf(facts: Facts): KumaRules {
  const { pod } = facts
  const options = facts.options as KumaOptions
  const { annotations = {}, containers = [] } = pod
  const read: Read = (name, how) => (annotations[name] === undefined ? undefined : at(name, () => how(annotations[name] ?? '')))
  const args = containers.find(({ name }) => name === 'kuma-init')?.args ?? []
  const text = annotations[traffic('transparent-proxy-config')] || undefined
  const version = options.version ?? '2.14'
  const injected = configOf(args, version) ?? (text === undefined ? undefined : at('transparent-proxy-config', () => configOf(parse(text), version)))
  const config = injected ?? legacy(optionsConfig(options), read)
  const sidecar = containers.find(({ name }) => name === 'kuma-sidecar')
  const { outbound } = config
  const written = (all: string) => all.split(';').filter((rule) => rule !== '' || config.from !== 'flags')
  const users = [
    read(traffic('exclude-outbound-ports-for-uids'), (all) => written(all).flatMap(userRules)),
    ...(isOld({ version }) ? ['tcp', 'udp'] : []).map((protocol) =>
      read(traffic(`exclude-outbound-${protocol}-ports-for-uids`), (all) => {
        const rules = all.split(';').flatMap((rule) => (rule === '' ? [] : userRules(`${protocol}:${rule}`)))
        return rules.length > 0 ? rules : undefined
      }),
    ),
  ].filter((each) => each !== undefined)
  return {
    version,
    uid: config.uid ?? sidecar?.uid ?? options.proxyUid ?? 5678,
    ipv6: (read('kuma.io/transparent-proxying-ip-family-mode', mode) ?? config.mode) === 'dualstack',
    outbound: {
      ...outbound,
      exclude: some(read(traffic('exclude-outbound-ports'), portList), outbound.exclude),
      ips: some(read(traffic('exclude-outbound-ips'), networkList), outbound.ips),
      users: users.length > 0 ? users.flat() : outbound.users,
    },
    inbound: { port6: version === '2.7' ? 15010 : config.inbound.port, ...inbound(config, options, read) },
    dns: { port: config.dns.port, servers: servers(facts, config.dns.capture) },
    dropInvalid: read(traffic('drop-invalid-packets'), flag) ?? config.dropInvalid,
  }
}

/** What Kuma takes and then does nothing with. */
function warned(facts: Facts, { version, inbound, outbound, dropInvalid, dns, ipv6 }: KumaRules, logs: boolean): string[] {
  const { annotations = {}, containers = [] } = facts.pod
  const there = (name: string) => (annotations[traffic(name)] ? [name] : [])
  const args = containers.find(({ name }) => name === 'kuma-init')?.args ?? []
  const gone = (name: string) => [
    ...(annotations[traffic(name)] ? [traffic(name)] : []),
    ...(args.some((arg) => arg.startsWith(`--${name}`)) ? [`kuma-init: --${name}`] : []),
  ]
  return [
    ...(inbound.enabled && inbound.open === 0 ? [] : [...there('exclude-inbound-ports'), ...there('exclude-inbound-ips')]),
    ...(inbound.enabled && inbound.open === 0 && inbound.include.length > 0 ? there('exclude-inbound-ports') : []),
    ...(!outbound.enabled || outbound.include.length > 0 ? there('exclude-outbound-ports') : []),
    ...(isOld({ version }) ? [] : ['tcp', 'udp'].flatMap((protocol) => gone(`exclude-outbound-${protocol}-ports-for-uids`))),
    ...(typeof dns.servers === 'object' && !dns.servers.some((server) => ipv6 || !server.includes(':')) ? ['DNS is not captured'] : []),
    ...(inbound.open > 0 ? ['excludePortsForUIDs'] : []),
    ...(logs ? ['no effect: there are no rules of iptables that could log'] : []),
    ...(dropInvalid ? ['no effect: there is no address translation'] : []),
  ]
}

export function readPod(facts: Facts): Reading<KumaRules> {
  try {
    const logs = facts.pod.annotations?.[traffic('iptables-logs')]
    const logged = logs !== undefined && at('iptables-logs', () => flag(logs))
    const rules = rulesOf(facts)
    return { rules, warned: warned(facts, rules, logged) }
  } catch (error) {
    if (error instanceof Refusal) return { refused: error.message }
    throw error
  }
}
