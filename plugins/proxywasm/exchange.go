package proxywasm

// Exchange is one request and its answer, as a guest may see and change them. The proxy implements it.
//
// Its methods are called from within a call on the exchange's Stream: on the same goroutine, or, while that is in
// Stream.Await, on another one; never two at once. They must not block, nor call the Stream.
type Exchange interface {
	Method() string
	SetMethod(method string)
	// Path is path and query as they stand on the wire.
	Path() string
	// SetPath changes it. An error refuses: the guest gets BAD_ARGUMENT.
	SetPath(path string) error
	Authority() string
	SetAuthority(authority string)
	Scheme() string
	// Status is the answer's.
	Status() int
	SetStatus(code int)
	// Fields is a list that the guest may read and change. Pseudo headers and Host are not in it.
	Fields(k MapKind) Fields
	// RequestID is for log lines.
	RequestID() string
	// Attribute returns what Envoy calls an attribute, by its dotted name, where this package cannot derive it from the
	// rest of the Exchange: source.address, destination.address, connection.*, request.protocol, request.time,
	// request.duration, request.size, request.total_size, response.size, response.flags, route_name, cluster_name, node.*
	// and the like. The value is a string, a []byte, a bool, an int, an int64, a uint64, a float64, a time.Time or a
	// time.Duration.
	Attribute(name string) (any, bool)
	// Charge says that n bytes more are held for a paused body, or fewer when n is negative. An error refuses more.
	Charge(n int64) error
}

// Fields is an ordered list of header or trailer fields. Names compare without regard to case; those given to Set and Add
// are canonical ("X-Stamp").
type Fields interface {
	Len() int
	At(i int) (name, value string)
	Set(name, value string) // the first of that name gets the value, others go; adds when there is none
	Add(name, value string)
	Del(name string)
}

// MapKind is a list of an exchange.
type MapKind uint8

// The lists, in the ABI's numbers.
const (
	RequestHeaders   MapKind = 0
	RequestTrailers  MapKind = 1
	ResponseHeaders  MapKind = 2
	ResponseTrailers MapKind = 3

	callHeaders  MapKind = 6 // of a call-out's answer
	callTrailers MapKind = 7
	mapKinds     MapKind = 8
)

// Field is a header or trailer field.
type Field struct{ Name, Value string }

// LocalReply is an answer that a guest made itself.
type LocalReply struct {
	Status     int
	Details    string // why, for logs
	Body       []byte
	Fields     []Field // names canonical
	GRPCStatus int32   // for gRPC callers; -1 is none
}

// Verdict is what follows from a callback.
type Verdict uint8

const (
	// Continue: what the call was about goes on. With it goes all that was held on this side: headers, and body by
	// the call's result or by TakeHeld.
	Continue Verdict = iota
	// Paused: it does not go on yet. The next callbacks of this side still come, and may end the pause; at the side's
	// end Await follows.
	Paused
	// PausedAll: nothing may be called for this side until Await has returned.
	PausedAll
	// Replied: the guest made the answer; it is Stream.Reply.
	Replied
	// Closed: the guest wants the exchange reset.
	Closed
)

func (v Verdict) String() string {
	return [...]string{"continue", "paused", "paused all", "replied", "closed"}[v]
}
