/** What the tests of the native addon share: compiled programs, namespaces and cgroups of their own, counted descriptors. */
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmdirSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, connect as netConnect } from 'node:net'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { after, before } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { NativeError } from '../../core/native/api.ts'
import { own, release } from '../lab/cleanup.ts'

const PREFIX = `mbn${process.pid}`
const CLANG = process.env.CLANG ?? 'clang-19'

export const CGROUP_CONNECT4 = 10
export const SOCK_OPS = 3
export const SK_MSG_VERDICT = 7
export const SK_LOOKUP = 36

/** Made before the tests of the file and undone after them, also when a signal ends them. */
function forTheFile(make: () => void, undo: () => void): void {
  const made: AsyncDisposable = { [Symbol.asyncDispose]: async () => undo() }
  before(() => {
    make()
    own(made)
  })
  after(() => {
    release(made)
    undo()
  })
}

/** A directory that is removed after the tests of the file. */
export function temporaryDirectory(): string {
  const path = mkdtempSync(join(tmpdir(), PREFIX))
  forTheFile(
    () => {},
    () => rmSync(path, { recursive: true, force: true }),
  )
  return path
}

/** Compiles test/native/<name>.bpf.c before the tests; returns the object's path. */
export function compiled(name: string): string {
  const source = join(import.meta.dirname, `${name}.bpf.c`)
  const object = join(temporaryDirectory(), `${basename(source, '.c')}.o`)
  const machine = process.arch === 'arm64' ? 'aarch64' : 'x86_64'
  before(() => execFileSync(CLANG, ['-O2', '-g', '-target', 'bpf', `-I/usr/include/${machine}-linux-gnu`, '-c', source, '-o', object]))
  return object
}

/** A directory in a bpffs of the file's own. */
export function bpffs(mount: (path: string) => void): string {
  const path = mkdtempSync(join(tmpdir(), PREFIX))
  forTheFile(
    () => mount(path),
    () => {
      execFileSync('umount', [path])
      rmdirSync(path)
    },
  )
  return path
}

export interface Netns {
  readonly path: string
  /** Runs a command inside; returns what it printed. */
  run(...command: string[]): string
  /** Connects to a listener inside, from inside; returns the errno, 0 for success. */
  connect(address?: string): number
}

export function netns(name: string): Netns {
  const full = `${PREFIX}${name}`
  const path = `/run/netns/${full}`
  forTheFile(
    () => {
      execFileSync('ip', ['netns', 'add', full])
      execFileSync('ip', ['-n', full, 'link', 'set', 'lo', 'up'])
    },
    () => execFileSync('ip', ['netns', 'del', full]),
  )
  const run = (...command: string[]) => execFileSync('nsenter', [`--net=${path}`, ...command], { encoding: 'utf8' })
  const script = 'import socket,sys; s=socket.create_server((sys.argv[1],0)); print(socket.socket().connect_ex(s.getsockname()))'
  return { path, run, connect: (address = '127.0.0.1') => Number(run('/usr/bin/python3', '-c', script, address)) }
}

function cgroupRoot(): string {
  const mount = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .find((line) => line.includes(' - cgroup2 '))
  assert(mount, 'cgroup v2 is mounted')
  return mount.split(' ')[4] ?? ''
}

/** A cgroup of the file's own, which this process joins for the time of its tests. */
export function cgroup(): string {
  const root = cgroupRoot()
  const path = join(root, PREFIX)
  const home = /^0::(.*)$/m.exec(readFileSync('/proc/self/cgroup', 'utf8'))?.[1] ?? '/'
  const enter = (directory: string) => writeFileSync(join(directory, 'cgroup.procs'), String(process.pid))
  forTheFile(
    () => {
      mkdirSync(path)
      enter(path)
    },
    () => {
      enter(join(root, home))
      rmdirSync(path)
    },
  )
  return path
}

/** A TCP server of this process on 127.0.0.1, for the tests of the file. */
export function server(): { port: () => number } {
  const listener = createServer((socket) => socket.pipe(socket))
  before(() => new Promise<void>((ready) => listener.listen(0, '127.0.0.1', ready)))
  after(() => listener.close())
  return {
    port: () => {
      const address = listener.address()
      assert(address !== null && typeof address === 'object')
      return address.port
    },
  }
}

/** Connects from this process and closes; returns the error's code, '' for success. */
export function connect(port: number): Promise<string> {
  return new Promise((resolve) => {
    const socket = netConnect(port, '127.0.0.1')
    socket.on('connect', () => socket.end())
    socket.on('close', () => resolve(''))
    socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? 'unknown'))
  })
}

/** What every descriptor of this process refers to. */
function descriptors(): string[] {
  const targets = readdirSync('/proc/self/fd').map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).replace(/:\[\d+\]$/, '')
    } catch {
      return 'the directory that is read'
    }
  })
  return targets.sort()
}

/** Compares the descriptors before and after the tests of a group (what the whole file uses is made outside of it); sockets that are being closed get a second. */
export function leavesNoDescriptors(): void {
  let had: string[] = []
  before(() => {
    spawnSync('true') // Node keeps some descriptors from its first child on
    had = descriptors()
  })
  after(async () => {
    for (let attempt = 0; attempt < 20 && descriptors().length !== had.length; attempt++) await sleep(50)
    assert.deepEqual(descriptors(), had)
  })
}

/** An assertion's argument: the error is a NativeError of this code, and its message has these words. */
export function nativeError(code: string, words = /./): (error: unknown) => true {
  return (error) => {
    const { name, code: got, errno, operation, message } = error as NativeError
    assert.deepEqual(
      { name, code: got, errno: errno > 0, operation: operation.length > 0 },
      { name: 'NativeError', code, errno: true, operation: true },
    )
    assert.match(message, words)
    return true
  }
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}

export function u64(value: bigint | number): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt(value))
  return bytes
}

/** How often the event loop turned while the promise was pending. */
export async function turnsDuring(work: () => Promise<unknown>): Promise<number> {
  let [turns, pending] = [0, true]
  const turn = () => {
    turns++
    if (pending) setImmediate(turn)
  }
  setImmediate(turn)
  await work().finally(() => {
    pending = false
  })
  return turns
}
