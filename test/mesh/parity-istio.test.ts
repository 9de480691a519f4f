import { istioMesh } from '../meshes/istio/mesh.ts'
import { meshSuite } from '../parity/suite.ts'

meshSuite(istioMesh)
