// Package admin is Edge's admin plane: health, metrics, profiles, status and the configuration in use, on a
// listener of its own.
//
//	c := admin.DefaultConfig()
//	c.Token = token                          // needed unless c.Listen is a loopback address
//	h, err := admin.New(c, source, logger)   // err: everything that c.Validate finds
//	if err != nil {
//		return err
//	}
//	srv := &http.Server{
//		Addr:              c.Listen,
//		Handler:           h,
//		ReadHeaderTimeout: 10 * time.Second,
//		IdleTimeout:       2 * time.Minute,
//		MaxHeaderBytes:    16 << 10,
//	}
//	return srv.ListenAndServe()
//
// Leave the server's ReadTimeout at 0, since it would end a profile in the middle. No WriteTimeout is needed:
// an answer may take as long as it likes, but one whose client accepts nothing for 30 seconds is aborted, and
// a request body must arrive within 30 seconds. The number of connections is the listener's to bound.
//
//	request                what it gives                                   who may
//	GET /healthz           200 ok: the process lives                       anyone
//	GET /readyz            200 ok, or 503 and one line that says why not   anyone
//	GET /metrics           Prometheus text                                 the token; anyone with metrics_public
//	GET /                  a list of what is here                          the token
//	GET /api/status        what runs now, as JSON                          the token
//	GET /api/config        the configuration in use, secrets masked        the token
//	GET /debug/pprof/      everything of net/http/pprof                    the token
//
// HEAD is answered as GET is. The token goes in a header and never in a URL, where logs and histories keep it:
//
//	curl -H "Authorization: Bearer $EDGE_ADMIN_TOKEN" http://127.0.0.1:9090/api/status
//	curl -H "Authorization: Bearer $EDGE_ADMIN_TOKEN" -o cpu.pb.gz 'http://127.0.0.1:9090/debug/pprof/profile?seconds=10'
//	go tool pprof cpu.pb.gz
//
// A profile or trace lasts at most 120 seconds.
//
// # Web pages
//
// A page in the operator's browser can reach the listener too, so all but /healthz and /readyz refuse with 403
// what a page could have sent: an Origin that is not the request's own Host, Sec-Fetch-Site: cross-site, and a
// Host that is neither an IP address, nor localhost, nor the name in admin.listen. The last defeats DNS
// rebinding, which needs a name; a valid token does as well, so with one any Host is served.
//
// # Errors
//
// Errors are {"error":{"message","code"}} with code bad_request (400), unauthorized (401), forbidden (403),
// not_found (404), method_not_allowed (405) or internal (500). /readyz and net/http/pprof's own errors, such
// as a second CPU profile at once, are plain text.
//
// The package opens no listener, keeps no state and starts no goroutine. Importing it imports net/http/pprof,
// which registers itself on [net/http.DefaultServeMux]: no server may have a nil Handler. What is shown comes
// from a [Source]; package proxy does the work that it tells of.
package admin
