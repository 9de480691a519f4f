/**
 * npm run demo                  two pods with real Envoys, intercepted without one iptables rule; every claim is checked; leaves nothing behind
 * npm run demo -- --mesh kuma   the same with the ports, users and containers of another mesh: istio (without --mesh), kuma, osm, linkerd
 * npm run demo -- --keep        stops before the end, leaves it running and says what to type
 * npm run demo -- --clean       removes a kept demo, or one that was killed
 */
import { readFile } from 'node:fs/promises'
import { relative } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { leftovers, type Snapshot, snapshot } from '../../scripts/leftovers.ts'
import { type Agent, program } from '../lab/agent.ts'
import { isInterrupted, own, release } from '../lab/cleanup.ts'
import { AccelerationStep } from './acceleration.ts'
import { type KernelObjects, objectsBelow, remaining } from './kernel-objects.ts'
import { APP_PORT, type DemoMesh, demoMesh } from './meshes.ts'
import { APP, BPFFS, claimDirectory, removeDemo, type Seen, Stage } from './stage.ts'
import { Story } from './story.ts'

/** Requests before, while and after the agent is dead: 2 s of them. */
const TRAFFIC = { count: 100, pauseMs: 20 }

const story = new Story()

async function setStage(mesh: DemoMesh): Promise<Stage> {
  story.step(`Two pods as ${mesh.title} has them, a sidecar and an app in each, and no iptables rules`)
  story.say(`   the sidecar is ${mesh.proxy} in ${mesh.title}'s layout: ${mesh.layout}`)
  const stage = await Stage.set(mesh)
  for (const pod of [stage.client, stage.server])
    story.say(`   ${[pod.name, pod.address, mesh.ipv6 ? pod.ipv6 : '', pod.netns].filter(Boolean).join(' ')}`)
  const rules = await Promise.all([stage.client, stage.server].map((pod) => pod.exec(['iptables-save'])))
  story.expect(
    'iptables rules in the pods',
    rules.map(({ stdout }) => stdout.match(/^-A/gm)?.length ?? 0).reduce((a, b) => a + b),
    0,
  )
  return stage
}

const endpoint = (address: string) => (address.includes(':') ? `[${address}]:${APP_PORT}` : `${address}:${APP_PORT}`)

/** One request, and how many the sidecars counted for it. */
async function requestWithCounters(
  stage: Stage,
  to = stage.server.address,
): Promise<{ readonly seen: Seen; readonly client: number; readonly server: number }> {
  const before = await stage.counters()
  const seen = await stage.request(to)
  const after = await stage.counters()
  story.say(`   an app of the client pod (uid ${APP.uid}): GET http://${endpoint(to)}/`)
  return { seen, client: after.client - before.client, server: after.server - before.server }
}

async function showDirect(stage: Stage, when: string): Promise<void> {
  const { seen, client, server } = await requestWithCounters(stage)
  story.expect(`${when}: answer`, seen.error ?? seen.status ?? 0, 200)
  story.expect(`${when}: requests that the client's sidecar counted`, client, 0)
  story.expect(`${when}: requests that the server's sidecar counted`, server, 0)
}

async function startAgent(stage: Stage): Promise<Agent> {
  story.step(`The agent starts; this is its whole configuration, with ${stage.mesh.title}'s defaults`)
  const agent = await stage.createAgent()
  story.show(await readFile(agent.configFile, 'utf8'))
  story.say(`   ${relative('.', program)} run --config ${agent.configFile}`)
  await stage.runAgent(agent)
  story.expect('pods enrolled', (await agent.status()).pods.enrolled, 2)
  return agent
}

async function showIntercepted(stage: Stage): Promise<void> {
  story.step('The same request takes its way through both sidecars')
  const { client, server, mesh } = stage
  const { who, ipv4, ipv6 } = mesh.appSource(server.address)
  await expectIntercepted(stage, { client: client.address, server: server.address }, who, ipv4)
  if (!mesh.ipv6 || ipv6 === undefined) return
  story.step('And so does one over IPv6')
  await expectIntercepted(stage, { client: client.ipv6, server: server.ipv6 }, who, ipv6)
}

