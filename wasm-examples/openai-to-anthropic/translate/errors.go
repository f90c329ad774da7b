package translate

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Error is a fault in OpenAI's shape.
type Error struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    *string `json:"code"`
}

func (e *Error) Error() string { return e.Message }

// invalid is a request that cannot be translated. param is the place in it.
func invalid(param, code, format string, args ...any) *Error {
	e := &Error{Message: fmt.Sprintf(format, args...), Type: "invalid_request_error"}
	if param != "" {
		e.Param = &param
	}
	if code != "" {
		e.Code = &code
	}
	return e
}

func unsupported(param, format string, args ...any) *Error {
	return invalid(param, "unsupported_parameter", "Unsupported parameter: '%s': "+format, append([]any{param}, args...)...)
}

// BadAnswer is the error for an answer of the provider's that cannot be translated; what completes "it" to a sentence.
func BadAnswer(what string) error { return badAnswer("it " + what) }

func badAnswer(what string) *Error {
	code := "bad_answer"
	return &Error{Message: "The provider's answer cannot be translated: " + what + ".", Type: "server_error", Code: &code}
}

// decodeError words what encoding/json found in a request.
func decodeError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && t.Field != "" {
		return invalid(t.Field, "invalid_type", "Invalid type for '%s': got %.64s.", t.Field, t.Value)
	}
	return invalid("", "", "We could not parse the JSON body of your request. The API expects a JSON object.")
}

// ErrorBody is an error of this package's as the body of an answer.
func ErrorBody(err error) []byte {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		e = &Error{Message: err.Error(), Type: "server_error"}
	}
	return marshal(struct {
		Error *Error `json:"error"`
	}{e})
}

// Failure returns a body of Anthropic's with an error in OpenAI's shape, and anything else as it is.
func Failure(body []byte) []byte {
	var f struct {
		Type  string        `json:"type"`
		Error anthropicFail `json:"error"`
	}
	if json.Unmarshal(body, &f) != nil || f.Type != "error" {
		return body
	}
	return ErrorBody(f.Error.openAI())
}

type anthropicFail struct {
	Type    string `json:"type"`
	Message string `json:"message"`
}

// openAI keeps the type, which is one that OpenAI has too or says more, and adds the codes that programs look for.
func (f anthropicFail) openAI() *Error {
	e := &Error{Message: f.Message, Type: f.Type}
	codes := map[string]string{
		"authentication_error": "invalid_api_key", "rate_limit_error": "rate_limit_exceeded", "not_found_error": "model_not_found",
	}
	code, ok := codes[f.Type]
	if f.Type == "invalid_request_error" && strings.HasPrefix(f.Message, "prompt is too long") {
		code, ok = "context_length_exceeded", true
	}
	if ok {
		e.Code = &code
	}
	return e
}
