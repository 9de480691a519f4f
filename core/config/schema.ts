/** The config file: one schema for types, defaults, validation, editors and docs/config.md. It accepts what this build does, and nothing else. */
import { posix } from 'node:path'
import { z } from 'zod'
import { accelModes, type Mode } from '../acceleration/api.ts'
import { parseAddress } from '../address.ts'
import { type Forceable, forceable } from '../features/catalogue.ts'
import type { Container, Pod } from '../plugin.ts'
import { type MeshEntry, meshKeys, unlessWrongInside } from './meshes.ts'
import { bytesOf, size } from './size.ts'

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error'
export type LogFormat = 'auto' | 'pretty' | 'json'

export interface LogSettings {
  readonly level: LogLevel
  readonly format: LogFormat
}

/** A pod that the config lists; with its addresses, which its namespace has, it is what a plugin sees. */
export type StaticPod = Omit<Pod, 'addresses' | 'read' | 'parse' | 'warn'> & {
  /** Path of the network namespace; /proc/PID/ns/net for a pod that is listed with a pid. */
  readonly netns: string
}

/** A valid config with all defaults filled in, frozen. */
export interface Config {
  readonly version: 1
  /** In the order in which they take pods; `mesh` of the file is a list of one. */
  readonly meshes: readonly MeshEntry[]
  readonly pods: readonly StaticPod[]
  readonly attach: {
    /** 'auto' or the path of a directory of cgroup v2 */
    readonly cgroup: string
    readonly bpffs: string
    readonly identity: 'auto' | 'netns'
    /** 'auto' or the path of a file with this kernel's BTF */
    readonly btf: string
    /** Features of the kernel that shall not be used. */
    readonly without: readonly Forceable[]
  }
  readonly control: { readonly socket: string }
  readonly acceleration: {
    /** The most that a pod may have. */
    readonly mode: Mode
    /** Bytes that may wait for one receiver. */
    readonly budget: number
  }
  readonly log: LogSettings
}

export const defaultConfigPath = '/etc/merbridge/config.yaml'
export const defaultBpffs = '/sys/fs/bpf/merbridge'
export const defaultSocket = '/run/merbridge/agent.sock'

/** sun_path of struct sockaddr_un has 108 bytes, the last one is NUL. */
export const maxSocketPath = 107
/** As many pods as the schema lets through; a node of Kubernetes has 110 by default. */
const maxPods = 4096
/** PID_MAX_LIMIT of 64-bit kernels */
const maxPid = 4_194_304
/** (uid_t) -1 means "no change" to the kernel and is nobody's id. */
const maxId = 4_294_967_294

const pathLike = (example: string) =>
  z
    .string()
    .max(4095)
    .regex(/^\/[^\0]*$/, `must be an absolute path, such as ${example}`)
const absolutePath = pathLike('/run/netns/web')

/** The names that Kubernetes allows: DNS subdomains and labels. */
const podName = z
  .string()
  .max(253)
  .regex(/^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/, 'must be lower-case letters, digits, "-" and ".", as Kubernetes names pods')
const namespaceName = z
  .string()
  .max(63)
  .regex(/^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/, 'must be lower-case letters, digits and "-", as Kubernetes names namespaces')

const labelKey = z.string().min(1).max(317)
const labels = z.record(labelKey, z.string().max(63))
/** Bytes: Kubernetes' limit for all annotations of an object, keys and values. */
const maxAnnotations = 262_144
const sizeOf = (map: Readonly<Record<string, string>>) =>
  Object.entries(map).reduce((sum, [key, value]) => sum + Buffer.byteLength(key) + Buffer.byteLength(value), 0)
const annotations = z.record(labelKey, z.string().max(maxAnnotations)).refine((map) => sizeOf(map) <= maxAnnotations, {
  error: ({ input }) => `has ${sizeOf(input as Record<string, string>)} bytes in all`,
  params: { hint: `Kubernetes allows ${maxAnnotations} (256 KiB) for all annotations of an object, keys and values: shorten or remove some.` },
})