async function expectIntercepted(stage: Stage, address: { client: string; server: string }, who: string, source: string): Promise<void> {
  const to = endpoint(address.server)
  const { seen, client, server } = await requestWithCounters(stage, address.server)
  const headers = seen.headers ?? {}
  story.expect('answer', seen.error ?? seen.status ?? 0, 200)
  story.expect("requests that the client's sidecar counted", client, 1)
  story.expect("requests that the server's sidecar counted", server, 1)
  story.expect('the app asked for and sees as its peer (getpeername)', seen.peer ?? '', to)
  story.expect("the client's sidecar was asked for (SO_ORIGINAL_DST)", headers['x-outbound-destination'] ?? '', to)
  story.expect("the client's sidecar saw as source", headers['x-outbound-source'] ?? '', address.client)
  story.expect("the server's sidecar was asked for", headers['x-inbound-destination'] ?? '', to)
  story.expect("the server's sidecar saw as source: the client pod", headers['x-inbound-source'] ?? '', address.client)
  story.expect(`the server's app saw as source: ${who}`, seen.body?.source ?? '', source)
}

async function killAgent(stage: Stage, agent: Agent): Promise<void> {
  story.step('The agent is killed while requests are made: it is not in their path')
  const before = await stage.counters()
  const traffic = Promise.all((['keep', 'new'] as const).map((mode) => stage.requests(TRAFFIC.count, TRAFFIC.pauseMs, mode)))
  await sleep(700)
  await agent.kill('SIGKILL')
  const [kept = [], fresh = []] = await traffic
  const good = (all: readonly Seen[]) => all.filter(({ status }) => status === 200).length
  const after = await stage.counters()
  story.expect('good answers on one kept connection', good(kept), TRAFFIC.count)
  story.expect('good answers on new connections', good(fresh), TRAFFIC.count)
  story.expect("of these passed the client's sidecar", after.client - before.client, 2 * TRAFFIC.count)
  story.expect("of these passed the server's sidecar", after.server - before.server, 2 * TRAFFIC.count)
}

async function restartAgent(stage: Stage, agent: Agent, before: Awaited<ReturnType<typeof inForce>>): Promise<void> {
  story.step('The agent starts again and adopts what is in the kernel')
  await stage.runAgent(agent)
  const now = await inForce(agent)
  story.expect('generation, which grows whenever it writes something', now.generation, before.generation)
  story.expect('programs attached (ids)', now.programs, before.programs)
  const { seen, client, server } = await requestWithCounters(stage)
  story.expect('answer, and sidecars passed', `${seen.error ?? seen.status}, ${client + server}`, '200, 2')
}

async function inForce(agent: Agent): Promise<{ readonly generation: number; readonly programs: string }> {
  const { config, attachments } = await agent.status()
  const ours = attachments.flatMap(({ programs }) => programs.flatMap(({ id, ours }) => (ours ? [id] : [])))
  const programs = [...new Set(ours)].sort((a, b) => a - b).join(' ')
  return { generation: config.generation, programs }
}

async function detach(stage: Stage, agent: Agent): Promise<void> {
  story.step('Leaving: never silently unsafe')
  story.say('   merbridge detach')
  const refused = await agent.detach()
  story.show(refused.stderr || refused.stdout)
  story.expect('exit code, while pods would lose their interception', refused.code, 1)
  story.say('   merbridge detach --bypass')
  const done = await agent.detach('--bypass')
  if (done.code !== 0) story.show(done.stderr)
  story.expect('exit code, told that they may', done.code, 0)
  await showDirect(stage, 'after detach')
}

/** Kinds of things in the words of scripts/leftovers.ts */
const KINDS = {
  pins: 'pin',
  namespaces: 'network namespace',
  cgroups: 'cgroup',
  processes: 'process',
  files: 'temporary',
}

/** On a machine that is in use, others make namespaces and files meanwhile: of these, the ones with the demo's name count. */
function ours(line: string): boolean {
  return line.startsWith('process ') || line.includes('merbridge-demo')
}

/** The kernel frees what was closed last after a grace period. */
async function objectsLeft(objects: KernelObjects): Promise<KernelObjects> {
  for (let tries = 0; tries < 20; tries++) {
    const left = await remaining(objects)
    if (Object.values(left).every((ids) => ids.length === 0)) return left
    await sleep(250)
  }
  return remaining(objects)
}

