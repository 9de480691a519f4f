/** The commands with their options and help; each action leaves an Outcome. */
import { resolve } from 'node:path'
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander'
import { jsonSchema } from '../config/jsonschema.ts'
import { defaultStateDir } from '../config/lastgood.ts'
import { defaultConfigPath } from '../config/schema.ts'
import { MerbridgeError } from '../errors.ts'
import type { LogStream } from '../log.ts'
import { verdicts } from '../observe/filter.ts'
import { pluginSource, plugins } from '../plugins.ts'
import { addAccelerate } from './accelerate.ts'
import { type Common, example } from './common.ts'
import { type DetachChoice, detachCommand, secondsToWait } from './detach.ts'
import { type ExplainOptions, explain, questionOf } from './explain.ts'
import { type MonitorOptions, monitor, type Write } from './monitor.ts'
import { failure, type Outcome, type Output, outputs, render } from './outcome.ts'
import { planCommand } from './plan.ts'
import { pods } from './pods.ts'
import { run } from './run.ts'
import { selfTest } from './selftest.ts'
import { findSettings } from './settings.ts'
import { status } from './status.ts'
import { addTop, type Screen } from './top.ts'
import { validate } from './validate.ts'

/** What a command may use of the process; only core/main.ts touches the process itself. */
export interface Surroundings {
  readonly version: string
  /** Relative paths of the user are resolved against this; the process itself works in the root directory. */
  readonly cwd: string
  readonly stdin: () => AsyncIterable<Buffer>
  readonly logStream: LogStream
  /** Prints at once, for a command that does not end by itself; false: nobody reads any more. */
  readonly write: Write
  /** Of the terminal that `write` prints on; absent or undefined: it is none. */
  readonly screen?: () => Screen | undefined
  /** Aborted by SIGTERM and SIGINT. */
  readonly stopSignal: () => AbortSignal
  readonly onReloadSignal: (listener: () => void) => void
}

const exitCodesHelp = '\nExit codes: 0 well, 1 failed, 2 wrong use or invalid config, 3 agent not running.'

/** The output that was asked for, also where the rest of the command line makes no sense. */
function outputOf(argv: readonly string[]): Output {
  const at = argv.findIndex((word) => word === '--output' || word.startsWith('--output='))
  const value = argv[at] === '--output' ? argv[at + 1] : argv[at]?.slice('--output='.length)
  return outputs.find((output) => output === value) ?? 'text'
}

class CommandLine {
  outcome: Outcome = { code: 0 }
  private readonly program: Command
  private readonly around: Surroundings
  private readonly printed: string[] = []

  constructor(around: Surroundings) {
    this.around = around
    this.program = new Command('merbridge')
      .description('Traffic interception for service meshes at the socket, with eBPF.')
      .version(around.version, '--version', 'print the version')
      .helpCommand(false)
      .showSuggestionAfterError(true)
      .exitOverride()
      .configureOutput({ writeOut: (text) => this.printed.push(text), writeErr: () => {}, outputError: () => {} })
      .addHelpText(
        'after',
        `${example('merbridge validate ./config.yaml', 'merbridge run --config ./config.yaml', 'merbridge status')}\n${exitCodesHelp}`,
      )
    this.addRun()
    this.addValidate()
    this.addSchema()
    this.addPlan()
    this.addStatus()
    this.addPods()
    this.addExplain()
    this.addMonitor()
    this.addAcceleration()
    this.addSelfTest()
    this.addDetach()
  }

  async execute(argv: readonly string[]): Promise<Outcome> {
    const output = outputOf(argv)
    try {
      await this.program.parseAsync([...argv], { from: 'user' })
      return this.outcome
    } catch (error) {
      if (!(error instanceof CommanderError)) return failure(error, output)
      if (error.exitCode === 0) return { code: 0, stdout: this.printed.join('') }
      const message = error.code === 'commander.help' ? 'a command is missing' : error.message.replace(/^error: /, '').replaceAll('\n', ' ')
      return failure(new MerbridgeError('USAGE', message, 'See: merbridge --help, or merbridge COMMAND --help.', error), output)
    }
  }

  /** An option that a script left empty must not mean the working directory. */
  private readonly path = (value: string): string => {
    if (value === '') throw new InvalidArgumentError('It is empty; give a path, or leave the option out.')
    return resolve(this.around.cwd, value)
  }

  private readonly pluginDirectory = (value: string): string => {
    const path = this.path(value)
    if (path === '/') throw new InvalidArgumentError('It would allow every file of the node; name the directory of the plugins.')
    return path
  }

