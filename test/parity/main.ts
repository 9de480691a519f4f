/** `npm run test:parity -- [--mesh NAME] [--runs N] [--seed S] [--path P] [--backend nft|legacy]`: random pods beside the mesh's own iptables rules. */
import { parseArgs } from 'node:util'
import { meshesNamed } from '../meshes/index.ts'
import { freshSeed, type RandomRun, randomParity } from './random/run.ts'

const USAGE = 2

function fail(message: string): never {
  process.stderr.write(`${message}\nusage: npm run test:parity -- [--mesh NAME] [--runs N] [--seed S] [--path P] [--backend nft|legacy]\n`)
  process.exit(USAGE)
}

function whole(name: string, text: string): number {
  if (!/^-?\d{1,10}$/.test(text)) fail(`--${name}: expected a whole number, got '${text}'`)
  return Number(text)
}

function readArguments(): readonly RandomRun[] {
  const text = { type: 'string' } as const
  try {
    const { values } = parseArgs({ options: { runs: { ...text, default: '50' }, mesh: text, seed: text, path: text, backend: text } })
    const { backend, path } = values
    if (backend !== undefined && backend !== 'nft' && backend !== 'legacy') return fail(`--backend: expected nft or legacy, got '${backend}'`)
    if (path !== undefined && values.seed === undefined) return fail('--path belongs to a --seed')
    const meshes = meshesNamed(values.mesh)
    if (typeof meshes === 'string') return fail(meshes)
    if (path !== undefined && meshes.length !== 1) return fail('--path belongs to a --mesh')
    const run: Omit<RandomRun, 'mesh'> = {
      runs: whole('runs', values.runs),
      seed: values.seed === undefined ? freshSeed() : whole('seed', values.seed),
      ...(path === undefined ? {} : { path }),
      ...(backend === undefined ? {} : { backend }),
    }
    return meshes.map((mesh) => ({ mesh, ...run }))
  } catch (error) {
    return fail(error instanceof Error ? error.message : String(error))
  }
}

const say = (text: string) => process.stdout.write(`${text}\n`)

for (const run of readArguments()) {
  say(`${run.mesh.name}, seed ${run.seed}${run.path === undefined ? '' : `, path ${run.path}`}`)
  const { failure, summary } = await randomParity({ ...run, onProgress: say })
  say(failure === undefined ? summary : `${summary}\n${failure}`)
  if (failure !== undefined) process.exitCode = 1
}
