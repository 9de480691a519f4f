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
/** In which a connection is found and joined; more on a machine that has no time, where the first was too short. */
const warmMs = ['25', '150', '1000'] as const
const slowWarmMs = ['250', '1000'] as const
/** Of them, what is long enough for a look. */
const warmsOf = ({ instance }: Bench) => (instance.isSlow ? slowWarmMs : warmMs)
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

/** Waits for all of them also when one fails: what they use is closed afterwards. */
async function together<T extends readonly Promise<unknown>[]>(work: T): Promise<{ -readonly [K in keyof T]: Awaited<T[K]> }> {
  await Promise.allSettled(work)
  return Promise.all(work)
}

const failuresOf = (halves: readonly Half[]): string[] =>
  halves.flatMap(({ name, side, failures }) => failures.map((each) => `${name} (${side}): ${each}`))

/** What ran over TCP alone has shown nothing. */
const nothing = ({ messages }: Ran): string[] => (messages > 0n ? [] : ['no message was redirected'])

async function run(
  { native, cgroup, instance, program, signal }: Bench,
  names: string,
  options: readonly string[] = [],
  warm = '0',
  ready: () => Promise<void> = async () => {},
): Promise<Ran> {
  const enrolled = warm !== '0'
  const argv = [names, '--role', 'both', '--timeout', patience, '--warm', warm, ...options]
  return usingAsync(await Stage.open(program, argv, cgroup, signal), async (stage) => {
    const [state] = await native.namespaces.inspect([stage.netns])
    if (state === undefined || state instanceof Error) throw state ?? new Error('the network namespace of the self-test is gone')
    if (enrolled) instance.enrol(state.cookie)
    await ready()
    const halves = await (enrolled ? instance.joining(stage.netns, () => stage.run()) : stage.run())
    const stopped = instance.counted(state.cookie, AccelReason.STOPPED).messages
    return { halves, ...instance.counted(state.cookie, AccelReason.REDIRECTED), stopped }
  })
}

/** Until something was redirected: that nothing was says only that the machine had other things to do. */
async function accelerated(bench: Bench, names: string, options: readonly string[] = []): Promise<Ran> {
  const [shortest, ...longer] = warmsOf(bench)
  let ran = await run(bench, names, options, shortest)
  for (const warm of longer) {
    if (ran.messages > 0n || bench.signal.aborted || failuresOf(ran.halves).length > 0) break
    ran = await run(bench, names, options, warm)
  }
  return ran
}

/** Resolves for each when all have come, or one never will. */
function meeting(count: number): { readonly come: () => Promise<void>; readonly open: () => void } {
  const { promise, resolve } = Promise.withResolvers<void>()
  let missing = count
  const come = () => {
    if (--missing === 0) resolve()
    return promise
  }
  return { come, open: resolve }
}

/** Two connections with the same addresses and ports, in two network namespaces, at the same time. */
async function pairing(bench: Bench): Promise<string[]> {
  let problems: string[] = []
  for (const warm of warmsOf(bench)) {
    const { come, open } = meeting(2)
    const runs = await together(['1', '2'].map((seed) => run(bench, 'paired', [...pairedAddresses, '--seed', seed], warm, come).finally(open)))
    const failures = runs.flatMap(({ halves }) => failuresOf(halves))
    problems = [...failures, ...runs.flatMap(nothing)]
    if (problems.length === 0 || failures.length > 0 || bench.signal.aborted) break
  }
  return problems
}

/**
 * Where the kernel does not count for FIONREAD what comes by TCP (QUIRK_FIONREAD), a message that went by it just after joining looks like a defect. One that
 * is a defect is one with a longer warm-up, too.
 */
async function comparedAgain(bench: Bench, exchange: Exchange, problems: string[]): Promise<string[]> {
  for (const warm of warmsOf(bench).slice(1)) {
    if (problems.length === 0 || bench.signal.aborted) break
    const [plain, other] = await together([run(bench, exchange.name), run(bench, exchange.name, [], warm)] as const)
    problems = compareAll(plain.halves, other.halves, () => exchange.differs ?? '').flatMap((found) => found.problems)
  }
  return problems
}

