module github.com/edge-proxy/edge/bench

go 1.26.0

replace github.com/edge-proxy/edge => ../
