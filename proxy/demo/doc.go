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
//
// Any model name is taken and given back. A token of an answer is a word; a prompt counts a token for every
// four bytes of text, rounded up, and three for each message. Answers and vectors are the same every time; ids
// and injected failures follow from Config.Seed and the order in which requests arrive.
//
// A request is checked in this order: its X-Demo headers, path and method, key, body, rate limits. What fails
// here is refused at once. Then comes the delay, then an injected failure, then the answer.
//
// These request headers change one request, in place of what Config says; a value out of range is answered 400:
//
//	X-Demo-Delay: 300ms             wait before the first byte, 0s to 1h
//	X-Demo-Tokens-Per-Second: 50    pace of a stream, 0.001 to 1000000, or 0 for at once
//	X-Demo-Tokens: 100              length of the answer, 1 to 1000000; a smaller max_tokens still counts
//	X-Demo-Status: 503              fail with this status, 400 to 599
//	X-Demo-Retry-After: 2           retry-after of whatever error is answered, as it stands; at most 128 bytes
//
// It has no tools, images, logprobs or more than one choice, no TLS, and no deadline for a caller that sends or
// reads slowly. Package proxy is what stands in front of it.
package demo
