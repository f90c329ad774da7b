package translate

import (
	"encoding/json"
	"time"
)

// model is one of both: what Anthropic has of it, and what OpenAI has.
type model struct {
	ID        string     `json:"id"`
	Type      string     `json:"type,omitempty"`
	CreatedAt *time.Time `json:"created_at,omitempty"`
	Object    string     `json:"object"`
	Created   int64      `json:"created"`
	OwnedBy   string     `json:"owned_by"`
}

func (m *model) translate() {
	if m.CreatedAt != nil {
		m.Created = max(m.CreatedAt.Unix(), 0)
	}
	m.Type, m.CreatedAt, m.Object, m.OwnedBy = "", nil, "model", "anthropic"
}

// Models translates a list of models, or one of them, and returns anything else as it is.
func Models(body []byte) []byte {
	var list struct {
		Object string  `json:"object"`
		Data   []model `json:"data"`
	}
	if json.Unmarshal(body, &list) == nil && list.Data != nil && list.Object == "" {
		for i := range list.Data {
			list.Data[i].translate()
		}
		return marshal(struct {
			Object string  `json:"object"`
			Data   []model `json:"data"`
		}{"list", list.Data})
	}
	var one model
	if json.Unmarshal(body, &one) == nil && one.Type == "model" {
		one.translate()
		return marshal(one)
	}
	return body
}