  private command(name: string, description: string, help: string): Command {
    return this.program
      .command(name)
      .description(description)
      .addOption(new Option('--config <file>', 'the config file').default(defaultConfigPath).argParser(this.path))
      .addOption(new Option('--state-dir <dir>', 'where the last good config is kept').default(defaultStateDir).argParser(this.path))
      .addOption(
        new Option('--plugin-dir <dir>', 'a directory whose plugins the config may name; may be given several times')
          .default([], 'none')
          .argParser((value, before: readonly string[]) => [...before, this.pluginDirectory(value)]),
      )
      .addOption(new Option('--output <format>', 'what is printed').choices([...outputs]).default('text'))
      .addHelpText('after', help)
  }

  private addRun(): void {
    const signals =
      '\nSignals: SIGHUP reads the config again; SIGTERM ends the agent and leaves the datapath in place, so that no connection notices.'
    this.command('run', 'run the agent in the foreground', `${signals}\n${example('merbridge run --config /etc/merbridge/config.yaml')}`).action(
      async ({ config, stateDir, pluginDir, output }: Common) => {
        const { logStream, stopSignal, onReloadSignal } = this.around
        const options = { configPath: config, stateDir, plugins: pluginSource(pluginDir), stop: stopSignal(), onReload: onReloadSignal }
        this.outcome = await run(options, logStream, output)
      },
    )
  }

  private addValidate(): void {
    const help = example('merbridge validate', 'merbridge validate ./config.yaml --output json', 'merbridge validate - < config.yaml')
    this.command('validate', 'check a config file and say what is wrong with it', help)
      .argument('[file]', 'the file, or - for standard input; default: that of --config')
      .action(async (file: string | undefined, { config, pluginDir, output }: Common) => {
        const path = file === undefined || file === '-' ? (file ?? config) : this.path(file)
        this.outcome = await validate(path, this.around.stdin, pluginSource(pluginDir), output)
      })
  }

  private addSchema(): void {
    const help = example('merbridge schema > /etc/merbridge/schema.json')
    this.command('schema', 'print the JSON Schema of the config, for editors', help).action(({ output }: Common) => {
      const schema = jsonSchema(plugins)
      this.outcome = { code: 0, stdout: render(schema, output, () => render(schema, 'json', String)) }
    })
  }

  private addPlan(): void {
    const meaning =
      '\nNothing is changed, and no agent needs to run; it needs root, to look into the namespaces of the pods. The present rules' +
      '\nhave the names of the config in force: that of the agent that runs, else of the last one with this --config and --state-dir.'
    this.command(
      'plan',
      'say what a config would change in the kernel, and for which pods, before it does',
      `${meaning}\n${example('merbridge plan', 'merbridge plan ./new.yaml --verbose', 'merbridge plan - --output json < new.yaml')}`,
    )
      .argument('[file]', 'the config to plan, or - for standard input; default: that of --config')
      .option('--verbose', 'every map entry, in words')
      .action(async (file: string | undefined, { verbose = false, ...options }: Common & { readonly verbose?: boolean }) => {
        const path = file === undefined || file === '-' ? (file ?? options.config) : this.path(file)
        this.outcome = await planCommand({ ...options, verbose, file: path }, this.around.stdin, pluginSource(options.pluginDir))
      })
  }

  private addStatus(): void {
    const help = example('merbridge status', 'merbridge status --output json')
    this.command('status', 'say how the agent, the last reload, the pods and the datapath are', help).action(async (options: Common) => {
      const { socket } = await findSettings(options, plugins)
      this.outcome = await status(socket, options.output)
    })
  }

  private addPods(): void {
    this.command('pods', 'list the pods, or show one with its rules in order', example('merbridge pods', 'merbridge pods default/web'))
      .argument('[name]', 'NAME or NAMESPACE/NAME')
      .action(async (name: string | undefined, options: Common) => {
        const { socket } = await findSettings(options, plugins)
        this.outcome = await pods(socket, name, options.output)
      })
  }