const namespace = z.strictObject({
  name: namespaceName.describe('Name of the namespace.'),
  labels: labels.default({}).describe("The namespace's labels."),
  annotations: annotations.default({}).describe("The namespace's annotations."),
})

const id = (what: string) => z.int().min(0).max(maxId).exactOptional().describe(what)

const containerPort = z.strictObject({
  name: z.string().max(63).exactOptional().describe('Name of the port.'),
  port: z.int().min(1).max(65535).describe('Port number.'),
  protocol: z.enum(['tcp', 'udp']).default('tcp').describe('Transport protocol.'),
})

const container = z.strictObject({
  name: z.string().min(1).max(253).describe('Name of the container; meshes recognise their proxy by it.'),
  image: z.string().max(4096).exactOptional().describe('Image of the container.'),
  args: z.array(z.string().max(131_072)).max(1024).default([]).describe('Arguments of the container.'),
  env: z.record(z.string().min(1).max(4096), z.string().max(131_072)).default({}).describe('Environment variables.'),
  uid: id('User that the container runs as (runAsUser).'),
  gid: id('Group that the container runs as (runAsGroup).'),
  ports: z.array(containerPort).max(1024).default([]).describe('Ports that the container declares.'),
})

/** More than any resolver reads. */
const maxNameservers = 32
const maxZone = 15

function nameserverError(text: string): string {
  const example = 'such as 10.96.0.10 or fd00::a'
  const [, zone] = /(%.+)$/s.exec(text) ?? []
  if (zone !== undefined)
    return `must be an IP address without a zone ("${zone.slice(0, maxZone + 1)}"): queries to link-local name servers are not captured`
  return text.includes('/') ? `must be one IP address, ${example}, not a network` : `must be an IP address, ${example}`
}

const nameserver = z.string().refine((text) => parseAddress(text) !== undefined, {
  error: ({ input }) => nameserverError(String(input)),
  params: { hint: 'Write what stands after "nameserver" in the /etc/resolv.conf of the pod; leave out what has a zone.' },
})
const nameservers = z.array(nameserver).max(maxNameservers)

const oneOf = (pod: { readonly netns?: string; readonly pid?: number }) => (pod.netns === undefined) !== (pod.pid === undefined)

const staticPod = z
  .strictObject({
    name: podName.describe('Name of the pod; unique in its namespace.'),
    namespace: z
      .union([namespaceName, namespace])
      .default('default')
      .describe('Namespace of the pod: its name, or a map with labels and annotations.'),
    netns: absolutePath.exactOptional().describe('Path of the network namespace, such as /run/netns/web. Either this or pid.'),
    pid: z.int().min(1).max(maxPid).exactOptional().describe('A process in the network namespace. Either this or netns.'),
    labels: labels.default({}).describe("The pod's labels."),
    annotations: annotations.default({}).describe("The pod's annotations; those of the mesh work here too."),
    nameservers: nameservers
      .exactOptional()
      .describe("Addresses of the name servers in the pod's /etc/resolv.conf, for meshes that capture only what is sent to them."),
    containers: z.array(container).max(100).default([]).describe('What the mesh wants to know of the containers, such as the uid of its proxy.'),
  })
  .refine(oneOf, {
    error: 'needs exactly one of netns and pid',
    when: unlessWrongInside,
    params: { hint: 'Write "netns: /run/netns/NAME", or "pid: 1234".' },
  })
  .meta({ oneOf: [{ required: ['netns'] }, { required: ['pid'] }] }) // for editors, which do not see refinements

const workloads = z.strictObject({
  static: z.array(staticPod).max(maxPods).default([]).describe('Pods of this node, listed by hand.'),
})

