/**
 * Runs in the guest of scripts/kernels/, compiled: the checks of this directory with the package as it is shipped. One JSON line for each result
 * goes to the file in the first argument; the second names the checks, 'all' or 'short'.
 */
import { closeSync, mkdirSync, openSync, readFileSync, writeSync } from 'node:fs'
import { release } from 'node:os'
import { join } from 'node:path'
import { attachCgroup } from '../../core/cgroup.ts'
import { attachTypes, cookieProgram, hooks, inbound, listenersIterator } from '../../core/datapath/hooks.ts'
import type { BpfLink } from '../../core/native/api.ts'
import { native } from '../../core/native/index.ts'
import { objectPath, packageRoot } from '../../core/root.ts'
import type { StatusView } from '../../core/views.ts'
import { kernel } from '../kernel/fixture.ts'
import { btf } from '../lab/without.ts'
import { agentChecks } from './agent-checks.ts'
import { type CheckResult, describeProblem, type Group, runGroup } from './checks.ts'
import { datapathChecks, LOADS } from './datapath-checks.ts'
import { refusalsWith } from './differences.ts'
import { PARITY, PARITY_OF_FAMILIES, parityChecks } from './parity-check.ts'

const [, , resultFile = '/dev/stdout', selection = 'all'] = process.argv
const short = selection === 'short'
const results = openSync(resultFile, 'w')
const tell = (line: object) => writeSync(results, `${JSON.stringify(line)}\n`)

const skipped = (names: readonly string[]): Group => ({
  names,
  run: async () => {
    throw new Error('the programs did not load')
  },
})

/** See init.sh: hooks that have a program all the time. The links live as long as this process. */
async function holdHooks(): Promise<readonly BpfLink[]> {
  const object = await native.load(objectPath('merbridge.bpf.o'), {
    skip: [listenersIterator, ...kernel.skip.keys()],
    ...(btf === 'auto' ? {} : { btf }),
  })
  const cgroup = join(attachCgroup('auto').path, 'hold')
  mkdirSync(cgroup)
  const atCgroup = [...hooks, { program: cookieProgram, attachType: attachTypes.sockCreate }].filter(({ program }) =>
    object.programs.includes(program),
  )
  return [
    ...atCgroup.map(({ program, attachType }) => native.attachCgroup(object.program(program), cgroup, attachType)),
    native.attachNetns(object.program(inbound.program), '/run/netns/hold', attachTypes.skLookup),
  ]
}

try {
  const held = await holdHooks().catch((error: unknown) => {
    console.log(`guest: no hooks are held: ${describeProblem(error)}`) // where the programs do not load, a check says so
    return []
  })
  const uptime = () => Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0])
  tell({ type: 'start', release: release(), uptime: uptime() })
  const probed = kernel.features
  let features: StatusView['kernel']['features'] = probed
  const report = (result: CheckResult) => {
    tell({ type: 'check', ...result })
    console.log(`guest: ${uptime()} s: ${result.name} (${result.seconds.toFixed(1)} s)`)
  }
  // The program works beside a datapath of this process, each with pods of its own: emulation is slow, and there are two CPUs.
  const program = agentChecks({ short }, (status) => {
    features = status.kernel.features
  })
  const inProcess = async () => {
    let loaded = true
    await runGroup(datapathChecks(refusalsWith(probed), { short }), (result) => {
      if (result.name === LOADS && !result.ok) loaded = false
      report(result)
    })
    // Where the programs do not load, this would only say so again.
    if (short) return
    const groups = loaded ? parityChecks(join(packageRoot(), 'docs/parity.md'), probed) : [skipped([PARITY, PARITY_OF_FAMILIES])]
    for (const group of groups) await runGroup(group, report)
  }
  await Promise.all([inProcess(), runGroup(program, report)])
  tell({ type: 'end', features })
  for (const link of held) link.close()
} catch (error) {
  tell({ type: 'broken', reason: describeProblem(error) })
} finally {
  closeSync(results)
}
