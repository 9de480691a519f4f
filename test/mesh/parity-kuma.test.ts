import { kumaMesh } from '../meshes/kuma/mesh.ts'
import { meshSuite } from '../parity/suite.ts'

meshSuite(kumaMesh)
