module weir.dev/tests/cluster/source-controller

go 1.26.0

// Only for its definitions: the program itself does not build from modules.
require (
	github.com/fluxcd/source-controller v1.9.5 // indirect
)
