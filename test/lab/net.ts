/**
 * A node and its pods as network namespaces: every pod hangs on a bridge in the node's namespace, which routes between them. The node is a fresh
 * namespace too, so two labs may use the same addresses and nothing of the machine's own network changes.
 *
 *     await using lab = await Lab.create('mytest')
 *     const client = await lab.pod('client')
 *     await client.exec(['/usr/bin/curl', 'http://10.77.0.11:8080/'], { uid: 1000, gid: 1000 })
 */
import { existsSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, rm, rmdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { attachCgroup } from '../../core/cgroup.ts'
import { own, release } from './cleanup.ts'
import { LabPod } from './pod.ts'
import { must } from './process.ts'
import { type UserMaps, UserNamespace } from './users.ts'

export { LabPod } from './pod.ts'
export { kill, must, type Result, run } from './process.ts'

const BRIDGE = 'br0'
/** Every lab has a node of its own, so all may use the same. */
const NETWORK6 = 'fd77::'

export interface PodOptions {
  /** '10.1.2.3/24'; absent: the next one of the lab's subnet */
  readonly address?: string
  /** An IPv6 address beside it: true: the next one of the lab's; 'fd77::5/64'. 'alone': the next one, and no IPv4. */
  readonly ipv6?: boolean | 'alone' | string
  /** Further addresses of the pod, '10.1.2.4/32' */
  readonly secondary?: readonly string[]
  /** Arguments of `ip route add` in the pod, ['unreachable', '10.99.0.0/16'] */
  readonly routes?: readonly (readonly string[])[]
  /** A user namespace of its own with these maps, as Kubernetes makes it for hostUsers: false */
  readonly users?: UserMaps
}

export interface LabOptions {
  /** First three bytes of the lab's /24; default '10.77.0' */
  readonly subnet?: string
  /** Run what is started in the pods in a cgroup of the lab's own */
  readonly cgroup?: boolean
}

export class Lab implements AsyncDisposable {
  static #created = 0
  /** For files that processes of any uid may read; removed with the lab */
  readonly directory: string
  /** The lab's cgroup, if it was asked for */
  readonly cgroup: string | undefined
  readonly #prefix: string
  readonly #subnet: string
  readonly #pods = new Map<string, LabPod>()
  #node: LabPod | undefined
  /** Last byte of the next address and number of the next bridge port; neither is used twice. */
  #next = 10

  private constructor(directory: string, prefix: string, { subnet = '10.77.0', cgroup = false }: LabOptions) {
    this.directory = directory
    this.#prefix = prefix
    this.#subnet = subnet
    this.cgroup = cgroup ? join(attachCgroup('auto').path, prefix) : undefined
  }

  static async create(prefix: string, options: LabOptions = {}): Promise<Lab> {
    const directory = await mkdtemp(join(tmpdir(), `merbridge-lab-${prefix}-`))
    const lab = new Lab(directory, `${prefix}-${process.pid}-${Lab.#created++}`, options)
    own(lab)
    try {
      await chmod(directory, 0o755)
      if (lab.cgroup !== undefined) await mkdir(lab.cgroup)
      lab.#node = await lab.#namespace('node', lab.#gateway)
      await lab.#setUpNode()
      return lab
    } catch (error) {
      await lab.close()
      throw error
    }
  }

  get #gateway(): string {
    return `${this.#subnet}.1`
  }

  /** The namespace that is the node: bridge and gateway of the pods. */
  get node(): LabPod {
    if (this.#node === undefined) throw new Error('the lab is closed')
    return this.#node
  }

  /** All pods that exist now, the node not among them. */
  get pods(): readonly LabPod[] {
    return [...this.#pods.values()]
  }

  async pod(name: string, { address, ipv6 = false, secondary = [], routes = [], users }: PodOptions = {}): Promise<LabPod> {
    if (this.#pods.has(name) || name === 'node') throw new Error(`the lab has a pod ${name} already`)
    const port = this.#next++
    const primary = address ?? `${this.#subnet}.${port}/24`
    const six = ipv6 === false ? undefined : typeof ipv6 === 'string' && ipv6 !== 'alone' ? ipv6 : `${NETWORK6}${port}/64`
    const alone = ipv6 === 'alone'
    const pod = await this.#namespace(name, withoutPrefix(alone && six !== undefined ? six : primary), users, six && withoutPrefix(six))
    this.#pods.set(name, pod)
    const addresses = [...(alone ? [] : [primary]), ...secondary]
    await batch(this.node, [
      `link add p${port} type veth peer name eth0 address ${hardwareAddress(withoutPrefix(primary))} netns ${this.#namespaceName(name)}`,
      `link set p${port} master ${BRIDGE} up`,
      ...addresses.map((each) => `route replace ${withoutPrefix(each)}/32 dev ${BRIDGE}`),
    ])
    await batch(pod, [
      'link set lo up',
      ...addresses.map((each) => `address add ${each} dev eth0`),
      ...(six === undefined ? [] : [`address add ${six} dev eth0 nodad`]),
      'link set eth0 up',
      ...(six === undefined ? [] : [`route add default via ${NETWORK6}1 dev eth0 onlink`]),
      ...(alone ? [] : [`route add default via ${this.#gateway} dev eth0 onlink`]), // onlink: the address may be outside the lab's subnet
      ...routes.map((route) => `route add ${route.join(' ')}`),
    ])
    return pod
  }

  /** Removes every namespace and kills what was spawned in them. Twice is a no-op. */
  async close(): Promise<void> {
    await Promise.all(this.pods.map((pod) => pod.remove()))
    await this.#node?.remove()
    if (this.cgroup !== undefined && existsSync(this.cgroup)) await rmdir(this.cgroup)
    await rm(this.directory, { recursive: true, force: true })
    release(this)
  }

  /** Leaves everything as it is when this process ends; whoever calls this sees to the removal. */
  leave(): void {
    for (const pod of this.pods) pod.unref()
    release(this)
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #namespaceName(name: string): string {
    return `${this.#prefix}-${name}`
  }

  async #namespace(name: string, address: string, maps?: UserMaps, ipv6?: string): Promise<LabPod> {
    const namespace = this.#namespaceName(name)
    const directory = join(this.directory, name)
    await mkdir(directory, { mode: 0o755 })
    if (maps !== undefined) await chmod(directory, 0o777) // its root is not the node's, and writes there too
    const users = maps === undefined ? undefined : await UserNamespace.create(namespace, maps)
    if (users === undefined) await must(['ip', 'netns', 'add', namespace])
    const place = { name, netns: `/run/netns/${namespace}`, address, ipv6, directory, cgroup: this.cgroup, users: users?.path }
    const pod: LabPod = new LabPod(place, async () => {
      await pod.killAll()
      await users?.close()
      if (name === 'node') this.#node = undefined
      else if (this.#pods.get(name) !== pod) return
      this.#pods.delete(name)
      await must(['ip', 'netns', 'delete', namespace])
      await rm(directory, { recursive: true, force: true })
    })
    return pod
  }

  async #setUpNode(): Promise<void> {
    await batch(this.node, [
      'link set lo up',
      `link add ${BRIDGE} type bridge`,
      `address add ${this.#gateway}/24 dev ${BRIDGE}`,
      `address add ${NETWORK6}1/64 dev ${BRIDGE} nodad`,
      `link set ${BRIDGE} up`,
    ])
    const settings = [
      'net.ipv4.ip_forward=1',
      'net.ipv6.conf.all.forwarding=1',
      'net.ipv4.conf.all.send_redirects=0',
      'net.ipv4.conf.default.send_redirects=0',
    ]
    await must(this.node.command(['sysctl', '-q', '-w', ...settings]))
    // Where the module is loaded, frames on the bridge would run through iptables a second time.
    await must(this.node.command(['sysctl', '-q', '-e', '-w', 'net.bridge.bridge-nf-call-iptables=0']))
  }
}

function withoutPrefix(address: string): string {
  return address.replace(/\/.*/, '')
}

/** Follows from the IPv4 address: when a pod is created again, its neighbours' ARP entries stay true. */
function hardwareAddress(address: string): string {
  const bytes = address.split('.').map((byte) => Number(byte).toString(16).padStart(2, '0'))
  return `02:00:${bytes.join(':')}`
}

async function batch(pod: LabPod, commands: readonly string[]): Promise<void> {
  await must(pod.command(['ip', '-batch', '-']), { input: `${commands.join('\n')}\n` })
}