async function nothingLeft(before: Snapshot, objects: KernelObjects): Promise<void> {
  story.step('Nothing is left')
  await removeDemo()
  const { programs, links, maps } = await objectsLeft(objects)
  story.expect(`of ${objects.programs.length} programs left`, programs.length, 0)
  story.expect(`of ${objects.links.length} links left`, links.length, 0)
  story.expect(`of ${objects.maps.length} maps left`, maps.length, 0)
  const left = (await leftovers(before)).filter(ours)
  if (left.length > 0) story.show(left.join('\n'))
  for (const [plural, kind] of Object.entries(KINDS)) story.expect(`${plural} left`, left.filter((line) => line.startsWith(kind)).length, 0)
  story.expect('all that is left', left.length, 0)
}

/** The proxy really asks for the original destination: nothing redirects yet, so the kernel has no answer, and the proxy drops the connection. */
async function showDropped(stage: Stage, { port, counter }: NonNullable<DemoMesh['dropsUnredirected']>): Promise<void> {
  const dropped = async () => (await stage.sidecars.server.stats())[counter] ?? 0
  const before = await dropped()
  const seen = await stage.request(stage.server.address, port)
  story.say(`   the same to port ${port}, where the server's sidecar takes what is redirected`)
  story.expect(
    'without the agent: SO_ORIGINAL_DST has no answer, and the connection is dropped',
    `${seen.status ?? 'no answer'}, ${(await dropped()) - before}`,
    'no answer, 1',
  )
}

function explainKept(stage: Stage, agent: Agent): void {
  const enter = (netns: string) => `nsenter --net=${netns}`
  const merbridge = (command: string) => `${relative('.', program)} ${command} --config ${agent.configFile}`
  story.step('It goes on running. What to type')
  story.say(`
   a request, as an app       ${enter(stage.client.netns)} setpriv --reuid=${APP.uid} --regid=${APP.gid} --clear-groups curl -i http://${endpoint(stage.server.address)}/
   the sidecars' counters     ${enter(stage.client.netns)} ${stage.mesh.counters}
                              ${enter(stage.server.netns)} ${stage.mesh.counters}
   the agent                  ${merbridge('status')}
   acceleration               ${merbridge('accelerate off')}   (or on)
                              ${merbridge('top --once')}
   its pods, their rules      ${merbridge('pods')}
                              ${merbridge('pods client')}
   change something           edit ${agent.configFile}: the agent notices
   remove everything          npm run demo -- --clean     (from any terminal, also after this one is closed)
`)
}

let said = false

/** Once: by what cleans up, or by what failed because the pods went away below it. */
function sayInterrupted(): void {
  if (!said) process.stderr.write('\ndemo: interrupted; removing all that it made\n')
  said = true
}

async function tell(mesh: DemoMesh, keep: boolean): Promise<void> {
  const before = await snapshot(true)
  await claimDirectory()
  await using stack = new AsyncDisposableStack()
  const demo = {
    [Symbol.asyncDispose]: async () => {
      if (isInterrupted()) sayInterrupted()
      await removeDemo()
    },
  }
  own(demo)
  stack.defer(() => release(demo))
  stack.use(demo)
  const stage = await setStage(mesh)
  story.step('Without the agent, traffic goes past the sidecars')
  await showDirect(stage, 'without the agent')
  if (mesh.dropsUnredirected !== undefined) await showDropped(stage, mesh.dropsUnredirected)
  const agent = await startAgent(stage)
  await showIntercepted(stage)
  await new AccelerationStep(story, stage, agent).show()
  const adopted = await inForce(agent)
  await killAgent(stage, agent)
  await restartAgent(stage, agent, adopted)
  if (keep) {
    explainKept(stage, agent)
    stack.move() // what it would remove is now for --clean
    release(demo)
    return
  }
  const objects = await objectsBelow(BPFFS)
  if (Object.values(objects).some((ids) => ids.length === 0)) throw new Error(`no programs, links or maps were found below ${BPFFS}`)
  await detach(stage, agent)
  await agent.kill('SIGTERM')
  await nothingLeft(before, objects)
  story.summary()
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      mesh: { type: 'string', default: 'istio' },
      keep: { type: 'boolean', default: false },
      clean: { type: 'boolean', default: false },
    },
  })
  const mesh = demoMesh(values.mesh)
  if (process.getuid?.() !== 0) throw new Error('network namespaces and BPF need root: sudo npm run demo')
  if (values.clean) await removeDemo()
  else await tell(mesh, values.keep)
}

await main().catch((error: Error) => {
  if (isInterrupted()) sayInterrupted()
  else process.stderr.write(`\ndemo: ${error.message}\n`)
  process.exitCode = 1
})