const attach = z.strictObject({
  cgroup: z
    .string()
    .max(4095)
    .regex(/^(auto|\/[^\0]*)$/, 'must be "auto" or the absolute path of a cgroup v2 directory')
    .default('auto')
    .describe(
      'The cgroup v2 directory whose processes are intercepted; auto takes the root of the hierarchy, or the highest that can be seen. A change needs a restart.',
    ),
  bpffs: pathLike('/sys/fs/bpf/merbridge')
    .default(defaultBpffs)
    .describe('Directory of the pinned datapath, in a BPF file system. A change needs a restart.'),
  identity: z
    .enum(['auto', 'netns'])
    .default('auto')
    .describe('How the programs recognise a pod: by the cookie of its network namespace (netns); auto takes the best that the kernel has.'),
  btf: z
    .string()
    .max(4095)
    .regex(/^(auto|\/[^\0]*)$/, 'must be "auto" or the absolute path of a BTF file')
    .default('auto')
    .describe(
      "The kernel's type information: its own (auto), or a file with it, owned by root, for a kernel that has none. A change needs a restart.",
    ),
  without: z
    .array(z.enum(forceable))
    .max(forceable.length)
    .default([])
    .describe(
      'Features of the kernel to do without, although they are there: for tests, and to go round a defect of a kernel. A change needs a restart.',
    ),
})

const socketPath = pathLike('/run/merbridge/agent.sock')
  .refine((path) => Buffer.byteLength(path) <= maxSocketPath, `must have at most ${maxSocketPath} bytes, as the kernel limits socket paths`)
  .default(defaultSocket)

const control = z.strictObject({
  socket: socketPath.describe('Unix socket on which the agent answers status, pods and reload. A change needs a restart.'),
})

const acceleration = z.strictObject({
  mode: z
    .enum(accelModes)
    .default('proxies')
    .describe(
      'Toward whom messages inside the node go past TCP: nobody (none), proxies of the mesh (proxies), also apps whose program cannot splice (auto), also apps that are not known to (all).',
    ),
  budget: size(64 * 1024, 1024 ** 3)
    .default('8MiB')
    .describe('So much may wait for one receiver before its sender goes on over TCP; KiB, MiB, GiB, or bytes.'),
})

const log = z.strictObject({
  level: z.enum(['trace', 'debug', 'info', 'warn', 'error']).default('info').describe('The least important messages that are written.'),
  format: z.enum(['auto', 'pretty', 'json']).default('auto').describe('auto: pretty on a terminal, JSON lines otherwise.'),
})

/** `names`: the meshes that this build has. */
export function configSchema(names: readonly string[]) {
  return z.strictObject({
    version: z.literal(1).describe('Version of this format.'),
    ...meshKeys(names),
    workloads: workloads.prefault({}).describe('The pods that are intercepted.'),
    attach: attach.prefault({}).describe('Where the programs are attached and kept.'),
    control: control.prefault({}).describe('How the command line reaches the agent.'),
    acceleration: acceleration
      .prefault({})
      .describe('How connections inside the node are accelerated. Changes hold from the next message of every connection.'),
    log: log.prefault({}).describe("The agent's log."),
  })
}

type Parsed = z.output<ReturnType<typeof configSchema>>

function asPod({ name, namespace, netns, pid, ...rest }: Parsed['workloads']['static'][number]): StaticPod {
  const containers: readonly Container[] = rest.containers
  return {
    ...rest,
    containers,
    name,
    namespace: typeof namespace === 'string' ? { name: namespace, labels: {}, annotations: {} } : namespace,
    netns: netns ?? `/proc/${pid}/ns/net`,
  }
}

export function deepFreeze<T>(value: T): T {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return value
  Object.freeze(value)
  for (const part of Object.values(value)) deepFreeze(part)
  return value
}

export function asConfig({ version, mesh, options, meshes, workloads, attach, control, acceleration, log }: Parsed): Config {
  const bpffs = posix.resolve(attach.bpffs) // one directory, one spelling: the lock goes by it
  const short = mesh === undefined ? [] : [{ mesh, options }]
  const entries = (meshes ?? short) as readonly MeshEntry[]
  const accelerate = { mode: acceleration.mode, budget: bytesOf(acceleration.budget) ?? 0 }
  return deepFreeze({
    version,
    meshes: entries,
    pods: workloads.static.map(asPod),
    attach: { ...attach, bpffs },
    control,
    acceleration: accelerate,
    log,
  })
}
