// Package takeover takes plain HTTP/1.1 connections over from net/http after the head of their first request, and
// serves that request and all later ones itself. It is an experiment: it saves most of what a server does beside its
// handler, and it leaves net/http's parser, limits and shutdown.
//
//	taken := takeover.New(takeover.Config{
//		Handler:           handler,
//		ReadHeaderTimeout: 10 * time.Second,
//		IdleTimeout:       2 * time.Minute,
//	})
//	server := &http.Server{Handler: taken, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
//	server.RegisterOnShutdown(taken.Drain)
//	go server.Serve(listener)
//	...
//	server.Shutdown(ctx) // does not see the connections that were taken over
//	taken.Shutdown(ctx)
//
// What is not as in net/http:
//
//   - The parser refuses more: lines that end in a bare LF, folded fields, Transfer-Encoding beside Content-Length or
//     in HTTP/1.0, HTTP/1.2 and later, CONNECT without Host, white space behind a chunk's size, fields of framing in a
//     trailer. It accepts nothing that net/http refuses.
//   - Nobody reads the connection while a handler runs, so the request's context does not end when the client leaves.
//     It ends when a read or write of the handler's fails, and when the handler has returned. Who wants to know more
//     watches the descriptor, as package proxy does.
//   - A handler that has returned must not use the request's Header, nor the ResponseWriter's: the maps serve the next
//     request. So http.TimeoutHandler must not be used. The Request itself, its Body and its context may be held; a read
//     of Body then fails, and a Write too.
//   - A handler that replaces the request's Body does not change what becomes of the rest of the content. It is read for
//     five seconds at most, unless the handler has set a deadline, and never when the client waits for 100 Continue.
//   - What a handler that panics has written and not flushed is not sent.
//   - http.MaxBytesReader cannot tell this ResponseWriter that it was exceeded. There is no CloseNotify.
//     Server.ConnState hears of a connection for the last time when it is taken over; SetKeepAlivesEnabled, ReadTimeout,
//     Shutdown and Close do not reach it.
package takeover
