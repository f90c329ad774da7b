package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/edge-proxy/edge/limiter"
	"github.com/edge-proxy/edge/proxy/upstream"
)

// What can end a request before its provider's answer does. limiter.ErrFull, limiter.ErrClosed and
// upstream.ErrTarget belong to the list too.
var (
	errQueueTimeout  = errors.New("the request waited too long for its turn")
	errMemory        = errors.New("the request bodies held in memory have reached max_buffered_mb")
	errUnauthorized  = errors.New("a token is required: send it as Authorization: Bearer, x-api-key, api-key or ?key=")
	errForbidden     = errors.New("the request is not allowed")
	errCallerQuota   = errors.New("the caller's own quota is spent")
	errNotFound      = errors.New("no route matches")
	errBadRequest    = errors.New("the request is not what the route needs")
	errUnknownModel  = errors.New("the model names no provider")
	errBodyTooLarge  = errors.New("the request body is larger than max_request_body_size_mb allows")
	errBodyTimeout   = errors.New("the request body stood still for too long")
	errBodyRead      = errors.New("the request body could not be read")
	errUpstream      = errors.New("the provider could not be reached or gave no valid answer")
	errUnavailable   = errors.New("the provider fails again and again")
	errQuota         = errors.New("the provider has no quota left for now")
	errKeySource     = errors.New("there is no key for the provider")
	errFirstByte     = errors.New("the provider did not begin to answer in time")
	errTotal         = errors.New("the request took longer than total_timeout")
	errStreamIdle    = errors.New("the provider's answer stood still for too long")
	errSlowReader    = errors.New("the caller did not read its answer")
	errClientGone    = errors.New("the caller has left")
	errDraining      = errors.New("this Edge is shutting down; try again at once, on a new connection")
	errLoop          = errors.New("the request has been through this Edge before")
	errDrainDeadline = errors.New("the drain timeout has ended")
	errPlugin        = errors.New("a plugin failed")
	errPluginBusy    = errors.New("no instance of a plugin was free in time")
	errPluginBody    = errors.New("the request body is larger than a plugin takes (max_body_mb)")
	errPluginReset   = errors.New("a plugin has ended the exchange")
	errPluginAnswer  = errors.New("the answer is larger than a plugin takes (max_body_mb)")
)

// statusClientGone is what the log says of a caller that left (nginx's 499); nobody receives it.
const statusClientGone = 499

// reason is why a request was not served, as a metric label and as the answer's code.
type reason uint8

const (
	reasonNone reason = iota
	reasonQueueFull
	reasonQueueTimeout
	reasonUnavailable
	reasonQuota
	reasonMemory
	reasonUnauthorized
	reasonForbidden
	reasonCallerQuota
	reasonNotFound
	reasonBadRequest
	reasonUnknownModel
	reasonBodyTooLarge
	reasonBodyTimeout
	reasonUpstreamError
	reasonUpstreamTimeout
	reasonDraining
	reasonLoop
	reasonPlugin
	reasonPluginBusy
	reasonPluginBody
	reasonInternal
	reasons // how many there are
)

// refusals is the one table from what went wrong to what the caller is told. The first error that matches
// decides.
var refusals = []struct {
	err    error
	reason reason
	status int
	kind   string // OpenAI's error type
}{
	{limiter.ErrFull, reasonQueueFull, http.StatusServiceUnavailable, "server_error"},
	{errQueueTimeout, reasonQueueTimeout, http.StatusServiceUnavailable, "server_error"},
	{errUnavailable, reasonUnavailable, http.StatusServiceUnavailable, "server_error"},
	{errQuota, reasonQuota, http.StatusServiceUnavailable, "server_error"},
	{errKeySource, reasonUnavailable, http.StatusServiceUnavailable, "server_error"},
	{errMemory, reasonMemory, http.StatusServiceUnavailable, "server_error"},
	{errUnauthorized, reasonUnauthorized, http.StatusUnauthorized, "invalid_request_error"},
	{errForbidden, reasonForbidden, http.StatusForbidden, "invalid_request_error"},
	{errCallerQuota, reasonCallerQuota, http.StatusTooManyRequests, "requests"},
	{errNotFound, reasonNotFound, http.StatusNotFound, "invalid_request_error"},
	{errUnknownModel, reasonUnknownModel, http.StatusBadRequest, "invalid_request_error"},
	{errBodyTooLarge, reasonBodyTooLarge, http.StatusRequestEntityTooLarge, "invalid_request_error"},
	{errBodyTimeout, reasonBodyTimeout, http.StatusRequestTimeout, "invalid_request_error"},
	{errBodyRead, reasonBadRequest, http.StatusBadRequest, "invalid_request_error"},
	{errBadRequest, reasonBadRequest, http.StatusBadRequest, "invalid_request_error"},
	{upstream.ErrTarget, reasonBadRequest, http.StatusBadRequest, "invalid_request_error"},
	{errTotal, reasonUpstreamTimeout, http.StatusGatewayTimeout, "server_error"},
	{errStreamIdle, reasonUpstreamTimeout, http.StatusGatewayTimeout, "server_error"},
	{errFirstByte, reasonUpstreamTimeout, http.StatusGatewayTimeout, "server_error"},
	{errDraining, reasonDraining, http.StatusServiceUnavailable, "server_error"},
	{errDrainDeadline, reasonDraining, http.StatusServiceUnavailable, "server_error"},
	{limiter.ErrClosed, reasonDraining, http.StatusServiceUnavailable, "server_error"},
	{errLoop, reasonLoop, http.StatusLoopDetected, "invalid_request_error"},
	{errUpstream, reasonUpstreamError, http.StatusBadGateway, "server_error"},
	{errPlugin, reasonPlugin, http.StatusInternalServerError, "server_error"},
	{errPluginReset, reasonPlugin, http.StatusInternalServerError, "server_error"},
	{errPluginBusy, reasonPluginBusy, http.StatusServiceUnavailable, "server_error"},
	{errPluginBody, reasonBodyTooLarge, http.StatusRequestEntityTooLarge, "invalid_request_error"},
	{errPluginAnswer, reasonPluginBody, http.StatusBadGateway, "server_error"},
}

