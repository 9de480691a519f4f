/** The checks of the self-test: each runs exchanges of the program between two halves in a network namespace of the self-test's own. */
import { AccelQuirk, AccelReason, AccelStop, Splices } from '../contract.ts'
import type { KernelFacts } from '../features/probe.ts'
import type { Native } from '../native/api.ts'
import { usingAsync } from '../scope.ts'
import { compareAll } from './compare.ts'
import type { Instance } from './instance.ts'
import type { OwnCgroup } from './place.ts'
import { type Exchange, type Half, readsBySplice } from './program.ts'
import { Stage } from './stage.ts'

export interface CheckResult {
  /** "order under switches" */
  readonly name: string
  /** Empty: passed. */
  readonly problems: readonly string[]
  readonly ms: number
}

export interface Bench {
  readonly native: Native
  readonly kernel: KernelFacts
  readonly cgroup: OwnCgroup
  readonly instance: Instance
  /** The program of the exchanges, and what it knows. */
  readonly program: string
  readonly exchanges: readonly Exchange[]
  /** For how many milliseconds connections are in use before an exchange begins. */
  readonly warm?: number
  /** Aborted when nobody waits for the verdict any more. */
  readonly signal: AbortSignal
}

/** The default of the config; a small one where the reader does not read. */
const usualBudget = 4n << 20n
const smallBudget = 1n << 20n
/** TCP's own buffers hold less than this on every kernel of today. */
const bound = (32 << 20) + Number(smallBudget)
const switchMs = 2
/** Seconds for one exchange; each takes milliseconds. */
const patience = '5'
/** Exchanges wait more than they work. */
const atOnce = 4
/** Milliseconds in which a connection is found and joined; on a machine that is busy the first may be too few. */
const warmings = [25, 250, 1000]
/** Of so many messages in it, the first ones of the exchange cannot be all. */
const warmMessages = 50n
/** Ends of the port range, where nobody else is: the namespaces are the self-test's own. */
const pairedAddresses = ['--listen', '127.0.0.1:4000', '--bind', '127.0.0.1:4001']

interface Ran {
  readonly halves: readonly Half[]
  readonly messages: bigint
  readonly bytes: bigint
  /** Messages of joined sockets that the switch kept on TCP. */
  readonly stopped: bigint
}

const failuresOf = (halves: readonly Half[]): string[] =>
  halves.flatMap(({ name, side, failures }) => failures.map((each) => `${name} (${side}): ${each}`))

/** What ran over TCP alone has shown nothing. */
const noneRedirected = 'no message was redirected'
const nothing = ({ messages }: Ran): string[] => (messages > 0n ? [] : [noneRedirected])

async function run(
  { native, cgroup, instance, program, warm = warmings[0], signal }: Bench,
  names: string,
  options: readonly string[] = [],
  enrolled = true,
): Promise<Ran> {
  const argv = [names, '--role', 'both', '--timeout', patience, '--warm', enrolled ? String(warm) : '0', ...options]
  return usingAsync(await Stage.open(program, argv, cgroup, signal), async (stage) => {
    const [state] = await native.namespaces.inspect([stage.netns])
    if (state === undefined || state instanceof Error) throw state ?? new Error('the network namespace of the self-test is gone')
    if (enrolled) instance.enrol(state.cookie)
    const halves = await instance.joining(() => stage.run())
    const stopped = instance.counted(state.cookie, AccelReason.STOPPED).messages
    return { halves, ...instance.counted(state.cookie, AccelReason.REDIRECTED), stopped }
  })
}

/** Two connections with the same addresses and ports, in two network namespaces, at the same time. */
async function pairing(bench: Bench): Promise<string[]> {
  const runs = await Promise.all(['1', '2'].map((seed) => run(bench, 'paired', [...pairedAddresses, '--seed', seed])))
  return runs.flatMap((ran) => [...failuresOf(ran.halves), ...nothing(ran)])
}

/** Compared with the same over plain TCP. */
async function compared(bench: Bench, exchanges: readonly Exchange[]): Promise<{ problems: string[]; other: Ran }> {
  const names = exchanges.map(({ name }) => name).join(',')
  const [plain, other] = await Promise.all([run(bench, names, [], false), run(bench, names)])
  const differenceOf = (name: string) => exchanges.find((each) => each.name === name)?.differs ?? ''
  return { problems: compareAll(plain.halves, other.halves, differenceOf).flatMap(({ problems }) => problems), other }
}

/** Every fast exchange whose sockets can be joined, by a program that is known for not reading with splice(). */
async function semantics(bench: Bench): Promise<string[]> {
  const all = bench.exchanges.filter((each) => each.fast && !each.blocking && !readsBySplice(each) && each.name !== 'unread')
  const groups = Array.from({ length: atOnce }, (_, group) => all.filter((_, index) => index % atOnce === group))
  const found = await Promise.all(groups.map((group) => compared(bench, group)))
  return found.flatMap(({ problems, other }) => [...problems, ...nothing(other)])
}

