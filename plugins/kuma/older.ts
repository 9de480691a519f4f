/** What Kuma 2 writes and reads, and Kuma 3 does not. */
import type { Pod } from '../../core/plugin.ts'
import type { Base } from './base.ts'
import { type Exclusion, exclusion } from './exclusions.ts'
import { type Options, versionOf } from './options.ts'
import type { Read } from './reader.ts'
import { enabled, portOrUsual, userId } from './values.ts'

export const older = {
  uid: 'kuma.io/sidecar-uid',
  transparent: 'kuma.io/transparent-proxying',
  ebpf: 'kuma.io/transparent-proxying-ebpf',
  outboundPort: 'kuma.io/transparent-proxying-outbound-port',
  inboundPort: 'kuma.io/transparent-proxying-inbound-port',
  inboundPort6: 'kuma.io/transparent-proxying-inbound-v6-port',
  dns: 'kuma.io/builtin-dns',
  dnsPort: 'kuma.io/builtin-dns-port',
  excludeTcp: 'traffic.kuma.io/exclude-outbound-tcp-ports-for-uids',
  excludeUdp: 'traffic.kuma.io/exclude-outbound-udp-ports-for-uids',
} as const

export const removed =
  'Kuma 2.9 has removed it (option version: 2.7 or 2.9 follows it); what came after it has rules like tcp:22:1000 for both protocols'

/** Rules of ports for users came by protocol too, up to 2.8. */
export const takesOld = (options: Options): boolean => ['2.7', '2.9'].includes(versionOf(options))

/** Each rule as if its protocol stood before it; undefined: there is none. */
export function exclusionsByProtocol(read: Read): readonly Exclusion[] | undefined {
  const rules = (protocol: string) => (text: string) =>
    text
      .split(';')
      .filter((rule) => rule !== '')
      .map((rule) => exclusion(`${protocol}:${rule}`))
  const [tcp, udp] = [read(older.excludeTcp, rules('tcp')), read(older.excludeUdp, rules('udp'))]
  const both = [...(tcp ?? []), ...(udp ?? [])]
  return both.length === 0 ? undefined : both
}

/** Its injector has written the pod: what it left out is off, as kuma-cni reads it. */
const isWritten = (pod: Pod): boolean => /^(enabled|true|yes)$/.test(pod.annotations[older.transparent] ?? '')

function captureOf(base: Base['dns']['capture'], wanted: boolean | undefined, written: boolean): Base['dns']['capture'] {
  if (wanted === undefined) return written ? 'none' : base
  return wanted ? (base === 'none' ? 'all' : base) : 'none'
}

/** What only the injector of Kuma 2 writes, and its configuration in an annotation takes the place of. */
export function olderAnnotations(pod: Pod, base: Base, options: Options, read: Read, impossible: Read): Base {
  if (base.source !== 'options') return base
  const dns = read(older.dns, enabled)
  const written = isWritten(pod)
  const port6 = versionOf(options) === '2.7' ? read(older.inboundPort6, portOrUsual) : undefined
  return {
    ...base,
    source: written ? 'older' : 'options',
    uid: impossible(older.uid, userId),
    outbound: { ...base.outbound, port: read(older.outboundPort, portOrUsual) ?? base.outbound.port },
    inbound: { ...base.inbound, port: read(older.inboundPort, portOrUsual) ?? base.inbound.port, port6: port6 ?? base.inbound.port6 },
    dns: { capture: captureOf(base.dns.capture, dns, written), port: read(older.dnsPort, portOrUsual) ?? base.dns.port },
  }
}
