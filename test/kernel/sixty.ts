/** A mesh for tests: everything that leaves a pod and is not the proxy's goes to 15001, everything that enters it to 15006, in both families. */
import { z } from 'zod'
import type { AnyPlugin } from '../../core/plugin.ts'

export const sixty: AnyPlugin = {
  api: 1,
  name: 'sixty',
  options: z.strictObject({}),
  selects: () => true,
  describe: () => ({
    sets: { proxy: { uid: [1337] } },
    targets: { out: { port: 15001 }, in: { port: 15006 } },
    outbound: [
      { name: 'stays in the pod', when: { to: 'pod' }, then: 'pass' },
      { name: 'the proxy goes out', when: { from: 'proxy' }, then: 'pass' },
      { name: 'everything else', when: { proto: 'tcp' }, then: 'out' },
    ],
    inbound: [{ name: 'everything', when: { proto: 'tcp' }, then: 'in' }],
  }),
}
