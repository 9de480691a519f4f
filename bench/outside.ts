/**
 * What the programs cost processes that are in no pod: the same client in the machine's own network namespace, once in a cgroup where the programs are
 * attached and once in one where they are not.
 */
import { createServer } from 'node:net'
import { join } from 'node:path'
import { Agent } from '../test/lab/agent.ts'
import { Lab } from '../test/lab/net.ts'
import { type Comparison, figuresOf, type Setting } from './measure.ts'
import { compile, measured, onClientCpu, onServerCpu, serveHere } from './programs.ts'

export const OUTSIDE = ['without', 'with'] as const

const WORKLOADS = [
  ['connect()', 'load', 'connect'],
  ['UDP, a connected socket for each', 'dns', 'connected'],
  ['UDP, one connected socket', 'dns', 'kept'],
  ['UDP, sendto(), one socket', 'dns', 'sendto'],
] as const
const COUNT = 300

/** Of the machine: free now. */
function freePort(): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  const server = createServer()
  server.once('error', reject)
  server.listen(0, () => {
    const address = server.address()
    server.close(() => resolve(String(typeof address === 'object' && address !== null ? address.port : 0)))
  })
  return promise
}

/** The command as a process of the cgroup. */
const within = (cgroup: string, argv: readonly string[]) => ['sh', '-c', 'echo 0 >"$0" && exec "$@"', join(cgroup, 'cgroup.procs'), ...argv]

export async function outsideSetting(): Promise<Setting> {
  await using stack = new AsyncDisposableStack()
  const create = async (name: string) => stack.use(await Lab.create(`outside-${name}`, { cgroup: true }))
  const labs = { with: await create('with'), without: await create('without') }
  const programs = { load: await compile('load', labs.with.directory), dns: await compile('dns', labs.with.directory) }
  const pod = await labs.with.pod('pod') // so that there is something to look up
  stack.use(await Agent.start({ pods: [{ name: 'pod', netns: pod.netns }], cgroup: labs.with.cgroup ?? '' }))
  const port = await freePort()
  const hosts = { IPv4: '127.0.0.1', IPv6: '::1' }
  stack.use(await serveHere(onServerCpu([programs.load, 'accept', port])))
  for (const host of Object.values(hosts)) stack.use(await serveHere(onClientCpu([programs.dns, 'answer', host, port])))

  const comparisons = WORKLOADS.flatMap(([title, program, mode]) =>
    Object.entries(hosts).map(([family, host]): Comparison => {
      const client = onClientCpu([programs[program], mode, host, port, String(COUNT)])
      const run = (side: (typeof OUTSIDE)[number]) => [side, async () => figuresOf(await measured(within(labs[side].cgroup ?? '', client)))] as const
      return { title: `${title}, ${family}`, count: COUNT, runs: 1, variants: Object.fromEntries(OUTSIDE.map(run)) }
    }),
  )
  const kept = stack.move()
  return { comparisons, [Symbol.asyncDispose]: () => kept.disposeAsync() }
}
