// Package demo is a provider to try things on: an HTTP server that speaks OpenAI's and Anthropic's APIs as far
// as their SDKs need it, without a model behind it. Its answers repeat what the caller said.
//
//	s, err := demo.Start("127.0.0.1:0", demo.Config{Delay: 200 * time.Millisecond, TokensPerSecond: 50})
//	if err != nil {
//		return err
//	}
//	defer s.Close()
//	// An OpenAI SDK takes s.URL + "/v1" as its base URL, an Anthropic SDK takes s.URL.
//	resp, err := http.Post(s.URL+"/v1/chat/completions", "application/json",
//		strings.NewReader(`{"model":"demo","messages":[{"role":"user","content":"hello"}]}`))
//
// It serves
//
//	POST /v1/chat/completions   plain and streamed, with stream_options.include_usage
//	POST /v1/embeddings         float and base64, one vector for each input
//	GET  /v1/models             and /v1/models/{id}
//	POST /v1/messages           Anthropic's, plain and streamed
//	POST /openai/deployments/{model}/chat/completions?api-version=...   Azure's, and the same of embeddings
//
// Any model name is taken and given back. A token of an answer is a word; a prompt counts a token for every
// four bytes of text, rounded up, and three for each message. Answers and vectors are the same every time; ids
// and injected failures follow from Config.Seed and the order in which requests arrive. The parameter fallbacks, which
// is a proxy's, is refused as unknown.
//
// A request is checked in this order: its X-Demo headers, path and method, key, body, limits. What fails here is
// refused at once. Then comes the delay, then an injected failure, then the answer.
//
// These request headers change one request, in place of what Config says; a value out of range is answered 400:
//
//	X-Demo-Delay: 300ms             wait before the first byte, 0s to 1h
//	X-Demo-Tokens-Per-Second: 50    pace of a stream, 0.001 to 1000000, or 0 for at once
//	X-Demo-Tokens: 100              length of the answer, 1 to 1000000; a smaller max_tokens still counts
//	X-Demo-Cached-Tokens: 5         tokens of the prompt that usage tells as cached
//	X-Demo-Status: 503              fail with this status, 400 to 599
//	X-Demo-Fault: reset             fail with this status or fault
//	X-Demo-Fault-After: 1000        bytes of body before a fault in mid-body
//	X-Demo-Trickle: 10ms            between the bytes of what trickles
//	X-Demo-Script: 503*2,reset,ok   fail the first three requests of this X-Demo-Id; see Config.Script
//	X-Demo-Id: a                    who takes the script's next step, 1 to 128 bytes; else the key does
//	X-Demo-Retry-After: 2           retry-after of whatever error is answered; forms as in Config.RetryAfter
//	X-Demo-Announce: groq           whose way to announce limits; see Config.Announce
//	X-Demo-Header: Name: value      one more field of the answer; may be repeated
//
// # Faults
//
// In place of an answer: reset and close end the connection; silence keeps it until the caller leaves; not-http,
// bad-status, bad-field, bad-length, both-lengths and bad-chunk send what is no HTTP; head-close and head-reset end
// the connection in mid-head; endless-head sends fields without end, slow-head the same a byte at a time.
//
// In mid-body, after Config.FaultAfter bytes: body-reset resets the connection; short and short-chunked close it
// before Content-Length's last byte and before the last chunk; stall keeps it until the caller leaves; cut-event ends
// the answer so that HTTP takes it for whole; error-event ends a stream with an event that is an error. A trickle is
// whole and comes a byte at a time.
//
// A reset is a TCP reset where the ResponseWriter can be hijacked, as Server's can; elsewhere each of these faults
// aborts the answer.
//
// It has no tools, images, logprobs or more than one choice, no TLS, and no deadline for a caller that sends or
// reads slowly. Package proxy is what stands in front of it.
package demo
