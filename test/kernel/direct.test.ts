/** The program that decides about messages reads the kernel's sockets directly where the kernel lets it, and is the other one wherever that fails. */
import assert from 'node:assert/strict'
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { Agent } from '../../core/agent.ts'
import { u32Codec } from '../../core/codec.ts'
import { acceleration, allPrograms } from '../../core/datapath/hooks.ts'
import { abilitiesOf, directDecider } from '../../core/datapath/load.ts'
import { objectPath } from '../../core/root.ts'
import { using } from '../../core/scope.ts'
import { Lab, type LabPod } from '../lab/net.ts'
import { btf } from '../lab/without.ts'
import { DatapathUnderTest, kernel, native } from './fixture.ts'
import { accelerate, connection, redirected, untilRedirected, vouch } from './joined.ts'

const ownBtf = '/sys/kernel/btf/vmlinux'
const hasCast = btf === 'auto' && existsSync(ownBtf) && readFileSync(ownBtf).includes('\0bpf_rdonly_cast\0')
const whole = objectPath('merbridge.bpf.o')
const direct = objectPath('direct.bpf.o')

/** The kernel's name for a program's instructions, as they were before it changed them: other instructions have another one. */
async function tagIn(path: string): Promise<string> {
  const abilities = { '.rodata.abilities': abilitiesOf(kernel.abilities) }
  const skip = (path === direct ? [acceleration.stub] : allPrograms).filter((name) => name !== acceleration.decider)
  const object = await native.load(path, { skip, rodata: abilities })
  return using(object, () => using(object.program(acceleration.decider), ({ info }) => info.tag))
}

/** Of the program that messages of this datapath's sockets are given to. */
function tagOf({ datapath }: Agent): string | undefined {
  const id = datapath.maps.accelerators.lookup(u32Codec.encode(0))
  assert(id !== undefined)
  return native.programById(u32Codec.decode(id))?.tag
}

describe('the program that decides, with direct reads', { timeout: 120_000, skip: kernel.skip.get(acceleration.stub) }, () => {
  let lab: Lab
  let pod: LabPod
  let port = 7500
  let tags: { readonly whole: string; readonly direct: string | undefined }
  before(async () => {
    lab = await Lab.create('direct')
    pod = await lab.pod('pod')
    tags = { whole: await tagIn(whole), direct: hasCast ? await tagIn(direct) : undefined }
    assert.notEqual(tags.direct, tags.whole)
  })
  after(() => lab?.close())

  /** Messages are redirected, with the kernel's charging taken into account and without. */
  async function works(agent: Agent, expected: string | undefined): Promise<void> {
    assert.equal(tagOf(agent), expected)
    const netns = accelerate(agent, pod)
    await using ends = await connection(pod, ++port)
    await untilRedirected(agent, netns, ends, vouch)
    await agent.datapath.acceleration.setCharged(true)
    assert.equal(tagOf(agent), expected, 'the one for a kernel that charges, too')
    const before = await redirected(agent, netns)
    assert.equal(await ends.tell('send 60000'), '60000')
    assert.equal(await ends.tell('read'), '60000 right')
    assert.equal(await ends.tell('ping 20'), 'ok')
    assert((await redirected(agent, netns)) - before > 40)
  }

  test('the agent places the one with direct reads, if the kernel has bpf_rdonly_cast', async () => {
    await using datapath = new DatapathUnderTest('direct')
    await works(await datapath.start(datapath.config([pod])), tags.direct ?? tags.whole)
  })

  const beside: readonly (readonly [string, (path: string) => void])[] = [
    ['none', () => {}],
    ['half of it', (path) => writeFileSync(path, readFileSync(direct).subarray(0, 20_000))],
    ['an empty file', (path) => writeFileSync(path, '')],
    ['a directory', (path) => mkdirSync(path)],
  ]
  for (const [index, [what, put]] of beside.entries()) {
    test(`direct.bpf.o beside the object: ${what}: the other one does it`, async () => {
      const directory = join(lab.directory, `beside${index}`)
      mkdirSync(directory)
      const object = join(directory, 'merbridge.bpf.o')
      copyFileSync(whole, object)
      put(join(directory, 'direct.bpf.o'))
      assert.equal(directDecider(object) === undefined, what === 'none' || what === 'a directory')
      await using datapath = new DatapathUnderTest(`beside${index}`)
      await works(await datapath.start(datapath.config([pod]), { object }), tags.whole)
    })
  }
})
