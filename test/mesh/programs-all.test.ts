/** Programs of the real world through real Envoys, with acceleration toward apps as well. */
import { programSuite } from '../programs/suite.ts'

programSuite('all')
