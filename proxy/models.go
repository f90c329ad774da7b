package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"

	"github.com/edge-proxy/edge/limiter"
	"github.com/edge-proxy/edge/proxy/upstream"
)

const maxModelList = 4 << 20 // bytes of one provider's list

// listModels answers GET /v1/models with what all providers list, each id behind its provider's name. A
// provider that does not list in time, or cannot admit at once, is left out. It starts a goroutine for each
// provider and waits for them all.
func (x *exchange) listModels() error {
	lists := make([][]map[string]any, len(x.gen.names))
	var all sync.WaitGroup
	if err := x.watch(deadlineFirstByte, x.gen.config.QueueTimeout); err != nil {
		return err
	}
	for i, name := range x.gen.names {
		all.Go(func() { lists[i] = x.modelsOf(x.gen.endpoints[name]) })
	}
	all.Wait()
	if x.r.Context().Err() != nil {
		return errClientGone
	}
	models := []map[string]any{}
	for _, list := range lists {
		models = append(models, list...)
	}
	body, err := json.Marshal(map[string]any{"object": "list", "data": models})
	if err != nil {
		return err
	}
	h := x.w.Header()
	h["Content-Type"] = []string{"application/json"}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	h["X-Edge-Request-Id"] = []string{x.id}
	x.status, x.committed = http.StatusOK, true
	_, err = x.w.Write(body)
	if err != nil {
		return x.writing(err)
	}
	return nil
}

// modelsOf returns one provider's list, or nil.
func (x *exchange) modelsOf(end *endpoint) []map[string]any {
	ctx, cancel := context.WithCancelCause(x.ctx)
	defer cancel(nil)
	place, err := end.gate.Enter(ctx, limiter.Request{})
	if err != nil {
		return nil
	}
	permit, err := place.Acquire(ctx)
	if err != nil {
		return nil
	}
	var sample limiter.Sample
	defer func() { permit.Done(sample) }()
	key, err := x.gen.keys.Key(end.name, "")
	if err != nil {
		return nil
	}
	q := upstream.Request{Method: http.MethodGet, Target: "/v1/models"}
	q.Fields.Add("Accept", "application/json")
	q.Fields.Add("Via", x.p.via)
	if key != "" {
		q.Fields.Add(end.manners.KeyHeader, end.manners.KeyPrefix+key.Reveal())
	} else if x.token == noCredential {
		x.passCredentials(&q)
	}
	for _, field := range end.extra {
		q.Fields.Set(field.Name, field.Value)
	}
	var a upstream.Response
	if err := end.client.Do(ctx, &q, &a); err != nil {
		return nil
	}
	defer a.Body.Close()
	sample.Status = a.Status
	body, err := io.ReadAll(io.LimitReader(a.Body, maxModelList+1))
	if err != nil || a.Status != http.StatusOK || len(body) > maxModelList {
		return nil
	}
	models, err := prefixed(body, end.name)
	if err != nil {
		return nil
	}
	return models
}

// passCredentials takes over what the caller sent, for a provider without keys.
func (x *exchange) passCredentials(q *upstream.Request) {
	for _, name := range credentialHeaders[inAuthorization:] {
		for _, value := range x.r.Header[name] {
			q.Fields.Add(name, value)
		}
	}
}

var errNoModelList = errors.New("proxy: not a list of models")

// prefixed puts the provider's name before the id of each model of an OpenAI-like list.
func prefixed(list []byte, name string) ([]map[string]any, error) {
	var shape struct {
		Data []map[string]any `json:"data"`
	}
	if err := json.Unmarshal(list, &shape); err != nil {
		return nil, err
	}
	for _, model := range shape.Data {
		id, ok := model["id"].(string)
		if !ok {
			return nil, errNoModelList
		}
		model["id"] = name + "/" + id
	}
	return shape.Data, nil
}
