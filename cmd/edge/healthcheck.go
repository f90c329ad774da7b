package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"
)

const healthTimeout = 2 * time.Second

// healthcheck asks the admin listener whether edge is ready. It says nothing but why not. A configuration with faults
// is no reason: the edge that runs may have been started before they were made.
func healthcheck(inv invocation) int {
	f, code, ok := parseFlags(inv, "healthcheck")
	if !ok {
		return code
	}
	src, _ := readSources(f, inv.environ)
	doc, _, _ := load(src)
	ctx, cancel := context.WithTimeout(context.Background(), healthTimeout)
	defer cancel()
	if err := ready(ctx, doc.Admin.Listen); err != nil {
		fmt.Fprintln(inv.stderr, "edge healthcheck:", err)
		return exitFailed
	}
	return exitOK
}

// ready asks the admin listener at address, on loopback when it listens on all addresses.
func ready(ctx context.Context, address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	switch ip, err := netip.ParseAddr(host); {
	case host == "" || err == nil && ip == netip.IPv4Unspecified():
		host = "127.0.0.1"
	case err == nil && ip == netip.IPv6Unspecified():
		host = "::1"
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/readyz", http.NoBody)
	if err != nil {
		return err
	}
	transport := &http.Transport{DisableKeepAlives: true} // without Proxy: HTTP_PROXY is for the outside
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 4<<10))
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: not ready: %s", request.URL, response.Status)
	}
	return nil
}
