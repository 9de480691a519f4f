/** Which mode a pod has, and why: the config says the most, annotations and labels and the operator's switch say less. Pure. */
import type { StaticPod } from '../config/schema.ts'
import { accelModes, type Mode } from './api.ts'

export const modeKey = 'merbridge.io/acceleration'

export interface PodMode {
  readonly mode: Mode
  /** Whose word it is: "acceleration.mode of the config", "the annotation merbridge.io/acceleration of the pod". */
  readonly why: string
  readonly warning?: string
}

type Texts = Readonly<Record<string, string>>

interface Word {
  /** "the annotation merbridge.io/acceleration of the pod" */
  readonly whose: string
  readonly text: string
}

export type Wishes = Pick<StaticPod, 'labels' | 'annotations'> & { readonly namespace: { readonly labels: Texts; readonly annotations: Texts } }

const isMode = (text: string): text is Mode => accelModes.some((mode) => mode === text)

/** The word that counts: the pod's before the namespace's, an annotation before a label. */
function wordOf({ annotations, labels, namespace }: Wishes): Word | undefined {
  const places = [
    ['annotation', annotations, 'the pod'],
    ['label', labels, 'the pod'],
    ['annotation', namespace.annotations, 'the namespace'],
    ['label', namespace.labels, 'the namespace'],
  ] as const
  const found = places.find(([, texts]) => Object.hasOwn(texts, modeKey))
  return found && { whose: `the ${found[0]} ${modeKey} of ${found[2]}`, text: found[1][modeKey] ?? '' }
}

const shown = (text: string) => JSON.stringify(text.length > 40 ? `${text.slice(0, 40)}...` : text)

/** Every pod's, where nothing says otherwise. */
export const byConfig = 'acceleration.mode of the config'

/** Why the operator's switch is none. */
export const byOperator = 'merbridge accelerate off was said for this pod'

/** `most`: what the config allows; `halted`: `merbridge accelerate off` was said for this pod. */
export function podMode(most: Mode, pod: Wishes, halted: boolean): PodMode {
  const wanted = wished(most, pod)
  return halted && wanted.mode !== 'none' ? { ...wanted, mode: 'none', why: byOperator } : wanted
}

function wished(most: Mode, pod: Wishes): PodMode {
  const word = wordOf(pod)
  if (word === undefined) return { mode: most, why: byConfig }
  const { whose, text } = word
  if (!isMode(text)) {
    const warning = `${whose} is ${shown(text)}, which is none of ${accelModes.join(', ')}: the pod is not accelerated; correct it, or remove it`
    return { mode: 'none', why: `${whose}, which is not valid`, warning }
  }
  if (accelModes.indexOf(text) <= accelModes.indexOf(most)) return { mode: text, why: whose }
  return { mode: most, why: `${byConfig}; ${whose} asks for ${text}, and may only ask for less` }
}
