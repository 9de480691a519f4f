/** When acceleration stops because the node is short of memory, and when it comes back; the node is a directory of files. */
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { AccelerationControl } from '../../core/acceleration/api.ts'
import { defaultLevels, PressureWatch } from '../../core/acceleration/pressure.ts'
import { Steering } from '../../core/acceleration/steering.ts'
import { AccelStop } from '../../core/contract.ts'

const second = 1000

class Node {
  readonly root: string
  now = 5 * second
  watch: PressureWatch

  constructor(t: TestContext, pressed = false) {
    this.root = mkdtempSync(join(tmpdir(), 'merbridge-pressure-'))
    t.after(() => rmSync(this.root, { recursive: true, force: true }))
    this.watch = new PressureWatch(pressed, defaultLevels, this.root)
  }

  write(path: string, text: string): void {
    const file = join(this.root, path)
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, text)
  }

  stalled(percent: string): void {
    this.write('proc/pressure/memory', `some avg10=${percent} avg60=0.00 avg300=0.00 total=1\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1\n`)
  }

  events(cgroup: string, max: number, oom = 0): void {
    this.write(`sys/fs/cgroup/${cgroup}/memory.events`, `low 0\nhigh 0\nmax ${max}\noom ${oom}\noom_kill ${oom}\noom_group_kill 0\n`)
  }

  sockets(pages: number): void {
    this.write('proc/net/sockstat', `sockets: used 100\nTCP: inuse 5 orphan 0 tw 1 alloc 7 mem ${pages}\nUDP: inuse 2 mem 0\n`)
    this.write('proc/sys/net/ipv4/tcp_mem', '100\t200\t300\n')
  }

  /** Looks once a second; the last look. */
  after(seconds: number): boolean {
    let pressed = false
    for (let tick = 0; tick < seconds; tick++) {
      this.now += second
      pressed = this.watch.look(this.now).pressed
    }
    return pressed
  }
}

test('tasks that wait for memory stop it at once; it comes back after 30 s of calm, and not before', (t) => {
  const node = new Node(t)
  node.stalled('0.00')
  assert.equal(node.after(3), false)
  node.stalled('9.99')
  assert.equal(node.after(1), false)
  node.stalled('10.00')
  assert.equal(node.after(1), true)
  node.stalled('7.50')
  assert.equal(node.after(100), true, 'between the two levels nothing changes')
  node.stalled('4.99')
  assert.equal(node.after(30), true)
  assert.equal(node.after(1), false)
})

test('calm that is interrupted counts anew', (t) => {
  const node = new Node(t)
  node.stalled('50.00')
  assert.equal(node.after(1), true)
  node.stalled('0.00')
  node.after(29)
  node.stalled('6.00')
  node.after(1)
  node.stalled('0.00')
  assert.equal(node.after(30), true)
  assert.equal(node.after(1), false)
})

test('where there is no PSI, cgroups that run out of memory, or into their limit all the time, stop it', (t) => {
  const node = new Node(t)
  node.events('kubepods.slice', 1_000_000, 7)
  node.events('system.slice', 5)
  assert.equal(node.after(5), false, 'what happened before the agent started says nothing')
  node.events('kubepods.slice', 1_000_050, 7)
  assert.equal(node.after(1), false, 'a page cache that fills its cgroup now and then')
  node.events('kubepods.slice', 1_000_150, 7)
  assert.equal(node.after(1), true)
  assert.equal(node.after(30), true)
  assert.equal(node.after(1), false)
  node.events('system.slice', 5, 1)
  assert.equal(node.after(1), true)
  assert.match(node.watch.look(node.now + 1).figure, /memory\.events/)
  rmSync(join(node.root, 'sys'), { recursive: true })
  assert.equal(node.after(1), false, 'nothing says so any more')
})

test('where there is PSI, cgroups do not count', (t) => {
  const node = new Node(t)
  node.stalled('0.00')
  node.events('kubepods.slice', 0)
  node.after(1)
  node.events('kubepods.slice', 1_000_000, 5)
  assert.equal(node.after(1), false)
})

test("TCP's own pressure stops it, until TCP holds less than the first number of tcp_mem", (t) => {
  const node = new Node(t)
  node.sockets(199)
  assert.equal(node.after(1), false)
  node.sockets(200)
  assert.equal(node.after(1), true)
  node.sockets(100)
  assert.equal(node.after(100), true)
  node.sockets(99)
  assert.equal(node.after(31), false)
})

test('a node that says nothing, or nonsense, has no pressure', (t) => {
  const node = new Node(t, true)
  assert.equal(node.after(1), false, 'although an earlier agent had stopped it')
  node.write('proc/pressure/memory', 'some avg10=lots\n')
  node.write('proc/net/sockstat', 'TCP: inuse 5 mem 9999999\n')
  node.write('proc/sys/net/ipv4/tcp_mem', '0 0 0\n')
  node.write('sys/fs/cgroup/a/memory.events', 'max many\n')
  assert.equal(node.after(3), false)
})

test('an agent that starts while the kernel is stopped for it waits for calm, too', (t) => {
  const node = new Node(t, true)
  node.stalled('0.00')
  assert.equal(node.after(30), true)
  assert.equal(node.after(1), false)
})

/** What the kernel would have. */
function kernel(stopped = 0): AccelerationControl & { readonly writes: string[] } {
  let [bits, budget] = [stopped, 0n]
  const writes: string[] = []
  return {
    writes,
    unavailable: undefined,
    stopped: () => bits,
    stop: (more) => {
      bits |= more
      writes.push(`stop ${more}`)
    },
    resume: (less) => {
      bits &= ~less
      writes.push(`resume ${less}`)
    },
    budget: () => budget,
    setBudget: (bytes) => {
      budget = bytes
      writes.push(`budget ${bytes}`)
    },
    halted: () => new Set(),
    setHalted: () => {},
    counts: async () => [],
    pairs: async () => [],
  }
}

test('the kernel is told once, with the figure in the log; what the operator stopped stays', (t) => {
  const node = new Node(t)
  const control = kernel(AccelStop.OPERATOR)
  const said: string[] = []
  const steering = new Steering(
    control,
    (level, message, fields) => void said.push(`${level}: ${message} ${JSON.stringify(fields)}`),
    new PressureWatch(false, { ...defaultLevels, calmFor: 0 }, node.root),
  )
  node.stalled('0.00')
  steering.lookAtMemory()
  assert.deepEqual([control.writes, steering.pressure], [[], undefined])
  node.stalled('31.40')
  steering.lookAtMemory()
  steering.lookAtMemory()
  assert.deepEqual(control.writes, ['stop 2'])
  assert.equal(control.stopped(), AccelStop.OPERATOR | AccelStop.PRESSURE)
  assert.match(steering.pressure ?? '', /31\.40 % of the last 10 s/)
  node.stalled('0.00')
  steering.lookAtMemory()
  steering.lookAtMemory()
  assert.deepEqual(control.writes, ['stop 2', 'resume 2'])
  assert.equal(control.stopped(), AccelStop.OPERATOR)
  assert.equal(said.length, 2)
  assert.match(said[0] ?? '', /^warn: acceleration is off: the node is short of memory.*31\.40 %/)
  assert.match(said[1] ?? '', /^info: acceleration is on again/)
})

test('a budget is written once', () => {
  const control = kernel()
  const steering = new Steering(control, () => {})
  assert.deepEqual([steering.setBudget(65_536), steering.setBudget(65_536), steering.setBudget(131_072)], [true, false, true])
  assert.deepEqual(control.writes, ['budget 65536', 'budget 131072'])
})
