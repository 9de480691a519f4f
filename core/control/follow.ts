/** Follows a stream of the agent: one JSON object after the other, until the caller has enough or the agent ends. */
import { once } from 'node:events'
import { type IncomingMessage, request } from 'node:http'
import { MerbridgeError } from '../errors.ts'
import { failure, parsed } from './client.ts'
import { eventsPath } from './stream.ts'

/** Milliseconds until the agent must have begun to answer. */
const startTimeout = 5000
/** Characters; an event has less than a thousand. */
const longestLine = 1 << 20

const ended = (socket: string, cause?: unknown): MerbridgeError =>
  new MerbridgeError(
    'AGENT_NOT_RUNNING',
    `the agent at ${socket} has ended; the datapath stays in place`,
    'Look into its log, start it (merbridge run), and watch again.',
    cause,
  )

async function bodyOf(response: IncomingMessage): Promise<string> {
  let body = ''
  for await (const chunk of response.setEncoding('utf8')) body += chunk
  return body
}

/** Throws what the agent refuses the request with. */
async function open(socketPath: string, query: URLSearchParams, signal: AbortSignal): Promise<IncomingMessage> {
  const late = AbortSignal.timeout(startTimeout)
  const call = request({ socketPath, path: `${eventsPath}?${query}`, method: 'GET', agent: false, signal, headers: { host: 'merbridge' } })
  const giveUp = (): void => void call.destroy(late.reason)
  late.addEventListener('abort', giveUp, { once: true })
  try {
    call.end()
    const [response] = (await once(call, 'response')) as [IncomingMessage]
    call.on('error', () => {}) // the response has it too
    if (response.statusCode !== 200) parsed(socketPath, { status: response.statusCode ?? 0, body: await bodyOf(response) })
    return response
  } catch (error) {
    throw error instanceof MerbridgeError ? error : failure(socketPath, error, startTimeout)
  } finally {
    late.removeEventListener('abort', giveUp)
  }
}

/** `onOpen` is called once, when nothing that happens from then on is missed. Ends when `signal` aborts; throws AGENT_NOT_RUNNING when the agent ends. */
export async function* follow<View>(
  socketPath: string,
  query: URLSearchParams,
  signal: AbortSignal,
  onOpen: () => Promise<void>,
): AsyncGenerator<View> {
  try {
    const response = await open(socketPath, query, signal)
    await onOpen()
    let rest = ''
    for await (const chunk of response.setEncoding('utf8')) {
      const lines = (rest + chunk).split('\n')
      rest = lines.pop() ?? ''
      if (rest.length > longestLine) throw new MerbridgeError('AGENT_FAILED', `${socketPath}: a line of the answer does not end`, 'Is this an agent?')
      for (const line of lines) yield JSON.parse(line) as View
    }
  } catch (error) {
    if (signal.aborted) return
    throw error instanceof MerbridgeError ? error : ended(socketPath, error)
  }
  if (!signal.aborted) throw ended(socketPath)
}
