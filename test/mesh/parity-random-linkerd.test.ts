import { linkerdMesh } from '../meshes/linkerd/mesh.ts'
import { randomSuite } from '../parity/random/suite.ts'

randomSuite(linkerdMesh)