/** Compared with the same over plain TCP. */
async function compared(bench: Bench, exchanges: readonly Exchange[], redirects = true): Promise<{ problems: string[]; other: Ran }> {
  const names = exchanges.map(({ name }) => name).join(',')
  const [plain, other] = await together([
    run(bench, names),
    redirects ? accelerated(bench, names) : run(bench, names, [], warmsOf(bench)[0]),
  ] as const)
  const differenceOf = (name: string) => exchanges.find((each) => each.name === name)?.differs ?? ''
  const problems = compareAll(plain.halves, other.halves, differenceOf).flatMap((found) => found.problems)
  const asking = exchanges.find(({ name }) => name === 'fionread')
  const others = problems.filter((problem) => !problem.startsWith('fionread '))
  if (asking === undefined || others.length === problems.length) return { problems, other }
  return { problems: [...others, ...(await comparedAgain(bench, asking, problems))], other }
}

/** Every fast exchange whose sockets can be joined, by a program that is known for not reading with splice(). */
async function semantics(bench: Bench): Promise<string[]> {
  const all = bench.exchanges.filter((each) => each.fast && !each.blocking && !readsBySplice(each) && each.name !== 'unread')
  const groups = Array.from({ length: atOnce }, (_, group) => all.filter((_, index) => index % atOnce === group))
  const found = await together(groups.map((group) => compared(bench, group)))
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
        false,
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
    const ran = await accelerated(bench, 'full-duplex,ping-pong', ['--seed', '7', '--part', '8'])
    return [...failuresOf(ran.halves), ...nothing(ran)]
  } finally {
    clearInterval(switching)
    instance.stopped = 0
  }
}

async function budget(bench: Bench): Promise<string[]> {
  bench.instance.budget = smallBudget
  try {
    const ran = await accelerated(bench, 'unread', ['--bound', String(bound)])
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

function prepare({ instance, program }: Bench): void {
  instance.budget = usualBudget
  instance.stopped = 0
  instance.judge(program, Splices.NEVER)
}

async function runList(list: (typeof lists)[number], bench: Bench): Promise<CheckResult[]> {
  prepare(bench)
  const results: CheckResult[] = []
  for (const [name, check] of list) {
    if (bench.signal.aborted) break
    const began = performance.now()
    const problems = await attempt(check, bench)
    results.push({ name, problems, ms: Math.round(performance.now() - began) })
  }
  return results
}

export interface Findings {
  readonly checks: readonly CheckResult[]
  /** Redirected bytes that wait are charged to the receiver; undefined: it could not be seen. */
  readonly charged: boolean | undefined
  /** enum accel_quirk, or-ed. */
  readonly quirks: number | undefined
}

/** `open`: another instance. What it is asked for is closed before this is over. */
export async function runChecks(open: () => Promise<Bench>): Promise<Findings> {
  const results = await together(
    lists.map(async (list, index) => {
      const bench = await open()
      return usingAsync(bench.instance, async () => {
        const checks = await runList(list, bench)
        // With the list that is over first.
        if (index < lists.length - 1 || bench.signal.aborted) return { checks, found: undefined }
        return { checks, found: { charged: await findCharged(bench), quirks: await findQuirks(bench) } }
      })
    }),
  )
  const found = results.at(-1)?.found
  return { checks: results.flatMap(({ checks }) => checks), charged: found?.charged, quirks: found?.quirks }
}

async function findCharged(bench: Bench): Promise<boolean | undefined> {
  try {
    const { halves, bytes } = await accelerated(bench, 'charged')
    const line = halves.flatMap(({ transcript }) => transcript).find((each) => each.startsWith('charged to the receiver: '))
    return bytes >= 65_536n && line !== undefined ? line.endsWith('yes') : undefined
  } catch {
    return undefined
  }
}

/** FIONREAD of a joined socket does not count what has come by TCP. */
async function findQuirks(bench: Bench): Promise<number> {
  bench.instance.stopped = AccelStop.OPERATOR
  try {
    for (const warm of warmsOf(bench)) {
      const { halves, stopped } = await run(bench, 'fionread', [], warm)
      if (failuresOf(halves).length > 0) return AccelQuirk.FIONREAD
      if (stopped > warmMessages) return 0 // only a joined socket has such
    }
  } catch {
    // Nothing is known.
  } finally {
    bench.instance.stopped = 0
  }
  return AccelQuirk.FIONREAD // to be on the safe side
}
