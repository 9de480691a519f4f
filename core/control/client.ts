/** Asks the agent over its socket. */
import { request } from 'node:http'
import { type ErrorCode, MerbridgeError } from '../errors.ts'
import type { ErrorView } from './api.ts'
import { type ControlPath, routes } from './api.ts'

/** Milliseconds for the whole exchange. */
const defaultTimeout = 5000
/** Bytes: 4096 pods in full are about 20 MB. */
const maxAnswer = 64 * 1024 * 1024

const codeOf = (error: unknown): string => (error instanceof Error && 'code' in error ? String(error.code) : '')

const slow = (socket: string, timeout: number) =>
  new MerbridgeError('AGENT_FAILED', `the agent at ${socket} did not answer within ${timeout / 1000} s`, "Look into the agent's log; it may be busy.")

export function failure(socket: string, error: unknown, timeout: number): MerbridgeError {
  if (error instanceof Error && (error.name === 'TimeoutError' || error.name === 'AbortError')) return slow(socket, timeout)
  switch (codeOf(error)) {
    case 'ENOENT':
    case 'ECONNREFUSED':
    case 'ENOTDIR':
      return new MerbridgeError(
        'AGENT_NOT_RUNNING',
        `no agent answers at ${socket}; the datapath that it made may still be in place and intercept`,
        'Start it: merbridge run (or: systemctl start merbridge). To take the datapath away: merbridge detach.',
        error,
      )
    case 'EACCES':
    case 'EPERM':
      return new MerbridgeError('NOT_PERMITTED', `${socket}: permission denied`, 'Run the command as root.', error)
    default:
      return new MerbridgeError('AGENT_FAILED', `${socket}: ${error instanceof Error ? error.message : String(error)}`, 'Try again.', error)
  }
}

interface Answer {
  readonly status: number
  readonly body: string
}

function exchange(socketPath: string, path: ControlPath, timeout: number, query: string): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>()
  const signal = AbortSignal.timeout(timeout)
  const options = { agent: false, headers: { host: 'merbridge' } }
  const call = request({ ...options, socketPath, path: `${path}${query}`, method: routes[path].method, signal }, async (response) => {
    try {
      const chunks: Buffer[] = []
      let bytes = 0
      for await (const chunk of response) {
        bytes += (chunk as Buffer).length
        if (bytes > maxAnswer) throw new Error('the answer is too large')
        chunks.push(chunk as Buffer)
      }
      resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString('utf8') })
    } catch (error) {
      reject(error)
    }
  })
  call.once('error', reject).end()
  return promise
}

export function parsed(socket: string, { status, body }: Answer): unknown {
  let value: unknown
  try {
    value = JSON.parse(body)
  } catch (error) {
    throw new MerbridgeError('AGENT_FAILED', `${socket}: the answer (${status}) is not JSON`, 'Is this the socket of an agent?', error)
  }
  if (status === 200) return value
  const { error } = value as Partial<ErrorView>
  if (error === undefined) throw new MerbridgeError('AGENT_FAILED', `${socket}: the agent answered ${status}`, "Look into the agent's log.")
  throw new MerbridgeError(error.code as ErrorCode, error.message, error.hint)
}

/** The answer's JSON. Throws AGENT_NOT_RUNNING, NOT_PERMITTED, AGENT_FAILED, or what the agent threw. `timeout` in milliseconds; `query`: "", or "?name=value". */
export async function askAgent<View>(socketPath: string, path: ControlPath, timeout = defaultTimeout, query = ''): Promise<View> {
  let answer: Answer
  try {
    answer = await exchange(socketPath, path, timeout, query)
  } catch (error) {
    throw failure(socketPath, error, timeout)
  }
  return parsed(socketPath, answer) as View
}
