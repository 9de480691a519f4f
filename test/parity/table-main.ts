/** `npm run test:parity-table -- [--mesh NAME] [--write]`: runs the fixed matrix and shows the table, or writes it into README.md and docs/meshes.md. */
import { readFileSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { meshesNamed } from '../meshes/index.ts'
import { essential, show } from './compare.ts'
import type { MeshUnderTest } from './mesh.ts'
import type { Kind } from './shape.ts'
import { kindsOf, type Ran, Twins } from './twins.ts'
import { type Column, columnOf, explained, places, withColumns } from './verdicts.ts'

const USAGE = 2

function fail(message: string, code: number): never {
  process.stderr.write(`${message}\n`)
  process.exit(code)
}

function readArguments() {
  try {
    return parseArgs({ options: { mesh: { type: 'string' }, write: { type: 'boolean', default: false } } }).values
  } catch (error) {
    return fail(`${error instanceof Error ? error.message : String(error)}\nusage: npm run test:parity-table -- [--mesh NAME] [--write]`, USAGE)
  }
}

async function ranOfKind<Rules>(mesh: MeshUnderTest<Rules>, kind: Kind): Promise<readonly Ran[]> {
  await using twins = await Twins.create(mesh, kind)
  if (!twins.complete) throw new Error('this kernel lacks a feature (merbridge status): its table would be another one')
  const found: Ran[] = []
  for (const setup of mesh.setups.filter((each) => each.kind === kind)) found.push(await twins.run(setup))
  return found
}

/** What fails is told when the pods of all kinds have gone. */
async function ranOf<Rules>(mesh: MeshUnderTest<Rules>): Promise<readonly Ran[]> {
  const all = await Promise.allSettled(kindsOf(mesh).map((kind) => ranOfKind(mesh, kind)))
  return all.flatMap((each) =>
    each.status === 'fulfilled' ? each.value : fail(`${mesh.name}: ${each.reason instanceof Error ? each.reason.message : each.reason}`, 1),
  )
}

const { mesh: name, write } = readArguments()
const meshes = meshesNamed(name)
if (typeof meshes === 'string') fail(meshes, USAGE)
const columns = new Map<string, Column>()
for (const mesh of meshes) {
  const ran = await ranOf(mesh)
  const unnamed = ran.flatMap((each) => each.unnamed)
  if (unnamed.length > 0) fail(`${mesh.name}: differences that docs/parity.md does not name:\n${show(essential(unnamed).slice(0, 30))}`, 1)
  const evidence = ran.map((each) => each.evidence)
  columns.set(mesh.name, columnOf(evidence))
  process.stdout.write(`${mesh.name}\n${explained(evidence)}\n`)
}
if (write) for (const { file, parity } of places) writeFileSync(file, withColumns(readFileSync(file, 'utf8'), columns, parity))
