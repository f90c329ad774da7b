module github.com/edge-proxy/edge/bench

go 1.26.0

replace github.com/edge-proxy/edge => ../

require (
	github.com/edge-proxy/edge v0.0.0-00010101000000-000000000000
	golang.org/x/sync v0.24.0
)
