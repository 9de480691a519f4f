/** The same connections in a pod with Istio's iptables rules and in its twin with the agent. A part of test/mesh/parity.test.ts. */
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { DatapathUnderTest } from '../kernel/fixture.ts'
import { applyIptables, istioRules } from '../lab/istio-iptables.ts'
import { compareMode, runMatrix } from '../parity/columns.ts'
import { judge, namedDifferences, show } from '../parity/compare.ts'
import { inboundCases, outboundCases } from '../parity/matrix.ts'
import { createSite } from '../parity/shape.ts'
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

export const PARITY = 'the same as iptables'

/** `parityFile`: docs/parity.md; `features`: of this kernel, as far as they can be probed without loading. */
export const parityCheck = (parityFile: string, features: Features): Group => ({
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
      const found = await compareMode({ site: withRules, column }, await runMatrix(withAgent, 'any', only), 'any', all)
      await agent[Symbol.asyncDispose]()
      const { unnamed } = judge(found, all)
      assert.equal(unnamed.length, 0, `${unnamed.length} differences that nothing names:\n${show(unnamed.slice(0, 20))}`)
      return `${only.size} connections, ${found.length} named differences`
    })
  },
})
