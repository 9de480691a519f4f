/** argv, signals, printing and exit codes: the only file that touches the process. */
import { packageVersion } from './root.ts'

// To an agent SIGHUP means "reload", and must not end it while it starts; everything else is loaded after this.
if (process.argv[2] === 'run') process.on('SIGHUP', () => {})
const { execute } = await import('./cli/program.ts')

/** The working directory may have been removed. */
function userDirectory(): string {
  try {
    return process.cwd()
  } catch {
    return '/'
  }
}

function stopSignal(): AbortSignal {
  const controller = new AbortController()
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => controller.abort())
  return controller.signal
}

/** Resolves when the text has left the process; false: the reader has gone away (`| head`), which is not an error. */
function print(stream: NodeJS.WriteStream, text: string | undefined): Promise<boolean> {
  if (text === undefined || text === '') return Promise.resolve(true)
  const { promise, resolve } = Promise.withResolvers<boolean>()
  stream.write(text, (error) => resolve(error === undefined || error === null))
  return promise
}

const cwd = userDirectory()
// An agent keeps no directory busy, and nothing that is looked for in a working directory is found.
process.chdir('/')
// A log that nobody reads any more must not end the agent.
process.stderr.on('error', () => {})
process.stdout.on('error', () => {})

const outcome = await execute(process.argv.slice(2), {
  version: packageVersion(),
  cwd,
  stdin: () => process.stdin,
  logStream: process.stderr,
  write: (text) => print(process.stdout, text),
  screen: () => (process.stdout.isTTY ? { columns: process.stdout.columns, rows: process.stdout.rows } : undefined),
  stopSignal,
  onReloadSignal: (listener) => void process.on('SIGHUP', listener),
})
await print(process.stdout, outcome.stdout)
await print(process.stderr, outcome.stderr)
process.exit(outcome.code)