/** By a program that is known for reading with splice(), which sees nothing of what is redirected. */
async function splicing(bench: Bench): Promise<string[]> {
  bench.instance.judge(bench.program, Splices.DOES)
  try {
    return (
      await compared(
        bench,
        bench.exchanges.filter((each) => each.fast && readsBySplice(each)),
      )
    ).problems
  } finally {
    bench.instance.judge(bench.program, Splices.NEVER)
  }
}

/** The direction changes between redirect and TCP every few milliseconds, in both ways. */
async function order(bench: Bench): Promise<string[]> {
  const { instance } = bench
  let stopped = false
  const switching = setInterval(() => {
    stopped = !stopped
    instance.stopped = stopped ? AccelStop.OPERATOR : 0
  }, switchMs)
  try {
    const ran = await run(bench, 'full-duplex,ping-pong', ['--seed', '7', '--part', '8'])
    return [...failuresOf(ran.halves), ...nothing(ran)]
  } finally {
    clearInterval(switching)
    instance.stopped = 0
  }
}

async function budget(bench: Bench): Promise<string[]> {
  bench.instance.budget = smallBudget
  try {
    const ran = await run(bench, 'unread', ['--bound', String(bound)])
    return [...failuresOf(ran.halves), ...nothing(ran)]
  } finally {
    bench.instance.budget = usualBudget
  }
}

type Check = (bench: Bench) => Promise<string[]>

/** Each list has an instance of its own, because some change the switch, the budget, or what is known of the program; the lists run at the same time. */
const lists: readonly (readonly (readonly [name: string, check: Check])[])[] = [
  [['what a socket does, as over plain TCP', semantics]],
  [
    ['pairing of connections with equal addresses', pairing],
    ['order of bytes while the direction is switched', order],
    ['memory for a reader that does not read', budget],
    ['a reader that splices', splicing],
  ],
]

async function attempt(check: (bench: Bench) => Promise<string[]>, bench: Bench): Promise<string[]> {
  try {
    return await check(bench)
  } catch (error) {
    return [error instanceof Error ? error.message : String(error)]
  }
}

/** Sockets that were not joined in time have shown nothing, neither good nor bad. */
async function insist(check: Check, bench: Bench): Promise<string[]> {
  let problems: string[] = []
  for (const warm of warmings) {
    problems = await attempt(check, { ...bench, warm })
    if (bench.signal.aborted || !problems.includes(noneRedirected)) break
  }
  return problems
}

async function runList(list: (typeof lists)[number], bench: Bench): Promise<CheckResult[]> {
  bench.instance.budget = usualBudget
  bench.instance.stopped = 0
  bench.instance.judge(bench.program, Splices.NEVER)
  const results: CheckResult[] = []
  for (const [name, check] of list) {
    if (bench.signal.aborted) break
    const began = performance.now()
    const problems = await insist(check, bench)
    results.push({ name, problems, ms: Math.round(performance.now() - began) })
  }
  return results
}

/** `open`: another instance. What it is asked for is closed before this is over. */
export async function runChecks(open: () => Promise<Bench>): Promise<CheckResult[]> {
  const results = await Promise.all(
    lists.map(async (list) => {
      const bench = await open()
      return usingAsync(bench.instance, () => runList(list, bench))
    }),
  )
  return results.flat()
}

/** Whether redirected bytes that wait are charged to the socket that shall read them; undefined: it could not be seen. */
export async function findCharged(bench: Bench): Promise<boolean | undefined> {
  try {
    bench.instance.budget = usualBudget
    bench.instance.stopped = 0
    bench.instance.judge(bench.program, Splices.NEVER)
    const { halves, bytes } = await run(bench, 'charged')
    const line = halves.flatMap(({ transcript }) => transcript).find((each) => each.startsWith('charged to the receiver: '))
    return bytes >= 65_536n && line !== undefined ? line.endsWith('yes') : undefined
  } catch {
    return undefined
  }
}

/**
 * enum accel_quirk, or-ed: FIONREAD of a joined socket does not count what has come by TCP. Of a socket that was not joined it always does: only where both
 * ends were joined before the exchange began, which the messages before it show, is a right answer one.
 */
export async function findQuirks(bench: Bench): Promise<number> {
  bench.instance.stopped = AccelStop.OPERATOR
  try {
    for (const warm of warmings) {
      const ran = await run({ ...bench, warm }, 'fionread')
      if (failuresOf(ran.halves).length > 0) return AccelQuirk.FIONREAD
      if (ran.stopped > warmMessages) return 0
    }
    return AccelQuirk.FIONREAD // to be on the safe side
  } catch {
    return AccelQuirk.FIONREAD
  } finally {
    bench.instance.stopped = 0
  }
}
