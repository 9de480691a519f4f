/** Runs a client program in a pod to its end: its output is counted and hashed while it comes, so that one that hangs can tell how far it got. */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { bounded } from '../lab/cleanup.ts'
import { kill, type LabPod } from '../lab/net.ts'
import { long, type Site } from './site.ts'

/** Milliseconds; what takes longer hangs. */
const DEADLINE = long ? 120_000 : 30_000
const KEPT = 1 << 20

export interface Call {
  /** 'nginx: one connection, mTLS' */
  readonly what: string
  readonly argv: readonly string[]
  readonly input?: string
  /** Root; otherwise the apps' user */
  readonly root?: boolean
  readonly timeoutMs?: number
  readonly pod?: LabPod
}

export interface Answer {
  /** Of the output */
  readonly bytes: number
  readonly sha256: string
  /** The first megabyte of the output */
  readonly text: string
  readonly stderr: string
}

/** The answer of a call that ended with status 0; everything else throws. */
export async function call(site: Site, { what, argv, input, root = false, timeoutMs = DEADLINE, pod = site.client }: Call): Promise<Answer> {
  const child = pod.spawn(argv, { ...(root ? {} : { uid: 1000, gid: 1000 }), stdio: ['pipe', 'pipe', 'pipe'] })
  const hash = createHash('sha256')
  let bytes = 0
  const kept: Buffer[] = []
  let stderr = ''
  child.stdout?.on('data', (data: Buffer) => {
    hash.update(data)
    bytes += data.length
    if (bytes <= KEPT) kept.push(data)
  })
  child.stderr?.on('data', (data: Buffer) => {
    stderr = `${stderr}${data}`.slice(-4000)
  })
  child.stdin?.on('error', () => {}) // a command that does not read its input is judged by its status
  child.stdin?.end(input ?? '')
  const start = performance.now()
  const ended = await bounded(once(child, 'close'), timeoutMs)
  const text = Buffer.concat(kept).toString('latin1')
  if (ended && child.exitCode === 0) return { bytes, sha256: hash.digest('hex'), text, stderr }
  const sockets = ended ? '' : await waiting(site)
  await kill(child)
  const how = ended ? `status ${child.exitCode ?? child.signalCode}` : `has not ended after ${((performance.now() - start) / 1000).toFixed(0)} s`
  const program = what.replace(/:.*/, '')
  throw new Error(
    [
      `${what}, acceleration ${site.mode ?? 'not set'}: ${how}; ${bytes} bytes had arrived`,
      argv.join(' ').slice(0, 500),
      stderr.trim(),
      bytes < 2000 ? text.trim() : '',
      sockets,
      `${program} wrote: ${site.logs(program).trim() || 'nothing'}`,
    ]
      .filter((line) => line !== '')
      .join('\n'),
  )
}

/** The connections that have bytes to read or to send, of each pod: where a hang hangs. */
async function waiting(site: Site): Promise<string> {
  const lines = await Promise.all(
    [site.client, site.middle, site.server].map(async (pod) => {
      const { stdout } = await pod.exec(['ss', '-HtnpO', 'state', 'connected']) // its columns: state, Recv-Q, Send-Q, ends, process
      const stuck = stdout.split('\n').filter((line) => /^\S+ +(?:[1-9]\d* +\d+|\d+ +[1-9]\d*) /.test(line))
      return [`${pod.name}: ${stuck.length} connections with waiting bytes`, ...stuck.slice(0, 8).map((line) => line.replace(/ +/g, ' '))]
    }),
  )
  return lines.flat().join('\n')
}
