import { kumaMesh } from '../meshes/kuma/mesh.ts'
import { randomSuite } from '../parity/random/suite.ts'

randomSuite(kumaMesh)
