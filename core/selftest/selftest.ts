/**
 * Does acceleration change what a socket does on this very kernel? The programs run in a cgroup and in network namespaces of the self-test's own, with
 * maps of their own; no pod and no connection of the node takes part. docs/acceleration.md tells what is looked at.
 */
import { acceleration } from '../datapath/hooks.ts'
import { directDecider } from '../datapath/load.ts'
import type { KernelFacts } from '../features/probe.ts'
import type { Native } from '../native/api.ts'
import { usingAsync } from '../scope.ts'
import { type Bench, type CheckResult, runChecks } from './checks.ts'
import { Instance } from './instance.ts'
import { OwnCgroup, sweepCgroups } from './place.ts'
import { exchangesPath, listExchanges } from './program.ts'
import { readVerdict, saveVerdict, subjectOf, type Verdict } from './verdict.ts'

export interface SelfTest {
  readonly native: Native
  readonly kernel: KernelFacts
  /** The object file with the programs. */
  readonly object: string
  /** A directory of cgroup v2, below which the self-test makes its own. */
  readonly cgroup: string
}

/** The files whose contents a verdict is about. */
const tested = (object: string): readonly string[] => [object, directDecider(object), exchangesPath()].filter((path) => path !== undefined)

/** Runs it, whatever is known; a verdict means nothing after `signal` was aborted. Does not throw for what it finds: that the programs do not load is a finding. */
export async function runSelfTest({ native, kernel, object, cgroup }: SelfTest, signal: AbortSignal): Promise<Verdict> {
  const began = performance.now()
  const program = exchangesPath()
  const of = await subjectOf(kernel, tested(object))
  sweepCgroups(cgroup)
  const at = new Date().toISOString()
  const lacks = kernel.skip.get(acceleration.stub)
  if (lacks !== undefined) return { of, at, ms: 0, checks: [{ name: 'what acceleration needs of the kernel', problems: [lacks], ms: 0 }] }
  const exchanges = await listExchanges(program)
  const found = await usingAsync(new OwnCgroup(cgroup), async (own) => {
    const open = async (): Promise<Bench> => {
      const instance = await Instance.load(native, object, kernel, own.path)
      return { native, kernel, cgroup: own, instance, program, exchanges, signal }
    }
    try {
      return await runChecks(open)
    } catch (error) {
      return { checks: [doesNotLoad(error)], charged: undefined, quirks: undefined }
    }
  })
  const verdict = { of, at, ms: Math.round(performance.now() - began), checks: found.checks }
  const { charged, quirks } = found
  return { ...verdict, ...(charged === undefined ? {} : { charged }), ...(quirks === undefined ? {} : { quirks }) }
}

const doesNotLoad = (error: unknown): CheckResult => ({
  name: 'loading the programs',
  problems: [error instanceof Error ? error.message : String(error)],
  ms: 0,
})

/** The kept verdict, if it is of this kernel and these programs. */
export async function knownVerdict({ kernel, object }: SelfTest, stateDir: string): Promise<Verdict | undefined> {
  return readVerdict(stateDir, await subjectOf(kernel, tested(object)))
}

export { passed } from './verdict.ts'
export { saveVerdict, type Verdict }
