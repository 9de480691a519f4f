import { setTimeout as sleep } from 'node:timers/promises'
import { InvalidArgumentError } from 'commander'
import { printable } from '../config/printable.ts'
import { askAgent } from '../control/client.ts'
import type { DetachSetting } from '../detach.ts'
import { MerbridgeError } from '../errors.ts'
import { lockDatapath, removeLock } from '../lock.ts'
import type { Handle, Native } from '../native/api.ts'
import { requirePins } from '../requirements.ts'
import { usingAsync } from '../scope.ts'
import type { DetachView } from '../views.ts'
import { type Outcome, type Output, render } from './outcome.ts'
import type { Settings } from './settings.ts'
import { count, indent } from './table.ts'

export interface DetachChoice {
  readonly bypass?: boolean
  readonly block?: boolean
  /** Seconds. */
  readonly wait?: number
  readonly loseData?: boolean
  /** Overrides the config's. */
  readonly bpffs?: string
}

/** Milliseconds that the agent has to end. */
const patience = 10_000
const pause = 50

async function agentAnswers(socket: string): Promise<boolean> {
  try {
    await askAgent(socket, '/v1/status')
    return true
  } catch (error) {
    const code = error instanceof MerbridgeError ? error.code : undefined
    if (code === 'AGENT_NOT_RUNNING') return false
    if (code === 'AGENT_STARTING') return true
    throw error
  }
}

/** true: there was one, and it has ended. */
async function stopAgent(socket: string): Promise<boolean> {
  if (!(await agentAnswers(socket))) return false
  await askAgent(socket, '/v1/stop')
  for (let waited = 0; waited < patience; waited += pause) {
    if (!(await agentAnswers(socket))) return true
    await sleep(pause)
  }
  throw new MerbridgeError('AGENT_FAILED', `the agent at ${socket} does not end`, 'End it (systemctl stop merbridge), then detach again.')
}

/** An agent that was told to stop closes its socket at once and frees its lock when the turn that it is in has ended. */
async function lockAfterAgent(native: Native, bpffs: string, stopped: boolean): Promise<Handle> {
  for (let waited = 0; ; waited += pause) {
    try {
      return lockDatapath(native, bpffs)
    } catch (error) {
      const held = error instanceof MerbridgeError && error.code === 'AGENT_RUNNING'
      if (!held || !stopped || waited >= patience) throw error
      await sleep(pause)
    }
  }
}

const list = (title: string, names: readonly string[]) => (names.length === 0 ? [] : [title, indent(names.map(printable).join('\n'))])

const waiting = (view: DetachView): string[] => view.waiting.map(({ pod, sockets }) => `${pod}: ${sockets}`)

const waitingHint = `nothing of theirs is lost: it stays in the kernel until they read or close. Messages that come behind it keep their order; all others go by TCP. Detach again later
(--wait SECONDS waits longer), end these programs, or throw away what waits: --lose-data`

function detachText(view: DetachView, stopped: boolean): string {
  const nothing = view.removed.length + view.blocked.length + view.waiting.length === 0
  return [
    ...(stopped ? ['the agent was running: it has been stopped'] : []),
    ...(nothing ? ['nothing to remove: no datapath is in place'] : []),
    ...list(`removed ${count(view.removed.length, 'object')}:`, view.removed),
    ...list('WAITING for programs that do not read what came for them over the fast path (pod: sockets):', waiting(view)),
    ...(view.waiting.length === 0 ? [] : [waitingHint]),
    ...list('LEFT, because it cannot be removed; remove it by hand (ip address, ip route, tc, in the pod):', view.left),
    ...list('these pods now BYPASS the mesh:', view.bypassed),
    ...list('new connections of these pods are now REFUSED:', view.blocked),
    '',
  ].join('\n')
}

function note({ problem }: Settings, bpffs: string): { readonly stderr?: string } {
  if (problem === undefined) return {}
  return { stderr: `merbridge: the config cannot be used (${printable(problem.error.message)}); with ${problem.instead}: ${printable(bpffs)}\n` }
}

const defaultWait = 10
const longestWait = 86_400

/** Of --wait. */
export function secondsToWait(text: string): number {
  const seconds = /^\d{1,6}(\.\d{1,3})?$/.test(text) ? Number(text) : Number.NaN
  if (seconds <= longestWait) return seconds
  throw new InvalidArgumentError(`Give seconds, 0 to ${longestWait}.`)
}

const patienceOf = ({ wait = defaultWait, loseData = false }: DetachChoice): Pick<DetachSetting, 'waitMs' | 'loseData'> => ({
  waitMs: wait * 1000,
  loseData,
})

/** A refusal leaves everything as it is, the agent too. An agent that runs is stopped, because it would build the datapath again. */
export async function detachCommand(settings: Settings, choice: DetachChoice, output: Output): Promise<Outcome> {
  if (choice.bypass && choice.block) throw new MerbridgeError('USAGE', '--bypass and --block exclude each other', 'Choose one of the two.')
  const [{ detach, planDetach }, { native }] = await Promise.all([import('../detach.ts'), import('../native/index.ts')])
  const bpffs = choice.bpffs ?? settings.bpffs
  const podNames = new Map(settings.pods.map((pod) => [pod.netns, `${pod.namespace.name}/${pod.name}`]))
  const setting: DetachSetting = { bpffs, mode: choice.bypass ? 'bypass' : choice.block ? 'block' : 'refuse', podNames, ...patienceOf(choice) }
  requirePins(native, bpffs)
  await planDetach(native, setting) // refuses while the agent still runs
  // The agent of the config has nothing to do with another datapath; whose that is, the lock finds out.
  const stopped = bpffs === settings.bpffs && (await stopAgent(settings.socket))
  const view = await usingAsync(await lockAfterAgent(native, bpffs, stopped), async () => {
    const done = await detach(native, await planDetach(native, setting)) // again: until it ended, the agent may have enrolled more pods
    if (done.blocked.length + done.waiting.length === 0) removeLock(bpffs)
    return done
  })
  return {
    code: view.waiting.length === 0 ? 0 : 1,
    stdout: render(view, output, () => detachText(view, stopped)),
    ...(output === 'text' ? note(settings, bpffs) : {}),
  }
}
