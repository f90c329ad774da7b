package translate

import (
	"encoding/json"
	"math"
	"slices"
)

// Chat is what the answer's translation needs of the request.
type Chat struct {
	Stream       bool // the answer was asked for as events
	IncludeUsage bool // the last event tells the tokens
}

// chatRequest is what is read of a request to OpenAI's chat completions. Parameters that are not here are dropped.
type chatRequest struct {
	Model               string          `json:"model"`
	Messages            []chatMessage   `json:"messages"`
	MaxTokens           *int            `json:"max_tokens"`
	MaxCompletionTokens *int            `json:"max_completion_tokens"`
	Temperature         *float64        `json:"temperature"`
	TopP                *float64        `json:"top_p"`
	Stop                stops           `json:"stop"`
	Stream              bool            `json:"stream"`
	StreamOptions       streamOptions   `json:"stream_options"`
	Tools               []chatTool      `json:"tools"`
	ToolChoice          json.RawMessage `json:"tool_choice"`
	ParallelToolCalls   *bool           `json:"parallel_tool_calls"`
	User                string          `json:"user"`
	SafetyIdentifier    string          `json:"safety_identifier"`

	// What is refused, unless its value asks for nothing:
	N              *int            `json:"n"`
	ResponseFormat responseFormat  `json:"response_format"`
	Logprobs       bool            `json:"logprobs"`
	Modalities     []string        `json:"modalities"`
	Audio          json.RawMessage `json:"audio"`
	Functions      json.RawMessage `json:"functions"`
	FunctionCall   json.RawMessage `json:"function_call"`
	WebSearch      json.RawMessage `json:"web_search_options"`
}

type streamOptions struct {
	IncludeUsage bool `json:"include_usage"`
}

type responseFormat struct {
	Type string `json:"type"`
}

// stops is a string or a list of them.
type stops []string

// UnmarshalJSON reads valid JSON, as encoding/json promises.
func (s *stops) UnmarshalJSON(b []byte) error {
	if b[0] == '[' {
		return json.Unmarshal(b, (*[]string)(s))
	}
	var one *string
	if err := json.Unmarshal(b, &one); err != nil || one == nil {
		return err
	}
	*s = stops{*one}
	return nil
}

// Request translates the body of a request. One that names no limit gets maxTokens, which Anthropic needs. The error is an
// *Error.
func Request(body []byte, maxTokens int) ([]byte, Chat, error) {
	text, long := lift(body)
	messages, chat, err := request(text, maxTokens)
	return long.restore(messages), chat, err
}

func request(body []byte, maxTokens int) ([]byte, Chat, error) {
	var q chatRequest
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, Chat{}, decodeError(err)
	}
	if err := q.check(); err != nil {
		return nil, Chat{}, err
	}
	m := messagesRequest{
		Model: q.Model, MaxTokens: maxTokens, TopP: q.TopP, StopSequences: q.Stop, Stream: q.Stream,
	}
	for _, limit := range []*int{q.MaxCompletionTokens, q.MaxTokens} {
		if limit != nil {
			m.MaxTokens = *limit
			break
		}
	}
	if q.Temperature != nil {
		t := math.Min(*q.Temperature, 1) // OpenAI's go up to 2, Anthropic's to 1
		m.Temperature = &t
	}
	for _, user := range []string{q.User, q.SafetyIdentifier} {
		if user != "" {
			m.Metadata = &messagesOwner{user}
			break
		}
	}
	if err := m.converse(q.Messages); err != nil {
		return nil, Chat{}, err
	}
	if err := m.equip(&q); err != nil {
		return nil, Chat{}, err
	}
	return marshal(m), Chat{Stream: q.Stream, IncludeUsage: q.StreamOptions.IncludeUsage}, nil
}

// check refuses what would be answered otherwise than asked for.
func (q *chatRequest) check() error {
	given := func(value json.RawMessage) bool { return value != nil && string(value) != "null" }
	switch format := q.ResponseFormat.Type; {
	case q.Model == "":
		return invalid("model", "missing_required_parameter", "you must provide a model parameter")
	case q.Messages == nil:
		return invalid("messages", "missing_required_parameter", "Missing required parameter: 'messages'.")
	case q.N != nil && *q.N != 1:
		return unsupported("n", "this provider gives one choice.")
	case format != "" && format != "text":
		return unsupported("response_format", "this provider has no %.64s; describe the format in a message, or give a tool.", format)
	case q.Logprobs:
		return unsupported("logprobs", "this provider gives none.")
	case slices.Contains(q.Modalities, "audio") || given(q.Audio):
		return unsupported("modalities", "this provider answers in text.")
	case given(q.Functions) || given(q.FunctionCall):
		return unsupported("functions", "use 'tools' and 'tool_choice'.")
	case given(q.WebSearch):
		return unsupported("web_search_options", "this provider's search is not translated.")
	}
	return nil
}
