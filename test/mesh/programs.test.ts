/** Programs of the real world through real Envoys. */
import { programSuite } from '../programs/suite.ts'

programSuite(undefined)
