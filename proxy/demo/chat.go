package demo

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// messageTokens is what a message costs beside its text.
const messageTokens = 3

var (
	chatRoles      = []string{"user", "assistant", "system", "developer", "tool", "function"}
	anthropicRoles = []string{"user", "assistant"}
)

// request is what is read of a request to either API; all else is ignored.
type request struct {
	Model     string    `json:"model"`
	Messages  []message `json:"messages"`
	Stream    bool      `json:"stream"`
	MaxTokens *int      `json:"max_tokens"`

	Fallbacks json.RawMessage `json:"fallbacks"`
}

type message struct {
	Role    string  `json:"role"`
	Content content `json:"content"`
}

// chatRequest is what else is read of a request to OpenAI's.
type chatRequest struct {
	request
	MaxCompletionTokens *int `json:"max_completion_tokens"`
	N                   *int `json:"n"`
	StreamOptions       struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
}

// turn is a request that was found good, and its answer.
type turn struct {
	model  string
	prompt int // tokens
	cached int // of them
	answer answer
	cut    bool // by max_tokens
}

// turn checks q and has it admitted; then it waits until the answer is due. The request has prompt tokens beside
// its messages.
func (x *exchange) turn(q *request, roles []string, prompt int) (*turn, error) {
	if err := q.check(roles); err != nil {
		return nil, err
	}
	t := &turn{model: q.Model, prompt: prompt}
	tokens := x.settings.tokens
	if q.MaxTokens != nil && *q.MaxTokens < tokens {
		tokens, t.cut = *q.MaxTokens, true
	}
	said := ""
	for i := range q.Messages {
		m := &q.Messages[i]
		t.prompt += messageTokens + textTokens(m.Content.text)
		if m.Role == "user" {
			said = m.Content.text
		}
	}
	t.answer = newAnswer(said, tokens)
	q.Messages = nil // a long stream need not hold on to them
	t.cached = min(x.settings.cached, t.prompt)
	if err := x.admit(t.prompt, tokens); err != nil {
		return nil, err
	}
	return t, x.hold()
}

func (q *request) check(roles []string) error {
	if err := checkFallbacks(q.Fallbacks); err != nil {
		return err
	}
	if err := checkModel(q.Model); err != nil {
		return err
	}
	if q.Messages == nil {
		return missing("messages")
	}
	if len(q.Messages) == 0 {
		return badValue("messages", "empty_array",
			"empty array. Expected an array with minimum length 1, but got an empty array instead.")
	}
	for i := range q.Messages {
		m := &q.Messages[i]
		switch {
		case m.Role == "":
			return missing(fmt.Sprintf("messages[%d].role", i))
		case !slices.Contains(roles, m.Role):
			return badValue(fmt.Sprintf("messages[%d].role", i), "invalid_value",
				"got %.64q. Supported values are: %s.", m.Role, strings.Join(roles, ", "))
		case !m.Content.given && m.Role != "assistant":
			return missing(fmt.Sprintf("messages[%d].content", i))
		}
	}
	return checkCount("max_tokens", q.MaxTokens, math.MaxInt)
}

// chat is POST /v1/chat/completions.
func (x *exchange) chat() error {
	var q chatRequest
	if err := x.read(&q); err != nil {
		return err
	}
	if err := checkCount("n", q.N, 1); err != nil {
		return err
	}
	if limit := q.MaxCompletionTokens; limit != nil {
		if err := checkCount("max_completion_tokens", limit, math.MaxInt); err != nil {
			return err
		}
		if q.MaxTokens == nil || *limit < *q.MaxTokens {
			q.MaxTokens = limit
		}
	}
	q.Model = cmp.Or(q.Model, x.deployment)
	t, err := x.turn(&q.request, chatRoles, 0)
	if err != nil {
		return err
	}
	if q.Stream {
		return x.chatStream(t, q.StreamOptions.IncludeUsage)
	}
	b := x.appendChatHead(x.out[:0], t, "chat.completion")
	b = append(b, `[{"index":0,"message":{"role":"assistant","content":"`...)
	for t.answer.more() {
		b = t.answer.appendWord(b)
	}
	b = append(b, `","refusal":null},"logprobs":null,"finish_reason":"`...)
	b = append(b, t.finishReason()...)
	b = append(b, `"}],"usage":`...)
	b = t.appendUsage(b)
	b = append(b, "}\n"...)
	x.out = b
	return x.reply(http.StatusOK, b)
}

// chatStream sends an event for the role, one for each token, one for the end, one for the usage if it was
// asked for, and [DONE].
func (x *exchange) chatStream(t *turn, usage bool) error {
	x.openStream()
	head := x.appendChatHead(append(x.out[:0], "data: "...), t, "chat.completion.chunk")
	end := "}]"
	if usage {
		end += `,"usage":null`
	}
	end += "}\n\n"
	b := append(head, `[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null`...)
	x.event(append(b, end...))
	for i := 0; t.answer.more() && x.pace(i); i++ {
		b = append(b[:len(head)], `[{"index":0,"delta":{"content":"`...)
		b = t.answer.appendWord(b)
		b = append(b, `"},"logprobs":null,"finish_reason":null`...)
		b = append(b, end...)
		x.event(b)
	}
	b = append(b[:len(head)], `[{"index":0,"delta":{},"logprobs":null,"finish_reason":"`...)
	b = append(b, t.finishReason()...)
	b = append(append(b, '"'), end...)
	x.event(b)
	if usage {
		b = t.appendUsage(append(b[:len(head)], `[],"usage":`...))
		b = append(b, "}\n\n"...)
		x.event(b)
	}
	x.out = b
	return x.lastEvent([]byte("data: [DONE]\n\n"))
}

// appendChatHead appends an object up to the value of choices.
func (x *exchange) appendChatHead(b []byte, t *turn, object string) []byte {
	b = x.appendID(append(b, `{"id":"`...), "chatcmpl-")
	b = append(b, `","object":"`...)
	b = append(b, object...)
	b = append(b, `","created":`...)
	b = strconv.AppendInt(b, time.Now().Unix(), 10)
	b = appendString(append(b, `,"model":`...), t.model)
	return append(b, `,"system_fingerprint":"fp_demo","choices":`...)
}

func (t *turn) finishReason() string {
	if t.cut {
		return "length"
	}
	return "stop"
}

func (t *turn) appendUsage(b []byte) []byte {
	b = strconv.AppendInt(append(b, `{"prompt_tokens":`...), int64(t.prompt), 10)
	b = strconv.AppendInt(append(b, `,"completion_tokens":`...), int64(t.answer.tokens), 10)
	b = strconv.AppendInt(append(b, `,"total_tokens":`...), int64(t.prompt+t.answer.tokens), 10)
	if t.cached > 0 {
		b = strconv.AppendInt(append(b, `,"prompt_tokens_details":{"cached_tokens":`...), int64(t.cached), 10)
		b = append(b, '}')
	}
	return append(b, '}')
}
