/** Pods whose rules send UDP port 53 to a proxy at port 15053, which answers with what it saw; and Python clients in them. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { Agent } from '../../core/agent.ts'
import type { Interception } from '../../core/plugin.ts'
import { kill, Lab, type LabPod } from '../lab/net.ts'
import { proxy } from '../parity/shape.ts'
import { DatapathUnderTest } from './fixture.ts'
import { configOf } from './rules.ts'

export const interception: Interception = {
  sets: { dns: { ports: [53] }, proxy: { uid: [proxy.uid] } },
  targets: { dns: { port: 15053 } },
  outbound: [{ name: 'queries', when: { proto: 'udp', port: 'dns' }, unless: { from: 'proxy' }, then: 'dns' }],
  inbound: [],
}

/**
 * Answers `DELAY REST` after so many milliseconds with `REST|ADDRESS|PORT`, the source that it saw. One thread: what is delayed waits in a list, so
 * answers come in the order of their times.
 */
const answering = `
import heapq, select, socket, sys, time
sockets = []
for family, address in ((socket.AF_INET, '127.0.0.1'), (socket.AF_INET6, '::1')):
    made = socket.socket(family, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    made.bind((address, 15053))
    sockets.append(made)
waiting, number = [], 0
print('ready', flush=True)
while True:
    wait = max(0, waiting[0][0] - time.monotonic()) if waiting else None
    for ready in select.select(sockets, [], [], wait)[0]:
        data, source = ready.recvfrom(65536)
        delay, rest = data.split(b' ', 1)
        answer = rest + b'|%s|%d' % (source[0].encode(), source[1])
        number += 1
        heapq.heappush(waiting, (time.monotonic() + int(delay) / 1000, number, ready, answer[:65507], source))
    while waiting and waiting[0][0] <= time.monotonic():
        _, _, out, answer, source = heapq.heappop(waiting)
        try:
            out.sendto(answer, source)
        except OSError:
            pass
`

/** What all clients begin with. */
const prelude = `
import array, ctypes, errno, json, os, select, socket, struct, sys, time
V4, V6, UDP = socket.AF_INET, socket.AF_INET6, socket.SOCK_DGRAM
POD, POD6 = sys.argv[1:3]
libc = ctypes.CDLL(None, use_errno=True)
def udp(family=V4, bind=None):
    made = socket.socket(family, UDP)
    made.settimeout(2)
    if bind: made.bind(bind)
    return made
def attempt(work, *args):
    try:
        return work(*args)
    except TimeoutError:
        return 'TIMEOUT'
    except OSError as error:
        return errno.errorcode[error.errno]
def disconnect(made):
    if libc.connect(made.fileno(), struct.pack('=H14x', 0), 16): raise OSError(ctypes.get_errno(), '')
def read(made):
    got = attempt(made.recvfrom, 65536)
    if isinstance(got, str): return [got]
    text, source, _ = got[0].decode().split('|')
    return [text, source, *got[1][:2]]
def tell(*what): print(json.dumps(what[0] if len(what) == 1 else what))
`

export class DnsPods implements AsyncDisposable {
  readonly lab: Lab
  readonly pod: LabPod
  readonly datapath: DatapathUnderTest
  agent: Agent
  #proxy: ReturnType<LabPod['spawn']> | undefined

  private constructor(lab: Lab, pod: LabPod, datapath: DatapathUnderTest, agent: Agent) {
    this.lab = lab
    this.pod = pod
    this.datapath = datapath
    this.agent = agent
  }

  static async create(name: string, rules: Interception = interception): Promise<DnsPods> {
    const lab = await Lab.create(name)
    const datapath = new DatapathUnderTest(name)
    try {
      const pod = await lab.pod('client', { ipv6: true })
      const agent = await datapath.start(configOf(datapath, [pod], rules))
      assert.deepEqual(
        agent.outcomes.map(({ state }) => state),
        ['enrolled'],
      )
      const pods = new DnsPods(lab, pod, datapath, agent)
      await pods.startProxy()
      return pods
    } catch (error) {
      await datapath[Symbol.asyncDispose]()
      await lab.close()
      throw error
    }
  }

  async startProxy(): Promise<void> {
    const child = this.pod.spawn(['/usr/bin/python3', '-I', '-S', '-B', '-c', answering], proxy)
    this.#proxy = child
    if (child.stdout === null) throw new Error('the proxy has no output')
    await once(child.stdout, 'data', { signal: AbortSignal.timeout(10_000) })
  }

  async stopProxy(): Promise<void> {
    if (this.#proxy) await kill(this.#proxy)
    this.#proxy = undefined
  }

  /** Runs a client to its end; what it told. */
  async client(script: string, timeoutMs = 30_000): Promise<unknown> {
    const argv = ['/usr/bin/python3', '-I', '-S', '-B', '-c', prelude + script, this.pod.address, this.pod.ipv6]
    const { code, stdout, stderr } = await this.pod.exec(argv, { timeoutMs })
    assert.equal(code, 0, stderr || `no end within ${timeoutMs} ms`)
    return JSON.parse(stdout)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stopProxy()
    await this.datapath[Symbol.asyncDispose]()
    await this.lab.close()
  }
}
