/** The three ways in which a pod's traffic goes: as it is, by Istio's iptables rules, by this datapath. All with IPv6 and all of DNS where wanted. */
import { Agent, type StaticPod } from './agent.ts'
import { applyIptables, istioTables } from './istio-iptables.ts'
import type { LabPod } from './net.ts'

export const redirections = ['none', 'iptables', 'merbridge'] as const
export type Redirection = (typeof redirections)[number]

/** As the injector marks it: a sidecar that wants IPv6 and DNS. */
const listed = ({ name, netns }: LabPod): StaticPod => ({
  name,
  netns,
  containers: [{ name: 'istio-proxy', env: { ISTIO_META_DNS_CAPTURE: 'true', ISTIO_DUAL_STACK: 'true' } }],
})

/** Dispose it before the pods. */
export async function redirect(kind: Redirection, pods: readonly LabPod[]): Promise<AsyncDisposable> {
  if (kind === 'merbridge') return Agent.start({ pods: pods.map(listed) })
  const tables = istioTables({ ipv6: true, dns: 'all' })
  if (kind === 'iptables') for (const pod of pods) await applyIptables(pod, tables)
  return { [Symbol.asyncDispose]: async () => {} } // the rules go with the namespace
}
