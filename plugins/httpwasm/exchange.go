package httpwasm

// Exchange is one request and its answer, as a guest may see and change them. The proxy implements it.
//
// All methods are called from within [Call.Request] and [Call.Response] only, on the goroutine that called these. Names
// and values handed in have been checked: names are canonical tokens, values hold no control character but a tab.
// Strings are the exchange's to keep; slices of bytes are the guest's memory, and are not valid after the method returns.
type Exchange interface {
	Method() string
	SetMethod(method string)
	// URI is path and query as they are on the wire, at least "/".
	URI() string
	// SetURI replaces the URI. An error traps the guest.
	SetURI(uri string) error
	// Protocol is "HTTP/1.1" or "HTTP/2.0".
	Protocol() string
	// SourceAddr is "1.2.3.4:567" or "[::1]:567".
	SourceAddr() string
	// RequestID is the request's name in log lines.
	RequestID() string
	// Fields returns one of the four lists of fields. Host is in the list of the request's header.
	Fields(k Kind) Fields
	// ReadBody fills into, or reads to the end and says eof; less than that is asked for again. In the response phase the
	// request's body goes on where the guest's last read ended, as far as it is still there. An error ends the guest's call,
	// and comes back from Call as it is.
	ReadBody(k BodyKind, into []byte) (n int, eof bool, err error)
	// WriteBody replaces the body if first, else appends; p may be empty. An error ends the guest's call, and comes back
	// from Call as it is.
	WriteBody(k BodyKind, p []byte, first bool) error
	// KeepRequestBody says whether bytes of the request's body that the guest reads from now on still go to the upstream.
	// It is called with what holds at the beginning of each Request, and again when the guest asks for it.
	KeepRequestBody(keep bool)
	// Status is that of the answer, and 200 before there is one.
	Status() int
	// SetStatus sets it: 200 to 999.
	SetStatus(code int)
}

// Fields is an ordered list of fields. Names are canonical ("X-Stamp"), and are compared without regard to case.
type Fields interface {
	Len() int
	// At returns field i of Len. What it returns stays valid until the list is changed.
	At(i int) (name, value string)
	// Set replaces all values of name by one, Add appends one, Del removes all, if there are any.
	Set(name, value string)
	Add(name, value string)
	Del(name string)
}

// Kind names one of the four lists of fields of an exchange, with the ABI's numbers.
type Kind uint32

const (
	RequestHeader Kind = iota
	ResponseHeader
	RequestTrailer
	ResponseTrailer
	kinds
)

// response says whether a kind is the answer's.
func (k Kind) response() bool { return k&1 == 1 }

// trailer says whether a kind needs the feature trailers.
func (k Kind) trailer() bool { return k >= RequestTrailer }

// String returns the kind as messages have it.
func (k Kind) String() string {
	switch k {
	case RequestHeader:
		return "request header"
	case ResponseHeader:
		return "response header"
	case RequestTrailer:
		return "request trailer"
	case ResponseTrailer:
		return "response trailer"
	default:
		return "unknown kind"
	}
}

// BodyKind names one of the two bodies of an exchange, with the ABI's numbers.
type BodyKind uint32

const (
	RequestBody BodyKind = iota
	ResponseBody
	bodyKinds
)

// String returns the kind as messages have it.
func (k BodyKind) String() string {
	switch k {
	case RequestBody:
		return "request body"
	case ResponseBody:
		return "response body"
	default:
		return "unknown kind"
	}
}
