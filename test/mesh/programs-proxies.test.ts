/** Programs of the real world through real Envoys, as acceleration is by default: toward proxies alone. `npm test` has them in mode all, which does the same and more. */
import { test } from 'node:test'
import { inFull } from '../lab/long.ts'
import { programSuite } from '../programs/suite.ts'

if (inFull === false) programSuite('proxies')
else test('programs, acceleration: proxies', { skip: inFull })
