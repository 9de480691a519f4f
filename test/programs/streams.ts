/** Programs that keep one connection busy in both directions: gRPC streams, WebSocket, iperf3. */
import assert from 'node:assert/strict'
import { cpSync } from 'node:fs'
import { join } from 'node:path'
import { call } from './call.ts'
import { absent, packaged, place } from './packages.ts'
import { ports } from './ports.ts'
import type { Exercise, Program } from './program.ts'
import { long, type Site } from './site.ts'

/** Where every user may read it. */
function python(site: Site, name: string): string[] {
  const file = join(site.root, name)
  cpSync(join(import.meta.dirname, 'python', name), file)
  return [...packaged(site.root), '/usr/bin/python3', '-B', file]
}

const FRAMES = long ? 2000 : 200
const STREAMS = 4

export const grpc: Program = {
  name: 'gRPC',
  missing: absent('grpc'),
  start: (site) => site.serve(site.server, 'gRPC', [...python(site, 'grpc_echo.py'), 'serve', `0.0.0.0:${ports.grpc}`], ports.grpc),
  exercises: [
    {
      name: 'streams in both directions',
      run: async (site, way, what) => {
        const argv = [...python(site, 'grpc_echo.py'), 'client', `${way.server}:${ports.grpc}`, String(STREAMS), String(FRAMES)]
        const { text } = await call(site, { what, argv })
        assert.equal(text.trim(), `frames ${STREAMS * FRAMES}`)
      },
    },
  ],
}

export const webSocket: Program = {
  name: 'WebSocket',
  missing: absent('websockets'),
  start: (site) => site.serve(site.server, 'WebSocket', [...python(site, 'websocket_echo.py'), String(ports.webSocket)], ports.webSocket),
  exercises: [
    {
      name: 'random frames',
      run: async (site, way, what) => {
        const file = join(import.meta.dirname, 'node/websocket.ts')
        const argv = [process.execPath, file, `ws://${way.server}:${ports.webSocket}/`, String(STREAMS), String(FRAMES)]
        const { text } = await call(site, { what, argv, root: true })
        assert.equal(text.trim(), `frames ${STREAMS * FRAMES}`)
      },
    },
  ],
}

interface Report {
  readonly error?: string
  readonly end?: Readonly<Record<'sum_sent' | 'sum_received', { readonly bytes: number }>>
}

/** It wants a place for temporary files; that of the tests belongs to root alone. */
const iperf = (site: Site) => [...packaged(site.root), 'TMPDIR=/tmp', place(site.root, 'iperf3')]

const MEGABYTES = long ? 1024 : 128

const measured = (name: string, ...flags: readonly string[]): Exercise => ({
  name,
  run: async (site, way, what) => {
    const amount = ['-n', `${MEGABYTES}M`, '-J', '--connect-timeout', '5000']
    const { text } = await call(site, { what, argv: [...iperf(site), '-c', way.server, '-p', String(ports.iperf3), ...amount, ...flags] })
    const { error, end } = JSON.parse(text) as Report
    assert.equal(error, undefined)
    for (const sum of ['sum_sent', 'sum_received'] as const) assert((end?.[sum].bytes ?? 0) > 0, `${sum} is nothing`)
  },
})

export const iperf3: Program = {
  name: 'iperf3',
  missing: absent('iperf3'),
  start: (site) => site.serve(site.server, 'iperf3', [...iperf(site), '-s', '-p', String(ports.iperf3)], ports.iperf3),
  exercises: [measured('to the server'), measured('from the server', '-R'), measured('four streams from the server', '-R', '-P', '4')],
}
