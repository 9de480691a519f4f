/** Programs of the real world through real Envoys, as acceleration is by default: toward proxies alone. */
import { programSuite } from '../programs/suite.ts'

programSuite('proxies')
