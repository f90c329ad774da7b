//go:build wasip1

// Openai-to-anthropic lets clients of OpenAI's chat completions talk to a provider that speaks Anthropic's messages.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"

	guest "github.com/edge-proxy/edge/wasm-examples/proxyguest"
)

// settings is the plugin's configuration.
type settings struct {
	MaxTokens        int    `json:"max_tokens"` // for requests that name no limit
	AnthropicVersion string `json:"anthropic_version"`
}

func init() {
	guest.Configure(func(config []byte) (guest.Plugin, error) {
		s := settings{MaxTokens: 4096, AnthropicVersion: "2023-06-01"}
		if len(config) > 0 {
			d := json.NewDecoder(bytes.NewReader(config))
			d.DisallowUnknownFields()
			if err := d.Decode(&s); err != nil {
				return guest.Plugin{}, err
			}
		}
		if s.MaxTokens < 1 || s.AnthropicVersion == "" {
			return guest.Plugin{}, errors.New("want a max_tokens of at least 1 and an anthropic_version")
		}
		return guest.Plugin{Stream: s.stream}, nil
	})
}

func main() {}

// stream returns the callbacks of one exchange.
func (s settings) stream() guest.Stream {
	x := &exchange{settings: s}
	return guest.Stream{
		RequestHeaders: x.requestHeaders, RequestBody: x.requestBody, RequestTrailers: x.requestTrailers,
		ResponseHeaders: x.responseHeaders, ResponseBody: x.responseBody, ResponseTrailers: x.responseTrailers,
	}
}

// target is what a request is for, as far as it is translated.
type target uint8

const (
	other target = iota // passes as it is
	chat
	models
)

// targetOf tells it from method and path, and returns the path for Anthropic. What stands before /v1 stays.
func targetOf(method, path string) (target, string) {
	path, query, asked := strings.Cut(path, "?")
	switch {
	case method == "POST" && strings.HasSuffix(path, "/v1/chat/completions"):
		path = strings.TrimSuffix(path, "chat/completions") + "messages"
		if asked {
			path += "?" + query
		}
		return chat, path
	case method == "GET" && strings.HasSuffix(path, "/v1/models"):
		if !asked {
			query = "limit=1000" // OpenAI's list has no pages
		}
		return models, path + "?" + query
	case method == "GET" && strings.Contains(path, "/v1/models/"):
		return models, path
	}
	return other, ""
}

// addressTo makes the headers of a request Anthropic's.
func (s settings) addressTo(path string) {
	h := guest.RequestHeaders
	set := func(name, value string) { _ = h.Set(name, value) } // these exist in any host
	set(":path", path)
	if key, ok := bearer(h.Get("authorization")); ok {
		if _, has := h.Lookup("x-api-key"); !has {
			set("x-api-key", key)
		}
		_ = h.Remove("authorization")
	}
	if _, has := h.Lookup("anthropic-version"); !has {
		set("anthropic-version", s.AnthropicVersion)
	}
	set("accept-encoding", "identity") // a compressed answer cannot be read here
	for _, name := range []string{"openai-organization", "openai-project", "openai-beta"} {
		_ = h.Remove(name)
	}
}

func bearer(authorization string) (key string, ok bool) {
	const scheme = "bearer "
	if len(authorization) <= len(scheme) || !strings.EqualFold(authorization[:len(scheme)], scheme) {
		return "", false
	}
	return strings.TrimSpace(authorization[len(scheme):]), true
}
