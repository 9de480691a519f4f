/** DNS servers and a DNS proxy of the tests' own, and pods with a resolv.conf. test/lab/resolvers/server.py says what they answer. */
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { crc32 } from 'node:zlib'
import { bounded } from './cleanup.ts'
import type { LabPod } from './net.ts'
import { type ExecOptions, kill, type Result } from './process.ts'

const program = ['/usr/bin/python3', '-I', '-S', '-B', resolve(import.meta.dirname, 'resolvers/server.py')]

const START_DEADLINE = 10_000

/** What the proxy calls itself in its answers; servers of `startServers` are 1, 2, ... */
export const PROXY = 53
export const PROXY_PORT = 15053

export interface DnsListener {
  readonly who: number
  readonly address: string
  readonly port: number
}

export interface DnsServer extends AsyncDisposable {
  stop(): Promise<void>
}

/** Resolves when all listeners stand. */
async function start(pod: LabPod, listeners: readonly DnsListener[], uid: number): Promise<DnsServer> {
  const child = pod.spawn([...program, JSON.stringify({ uid, listeners })])
  const stop = () => kill(child)
  let said = ''
  child.stderr?.on('data', (text: Buffer) => {
    said = `${said}${text}`.slice(-2000)
  })
  const ready = Promise.race([child.stdout && once(child.stdout, 'data'), once(child, 'exit')])
  if (!(await bounded(ready, START_DEADLINE)) || child.exitCode !== null) {
    await stop()
    throw new Error(`the DNS server of ${pod.name} did not start: ${said}`)
  }
  return { stop, [Symbol.asyncDispose]: stop }
}

/** One process answers at port 53 of all addresses; `who` is an address's place in the list, from 1. */
export function startServers(pod: LabPod, addresses: readonly string[]): Promise<DnsServer> {
  const listeners = addresses.map((address, index) => ({ who: index + 1, address, port: 53 }))
  return start(pod, listeners, 0)
}

/** The DNS proxy of a pod, as the mesh's proxy user. */
export function startDnsProxy(pod: LabPod, addresses: readonly string[] = ['127.0.0.1', '::1']): Promise<DnsServer> {
  const listeners = addresses.map((address) => ({ who: PROXY, address, port: PROXY_PORT }))
  return start(pod, listeners, 1337)
}

export interface Answered {
  readonly transport: 'udp' | 'tcp'
  readonly who: number
}

/** Who gave this address for this name; undefined: it is not an answer to that. */
export function readAddress(name: string, address: string): Answered | undefined {
  const check = crc32(name.toLowerCase())
  const v4 = /^10\.(53|54)\.(\d+)\.(\d+)$/.exec(address)
  if (v4 !== null) return Number(v4[3]) === check % 256 ? answered(Number(v4[1]), Number(v4[2])) : undefined
  const words = address.split(':').map((word) => Number.parseInt(word, 16)) // no two in a row are zero
  const [number = 0, who = 0, high = 0, low = 0] = words.slice(4)
  const ours = address.startsWith('2001:db8:1:1:') && words.length === 8
  return ours && high * 65536 + low === check ? answered(number, who) : undefined
}

const answered = (number: number, who: number): Answered => ({ transport: number === 54 ? 'tcp' : 'udp', who })

/** A file that a pod's programs see as /etc/resolv.conf. */
export interface ResolvConf {
  readonly servers: readonly string[]
  readonly search?: readonly string[]
  readonly options?: string
}

let written = 0

/** Runs a command in the pod, with a resolv.conf of its own: a private mount that ends with the command, and the machine's own stays as it is. */
export async function execResolving(pod: LabPod, conf: ResolvConf, argv: readonly string[], options: ExecOptions = {}): Promise<Result> {
  const number = written++
  const resolv = join(pod.directory, `resolv-${number}.conf`)
  const nsswitch = join(pod.directory, `nsswitch-${number}.conf`)
  const lines = [
    ...conf.servers.map((server) => `nameserver ${server}`),
    ...(conf.search === undefined ? [] : [`search ${conf.search.join(' ')}`]),
    `options ${conf.options ?? 'timeout:1 attempts:3'}`,
  ]
  await writeFile(resolv, `${lines.join('\n')}\n`)
  await writeFile(nsswitch, 'hosts: files dns\n')
  const mount = 'mount --bind "$0" /etc/resolv.conf && mount --bind "$1" /etc/nsswitch.conf && shift && exec "$@"'
  return pod.exec(['unshare', '--mount', '--propagation', 'private', '--', 'sh', '-c', mount, resolv, nsswitch, ...argv], options)
}
