import { ambientMesh } from '../meshes/ambient/mesh.ts'
import { randomSuite } from '../parity/random/suite.ts'

randomSuite(ambientMesh)
