/** Features of the kernel that this run of the tests does without: `npm run test:kernel -- --without set_retval,listener_iterator`. */
import { type Forceable, forceable } from '../../core/features/catalogue.ts'

export const WITHOUT_VARIABLE = 'MERBRIDGE_TEST_WITHOUT'

/** Throws for a name that is no feature with a fallback. */
export function parseWithout(text: string): readonly Forceable[] {
  return text
    .split(',')
    .filter((name) => name !== '')
    .map((name) => {
      const known = forceable.find((id) => id === name)
      if (known === undefined) throw new Error(`${name} is no feature that can be done without; there are ${forceable.join(', ')}`)
      return known
    })
}

/** attach.btf of this run: kernels that show no BTF have it in a file. */
export const btf = process.env.MERBRIDGE_TEST_BTF ?? 'auto'

export const without: readonly Forceable[] = parseWithout(process.env[WITHOUT_VARIABLE] ?? '')
