/** Requests and streams of bytes in each mode of acceleration. */
import type { Comparison, Figures, Setting } from './measure.ts'
import { MODES, type Mode, Site, type Workload } from './modes.ts'

/** Milliseconds of a run: of requests through Envoys; where each takes long; of what has less noise and needs a sharper answer. */
const RUN = 300
const LONG = 700
const SHORT = 120
/** A stream, of which the first milliseconds are not typical: it joins, and may leave. */
const STREAM = 300
/** Runs in a round of what something is claimed of. */
const CLAIMED = 3
/** To see that it runs. */
const QUICK = 40

const BODIES = { '100 B': 100, '16 kB': 16_384 } as const

const http = (title: string, does: 'kept' | 'new', connections: number, bytes: number, milliseconds: number): Workload => ({
  title,
  between: 'envoys',
  program: 'http',
  does,
  what: [connections, bytes],
  milliseconds,
  runs: 1,
})

const connections = (count: number) => `${count} connection${count === 1 ? '' : 's'}`

const requests: readonly Workload[] = [
  ...Object.entries(BODIES).flatMap(([body, bytes]) =>
    [1, 16, 64].map((count) => ({ ...http(`${connections(count)}, ${body}`, 'kept', count, bytes, RUN), runs: count === 16 ? CLAIMED : 1 })),
  ),
  { ...http('4 connections, 10 MB', 'kept', 4, 10_000_000, LONG), runs: CLAIMED - 1 },
  http('new connection for each, 100 B', 'new', 16, 100, RUN),
]

const leg: Workload = {
  title: 'socket leg, 100 B there and back',
  between: 'pair',
  program: 'stream',
  does: 'exchange',
  what: [100, 'nodelay'],
  milliseconds: SHORT,
  runs: 4,
}

const WAYS = { up: 'app to proxy', down: 'proxy to app', block: 'app that blocks to proxy' } as const
const WRITES = [
  ['writes of 100 B', 100, 'nagle'],
  ['writes of 100 B, TCP_NODELAY', 100, 'nodelay'],
  ['writes of 64 kB', 65_536, 'nagle'],
] as const

const oneWay = (title: string, between: 'envoys' | 'flow', does: keyof typeof WAYS, bytes: number, delay: string): Workload => ({
  title,
  between,
  program: 'stream',
  does,
  what: [bytes, delay],
  milliseconds: STREAM,
  runs: 1,
})

const streams: readonly Workload[] = [
  ...WRITES.map(([title, bytes, delay]) => oneWay(`two Envoys, ${title}`, 'envoys', 'up', bytes, delay)),
  ...WRITES.flatMap(([title, bytes, delay]) =>
    (['up', 'block', 'down'] as const).map((does) => oneWay(`socket leg, ${WAYS[does]}, ${title}`, 'flow', does, bytes, delay)),
  ),
]

export const REQUESTS: readonly string[] = [...requests, leg].map(({ title }) => title)
export const STREAMS: readonly string[] = streams.map(({ title }) => title)
export const LEG = leg.title

/**
 * What is compared with plain TCP: for a look at it; and to the hundredth, which takes more runs, and the same processes in every mode: two set-ups of one mode
 * differ by more, for as long as they live.
 */
const LOOK = ['none', 'iptables', 'naive'] as const
const SHARP = ['none', 'proxies', 'all'] as const
const SHARP_RUNS = 4

export async function accelerationSetting(quick: boolean): Promise<Setting> {
  await using stack = new AsyncDisposableStack()
  const made: Partial<Record<Mode, Site>> = {}
  for (const mode of MODES) made[mode] = stack.use(await Site.create(mode))
  const sites = made as Readonly<Record<Mode, Site>>
  const compare = (
    workload: Workload,
    full: number,
    variants: readonly (readonly [Mode, (workload: Workload) => Promise<Figures>])[],
  ): Comparison => {
    const [milliseconds, runs] = quick ? [QUICK, 1] : [workload.milliseconds, full]
    const measured = variants.map(([mode, measure]) => [mode, () => measure({ ...workload, milliseconds })] as const)
    return { title: workload.title, count: milliseconds, runs, variants: Object.fromEntries(measured) }
  }
  const among = (modes: readonly Mode[]) => modes.map((mode) => [mode, (workload: Workload) => sites[mode].measure(workload)] as const)
  const within = (site: Site, modes: readonly Mode[]) => modes.map((mode) => [mode, (workload: Workload) => site.measureIn(mode, workload)] as const)
  const comparisons = [
    ...[...requests, leg].map((workload) => compare(workload, workload.runs, among(MODES))),
    ...streams.map((workload) => compare(workload, workload.runs, among(LOOK))),
    // A change of the mode takes longer than a short run: once, to see that it works.
    ...streams.map((workload, index) => compare(workload, SHARP_RUNS, quick && index > 0 ? among(SHARP) : within(sites.all, SHARP))),
  ]
  const kept = stack.move()
  return { comparisons, [Symbol.asyncDispose]: () => kept.disposeAsync() }
}
