import { ambientMesh } from '../meshes/ambient/mesh.ts'
import { meshSuite } from '../parity/suite.ts'

meshSuite(ambientMesh)
