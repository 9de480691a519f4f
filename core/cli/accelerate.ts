/** `merbridge accelerate on|off [POD]` */
import type { AccelerateView } from '../acceleration/view.ts'
import { listed, nearest } from '../config/nearest.ts'
import { printable } from '../config/printable.ts'
import { askAgent } from '../control/client.ts'
import { MerbridgeError } from '../errors.ts'
import { plugins } from '../plugins.ts'
import { type Common, example, type Finish, type MakeCommand } from './common.ts'
import { type Outcome, type Output, render } from './outcome.ts'
import { findSettings } from './settings.ts'

const words = ['on', 'off'] as const
type Switch = (typeof words)[number]

/** What makes no sense is said without an agent. */
export function switchOf(word: string): Switch {
  const known = words.find((each) => each === word)
  if (known !== undefined) return known
  const close = nearest(word, words)
  const hint = close.length > 0 ? `Did you mean ${listed(close)}?` : 'Say: merbridge accelerate on, or: merbridge accelerate off.'
  throw new MerbridgeError('USAGE', `"${word}" is neither on nor off`, hint)
}

export function accelerateText({ pod, switch: to, changed, accelerating, overrides }: AccelerateView): string {
  const whom = pod === undefined ? 'the whole node' : printable(pod)
  const name = pod === undefined ? '' : ` ${printable(pod)}`
  const already = changed ? '' : ' (it was so before)'
  const stays =
    pod === undefined ? 'until it is taken back, over restarts of the agent' : 'until it is taken back or the pod ends, over restarts of the agent'
  const lines =
    to === 'off'
      ? [
          `acceleration is switched off for ${whom}${already}: every message goes by TCP from now on, in connections that exist, too`,
          `it stays off ${stays}: merbridge accelerate on${name}`,
          ...overrides.map((why) => `  off all the same, because: ${printable(why)}`),
        ]
      : [
          `the switch for ${whom} is on${already}${accelerating ? ': messages are accelerated again where the rules allow it' : '; but nothing is accelerated there:'}`,
          ...overrides.map((why) => `  off because: ${printable(why)}`),
        ]
  return `${[...lines, `see it: merbridge ${pod === undefined ? 'status' : `pods${name}`}, or merbridge top`].join('\n')}\n`
}

export async function accelerate(socket: string, to: Switch, pod: string | undefined, output: Output): Promise<Outcome> {
  const query = new URLSearchParams({ switch: to, ...(pod === undefined ? {} : { pod }) })
  const view = await askAgent<AccelerateView>(socket, '/v1/accelerate', undefined, `?${query}`)
  return { code: 0, stdout: render(view, output, () => accelerateText(view)) }
}

export function addAccelerate(command: MakeCommand, finish: Finish): void {
  const about =
    '\nIt holds from the next message of every connection, and stays over restarts of the agent; what a pod is switched to ends with the pod.' +
    '\n"on" takes back an earlier "off" and nothing else: neither acceleration.mode of the config nor an annotation; the answer says what keeps it off.'
  const more = example('merbridge accelerate off', 'merbridge accelerate off default/web', 'merbridge accelerate on default/web')
  command('accelerate', 'switch acceleration on or off, for the node or for one pod', `${about}\n${more}`)
    .usage('[options] on|off [POD]')
    .argument('<switch>', 'on or off')
    .argument('[pod]', 'NAME or NAMESPACE/NAME; default: the whole node')
    .action(async (word: string, pod: string | undefined, options: Common) => {
      const to = switchOf(word)
      const { socket } = await findSettings(options, plugins)
      finish(await accelerate(socket, to, pod, options.output))
    })
}
