//go:build wasip1

package main

import (
	"strings"
	"time"

	"github.com/edge-proxy/edge/wasm-examples/openai-to-anthropic/translate"
	guest "github.com/edge-proxy/edge/wasm-examples/proxyguest"
)

// exchange is one request and its answer.
type exchange struct {
	settings settings
	target   target
	sent     bool // the request's body was translated
	chat     translate.Chat
	stream   *translate.Stream // of an answer that comes as events
	status   string            // of any other
	created  int64
}

// requestHeaders holds a chat's headers until its body was found good: nothing reaches the provider before.
func (x *exchange) requestHeaders(end bool) guest.Action {
	h := guest.RequestHeaders
	var path string
	if x.target, path = targetOf(h.Get(":method"), h.Get(":path")); x.target == other {
		return guest.Continue
	}
	x.settings.addressTo(path)
	if x.target != chat {
		return guest.Continue
	}
	_ = h.Remove("content-length")
	_ = h.Set("content-type", "application/json")
	if end {
		return x.translateRequest(nil)
	}
	return guest.Pause
}

func (x *exchange) requestBody(_ int, end bool) guest.Action {
	switch {
	case x.target != chat || x.sent:
		return guest.Continue
	case !end:
		return guest.Pause
	}
	return x.heldRequest()
}

// requestTrailers comes after a body that had no end of its own.
func (x *exchange) requestTrailers() guest.Action {
	if x.target != chat || x.sent {
		return guest.Continue
	}
	return x.heldRequest()
}

func (x *exchange) heldRequest() guest.Action {
	body, err := guest.RequestBody.Bytes()
	if err != nil {
		return x.refuse(500, err)
	}
	return x.translateRequest(body)
}

func (x *exchange) translateRequest(body []byte) guest.Action {
	messages, asked, err := translate.Request(body, x.settings.MaxTokens)
	if err != nil {
		return x.refuse(400, err)
	}
	if err := guest.RequestBody.Set(messages); err != nil {
		return x.refuse(500, err)
	}
	x.chat, x.sent = asked, true
	return guest.Continue
}

// refuse answers with an error instead of the provider. The answer then passes as it is.
func (x *exchange) refuse(status int, err error) guest.Action {
	x.target = other
	fields := []guest.Field{{Name: "content-type", Value: "application/json"}}
	if err := guest.Reply(status, fields, translate.ErrorBody(err)); err != nil {
		guest.Log(guest.Error, "openai-to-anthropic: reply: "+err.Error())
		_ = guest.Reset(guest.Request)
	}
	return guest.Pause
}

// responseHeaders lets those of a stream pass at once, and holds others until the body is known.
func (x *exchange) responseHeaders(end bool) guest.Action {
	if x.target == chat && !x.sent { // another plugin has answered
		x.target = other
	}
	if x.target == other {
		return guest.Continue
	}
	h := guest.ResponseHeaders
	if encoding := h.Get("content-encoding"); encoding != "" && encoding != "identity" {
		return x.refuse(502, translate.BadAnswer("is compressed"))
	}
	if id := h.Get("request-id"); id != "" {
		_ = h.Set("x-request-id", id)
	}
	_ = h.Remove("content-length")
	x.status = h.Get(":status")
	x.created = answered(h.Get("date"))
	switch {
	case x.target == chat && strings.HasPrefix(x.status, "2") && strings.HasPrefix(h.Get("content-type"), "text/event-stream"):
		x.stream = translate.NewStream(x.chat, x.created)
		return guest.Continue
	case !end:
		return guest.Pause
	case strings.HasPrefix(x.status, "2"):
		return x.refuse(502, translate.BadAnswer("is empty"))
	}
	return guest.Continue
}

func (x *exchange) responseBody(_ int, end bool) guest.Action {
	switch {
	case x.target == other:
		return guest.Continue
	case x.stream == nil && !end:
		return guest.Pause
	}
	return x.translateAnswer(end)
}

// responseTrailers comes after a body that had no end of its own. Of a stream all has gone on by then.
func (x *exchange) responseTrailers() guest.Action {
	if x.target == other || x.stream != nil {
		return guest.Continue
	}
	return x.translateAnswer(true)
}

// translateAnswer translates what is at hand: the next chunk of a stream, or all of another answer.
func (x *exchange) translateAnswer(end bool) guest.Action {
	b := guest.ResponseBody
	body, err := b.Bytes()
	if err == nil {
		switch {
		case x.stream != nil:
			err = b.Set(x.stream.Translate(nil, body, end))
		case !strings.HasPrefix(x.status, "2"):
			err = b.Set(translate.Failure(body))
		case x.target == models:
			err = b.Set(translate.Models(body))
		default:
			var answer []byte
			if answer, err = translate.Answer(body, x.created); err != nil {
				_ = guest.ResponseHeaders.Set(":status", "502")
				answer = translate.ErrorBody(err)
			}
			_ = guest.ResponseHeaders.Set("content-type", "application/json")
			err = b.Set(answer)
		}
	}
	if end {
		x.target = other // all is said
	}
	if err != nil {
		guest.Log(guest.Error, "openai-to-anthropic: answer: "+err.Error())
		_ = guest.Reset(guest.Response)
	}
	return guest.Continue
}

// answered is when an answer was made, in seconds since 1970: its Date, or now.
func answered(date string) int64 {
	const layout = "Mon, 02 Jan 2006 15:04:05 GMT"
	if t, err := time.Parse(layout, date); err == nil {
		return t.Unix()
	}
	return guest.Now().Unix()
}
