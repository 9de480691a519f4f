/** `merbridge selftest`: acceleration on this kernel, tried now; no agent is needed, and none is disturbed. */
import { release } from 'node:os'
import { attachCgroup } from '../cgroup.ts'
import { loadConfig } from '../config/load.ts'
import { printable } from '../config/printable.ts'
import { withoutLoading } from '../config/resolve.ts'
import { acceleration } from '../datapath/hooks.ts'
import { MerbridgeError } from '../errors.ts'
import { probeKernel } from '../features/probe.ts'
import type { PluginSource } from '../plugins.ts'
import { requireCapabilities, requireCgroup } from '../requirements.ts'
import { objectPath } from '../root.ts'
import { passed, runSelfTest, saveVerdict, type Verdict } from '../selftest/selftest.ts'
import { type Outcome, type Output, render } from './outcome.ts'
import type { ConfigPlace } from './settings.ts'
import { indent, sections, table } from './table.ts'

export interface SelfTestResult {
  readonly passed: boolean
  readonly kernel: string
  readonly at: string
  readonly ms: number
  readonly checks: Verdict['checks']
  /** Why the programs were not even loaded; then nothing is accelerated, and nothing was checked. */
  readonly notTried?: string
  /** Bytes that wait are charged to their receiver, so the budget is exact; absent: it could not be seen. */
  readonly charged?: boolean
}

const defaults = { cgroup: 'auto', btf: 'auto', without: [] } as const

/** Those of the config, if it can be read: a broken one is no reason not to know the kernel. */
async function attachOf(path: string, builtIn: PluginSource['builtIn']) {
  try {
    return (await loadConfig(path, withoutLoading(builtIn))).config.attach
  } catch (error) {
    if (error instanceof MerbridgeError) return defaults
    throw error
  }
}

export function selfTestText({ passed: well, kernel, ms, checks, notTried, charged }: SelfTestResult): string {
  if (notTried !== undefined)
    return `kernel ${kernel}: not tried: ${printable(notTried)}\nacceleration stays off; interception is not touched by it\n`
  const rows = checks.map(({ name, problems }) => [name, problems.length === 0 ? 'passed' : 'FAILED'])
  const problems = checks.filter((check) => check.problems.length > 0).map((check) => `${check.name}:\n${indent(check.problems.join('\n'))}`)
  const exact =
    charged === undefined ? '' : `, the budget is ${charged ? 'exact' : 'a bound: this kernel does not charge what waits to its receiver'}`
  const verdict = well
    ? `acceleration changes nothing on this kernel${exact}`
    : 'acceleration stays off on this kernel; interception is not touched by it'
  return sections([`kernel ${kernel}, ${ms} ms: ${verdict}`, table(['CHECK', 'RESULT'], rows), ...problems])
}

export async function selfTest(
  { config, stateDir }: ConfigPlace,
  builtIn: PluginSource['builtIn'],
  output: Output,
  signal: AbortSignal,
): Promise<Outcome> {
  requireCapabilities()
  const { native } = await import('../native/index.ts')
  const attach = await attachOf(config, builtIn)
  const cgroup = attachCgroup(attach.cgroup).path
  requireCgroup(native, cgroup)
  const kernel = await probeKernel(native, attach)
  const notTried = kernel.skip.get(acceleration.stub)
  if (notTried !== undefined) {
    const result = { passed: false, kernel: release(), at: new Date().toISOString(), ms: 0, checks: [], notTried }
    return { code: 1, stdout: render(result, output, () => selfTestText(result)) }
  }
  const verdict = await runSelfTest({ native, kernel, object: objectPath('merbridge.bpf.o'), cgroup }, signal)
  if (signal.aborted) return { code: 1 }
  await saveVerdict(stateDir, verdict).catch(() => {}) // a read-only disk is no reason not to say it
  const { at, ms, checks, charged } = verdict
  const result = { passed: passed(verdict), kernel: release(), at, ms, checks, ...(charged === undefined ? {} : { charged }) }
  return { code: result.passed ? 0 : 1, stdout: render(result, output, () => selfTestText(result)) }
}
