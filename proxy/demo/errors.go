package demo

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"time"
)

// apiError is a refusal in the caller's API. kind, code and param are OpenAI's fields; Anthropic's type follows
// from the status alone.
type apiError struct {
	status            int
	kind, code, param string
	message           string

	retryAfter time.Duration // 0 means unsaid
	retryForm  string        // as Config.RetryAfter; replaces it
	final      bool          // a retry can never help
	verdict    *verdict      // of the limits, when they refuse
}

func (e *apiError) Error() string { return "demo: " + e.message }

// refuse writes e in the shape of the caller's API.
func (x *exchange) refuse(e *apiError) error {
	h := x.w.Header()
	style := x.style()
	if e.retryAfter > 0 && style.retry != nil {
		style.retry(h, e.retryAfter)
	}
	if e.final && style.retry != nil {
		h.Set("X-Should-Retry", "false")
	}
	if form := cmp.Or(x.settings.retryAfter, e.retryForm); form != "" {
		setRetryAfter(h, form)
	}
	b := x.out[:0]
	if e.verdict != nil && style.body != nil && !x.anthropic {
		b = append(style.body(b, e), '\n')
	} else if x.anthropic {
		b = append(b, `{"type":"error","error":{"type":"`...)
		b = append(b, anthropicKind(e.status)...)
		b = appendString(append(b, `","message":`...), e.message)
		b = x.appendID(append(b, `},"request_id":"`...), "req_")
		b = append(b, "\"}\n"...)
	} else {
		b = appendString(append(b, `{"error":{"message":`...), e.message)
		b = appendString(append(b, `,"type":`...), e.kind)
		b = appendOrNull(append(b, `,"param":`...), e.param)
		b = appendOrNull(append(b, `,"code":`...), e.code)
		b = append(b, "}}\n"...)
	}
	x.out = b
	return x.reply(e.status, b)
}

// anthropicKind is the error type that Anthropic gives a status.
func anthropicKind(status int) string {
	switch status {
	case http.StatusUnauthorized:
		return "authentication_error"
	case http.StatusForbidden:
		return "permission_error"
	case http.StatusNotFound:
		return "not_found_error"
	case http.StatusRequestEntityTooLarge:
		return "request_too_large"
	case http.StatusTooManyRequests:
		return "rate_limit_error"
	case http.StatusGatewayTimeout:
		return "timeout_error"
	case 529:
		return "overloaded_error"
	}
	if status < 500 {
		return "invalid_request_error"
	}
	return "api_error"
}

// statusError is an injected failure.
func statusError(status int) *apiError {
	e := &apiError{status: status, kind: "server_error"}
	switch {
	case status == http.StatusTooManyRequests:
		e.kind, e.code = "requests", "rate_limit_exceeded"
		e.message = "Rate limit reached (injected failure)."
	case status == http.StatusServiceUnavailable || status == 529:
		e.message = "The engine is currently overloaded, please try again later."
	case status >= 500:
		e.message = "The server had an error while processing your request. Sorry about that!"
	default:
		e.kind = "invalid_request_error"
		e.message = fmt.Sprintf("The request was refused (injected status %d).", status)
	}
	return e
}

func pathError(r *http.Request) *apiError {
	return &apiError{
		status: http.StatusNotFound, kind: "invalid_request_error", code: "unknown_url",
		message: fmt.Sprintf("Unknown request URL: %s %.256s.", r.Method, r.URL.Path),
	}
}

func methodError(r *http.Request) *apiError {
	return &apiError{
		status: http.StatusMethodNotAllowed, kind: "invalid_request_error", code: "method_not_supported",
		message: fmt.Sprintf("Not allowed to %s on %.256s.", r.Method, r.URL.Path),
	}
}

// keyError never repeats what the caller presented.
func keyError(missing bool) *apiError {
	e := &apiError{status: http.StatusUnauthorized, kind: "invalid_request_error", code: "invalid_api_key"}
	e.message = "Incorrect API key provided."
	if missing {
		e.message = "You didn't provide an API key."
	}
	return e
}

func bodySizeError() *apiError {
	return &apiError{
		status: http.StatusRequestEntityTooLarge, kind: "invalid_request_error", code: "request_too_large",
		message: fmt.Sprintf("The request body is larger than %d bytes.", maxBody),
	}
}

// decodeError words what encoding/json found.
func decodeError(err error) *apiError {
	e := &apiError{status: http.StatusBadRequest, kind: "invalid_request_error"}
	if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && t.Field != "" {
		e.code, e.param = "invalid_type", strings.TrimPrefix(t.Field, "request.") // the embedded struct's name
		e.message = fmt.Sprintf("Invalid type for '%s': expected %s, but got %.64s instead.", e.param, kindName(t.Type), t.Value)
		return e
	}
	e.message = "We could not parse the JSON body of your request. The API expects a JSON object."
	return e
}

func kindName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "a boolean"
	case reflect.Slice:
		return "an array"
	case reflect.Struct:
		return "an object"
	}
	return "an integer"
}

// badValue is a parameter whose value cannot be served.
func badValue(param, code, format string, args ...any) *apiError {
	return &apiError{
		status: http.StatusBadRequest, kind: "invalid_request_error", code: code, param: param,
		message: fmt.Sprintf("Invalid '%s': ", param) + fmt.Sprintf(format, args...),
	}
}

// checkFallbacks refuses what is a proxy's parameter, so that one which forgets to take it out is found out.
func checkFallbacks(value json.RawMessage) error {
	if value == nil {
		return nil
	}
	return &apiError{
		status: http.StatusBadRequest, kind: "invalid_request_error", code: "unknown_parameter", param: "fallbacks",
		message: "Unknown parameter: 'fallbacks'.",
	}
}

func missing(param string) *apiError {
	return &apiError{
		status: http.StatusBadRequest, kind: "invalid_request_error", code: "missing_required_parameter", param: param,
		message: fmt.Sprintf("Missing required parameter: '%s'.", param),
	}
}

// checkCount tells whether the integer v, if given, is in [1, high].
func checkCount(param string, v *int, high int) error {
	switch {
	case v == nil:
		return nil
	case *v < 1:
		return badValue(param, "integer_below_min_value",
			"integer below minimum value. Expected a value >= 1, but got %d instead.", *v)
	case *v > high:
		return badValue(param, "integer_above_max_value",
			"integer above maximum value. Expected a value <= %d, but got %d instead.", high, *v)
	}
	return nil
}

// checkModel bounds the model's name, which every event of a stream repeats.
func checkModel(model string) error {
	const maxLen = 256
	if model == "" {
		return missing("model")
	}
	if len(model) > maxLen {
		return badValue("model", "string_above_max_length",
			"string too long. Expected at most %d bytes, but got %d instead.", maxLen, len(model))
	}
	return nil
}

// roundUp returns d in units, rounded up.
func roundUp(d, unit time.Duration) int64 { return int64((d + unit - 1) / unit) }
