/** Pods for the tests of the linkerd plugin. */
import assert from 'node:assert/strict'
import { type AnyPlugin, type Description, describe, type PodFacts, selects } from '../../core/describe.ts'
import type { Container, Interception } from '../../core/plugin.ts'
import { plugins } from '../../core/plugins.ts'
import { container, podFacts } from './pods.ts'

export const linkerd = plugins.linkerd as AnyPlugin

export const named = (name: string) => `config.linkerd.io/${name}`

const meshed = (facts: Partial<PodFacts>): PodFacts => podFacts({ containers: [container('app'), container('linkerd-proxy')], ...facts })

/** What core makes of the plugin's answer. */
export const ask = (facts: Partial<PodFacts>, options: unknown = {}): Description => describe(linkerd, meshed(facts), linkerd.options.parse(options))

export const isSelected = (facts: Partial<PodFacts>, options: unknown = {}): boolean =>
  selects(linkerd, meshed(facts), linkerd.options.parse(options))

/** The rules that the plugin gives, and its warnings. */
export function enrolled(facts: Partial<PodFacts>, options: unknown = {}): { readonly rules: Interception; readonly warnings: readonly string[] } {
  const answer = ask(facts, options)
  assert.ok('interception' in answer, JSON.stringify(answer))
  return { rules: answer.interception, warnings: answer.warnings }
}

/** The same; it must have no warning. */
export function rulesFor(facts: Partial<PodFacts>, options: unknown = {}): Interception {
  const { rules, warnings } = enrolled(facts, options)
  assert.deepEqual(warnings, [])
  return rules
}

/** Annotations by their names without the prefix. */
export const annotated = (values: Readonly<Record<string, string>>) => ({
  annotations: Object.fromEntries(Object.entries(values).map(([name, value]) => [named(name), value])),
})

export const inNamespace = (values: Readonly<Record<string, string>>, labels: Readonly<Record<string, string>> = {}) => ({
  namespace: { name: 'shop', labels, ...annotated(values) },
})

export const withProxy = (more: Partial<Container>) => ({ containers: [container('linkerd-proxy', more), container('app')] })
export const withInit = (args: readonly string[], more: Partial<Container> = {}) => ({
  containers: [container('linkerd-init', { args }), container('linkerd-proxy', more), container('app')],
})

/** What rules say, in short. */
export function summary({ sets = {}, targets = {}, outbound }: Interception) {
  const ports = (name: string) => sets[name]?.ports ?? []
  return {
    ports: [targets.inbound?.port, targets.outbound?.port],
    uid: sets['user of the proxy']?.uid ?? [],
    gid: sets['group of the proxy']?.gid ?? [],
    inbound: ports('skipped inbound ports'),
    outbound: ports('skipped outbound ports'),
    listed: ports('listed ports'),
    subnets: sets['skipped subnets']?.cidrs ?? [],
    ipv6: outbound[0]?.name !== 'IPv6 is not captured',
  }
}

export const usual = {
  ports: [4143, 4140],
  uid: [2102],
  gid: [],
  inbound: [4190, 4191, 4567, 4568],
  outbound: [4567, 4568],
  listed: [],
  subnets: [],
  ipv6: false,
}
