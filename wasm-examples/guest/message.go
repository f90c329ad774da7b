//go:build wasip1

package guest

// Request is the request that is being handled. It may be changed only in the handler of requests.
type Request struct{}

// Method returns the method, such as POST.
func (Request) Method() string { return text(getMethod) }

// SetMethod changes the method. An empty one traps.
func (Request) SetMethod(method string) { setMethod(method) }

// URI returns path and query as they came: /a%20b?c=d.
func (Request) URI() string { return text(getURI) }

// SetURI changes path and query. One that is not valid traps.
func (Request) SetURI(uri string) { setURI(uri) }

// Protocol returns the version, such as HTTP/1.1.
func (Request) Protocol() string { return text(getProtocolVersion) }

// Source returns the caller's address and port.
func (Request) Source() string { return text(getSourceAddr) }

// Header returns the request's headers, host among them.
func (Request) Header() Header { return Header{0} }

// Trailer returns the request's trailers. They need Trailers.
func (Request) Trailer() Header { return Header{2} }

// Body returns the request's body. What is read without BufferRequest does not reach the upstream.
func (Request) Body() Body { return Body{0} }

// Response is the answer: the plugin's own in the handler of requests, the upstream's in the handler of answers.
type Response struct{}

// Status returns the status. In the handler of answers it needs BufferResponse.
func (Response) Status() int { return int(getStatusCode()) }

// SetStatus changes the status. In the handler of answers it needs BufferResponse.
func (Response) SetStatus(status int) { setStatusCode(uint32(status)) }

// Header returns the answer's headers.
func (Response) Header() Header { return Header{1} }

// Trailer returns the answer's trailers. They need Trailers.
func (Response) Trailer() Header { return Header{3} }

// Body returns the answer's body. In the handler of answers it needs BufferResponse.
func (Response) Body() Body { return Body{1} }
