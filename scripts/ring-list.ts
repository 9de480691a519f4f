/** The rings of tests, named by what they need; docs/testing.md tells what each is for and how long it takes. */
export interface Ring {
  /** Directories of *.test.ts */
  readonly tests?: readonly string[]
  /** Commands that must succeed. */
  readonly commands?: readonly (readonly string[])[]
  /** Takes the place of `commands` when the ring runs alone; what follows the ring's name is added to it. */
  readonly alone?: readonly string[]
  /** Root, BPF, network namespaces: the files run one after the other, because they share the machine. */
  readonly needsKernel?: boolean
}

export const rings: Readonly<Record<string, Ring>> = {
  check: {
    commands: [
      ['tsc', '-p', '.'],
      ['biome', 'check', '--error-on-warnings', '.'],
      ['sh', 'scripts/clang-format.sh', '--check'],
      ['node', 'scripts/contract.ts', '--check'],
      ['node', 'scripts/config-docs.ts', '--check'],
    ],
  },
  unit: { tests: ['test/unit'] },
  contract: { tests: ['test/contract', 'test/repo'] },
  kernel: { tests: ['test/kernel', 'test/native'], needsKernel: true },
  mesh: {
    commands: [
      ['sh', 'scripts/mesh-packages.sh'],
      ['sh', 'scripts/program-packages.sh'],
    ],
    tests: ['test/mesh'],
    needsKernel: true,
  },
  parity: { commands: [['node', 'test/parity/main.ts', '--runs', '200']], alone: ['node', 'test/parity/main.ts'], needsKernel: true },
  mutants: { commands: [['node', 'test/mutants/main.ts']], alone: ['node', 'test/mutants/main.ts'] },
  kernels: { commands: [['sh', 'scripts/kernels-and-soak.sh']], alone: ['node', 'scripts/kernels/main.ts'] },
  'kernels-all': { commands: [['node', 'scripts/kernels/main.ts']] },
}
