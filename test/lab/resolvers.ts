/** Resolvers of the real world: programs that look names up and print what they found. */
import { existsSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { execResolving, type ResolvConf } from './dns.ts'
import type { LabPod } from './net.ts'
import { missing, type OptionalProgram } from './packages.ts'
import { must } from './process.ts'

const source = (name: string) => resolve(import.meta.dirname, 'resolvers', name)

/** Milliseconds for one program with all of its names. */
const DEADLINE = 25_000

export interface Resolver {
  readonly name: string
  readonly needs: readonly OptionalProgram[]
  /** Takes an answer that is cut short for the whole, instead of asking again over TCP */
  readonly ignoresTruncation?: boolean
  /** Reports the failure of one server, instead of asking the next */
  readonly givesUp?: boolean
  /** `built` is the directory that `build` was given. */
  argv(built: string, names: readonly string[], conf: ResolvConf): readonly string[]
  /** Compiles what it needs. */
  build?(directory: string): Promise<void>
}

/** A script on standard input would do too, but the file's path is readable in error messages. */
const node = (mode: string, names: readonly string[]) => [process.execPath, source('lookup.mjs'), mode, ...names]

/** getent names only the first line of what it found. */
const getent = 'for name; do getent ahosts "$name" | sed "s/^\\([^ ]*\\) .*/$name \\1/" || exit; done'

/** Debian's is preferred to a newer one in PATH, because it brings the standard library compiled: 1 second instead of 20. */
const go = existsSync('/usr/bin/go') ? '/usr/bin/go' : 'go'

const libc = (name: string, compiler: 'gcc' | 'musl-gcc', ignoresTruncation = false): Resolver => ({
  name,
  needs: [compiler],
  ignoresTruncation,
  build: async (directory) => {
    const flags = compiler === 'gcc' ? [] : ['-static']
    await must([compiler, '-O2', '-Wall', '-Werror', ...flags, '-o', join(directory, compiler), source('lookup.c')])
  },
  argv: (directory, names) => [join(directory, compiler), ...names],
})

export const resolvers: readonly Resolver[] = [
  { name: 'getent', needs: [], argv: (_, names) => ['sh', '-c', getent, 'sh', ...names] },
  libc('glibc', 'gcc'),
  libc('musl', 'musl-gcc', true), // Debian 12 has 1.2.3; TCP came with 1.2.4
  { name: 'python', needs: [], argv: (_, names) => ['/usr/bin/python3', '-I', '-S', '-B', source('lookup.py'), ...names] },
  { name: 'node lookup', needs: [], argv: (_, names) => node('getaddrinfo', names) },
  { name: 'node c-ares', needs: [], givesUp: true, argv: (_, names) => node('resolv.conf', names) },
  {
    name: 'node setServers',
    needs: [],
    givesUp: true, // Node tells c-ares to
    argv: (_, names, { servers }) => node(servers.map((server) => (server.includes(':') ? `[${server}]` : server)).join(), names),
  },
  {
    name: 'go',
    needs: ['go'],
    build: async (directory) => {
      const cache = join(directory, 'go-cache')
      await mkdir(cache)
      const variables = [`GOCACHE=${cache}`, `GOPATH=${cache}`, `HOME=${cache}`, 'GOTOOLCHAIN=local', 'CGO_ENABLED=0']
      await must(['env', ...variables, go, 'build', '-o', join(directory, 'go'), source('lookup.go')], { timeoutMs: 120_000 })
    },
    argv: (directory, names) => ['env', 'GODEBUG=netdns=go', join(directory, 'go'), ...names],
  },
]

/** Those that this machine has the compilers of. */
export async function buildResolvers(directory: string): Promise<void> {
  for (const { needs, build } of resolvers) if (build !== undefined && missing(...needs) === false) await build(directory)
}

/** Name -> what was found: addresses, or one error that begins with '!' */
export type Found = ReadonlyMap<string, readonly string[]>

export async function lookUp(resolver: Resolver, built: string, pod: LabPod, conf: ResolvConf, names: readonly string[]): Promise<Found> {
  const { code, stdout, stderr } = await execResolving(pod, conf, resolver.argv(built, names, conf), { timeoutMs: DEADLINE })
  if (code !== 0) throw new Error(`${resolver.name}: status ${code}\n${stderr}${stdout}`)
  const found = new Map<string, string[]>(names.map((name) => [name, []]))
  for (const line of stdout.trim().split('\n')) {
    const [name = '', ...address] = line.split(' ')
    found.get(name)?.push(address.join(' '))
  }
  return found
}
