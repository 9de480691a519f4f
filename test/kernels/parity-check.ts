/** The same connections in a pod with Istio's iptables rules and in its twin with the agent. A part of test/mesh/parity.test.ts. */
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { DatapathUnderTest } from '../kernel/fixture.ts'
import { applyIptables, istioRules, istioTables } from '../lab/istio-iptables.ts'
import { compareMode, runMatrix, settledDifferences } from '../parity/columns.ts'
import { type Difference, judge, type Named, namedDifferences, show } from '../parity/compare.ts'
import { datagramCases } from '../parity/datagrams.ts'
import { inboundCases, outboundCases } from '../parity/matrix.ts'
import { runSetup, type Trial } from '../parity/setups.ts'
import { createSite, type Mode } from '../parity/shape.ts'
import type { Group } from './checks.ts'
import { type Features, namedWith } from './differences.ts'

/** App and proxy to everywhere, by every way to one destination outside and one in the pod; the others where they differ from these. */
const chosen = [
  /^(app|proxy) -> \S+$/,
  /^(proxyGid|rootThenProxy|proxyThenRoot) -> (VIP:80|POD:8080|127\.0\.0\.9:8080)$/,
  /^(app -> VIP:80|proxy -> POD:8080) (?!by )/,
  /^peer => POD:/,
  /^(node|self) => POD:(8080|9999|15020)$/,
]

const cases = [...outboundCases(), ...(['peer', 'node', 'self'] as const).flatMap(inboundCases)].filter(({ id }) =>
  chosen.some((pattern) => pattern.test(id)),
)

/** TCP of both families, and names: what a pod with both of them does most. */
const families = {
  name: 'dual pod, DNS',
  kind: 'dual',
  mode: 'both',
  tcp: /^(app|proxy) -> (VIP6|mapped VIP|VIP|POD6|PEER6|mapped POD):(80|53|8080)$/,
  udp: { flavours: ['v4', 'v6', 'mapped'], ports: 24_000 },
} as const satisfies Trial & { readonly mode: Mode }
const datagrams = new Set(
  datagramCases(families.udp)
    .filter(({ alone }) => alone === undefined)
    .map(({ id }) => `${families.name}: ${id}`),
)

export const PARITY = 'the same as iptables'
export const PARITY_OF_FAMILIES = 'IPv6, mapped addresses and DNS the same as iptables'

function assertNamed(found: readonly Difference[], all: readonly Named[]): void {
  const { unnamed } = judge(found, all)
  assert.equal(unnamed.length, 0, `${unnamed.length} differences that nothing names:\n${show(unnamed.slice(0, 20))}`)
}

const familiesCheck = (parityFile: string, features: Features): Group => ({
  names: [PARITY_OF_FAMILIES],
  run: async (check) => {
    const [rulesSite, agentSite] = await Promise.all([createSite('rules6', 'dual'), createSite('agent6', 'dual')])
    await using withRules = rulesSite
    await using withAgent = agentSite
    await using datapath = new DatapathUnderTest('parity6')
    await check(PARITY_OF_FAMILIES, async () => {
      await applyIptables(withRules.pod, istioTables({ ipv6: true, dns: 'all' }))
      const agent = await datapath.start(datapath.config([withAgent.pod], { dualStack: true, captureDns: 'all' }))
      for (const site of [withRules, withAgent]) await site.listen(families.mode)
      const seen = async (site: typeof withRules, only?: ReadonlySet<string>) => {
        const column = await runSetup(families, site, only)
        return new Map([...column].filter(([id]) => !id.includes(': udp ') || datagrams.has(id)))
      }
      const [rules, merbridge] = [await seen(withRules), await seen(withAgent)]
      const document = await readFile(parityFile, 'utf8')
      const rows = [...namedDifferences(document), ...namedDifferences(document, 'Difference of families')]
      const all = namedWith([...features, ...agent.datapath.features], rows)
      const settled = (ours: typeof rules) =>
        settledDifferences(rules, ours, all, (only) => seen(withRules, only)).then(({ differences }) => differences)
      let found = await settled(merbridge)
      const { unnamed } = judge(found, all)
      // Under emulation an answer may come too late for its client: what differs is asked again.
      if (unnamed.length > 0) found = await settled(new Map([...merbridge, ...(await seen(withAgent, new Set(unnamed.map((each) => each.case))))]))
      await agent[Symbol.asyncDispose]()
      assertNamed(found, all)
      return `${merbridge.size} connections and sockets, ${found.length} named differences`
    })
  },
})

const ipv4Check = (parityFile: string, features: Features): Group => ({
  names: [PARITY],
  run: async (check) => {
    const [rulesSite, agentSite] = await Promise.all([createSite('rules'), createSite('agent')])
    await using withRules = rulesSite
    await using withAgent = agentSite
    await using datapath = new DatapathUnderTest('parity')
    await check(PARITY, async () => {
      await applyIptables(withRules.pod, istioRules())
      const only = new Set(cases.map(({ id }) => `any: ${id}`))
      const column = await runMatrix(withRules, 'any', only)
      assert.equal(column.get('any: app -> VIP:80')?.get('accepted by'), 'proxy:15001', 'the iptables rules redirect')
      const agent = await datapath.start(datapath.config([withAgent.pod]))
      assert.deepEqual(
        agent.outcomes.map(({ state }) => state),
        ['enrolled'],
      )
      const all = namedWith([...features, ...agent.datapath.features], namedDifferences(await readFile(parityFile, 'utf8')))
      const { differences: found } = await compareMode({ site: withRules, column }, await runMatrix(withAgent, 'any', only), 'any', all)
      await agent[Symbol.asyncDispose]()
      assertNamed(found, all)
      return `${only.size} connections, ${found.length} named differences`
    })
  },
})

/** `parityFile`: docs/parity.md; `features`: of this kernel, as far as they can be probed without loading. */
export const parityChecks = (parityFile: string, features: Features): readonly Group[] => [
  ipv4Check(parityFile, features),
  familiesCheck(parityFile, features),
]
