package translate

import (
	"encoding/json"
	"strings"
)

// completion is an answer of OpenAI's.
type completion struct {
	ID      string      `json:"id"`
	Object  string      `json:"object"`
	Created int64       `json:"created"`
	Model   string      `json:"model"`
	Choices [1]choice   `json:"choices"`
	Usage   *tokenUsage `json:"usage"`
}

type choice struct {
	Index        int          `json:"index"`
	Message      reply        `json:"message"`
	Logprobs     *struct{}    `json:"logprobs"`
	FinishReason finishReason `json:"finish_reason"`
}

type reply struct {
	Role      string     `json:"role"`
	Content   *string    `json:"content"`
	Refusal   *string    `json:"refusal"`
	ToolCalls []toolCall `json:"tool_calls,omitempty"`
}

type toolCall struct {
	ID       string       `json:"id"`
	Type     string       `json:"type"`
	Function toolFunction `json:"function"`
}

type toolFunction struct {
	Name      string `json:"name"`
	Arguments string `json:"arguments"`
}

// finishReason is why an answer ended.
type finishReason string

// finish translates Anthropic's reason.
func finish(stopReason string) finishReason {
	switch stopReason {
	case "max_tokens", "model_context_window_exceeded":
		return "length"
	case "tool_use":
		return "tool_calls"
	case "refusal":
		return "content_filter"
	}
	return "stop" // end_turn, stop_sequence, pause_turn and what else may come
}

type tokenUsage struct {
	Prompt        int           `json:"prompt_tokens"`
	Completion    int           `json:"completion_tokens"`
	Total         int           `json:"total_tokens"`
	PromptDetails promptDetails `json:"prompt_tokens_details"`
}

type promptDetails struct {
	Cached int `json:"cached_tokens"`
}

// openAI counts the cache's tokens among the prompt's, as OpenAI does.
func (u usage) openAI() *tokenUsage {
	prompt := u.Input + u.CacheWritten + u.CacheRead
	return &tokenUsage{prompt, u.Output, prompt + u.Output, promptDetails{u.CacheRead}}
}

// Answer translates a whole answer; created is when it was made, in seconds since 1970. Blocks that OpenAI does not have,
// such as thinking, are dropped. The error is an *Error.
func Answer(body []byte, created int64) ([]byte, error) {
	var m message
	if len(body) == 0 {
		return nil, badAnswer("it is empty")
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return nil, badAnswer("it is not JSON of Anthropic's")
	}
	if m.Type != "message" {
		return nil, badAnswer("it is not a message")
	}
	r := reply{Role: "assistant"}
	var text strings.Builder
	for i := range m.Content {
		switch b := &m.Content[i]; b.Type {
		case "text":
			text.WriteString(b.Text)
		case "tool_use":
			r.ToolCalls = append(r.ToolCalls, toolCall{b.ID, "function", toolFunction{b.Name, arguments(b.Input)}})
		}
	}
	if text.Len() > 0 || r.ToolCalls == nil {
		said := text.String()
		r.Content = &said
	}
	return marshal(completion{
		ID: m.ID, Object: "chat.completion", Created: created, Model: m.Model,
		Choices: [1]choice{{Message: r, FinishReason: finish(m.StopReason)}}, Usage: m.Usage.openAI(),
	}), nil
}

// arguments returns a tool's input as text; none is an empty object.
func arguments(input json.RawMessage) string {
	if len(input) == 0 || string(input) == "null" {
		return "{}"
	}
	return string(input)
}