  private addExplain(): void {
    const meaning =
      '\nThe pod is NAME or NAMESPACE/NAME. from-app (the default) and from-proxy are connections that the pod makes; inbound ones reach it from outside.' +
      '\nThe answer comes from the maps that the kernel reads. /tcp or /udp may follow the port; IPv6 stands in brackets, [::ffff:10.0.0.7]:80 is IPv4 on an IPv6 socket.'
    const examples = example(
      'merbridge explain default/web 10.96.0.10:80',
      'merbridge explain web from-proxy 10.0.0.7:8080',
      'merbridge explain web inbound 10.0.0.2:8080 --source 10.0.0.9',
      "merbridge explain web '[fd00::53]:53/udp'",
      'merbridge explain web 127.0.0.1:8080 --uid 0 --gid 1337 --output json',
    )
    this.command('explain', 'say which rule decides about a connection, and why', `${meaning}\n${examples}`)
      .usage('[options] POD [from-proxy|from-app|inbound] ADDR:PORT')
      .argument('<pod>', 'NAME or NAMESPACE/NAME')
      .argument('<connection...>', '[from-proxy|from-app|inbound] ADDR:PORT')
      .option('--uid <number>', 'user of the process that connects')
      .option('--gid <number>', 'group of the process that connects')
      .option('--mark <number>', "the socket's mark, as 1337 or 0x539")
      .option('--source <address>', 'what the socket is bound to, or who calls: ADDR or ADDR:PORT')
      .action(async (pod: string, words: string[], { uid, gid, mark, source, ...options }: Common & ExplainOptions) => {
        const query = questionOf(pod, words, { uid, gid, mark, source })
        this.outcome = await explain(async () => (await findSettings(options, plugins)).socket, query, options.output)
      })
  }

  private addMonitor(): void {
    const about =
      '\nWatches the node while it runs, and nothing else does: monitoring is off by default and costs next to nothing then. It ends on Ctrl-C, with exit code 0.'
    const more = example(
      'merbridge monitor',
      'merbridge monitor default/web --verdict drop refused',
      'merbridge monitor --port 8080 --sample 100 --output json',
      'merbridge monitor --proto udp --to fd00::/8',
    )
    this.command('monitor', 'show decisions as they are made', `${about}\n${more}`)
      .argument('[pod]', 'NAME or NAMESPACE/NAME; default: every pod')
      .option('--verdict <verdict...>', `only these: ${verdicts.join(', ')}`)
      .option('--direction <direction>', 'only outbound or inbound')
      .option('--proto <protocol>', 'only tcp or udp')
      .option('--family <family>', 'only ipv4 (IPv4-mapped addresses too) or ipv6')
      .option('--from <network>', 'only from this address or network')
      .option('--to <network>', 'only to this address or network, as it was asked for')
      .option('--port <number>', 'only this destination port')
      .option('--rule <name>', 'only what the rule with this name decided')
      .option('--sample <n>', 'one event in n, by chance; default: 1, every event')
      .option('--count <n>', 'end after so many events')
      .action(async (pod: string | undefined, options: Common & MonitorOptions) => {
        const { socket } = await findSettings(options, plugins)
        this.outcome = await monitor(socket, pod, options, options.output, this.around.write, this.around.stopSignal())
      })
  }

  private addSelfTest(): void {
    const about =
      '\nRuns in a cgroup and in network namespaces of its own, for at most a few seconds; no pod takes part, and no agent needs to run. The exit code is 1' +
      '\nwhen something fails; acceleration then stays off on this kernel, and interception works as ever.'
    const help = `${about}\n${example('merbridge selftest', 'merbridge selftest --output json')}`
    this.command('selftest', 'try whether acceleration changes anything for programs on this kernel', help).action(async (options: Common) => {
      this.outcome = await selfTest(options, plugins, options.output, this.around.stopSignal())
    })
  }

  private addAcceleration(): void {
    const command = (name: string, description: string, help: string) => this.command(name, description, help)
    const { write, screen = () => undefined, stopSignal } = this.around
    addAccelerate(command, (outcome) => {
      this.outcome = outcome
    })
    addTop(
      command,
      () => ({ write, screen, stop: stopSignal() }),
      (outcome) => {
        this.outcome = outcome
      },
    )
  }

  private addDetach(): void {
    const refusal =
      '\nWhile pods are enrolled that have no iptables rules of their own, nothing is done unless --bypass or --block says what shall become of them.'
    this.command(
      'detach',
      'take the whole datapath away; works without the agent and with a broken config',
      `${refusal}\n${example('merbridge detach')}`,
    )
      .option('--bypass', 'let the traffic of such pods go past their proxies')
      .option('--block', 'refuse new connections of such pods instead of removing the datapath')
      .addOption(
        new Option('--wait <seconds>', 'how long programs may take to read what waits for them on the fast path; default: 10').argParser(
          secondsToWait,
        ),
      )
      .option('--lose-data', 'throw away what they have not read by then; their connections break')
      .addOption(new Option('--bpffs <dir>', "the datapath's directory; default: that of the config").argParser(this.path))
      .action(async (options: Common & DetachChoice) => {
        this.outcome = await detachCommand(await findSettings(options, plugins), options, options.output)
      })
  }
}

/** Never throws. */
export const execute = (argv: readonly string[], around: Surroundings): Promise<Outcome> => new CommandLine(around).execute(argv)
