/** The agent's control socket: for root only, and gone when the agent is. */

import { lstat, unlink } from 'node:fs/promises'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { connect } from 'node:net'
import { dirname } from 'node:path'
import { makeDirectory } from '../directories.ts'
import { MerbridgeError } from '../errors.ts'
import { errorView, type Handlers, routes } from './api.ts'
import { answerStream, eventsPath } from './stream.ts'

/** Bytes; no request here has a body that is looked at. */
const maxBody = 4096
const maxHeaders = 8192
/** Milliseconds for a client to send its request. */
const requestTimeout = 5000
const maxClients = 64

const codeOf = (error: unknown): string => (error instanceof Error && 'code' in error ? String(error.code) : '')

const unusable = (path: string, why: string, hint: string, cause?: unknown) => new MerbridgeError('NOT_PERMITTED', `${path}: ${why}`, hint, cause)

function answer(response: ServerResponse, status: number, body: object, headers: Record<string, string> = {}): void {
  response.writeHead(status, { 'content-type': 'application/json', connection: 'close', ...headers }).end(`${JSON.stringify(body)}\n`)
}

const refusal = (code: 'USAGE' | 'AGENT_FAILED', message: string, hint: string) => errorView(new MerbridgeError(code, message, hint))

/** false: more than a request here may have. */
async function drained(request: IncomingMessage): Promise<boolean> {
  let bytes = 0
  for await (const chunk of request) {
    bytes += (chunk as Buffer).length
    if (bytes > maxBody) return false
  }
  return true
}

const eventsRoute = { method: 'GET', handler: 'events' } as const

async function serve(handlers: Handlers, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const [path = '', ...query] = (request.url ?? '').split('?')
  const route = path === eventsPath ? eventsRoute : Object.hasOwn(routes, path) ? routes[path as keyof typeof routes] : undefined
  if (route === undefined)
    return answer(response, 404, refusal('USAGE', 'no such path', `The paths are ${[...Object.keys(routes), eventsPath].join(', ')}.`))
  if (request.method !== route.method) {
    return answer(response, 405, refusal('USAGE', `use ${route.method} for ${path}`, 'Use a command line of the same version.'), {
      allow: route.method,
    })
  }
  if (!(await drained(request))) return answer(response, 413, refusal('USAGE', 'the request is too large', 'Send no body.'))
  try {
    if (route.handler === 'events') answerStream(handlers.events, request.url ?? '', response)
    else answer(response, 200, (await handlers[route.handler](new URLSearchParams(query.join('?')))) ?? {})
  } catch (error) {
    const known = error instanceof MerbridgeError ? errorView(error) : undefined
    const unexpected = refusal('AGENT_FAILED', `unexpected: ${error instanceof Error ? error.message : String(error)}`, "Look into the agent's log.")
    answer(response, known === undefined ? 500 : 409, known ?? unexpected)
  }
}

/** Why nobody answers there: ECONNREFUSED when the socket's owner is dead. undefined: somebody does. */
function failureToConnect(path: string): Promise<string | undefined> {
  const { promise, resolve } = Promise.withResolvers<string | undefined>()
  const client = connect(path)
  client.once('connect', () => resolve(undefined))
  client.once('error', (error) => resolve(codeOf(error)))
  return promise.finally(() => client.destroy())
}

/** Makes room for our socket. What is not the socket of a dead agent stays, and is an error. */
async function removeStale(path: string): Promise<void> {
  const found = await lstat(path).catch(() => undefined)
  if (found === undefined) return
  if (!found.isSocket()) throw unusable(path, 'there is something that is not a socket', 'Remove it, or set control.socket to another path.')
  const failure = await failureToConnect(path)
  if (failure === undefined) {
    throw new MerbridgeError('AGENT_RUNNING', `another agent answers at ${path}`, 'Stop that agent first, or set control.socket to another path.')
  }
  if (failure === 'ECONNREFUSED') await unlink(path)
  else if (failure !== 'ENOENT')
    throw unusable(path, `there is a socket in the way (${failure})`, 'Remove it, or set control.socket to another path.')
}

/** bind() happens inside listen(), so the socket has its mode from the first instant. */
async function listenPrivately(server: Server, path: string): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  server.once('listening', resolve).once('error', reject)
  const before = process.umask(0o177)
  try {
    server.listen(path)
  } finally {
    process.umask(before)
  }
  await promise
}

/**
 * Resolves when the socket answers. When the signal aborts, the socket is removed; answers that are on their way still go out. Throws
 * AGENT_RUNNING or NOT_PERMITTED.
 */
export async function serveControl(path: string, handlers: Handlers, signal: AbortSignal): Promise<void> {
  const limits = { maxHeaderSize: maxHeaders, headersTimeout: requestTimeout, requestTimeout, connectionsCheckingInterval: 1000, keepAlive: false }
  const server = createServer(limits, (request, response) => {
    serve(handlers, request, response).catch(() => response.destroy())
  })
  server.maxConnections = maxClients
  try {
    makeDirectory(dirname(path), 0o755)
    await removeStale(path)
    await listenPrivately(server, path)
  } catch (error) {
    if (error instanceof MerbridgeError) throw error
    throw unusable(path, `the control socket cannot be made (${codeOf(error)})`, 'Run the agent as root, or correct control.socket.', error)
  }
  // A failed accept (no descriptors left) is the client's loss, not the agent's end.
  server.on('error', () => {})
  // libuv removes the socket as it closes.
  const end = () => server.close()
  if (signal.aborted) end()
  else signal.addEventListener('abort', end, { once: true })
}
