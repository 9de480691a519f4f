/** Connects from a pod, one connection after the other in one process, each as somebody else: fast enough for hundreds, and each can be observed alone. */
import { createInterface } from 'node:readline'
import { kill, type LabPod } from '../lab/net.ts'

export interface Attempt {
  readonly to: readonly [address: string, port: number]
  /** Default: tcp */
  readonly protocol?: 'tcp' | 'udp'
  /** sendto() instead of connect(). */
  readonly send?: boolean
  readonly uid: number
  readonly gid: number
  readonly mark?: number
  readonly bind?: readonly [address: string, port: number]
}

export interface Made {
  /** "ok", "timeout" or the errno's name */
  readonly outcome: string
  /** The socket's own address. */
  readonly source: string
}

/** The ids hold for the making of the socket and for connect(); a mark needs root. */
const program = `
import errno, json, os, socket, sys
os.setgroups([])
for line in sys.stdin:
    case = json.loads(line)
    os.setresgid(case["gid"], case["gid"], 0)
    os.setresuid(case["uid"], case["uid"], 0)
    six = ":" in case["to"][0]
    made = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM if case.get("protocol") == "udp" else socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.settimeout(0.7)
    if case.get("mark"):
        os.seteuid(0)
        made.setsockopt(socket.SOL_SOCKET, 36, case["mark"])
        os.seteuid(case["uid"])
    outcome = "ok"
    try:
        if case.get("bind"):
            made.bind(tuple(case["bind"]))
        if case.get("send"):
            made.sendto(b"?", tuple(case["to"]))
        else:
            made.connect(tuple(case["to"]))
    except TimeoutError:
        outcome = "timeout"
    except OSError as error:
        outcome = errno.errorcode.get(error.errno, str(error.errno))
    os.setresuid(0, 0, 0)
    os.setresgid(0, 0, 0)
    print(json.dumps({"outcome": outcome, "source": made.getsockname()[0]}), flush=True)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\\x01\\0\\0\\0\\0\\0\\0\\0")
    made.close()
`

export class Connector implements AsyncDisposable {
  readonly #child: ReturnType<LabPod['spawn']>
  readonly #lines: AsyncIterator<string, undefined>
  #problems = ''

  constructor(pod: LabPod) {
    this.#child = pod.spawn(['/usr/bin/python3', '-I', '-S', '-B', '-c', program], { stdio: ['pipe', 'pipe', 'pipe'] })
    const { stdout, stderr } = this.#child
    if (stdout === null || stderr === null) throw new Error('the connector has no output')
    stderr.on('data', (data: Buffer) => {
      this.#problems = (this.#problems + data.toString()).slice(-2000)
    })
    this.#lines = createInterface({ input: stdout })[Symbol.asyncIterator]()
  }

  /** Ends within a second; the connection is closed with a reset when this resolves. */
  async connect(attempt: Attempt): Promise<Made> {
    this.#child.stdin?.write(`${JSON.stringify(attempt)}\n`)
    const { value, done } = await this.#lines.next()
    if (done) throw new Error(`the connector ended: ${this.#problems}`)
    return JSON.parse(value) as Made
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await kill(this.#child)
  }
}
