import { linkerdMesh } from '../meshes/linkerd/mesh.ts'
import { meshSuite } from '../parity/suite.ts'

meshSuite(linkerdMesh)
