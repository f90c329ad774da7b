package demo

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// modelIDs are the models that are listed. Any other name is answered too.
var modelIDs = []string{"demo-large", "demo-small", "demo-embedding"}

// models is GET /v1/models and /v1/models/{id}.
func (x *exchange) models() error {
	id, one := strings.CutPrefix(x.r.URL.Path, "/v1/models/")
	if one && !slices.Contains(modelIDs, id) {
		return &apiError{
			status: http.StatusNotFound, kind: "invalid_request_error", param: "model", code: "model_not_found",
			message: fmt.Sprintf("The model '%.256s' does not exist.", id),
		}
	}
	if err := x.hold(); err != nil {
		return err
	}
	b := x.out[:0]
	if one {
		b = appendModel(b, id)
	} else {
		b = append(b, `{"object":"list","data":[`...)
		for i, id := range modelIDs {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendModel(b, id)
		}
		b = append(b, "]}"...)
	}
	x.out = append(b, '\n')
	return x.reply(http.StatusOK, x.out)
}

func appendModel(b []byte, id string) []byte {
	b = appendString(append(b, `{"id":`...), id)
	return append(b, `,"object":"model","created":1735689600,"owned_by":"edge-demo"}`...)
}
