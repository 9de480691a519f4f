/** Tables of iptables in a pod, by iptables-restore. */
import type { LabPod } from './net.ts'
import { must, run } from './process.ts'

export type Backend = 'nft' | 'legacy'

/** Input of iptables-restore and of ip6tables-restore. */
export interface RuleFiles {
  readonly v4: string
  /** Absent: the pod has no rules for IPv6. */
  readonly v6?: string
  /** What the pod's lo has besides its own. */
  readonly loopbackAddresses: readonly string[]
}

/** A text is for IPv4 alone. `v6` absent: the tables of IPv6 stay as they are. */
export type Rules = string | RuleFiles

/** Replaces the tables that the rules name; iptables-restore takes a table as a whole or not at all. */
export async function applyIptables(pod: LabPod, rules: Rules, backend: Backend = 'nft'): Promise<void> {
  const { v4, v6, loopbackAddresses } = typeof rules === 'string' ? { v4: rules, v6: undefined, loopbackAddresses: undefined } : rules
  await must(pod.command([`iptables-${backend}-restore`]), { input: v4 })
  if (v6 !== undefined) await must(pod.command([`ip6tables-${backend}-restore`]), { input: v6 })
  if (loopbackAddresses !== undefined) await setPassthrough(pod, loopbackAddresses.includes('::6'))
}

/** ::6 on lo, or not. */
async function setPassthrough(pod: LabPod, wanted: boolean): Promise<void> {
  if (wanted) await must(pod.command(['ip', '-6', 'address', 'replace', '::6/128', 'dev', 'lo']))
  else await run(pod.command(['ip', '-6', 'address', 'delete', '::6/128', 'dev', 'lo']))
}

const emptied = (rules: string) =>
  `${['raw', 'mangle', 'nat'].map((name) => (rules.includes(`*${name}\n`) ? '' : `*${name}\nCOMMIT\n`)).join('')}${rules}`

/** Rules before which all tables that Istio may use are empty. */
export function fromScratch(rules: string): string
export function fromScratch(rules: Exclude<Rules, string>): Exclude<Rules, string>
export function fromScratch(rules: Rules): Rules {
  return typeof rules === 'string' ? emptied(rules) : { ...rules, v4: emptied(rules.v4), v6: emptied(rules.v6 ?? '') }
}

/** Why this machine cannot use the backend; undefined: it can. */
export async function backendMissing(pod: LabPod, backend: Backend): Promise<string | undefined> {
  for (const program of [`iptables-${backend}-restore`, `ip6tables-${backend}-restore`]) {
    try {
      const { code, stderr } = await run(pod.command([program]), { input: fromScratch('') })
      if (code !== 0) return `${program}: ${stderr.trim()}`
    } catch (error) {
      return `${program}: ${error instanceof Error ? error.message : String(error)}`
    }
  }
  return undefined
}