// reasonNames are the codes that callers and metrics see.
var reasonNames = [reasons]string{
	reasonQueueFull: "queue_full", reasonQueueTimeout: "queue_timeout", reasonUnavailable: "provider_unavailable", reasonQuota: "provider_quota",
	reasonMemory: "memory", reasonUnauthorized: "unauthorized", reasonForbidden: "forbidden",
	reasonNotFound: "not_found", reasonBadRequest: "bad_request", reasonUnknownModel: "unknown_model", reasonCallerQuota: "caller_quota",
	reasonBodyTooLarge: "body_too_large", reasonBodyTimeout: "body_timeout", reasonUpstreamError: "upstream_error",
	reasonUpstreamTimeout: "upstream_timeout", reasonDraining: "draining", reasonLoop: "loop", reasonInternal: "internal",
	reasonPlugin: "plugin_error", reasonPluginBusy: "plugin_busy", reasonPluginBody: "plugin_body_too_large",
}

func (r reason) String() string { return reasonNames[r] }

// wordedError is one of the errors above with words for this one request.
type wordedError struct {
	kind  error
	words string
}

func (e *wordedError) Error() string { return e.words }
func (e *wordedError) Unwrap() error { return e.kind }

func worded(kind error, format string, args ...any) error {
	return &wordedError{kind, fmt.Sprintf(format, args...)}
}

// refusalOf returns what the caller is told of err: its words, its place in the table.
func refusalOf(err error) (words string, r reason, status int, kind string) {
	for i := range refusals {
		if errors.Is(err, refusals[i].err) {
			words = refusals[i].err.Error()
			if own, ok := errors.AsType[*wordedError](err); ok {
				words = own.words
			}
			return words, refusals[i].reason, refusals[i].status, refusals[i].kind
		}
	}
	return "internal error", reasonInternal, http.StatusInternalServerError, "server_error"
}

// gone reports whether err means that the caller cannot be answered any more.
func gone(err error) bool {
	return errors.Is(err, errClientGone) || errors.Is(err, errSlowReader)
}

// refusal is the answer that refusals says err has.
func (x *exchange) refusal(err error) (status int, r reason, fields upstream.Fields, content []byte) {
	words, r, status, kind := refusalOf(err)
	switch {
	case errors.Is(err, limiter.ErrFull) && words == limiter.ErrFull.Error():
		words = fmt.Sprintf("the queue of %s is full (concurrency %d, buffer_size %d)", x.end.name, x.end.config.Concurrency, x.end.config.BufferSize)
	case errors.Is(err, limiter.ErrClosed):
		words = errDraining.Error()
	}
	content = errorBody(words, kind, r.String())
	fields = upstream.Fields{
		{Name: "Content-Type", Value: "application/json"},
		{Name: "X-Edge-Reason", Value: r.String()},
		{Name: "Content-Length", Value: strconv.Itoa(len(content))},
	}
	switch {
	case (r == reasonQueueFull || r == reasonQueueTimeout) && x.end != nil:
		fields.Add("Retry-After", retryAfter(x.end.gate.ExpectedWait()))
	case r == reasonUnavailable && x.retryIn > 0:
		fields.Add("Retry-After", retryAfter(x.retryIn))
	case r == reasonQuota:
		if own, ok := errors.AsType[*quotaError](err); ok {
			fields.Add("Retry-After", retryAfter(own.wait))
		}
	case r == reasonCallerQuota:
		wait := time.Duration(0)
		if spent, ok := errors.AsType[*spentError](err); ok {
			wait = spent.wait
		}
		fields.Add("Retry-After", retryAfter(wait))
	case r == reasonPluginBusy:
		fields.Add("Retry-After", "1")
	case r == reasonUnauthorized:
		fields.Add("Www-Authenticate", "Bearer")
	}
	return status, r, fields, content
}

// refuse answers x with what refusals says of err. The head must not have been sent.
func (x *exchange) refuse(err error) {
	status, r, fields, content := x.refusal(err)
	x.status, x.reason = status, r
	h := x.w.Header()
	for _, field := range fields {
		h[field.Name] = []string{field.Value}
	}
	h[requestIDField] = []string{x.id}
	x.tellAttempts(h)
	x.readUp()
	x.closeAfter(h)
	x.w.WriteHeader(status)
	if x.r.Method != http.MethodHead {
		written, _ := x.w.Write(content) // the caller may have left: nobody else is told
		x.sent += int64(written)
	}
}

// errorBody is an error in OpenAI's shape.
func errorBody(words, kind, code string) []byte {
	var shape struct {
		Error struct {
			Message string  `json:"message"`
			Type    string  `json:"type"`
			Code    string  `json:"code"`
			Param   *string `json:"param"`
		} `json:"error"`
	}
	shape.Error.Message, shape.Error.Type, shape.Error.Code = words, kind, code
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(shape); err != nil {
		panic("bug: error body: " + err.Error())
	}
	return out.Bytes()
}

// retryAfter is wait in whole seconds, rounded up, at least 1 (RFC 9110, section 10.2.3).
func retryAfter(wait time.Duration) string {
	return strconv.Itoa(max(1, int(math.Ceil(wait.Seconds()))))
}
