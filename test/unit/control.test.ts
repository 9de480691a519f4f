/** The control socket as the command line and an attacker see it. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Handlers } from '../../core/control/api.ts'
import { askAgent } from '../../core/control/client.ts'
import { serveControl } from '../../core/control/server.ts'
import { type ErrorCode, MerbridgeError } from '../../core/errors.ts'
import { accelerateView, accelerationView, explainView, inForce, podView, statusView } from './control-views.ts'

const handlers: Handlers = {
  status: async () => statusView,
  pods: async () => [podView],
  acceleration: async () => accelerationView,
  accelerate: async () => accelerateView,
  config: async () => inForce,
  explain: async (query) => ({ ...explainView, pod: query.get('pod') ?? '' }),
  reload: async () => {
    throw new MerbridgeError('CONFIG_RESTART', 'control.socket cannot change', 'restart the agent')
  },
  stop: async () => {
    throw new Error('out of luck')
  },
  events: () => () => {},
}

interface Place {
  readonly socket: string
  readonly end: AbortController
}

function place(t: TestContext): Place {
  const directory = mkdtempSync(join(tmpdir(), 'merbridge-control-'))
  const end = new AbortController()
  t.after(() => {
    end.abort()
    rmSync(directory, { recursive: true, force: true })
  })
  return { socket: join(directory, 'run', 'agent.sock'), end }
}

async function served(t: TestContext, own: Partial<Handlers> = {}): Promise<Place> {
  const where = place(t)
  await serveControl(where.socket, { ...handlers, ...own }, where.end.signal)
  return where
}

const fails = (work: Promise<unknown>, code: ErrorCode) =>
  assert.rejects(work, (error) => {
    assert(error instanceof MerbridgeError, String(error))
    assert.equal(error.code, code, error.message)
    assert.notEqual(error.hint, '')
    return true
  })

/** Status and body of a request of any kind. */
async function raw(
  socketPath: string,
  method: string,
  path: string,
  body = '',
): Promise<{ readonly status: number; readonly allow: string | undefined }> {
  const call = request({ socketPath, method, path, agent: false })
  call.end(body)
  const [response] = await once(call, 'response')
  response.resume()
  return { status: response.statusCode, allow: response.headers.allow }
}

test('answers, and hands errors on with their code', async (t) => {
  const { socket } = await served(t)
  assert.deepEqual(await askAgent(socket, '/v1/status'), statusView)
  assert.deepEqual(await askAgent(socket, '/v1/pods'), [podView])
  await fails(askAgent(socket, '/v1/reload'), 'CONFIG_RESTART')
  await fails(askAgent(socket, '/v1/stop'), 'AGENT_FAILED')
})

test('the socket is for its owner only, and gone afterwards', async (t) => {
  const { socket, end } = await served(t)
  assert.equal(statSync(socket).mode & 0o777, 0o600)
  assert.equal(statSync(join(socket, '..')).mode & 0o777, 0o755)
  end.abort()
  await sleep(50)
  assert(!existsSync(socket))
  await fails(askAgent(socket, '/v1/status'), 'AGENT_NOT_RUNNING')
})

test('an unknown path is 404, a wrong method 405, a large request 413', async (t) => {
  const { socket } = await served(t)
  assert.equal((await raw(socket, 'GET', '/')).status, 404)
  assert.equal((await raw(socket, 'GET', '/v1/__proto__')).status, 404)
  assert.equal((await raw(socket, 'GET', '/constructor')).status, 404)
  assert.deepEqual(await raw(socket, 'POST', '/v1/status'), { status: 405, allow: 'GET' })
  assert.deepEqual(await raw(socket, 'GET', '/v1/reload'), { status: 405, allow: 'POST' })
  assert.equal((await raw(socket, 'POST', '/v1/reload', 'x'.repeat(10_000))).status, 413)
  assert.equal((await raw(socket, 'GET', `/v1/status?${'x'.repeat(20_000)}`)).status, 431)
  assert.deepEqual(await askAgent(socket, '/v1/status'), statusView)
})

test('a client that says nothing is sent away, and does not keep others waiting', { timeout: 20_000 }, async (t) => {
  const { socket } = await served(t)
  const silent = connect(socket)
  silent.on('error', () => {})
  await once(silent, 'connect')
  assert.deepEqual(await askAgent(socket, '/v1/status'), statusView)
  silent.resume()
  await once(silent, 'close')
})

test('an agent that is stuck is reported in time', async (t) => {
  const { socket } = await served(t, { status: () => new Promise(() => {}) })
  await fails(askAgent(socket, '/v1/status', 200), 'AGENT_FAILED')
})

test('the socket of a dead agent is replaced; that of a living one is not', async (t) => {
  const { socket, end } = place(t)
  const server = new URL('../../core/control/server.ts', import.meta.url).href
  const script = `const { serveControl } = await import('${server}'); await serveControl('${socket}', {}, new AbortController().signal); console.log('up')`
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] })
  await once(child.stdout, 'data')
  await fails(serveControl(socket, handlers, end.signal), 'AGENT_RUNNING')
  child.kill('SIGKILL')
  await once(child, 'exit')
  assert(existsSync(socket), 'the dead agent left its socket')
  await serveControl(socket, handlers, end.signal)
  assert.deepEqual(await askAgent(socket, '/v1/status'), statusView)
})

test('what is not a socket is left alone', async (t) => {
  const { socket, end } = place(t)
  const file = join(socket, '..', '..', 'file')
  writeFileSync(file, 'mine')
  await fails(serveControl(file, handlers, end.signal), 'NOT_PERMITTED')
  assert.equal(statSync(file).size, 4)
  await fails(serveControl(join(file, 'below'), handlers, end.signal), 'NOT_PERMITTED')
})

test('the longest path that the schema allows works', async (t) => {
  const { socket, end } = place(t)
  const base = join(socket, '..', '..')
  const path = join(base, 'x'.repeat(107 - base.length - 1))
  assert.equal(path.length, 107)
  await serveControl(path, handlers, end.signal)
  assert.deepEqual(await askAgent(path, '/v1/status'), statusView)
})
